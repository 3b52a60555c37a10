"""How a converged fit is differentiated: a value, as the fit's iterations are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jax4dstem.typing import Array, Float

RIDGE = 1e-6  # of a scaled Hessian: what no reflection determines has no gradient, instead of an infinite one


class Unknowns(NamedTuple):
    """What a fit solves for.

    Attributes:
        lattice: (c_y, c_x, A_00, A_10, A_01, A_11).
        heights: Of disk, background and textures around every reflection, ``(n, k)``.
    """

    lattice: Float[Array, "6"]
    heights: Float[Array, "n k"]


class Equations(NamedTuple):
    """What is zero at convergence, reflection by reflection.

    Attributes:
        lattice: What each reflection adds to the score of the lattice; their sum is zero, ``(n, 6)``.
        heights: Score of its own heights, ``(n, k)``.
    """

    lattice: Float[Array, "n 6"]
    heights: Float[Array, "n k"]


@runtime_checkable
class Adjoint(Protocol):
    """Derivatives of a fit by what it is given."""

    def solve(self, iterate: Callable, evaluate: Callable, start: Any, given: Any) -> Any:
        """``iterate(start, given)``, with derivatives.

        Args:
            iterate: Gives the unknowns and what else is known after the last iteration.
            evaluate: ``evaluate(unknowns, given)`` gives `Equations` and the same else, at any unknowns.
            start: Where the iterations start.
            given: Everything that the fit depends on.
        """
        ...


@dataclass(frozen=True)
class Unrolled:
    """Derivatives of the iterations themselves: right before convergence too, forward and reverse.

    Reverse mode keeps what every iteration needs for the way back.

    Example:
        >>> from jax4dstem.lattice import FitLattice
        >>> FitLattice(9, adjoint=Unrolled()).adjoint
        Unrolled()
    """

    def solve(self, iterate: Callable, evaluate: Callable, start: Any, given: Any) -> Any:
        """The iterations."""
        del evaluate
        return iterate(start, given)


@dataclass(frozen=True)
class Implicit:
    r"""Derivatives of the solution, by the implicit function theorem; in reverse mode.

    With the equations :math:`S(x, \theta) = 0` that hold at convergence (scores of lattice and heights),

    .. math:: \frac{\mathrm d x}{\mathrm d \theta} = - \left(\frac{\partial S}{\partial x}\right)^{-1}
              \frac{\partial S}{\partial \theta} ,

    with the true derivative of the scores, not its expectation. Heights of one reflection do not meet those of
    another, so they are eliminated block by block. Memory is that of one evaluation of the scores, whatever
    the number of iterations, and the start has no influence: its gradient is zero.

    Example:
        >>> from jax4dstem.lattice import FitLattice
        >>> FitLattice(9).adjoint
        Implicit()

    Reference: Blondel et al., Efficient and modular implicit differentiation, NeurIPS 35 (2022), eq. 2.
    """

    def solve(self, iterate: Callable, evaluate: Callable, start: Any, given: Any) -> Any:
        """The iterations, with the derivatives of what they converge to."""
        return _implicit(iterate, evaluate, start, given)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _implicit(iterate: Callable, evaluate: Callable, start: Any, given: Any) -> Any:
    return iterate(start, given)


def _forward(iterate: Callable, evaluate: Callable, start: Any, given: Any) -> Any:
    unknowns, rest = iterate(start, given)
    return (unknowns, rest), (start, unknowns, given)


def _backward(iterate: Callable, evaluate: Callable, saved: Any, cotangents: Any) -> Any:
    start, unknowns, given = saved
    wanted, of_rest = cotangents
    _, pull = jax.vjp(evaluate, unknowns, given)
    silent = jax.tree.map(jnp.zeros_like, jax.eval_shape(evaluate, unknowns, given)[0])
    through_rest, _ = pull((silent, of_rest))
    wanted = jax.tree.map(jnp.add, wanted, through_rest)
    of_equations = _solve_transposed(lambda x: evaluate(x, given)[0], unknowns, wanted)
    _, of_given = pull((of_equations, of_rest))
    return jax.tree.map(jnp.zeros_like, start), of_given


_implicit.defvjp(_forward, _backward)


def _solve_transposed(equations: Callable, at: Unknowns, wanted: Unknowns) -> Equations:
    """Cotangents u of the equations with :math:`-(\\partial S/\\partial x)^T u` equal to those of the unknowns."""
    n, k = at.heights.shape

    def column(tangent: Unknowns) -> Equations:
        return jax.jvp(equations, (at,), (tangent,))[1]

    # One tangent at a time: together they would need eight times the memory of one.
    by_lattice = jax.lax.map(lambda e: column(Unknowns(e, jnp.zeros((n, k)))), jnp.eye(6))
    by_heights = jax.lax.map(
        lambda e: column(Unknowns(jnp.zeros(6), jnp.broadcast_to(e, (n, k)))), jnp.eye(k)
    )
    corner = jnp.sum(by_lattice.lattice, axis=1).T  # equation, unknown
    right, below, own = (
        jnp.moveaxis(part, 0, -1)  # reflection, equation, unknown
        for part in (by_heights.lattice, by_lattice.heights, by_heights.heights)
    )
    across = jnp.linalg.solve(own, below)
    schur = -(corner - jnp.einsum("nak,nkb->ab", right, across))
    target = wanted.lattice - jnp.einsum("nka,nk->a", across, wanted.heights)
    scale = jnp.sqrt(jnp.maximum(jnp.abs(jnp.diagonal(schur)), 1e-12))
    scaled = schur / scale[:, None] / scale[None, :] + RIDGE * jnp.eye(6)
    lattice = jnp.linalg.solve(scaled.T, target / scale) / scale
    left = wanted.heights + jnp.einsum("nak,a->nk", right, lattice)
    heights = -jnp.linalg.solve(jnp.swapaxes(own, 1, 2), left[..., None])[..., 0]
    return Equations(jnp.broadcast_to(lattice, (n, 6)), heights)
