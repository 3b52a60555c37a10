"""Refinement of what all patterns share, by the gradient of their joint likelihood."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax4dstem.dataset import Dataset
from jax4dstem.lattice.fit import FitLattice, lattice_deviance
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Array, Pattern, Scalar


class Shared(NamedTuple):
    """Parameters that are refined, all near zero at the start.

    Attributes:
        log_radius: Logarithm of the disk radius over the start's.
        log_edge: The same of the edge width.
        ellipse: Stretch of the pattern along x over y, and along its diagonals: the distortion
            exp([[-a, b], [b, a]]) of every reflection's position.
        background: Change of the power of the radius that the background falls with.
    """

    log_radius: Scalar
    log_edge: Scalar
    ellipse: Array
    background: Scalar


@dataclass(frozen=True)
class _Loss:
    """Deviance of one pattern and its gradient by the shared parameters, fitted lattices held fixed."""

    patch: int

    def __call__(
        self, pattern: Pattern, center: Any, distortion: Any, shared: Shared, model: LatticeModel
    ) -> tuple[Array, Shared]:
        def loss(values: Shared) -> Array:
            changed = with_shared(model, values)
            return lattice_deviance(pattern, center, distortion, changed, self.patch)

        return jax.value_and_grad(loss)(shared)


def with_shared(model: LatticeModel, shared: Shared) -> LatticeModel:
    """The model with refined shared parameters."""
    radii = jnp.arange(model.background.shape[0], dtype=float)
    stretch = jnp.array([[-1.0, 0.0], [0.0, 1.0]]) * shared.ellipse[0]
    stretch = stretch + jnp.array([[0.0, 1.0], [1.0, 0.0]]) * shared.ellipse[1]
    return model._replace(
        ellipse=model.ellipse @ jax.scipy.linalg.expm(stretch),
        radius=model.radius * jnp.exp(shared.log_radius),
        edge_width=model.edge_width * jnp.exp(shared.log_edge),
        background=model.background * (1 + radii) ** shared.background,
    )


def refine_model(
    dataset: Dataset,
    fits: Any,
    model: LatticeModel,
    fit: FitLattice,
    *,
    weights: np.ndarray | None = None,
    rounds: int = 3,
    steps: int = 8,
    learning_rate: float = 0.02,
) -> tuple[LatticeModel, list[float]]:
    """Minimize the mean deviance of many patterns over what they share (Adam), refitting in between.

    A distortion that all patterns share cannot be told from a strain they share: the ellipse is kept only
    as far as the patterns' rotations differ, so refine it on a polycrystal or a calibration sample.

    Args:
        dataset: Raw counts.
        fits: Lattices to start from.
        model: Model to start from.
        fit: The pattern function that refits.
        weights: Of the positions, ``(scan_y, scan_x)``; 0 leaves out.
        rounds: How often the lattices are fitted again.
        steps: Gradient steps in between.
        learning_rate: Of Adam, in the logarithmic parameters.

    Returns:
        The refined model, and the mean deviance per pixel at every step.
    """
    history: list[float] = []
    optimizer = optax.adam(learning_rate)
    for _ in range(rounds):
        starts = (np.nan_to_num(fits.center), np.nan_to_num(fits.distortion))
        shared = Shared(jnp.zeros(()), jnp.zeros(()), jnp.zeros(2), jnp.zeros(()))
        state = optimizer.init(shared)
        for _ in range(steps):
            chain = dataset.map(_Loss(fit.patch), shared, model, per_position=starts)
            value, gradient = reduce_patterns(Mean(), chain, weights=weights)
            history.append(float(value))
            gradient = jax.tree.map(jnp.asarray, gradient)
            updates, state = optimizer.update(gradient, state)
            shared = optax.apply_updates(shared, updates)
        model = with_shared(model, shared)
        fits = map_patterns(fit, dataset, model, per_position=starts)
    return model, history
