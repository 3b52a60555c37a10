"""Mergeable one-pass statistics for `reduce_patterns`.

All take weights ``(n,)`` or ``(n, k)``; with k columns the statistic has a leading axis k, one row per
column, so one-hot labels give every cluster's statistic in one pass.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax4dstem.typing import Array, Float


class MomentsResult(NamedTuple):
    """Weighted mean and standard deviation, and the sum of the weights."""

    mean: Float[Array, "..."]
    std: Float[Array, "..."]
    weight: Float[Array, "..."]


@dataclass(frozen=True)
class Moments:
    r"""Mean and population standard deviation, numerically safe in one pass.

    A batch contributes sums of deviations from its first pattern, and two sets of patterns merge by

    .. math::
        \mu = \mu_a + \delta \, W_b / W, \qquad
        M = M_a + M_b + \delta^2 \, W_a W_b / W, \qquad \delta = \mu_b - \mu_a ,

    so no large numbers are subtracted (Chan, Golub and LeVeque, Am. Stat. 37, 242, 1983, eq. 2.1).

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset, reduce_patterns
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(5, (4, 4, 8, 8)))
        >>> reduce_patterns(Moments(), scan).std.shape
        (8, 8)
    """

    def init(self, value: Any, weight: Any) -> tuple[Array, Array, Array]:
        """Zero weight, mean and sum of squared deviations."""
        zeros = jnp.zeros((*weight.shape, *value.shape))
        return jnp.zeros(weight.shape), zeros, zeros

    def update(self, state: Any, values: Array, weights: Array) -> Any:
        """Merge a batch."""
        present = weights.reshape(len(weights), -1).sum(axis=1) > 0
        origin = values[jnp.argmax(present)].astype(float)

        def add(sums: Any, item: Any) -> tuple[Any, None]:
            value, weight = item
            deviation = value.astype(float) - origin
            weighted = _expand(weight, sums[0]) * deviation
            return (sums[0] + weighted, sums[1] + weighted * deviation), None

        zeros = jnp.zeros((*weights.shape[1:], *origin.shape))
        # Unrolled, the sums become one fused loop over pixels: twice as fast on a CPU as matrix
        # products, which would write every deviation to memory.
        (first, second), _ = jax.lax.scan(add, (zeros, zeros), (values, weights), unroll=16)
        total = jnp.sum(weights, axis=0)
        shift = first * _expand(_inverse(total), first)
        return self.merge(state, (total, origin + shift, second - shift * first))

    def merge(self, a: Any, b: Any) -> Any:
        """Chan's formula."""
        (weight_a, mean_a, squares_a), (weight_b, mean_b, squares_b) = a, b
        total = weight_a + weight_b
        share = _expand(weight_b * _inverse(total), mean_a)
        delta = mean_b - mean_a
        squares = squares_a + squares_b + delta**2 * share * _expand(weight_a, mean_a)
        return total, mean_a + delta * share, squares

    def finalize(self, state: Any) -> MomentsResult:
        """Mean, standard deviation and weight; NaN where nothing was seen."""
        weight, mean, squares = state
        seen = _expand(weight, mean) > 0
        variance = jnp.maximum(squares, 0) * _expand(_inverse(weight), mean)
        return MomentsResult(
            jnp.where(seen, mean, jnp.nan), jnp.where(seen, jnp.sqrt(variance), jnp.nan), weight
        )


@dataclass(frozen=True)
class Mean:
    """Weighted mean of every leaf of a pytree: for k labels, one matrix product per batch.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset, reduce_patterns
        >>> scan = Dataset.from_array(np.arange(64.0).reshape(2, 2, 4, 4))
        >>> float(reduce_patterns(Mean(), scan, weights=np.array([[1.0, 0.0], [0.0, 3.0]]))[0, 0])
        36.0
    """

    def init(self, value: Any, weight: Any) -> tuple[Array, Any]:
        """Zero weight and mean."""
        zeros = jax.tree.map(lambda v: jnp.zeros((*weight.shape, *v.shape)), value)
        return jnp.zeros(weight.shape), zeros

    def update(self, state: Any, values: Any, weights: Array) -> Any:
        """Merge a batch."""
        total = jnp.sum(weights, axis=0)

        def mean(leaf: Array) -> Array:
            summed = jnp.tensordot(weights, leaf.astype(float), (0, 0))
            return summed * _expand(_inverse(total), summed)

        return self.merge(state, (total, jax.tree.map(mean, values)))

    def merge(self, a: Any, b: Any) -> Any:
        """Weighted mean of two means."""
        (weight_a, mean_a), (weight_b, mean_b) = a, b
        share = weight_b * _inverse(weight_a + weight_b)
        merged = jax.tree.map(lambda x, y: x + (y - x) * _expand(share, x), mean_a, mean_b)
        return weight_a + weight_b, merged

    def finalize(self, state: Any) -> Any:
        """The mean; NaN where nothing was seen."""
        weight, mean = state
        return jax.tree.map(lambda m: jnp.where(_expand(weight, m) > 0, m, jnp.nan), mean)


class CovarianceResult(NamedTuple):
    """Mean and population covariance of feature vectors, and the sum of the weights."""

    mean: Float[Array, " features"]
    covariance: Float[Array, "features features"]
    weight: Float[Array, ""]


@dataclass(frozen=True)
class Covariance:
    """Mean and covariance of vectors with scalar weights, merged as in `Moments`.

    Costs p² numbers of memory and 2 p² flop per vector of p features, whatever their number.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset, reduce_patterns
        >>> scan = Dataset.from_array(np.arange(64.0).reshape(2, 2, 4, 4)).map(jnp.ravel)
        >>> reduce_patterns(Covariance(), scan).covariance.shape
        (16, 16)
    """

    def init(self, value: Any, weight: Any) -> tuple[Array, Array, Array]:
        """Zero weight, mean and scatter."""
        (p,) = value.shape
        return jnp.zeros(weight.shape), jnp.zeros(p), jnp.zeros((p, p))

    def update(self, state: Any, values: Array, weights: Array) -> Any:
        """Merge a batch."""
        values = values.astype(float)
        total = jnp.sum(weights)
        mean = weights @ values * _inverse(total)
        scaled = (values - mean) * jnp.sqrt(weights)[:, None]
        return self.merge(state, (total, mean, scaled.T @ scaled))

    def merge(self, a: Any, b: Any) -> Any:
        """Chan's formula with an outer product."""
        (weight_a, mean_a, scatter_a), (weight_b, mean_b, scatter_b) = a, b
        total = weight_a + weight_b
        delta = mean_b - mean_a
        share = weight_b * _inverse(total)
        scatter = scatter_a + scatter_b + jnp.outer(delta, delta) * (weight_a * share)
        return total, mean_a + delta * share, scatter

    def finalize(self, state: Any) -> CovarianceResult:
        """Mean, covariance, weight."""
        weight, mean, scatter = state
        return CovarianceResult(mean, scatter * _inverse(weight), weight)


@dataclass(frozen=True)
class Maximum:
    """Largest value at every pixel, over the positions with a weight above zero.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset, reduce_patterns
        >>> scan = Dataset.from_array(np.arange(64.0).reshape(2, 2, 4, 4))
        >>> float(reduce_patterns(Maximum(), scan).max())
        63.0
    """

    def init(self, value: Any, weight: Any) -> Array:
        """Minus infinity."""
        return jnp.full((*weight.shape, *value.shape), -jnp.inf)

    def update(self, state: Array, values: Array, weights: Array) -> Array:
        """Merge a batch."""

        def over(column: Array) -> Array:
            present = _expand(column, values) > 0
            return jnp.max(jnp.where(present, values.astype(float), -jnp.inf), axis=0)

        batch = over(weights) if weights.ndim == 1 else jax.vmap(over, in_axes=1)(weights)
        return jnp.maximum(state, batch)

    def merge(self, a: Array, b: Array) -> Array:
        """Elementwise maximum."""
        return jnp.maximum(a, b)

    def finalize(self, state: Array) -> Array:
        """The maximum."""
        return state


def _inverse(weight: Array) -> Array:
    """1 / weight, and 0 for no weight."""
    return jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)


def _expand(weight: Array, like: Array) -> Array:
    """Reshape weights to broadcast over the trailing axes of ``like``."""
    return weight.reshape(weight.shape + (1,) * (like.ndim - weight.ndim))
