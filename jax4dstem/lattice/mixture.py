"""How much of each of several known lattices is in one pattern, as at a grain boundary."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax4dstem.coordinates import radius_from
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.elimination import solve_small
from jax4dstem.lattice.model import FLOOR, LatticeModel
from jax4dstem.lattice.render import interpolate_profile, render_disks
from jax4dstem.noise import Noise
from jax4dstem.typing import Array, Float, Int, Pattern, Point

DIRECT_BEAM = 1.5  # disk radii around the direct beam that say nothing about the lattices
SMALLEST = 1e-4  # of an amount: no lattice is ever quite gone, so that it can come back


class KnownLattices(NamedTuple):
    """Lattices that may be in a pattern.

    Attributes:
        distortions: A of each, relative to the model's lattice.
        intensities: Share of the electrons in each of its disks, by the model's indices.
    """

    distortions: Float[Array, "m 2 2"]
    intensities: Float[Array, "m n"]


class LatticeAmounts(NamedTuple):
    """Amounts of the lattices in one pattern.

    Attributes:
        amount: Of each lattice, 1 where the pattern holds it alone and with its usual intensities, 0 where
            there is none to fit.
        covariance: Of the amounts, the background eliminated; NaN where they cannot be told apart.
    """

    amount: Float[Array, " k"]
    covariance: Float[Array, "k k"]


@dataclass(frozen=True)
class FitAmounts:
    r"""Pattern function: maximum-likelihood amounts of known lattices.

    .. math::
        \lambda(r) = N \Bigl[\sum_k x_k \sum_j I_{kj}\, d(r - c - h_j G_k) + x_0\, \beta(|r - c|)\Bigr],
        \qquad x \ge 0 ,

    with the dose N, the disks d, lattices G and intensities I known. A probe covers grains side by side and scatters
    from each incoherently, so a boundary is a sum. Fisher scoring of the likelihood from equal amounts.

    Attributes:
        patch: Side of the squares that disks are drawn in, in px, odd.
        iterations: Of Fisher scoring.
    """

    patch: int
    iterations: int = 8

    def __call__(
        self,
        pattern: Pattern,
        center: Point,
        chosen: Int[Array, " k"],
        known: KnownLattices,
        model: LatticeModel,
    ) -> LatticeAmounts:
        """Fit the amounts.

        Args:
            pattern: Counts ``(det_y, det_x)``; pixels that the detector cannot use are left out.
            center: (y, x) in px.
            chosen: Numbers of the lattices to fit; -1 for none.
            known: Shared by the scan.
            model: Shared by the scan.

        Returns:
            The amounts, at least zero, and their covariance by the Fisher information.

        Example:
            >>> import numpy as np
            >>> from jax4dstem.coordinates import deformation
            >>> from jax4dstem.lattice.model import starting_model
            >>> vectors, indices = np.array([[0.0, 13.0], [13.0, 0.0]]), np.indices((3, 3)).reshape(2, 9).T - 1
            >>> model = starting_model(vectors, indices, 2.5)
            >>> turned = jnp.stack([deformation(0.0, 0.0, 0.0, angle) for angle in (0.1, 0.6)])
            >>> known = KnownLattices(turned, jnp.full((2, 9), 0.01))
            >>> center = jnp.array([24.0, 23.5])
            >>> def disks(number, share):
            ...     vectors, each = model.distorted(turned[number]), jnp.full(9, 100.0 * share)
            ...     return render_disks((48, 48), center, vectors, each, model, 13)
            >>> mixed = disks(0, 0.7) + disks(1, 0.3)
            >>> mixed = mixed.at[24, 24].add(1e4 - mixed.sum())
            >>> amount = jax.jit(FitAmounts(13))(mixed, center, jnp.array([0, 1]), known, model).amount
            >>> [round(float(a), 2) for a in amount]
            [0.7, 0.3]
        """
        shape = (pattern.shape[0], pattern.shape[1])
        distance = radius_from(center, shape)
        used = model.detector.usable(pattern)
        counts = jnp.where(used, pattern, 0).astype(float)
        used &= distance > DIRECT_BEAM * model.radius + 1
        dose = jnp.maximum(pattern_dose(pattern, model.detector), 1.0)

        def disks(number: Array) -> Array:
            vectors = model.distorted(known.distortions[number])
            intensity = jnp.where(number >= 0, known.intensities[number], 0.0)
            return render_disks(shape, center, vectors, intensity, model, self.patch)

        lattices = jax.vmap(disks)(chosen)
        under = interpolate_profile(model.background, distance)
        columns = dose * jnp.concatenate([lattices, under[None]]).reshape(len(lattices) + 1, -1)
        flat, weight, noise = counts.ravel(), used.ravel(), model.detector.noise

        def improve(amounts: Array, _: Any) -> tuple[Array, None]:
            gram, score = _information(columns, flat, weight, amounts, noise)
            change, _ = solve_small(gram[None], score[None, :, None])
            return jnp.maximum(amounts + change[0, :, 0], SMALLEST), None

        start = jnp.full(len(columns), 1 / len(lattices)).at[-1].set(1.0)
        amounts, _ = jax.lax.scan(improve, start, None, self.iterations)
        gram, _ = _information(columns, flat, weight, amounts, noise)
        inverse, _ = solve_small(gram[None], jnp.eye(len(gram))[None])
        covariance = inverse[0, :-1, :-1]
        told_apart = (jnp.diagonal(covariance) > 0) | (chosen < 0)
        return LatticeAmounts(
            jnp.where(chosen < 0, 0.0, amounts[:-1]),
            jnp.where(jnp.all(told_apart), covariance, jnp.nan),
        )


def _information(
    columns: Array, counts: Array, used: Array, amounts: Array, noise: Noise
) -> tuple[Array, Array]:
    """Fisher information and score of the amounts."""
    expected = amounts @ columns + FLOOR
    weighted = columns * (used / noise.variance(expected))
    return weighted @ columns.T, weighted @ (counts - expected)
