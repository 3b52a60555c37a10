r"""Base lattices that many patterns share: what the scan as a whole says about the lattice of one pattern.

The fit of a pattern gives its strain x with covariance C. Patterns of one grain have the same strain, and a scan has
few grains: strains follow a mixture of base lattices b with weights π, means μ and scatter V within a base,

.. math:: p(x | C) = \sum_b \pi_b \, N(x;\, \mu_b, V_b + C) ,

whose last base is broad, for what fits no other. The decoder of a base is its lattice of disks, the encoder the
likelihood fit followed by Bayes' rule; being learned from the marginal likelihood, the bases know each pattern's own
noise, and are not widened by it.

Reference: Bovy, Hogg and Roweis, Ann. Appl. Stat. 5, 1657 (2011) ("extreme deconvolution").
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax4dstem.lattice.elimination import solve_small
from jax4dstem.typing import Array, Float

SIZE = 4  # strain components: e_xx, e_yy, e_xy, theta
NARROWEST = 0.03  # standard deviation within a base, in units of one pattern's noise


class LatticeBases(nnx.Module):
    """The mixture; a sample is ``(20,)``: the strain (e_xx, e_yy, e_xy, theta) and its covariance, row by row.

    Strains are in units of the scan's typical noise, theta modulo ``period`` in the same units.

    Example:
        >>> spec = LatticeBasesSpec(((0.0, 0.0, 0.0, 0.0), (5.0, 0.0, 0.0, 0.0)), (0.0,) * 4, (9.0,) * 4, 100.0)
        >>> model = spec.build(0)
        >>> sample = jnp.concatenate([jnp.array([5.0, 0.0, 0.0, 0.0]), jnp.eye(4).ravel()])
        >>> int(model.responsibilities(sample).argmax()), model.posterior(sample).shape
        (1, (20,))
    """

    def __init__(self, means: np.ndarray, center: np.ndarray, spread: np.ndarray, period: float):
        count = len(means)
        self.means = nnx.Param(jnp.asarray(means, jnp.float32))
        self.roots = nnx.Param(jnp.tile(jnp.eye(SIZE), (count, 1, 1)))
        self.logits = nnx.Param(jnp.zeros(count + 1).at[-1].set(-3.0))
        self.center = tuple(center.tolist())
        self.spread = tuple(spread.tolist())
        self.period = period

    @property
    def weights(self) -> Float[Array, " bases"]:
        """π, the broad base last."""
        return jax.nn.softmax(self.logits[...])

    @property
    def scatter(self) -> Float[Array, "bases 4 4"]:
        """V, the broad base last."""
        lower = jnp.tril(self.roots[...])
        own = lower @ jnp.swapaxes(lower, 1, 2) + NARROWEST**2 * jnp.eye(SIZE)
        return jnp.concatenate([own, jnp.diag(jnp.array(self.spread) ** 2)[None]])

    def log_joint(self, x: Float[Array, "20"]) -> Float[Array, " bases"]:
        """ln π_b N(x; μ_b, V_b + C) of every base, but for a constant."""
        gap, _, covariance = self._gaps(x)
        total = self.scatter + covariance
        solved, log_determinant = solve_small(total, gap[:, :, None])
        distance = jnp.sum(gap * solved[:, :, 0], axis=1)
        return jnp.log(self.weights) - 0.5 * (distance + log_determinant)

    def responsibilities(self, x: Float[Array, "20"]) -> Float[Array, " bases"]:
        """Probability of every base given the sample."""
        return jax.nn.softmax(self.log_joint(x))

    def posterior(self, x: Float[Array, "20"]) -> Float[Array, "20"]:
        r"""Mean and covariance of the true strain, as a sample.

        Per base :math:`m_b = x - C (V_b + C)^{-1} (x - \mu_b)` and
        :math:`P_b = V_b - V_b (V_b + C)^{-1} V_b`; then the moments of their mixture.
        """
        gap, values, covariance = self._gaps(x)
        scatter = self.scatter
        right = jnp.concatenate([gap[:, :, None], scatter], axis=2)
        solved, _ = solve_small(scatter + covariance, right)
        share = self.responsibilities(x)
        moves = -jnp.einsum("ij,bj->bi", covariance, solved[:, :, 0])
        move = share @ moves
        inside = scatter - scatter @ solved[:, :, 1:]
        between = (moves - move)[:, :, None] * (moves - move)[:, None, :]
        spread = jnp.einsum("b,bij->ij", share, inside + between)
        return jnp.concatenate([values + move, spread.ravel()])

    def _gaps(self, x: Array) -> tuple[Array, Array, Array]:
        """Sample minus every mean, the rotation modulo its period; the sample's strain and covariance."""
        values, covariance = x[:SIZE], x[SIZE:].reshape(SIZE, SIZE)
        gap = values - jnp.concatenate([self.means[...], jnp.array(self.center)[None]])
        turns = jax.lax.stop_gradient(jnp.round(gap[:, 3] / self.period))
        return gap.at[:, 3].add(-self.period * turns), values, covariance


@dataclass(frozen=True)
class LatticeBasesSpec:
    """What `LatticeBases` start from.

    Attributes:
        starts: Strain of every base, in units of the noise.
        center: Mean of the broad base.
        spread: Its standard deviations.
        period: Of the rotation.

    Example:
        >>> spec = LatticeBasesSpec(((0.0, 0.0, 0.0, 0.0), (5.0, 0.0, 0.0, 0.0)), (0.0,) * 4, (9.0,) * 4, 100.0)
        >>> spec.build(0).weights.shape  # two bases and the broad one
        (3,)
    """

    starts: tuple[tuple[float, ...], ...]
    center: tuple[float, ...]
    spread: tuple[float, ...]
    period: float

    def build(self, seed: int) -> LatticeBases:
        """The model; it starts from data, so the seed changes nothing."""
        return LatticeBases(
            np.array(self.starts), np.array(self.center), np.array(self.spread), self.period
        )


@dataclass(frozen=True)
class MarginalLikelihood:
    """Objective: minus the log-likelihood of a sample, summed over all bases and true strains.

    Example:
        >>> spec = LatticeBasesSpec(((0.0, 0.0, 0.0, 0.0), (5.0, 0.0, 0.0, 0.0)), (0.0,) * 4, (9.0,) * 4, 100.0)
        >>> sample = jnp.concatenate([jnp.array([5.0, 0.0, 0.0, 0.0]), jnp.eye(4).ravel()])
        >>> terms = MarginalLikelihood()(spec.build(0), (sample, sample), jax.random.key(0), jnp.asarray(0.5))
        >>> sorted(terms)
        ['likelihood']
    """

    def __call__(
        self, model: LatticeBases, sample: tuple[Array, Array], key: jax.Array, progress: Array
    ) -> dict[str, Array]:
        """The one term."""
        return {"likelihood": -jax.nn.logsumexp(model.log_joint(sample[0]))}
