"""What all patterns of a scan share, refined by the derivatives of their joint likelihood."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.lattice.fit import FitLattice, total_deviance
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar

LONGEST = 0.2  # change of a logarithm in one step: beyond it the quadratic model says nothing
RIDGE = 1e-6  # of a scaled information


class Shared(NamedTuple):
    """Refined parameters, all zero for the model as it is.

    Attributes:
        log_radius: Logarithm of the disks' radius over the model's.
        log_edge: The same of the edge width.
        background: Change of the power of the radius that the background falls with.
    """

    log_radius: Scalar
    log_edge: Scalar
    background: Scalar


NAMES = Shared._fields


def with_shared(model: LatticeModel, shared: Shared) -> LatticeModel:
    """The model with refined shared parameters."""
    radii = jnp.arange(model.background.shape[0], dtype=float)
    return model._replace(
        radius=model.radius * jnp.exp(shared.log_radius),
        edge_width=model.edge_width * jnp.exp(shared.log_edge),
        background=model.background * (1 + radii) ** shared.background,
    )


class SharedInformation(NamedTuple):
    """Half the deviance of a pattern to second order in the shared parameters, its own eliminated.

    Attributes:
        deviance: Half of it.
        gradient: Of the shared parameters.
        information: Schur complement of the pattern's center and distortion.
        response: Derivative of (c_y, c_x, A_00, A_10, A_01, A_11) by the shared parameters.
    """

    deviance: Scalar
    gradient: Float[Array, " m"]
    information: Float[Array, "m m"]
    response: Float[Array, "6 m"]


@dataclass(frozen=True)
class PatternInformation:
    r"""Pattern function: what one pattern says about the shared parameters θ, its own lattice x eliminated.

    .. math:: I_\theta = H_{\theta\theta} - H_{\theta x} H_{xx}^{-1} H_{x\theta}, \qquad
              \frac{\mathrm d x}{\mathrm d \theta} = - H_{xx}^{-1} H_{x\theta}

    with the Hessian H of half the deviance, in which the heights are already at their optimum. The direct beam is left out:
    a steep background under it cannot be seen, and makes the disk look smaller than it is.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
    """

    patch: int

    def __call__(
        self, pattern: Pattern, center: Point, distortion: Float[Array, "2 2"], model: LatticeModel
    ) -> SharedInformation:
        """Of a fitted lattice.

        Args:
            pattern: Counts ``(det_y, det_x)``.
            center: (y, x) in px.
            distortion: A.
            model: Shared by the scan.
        """
        count = len(NAMES)
        model = model._replace(dispersion=model.dispersion.at[0].set(jnp.inf))

        def half(z: Array) -> Array:
            changed = with_shared(model, Shared(*z[:count]))
            own = z[count:]
            total, _ = total_deviance(
                pattern, own[:2], own[2:].reshape(2, 2).T, changed, self.patch
            )
            return 0.5 * total

        at = jnp.concatenate([jnp.zeros(count), center, distortion.T.ravel()])
        value, gradient = jax.value_and_grad(half)(at)
        hessian = jax.hessian(half)(at)
        scale = jnp.sqrt(jnp.maximum(jnp.diagonal(hessian)[count:], 1e-12))
        own = hessian[count:, count:] / scale[:, None] / scale + RIDGE * jnp.eye(6)
        solved = jnp.linalg.solve(own, hessian[count:, :count] / scale[:, None]) / scale[:, None]
        return SharedInformation(
            value,
            gradient[:count] - solved.T @ gradient[count:],
            hessian[:count, :count] - solved.T @ hessian[count:, :count],
            -solved,
        )


class RefinedModel(NamedTuple):
    """A refined model, and how well its shared parameters are known.

    Attributes:
        model: Refined.
        values: Sum of the changes of (log_radius, log_edge, background).
        fits: Lattices of all positions with it.
        covariance: Of (log_radius, log_edge, background), ``(3, 3)``.
        response: Of every position's (c, A) to them, ``(scan_y, scan_x, 6, 3)``.
        deviance: Half of the sum over the used positions, at every round.
        step: Last change of the parameters over their standard deviations, the largest.
    """

    model: LatticeModel
    values: np.ndarray
    fits: Any
    covariance: np.ndarray
    response: np.ndarray
    deviance: list[float]
    step: float


def refine_shared(
    scan: Dataset,
    start: tuple[np.ndarray, np.ndarray],
    model: LatticeModel,
    fit: FitLattice,
    used: np.ndarray,
    rounds: int,
) -> RefinedModel:
    """Newton's method on the joint likelihood of all patterns; each lattice is fitted again in every round.

    Args:
        scan: Raw counts.
        start: Centers ``(scan_y, scan_x, 2)`` and distortions ``(scan_y, scan_x, 2, 2)``.
        model: To start from.
        fit: The pattern function that fits the lattices.
        used: Boolean ``(scan_y, scan_x)``: positions that have a lattice.
        rounds: Of the method.
    """
    about, weights, history = PatternInformation(fit.patch), used.astype(np.float32), []
    values = np.zeros(len(NAMES))
    for _ in range(rounds):
        fits = map_patterns(fit, scan, model, per_position=start)
        start = _filled(fits.center, start[0], used), _filled(fits.distortion, start[1], used)
        chain = scan.map(about, model, per_position=start)
        mean = reduce_patterns(Mean(), chain, weights=weights)
        information = np.asarray(mean.information, np.float64) * used.sum()
        gradient = np.asarray(mean.gradient, np.float64) * used.sum()
        covariance = _inverse(information)
        change = -covariance @ gradient
        history.append(float(mean.deviance) * int(used.sum()))
        bounded = np.clip(change, -LONGEST, LONGEST)
        model, values = with_shared(model, Shared(*bounded.tolist())), values + bounded
    fits = map_patterns(fit, scan, model, per_position=start)
    start = _filled(fits.center, start[0], used), _filled(fits.distortion, start[1], used)
    response = map_patterns(about, scan, model, per_position=start).response
    step = float(np.max(np.abs(change) / np.sqrt(np.diagonal(covariance))))
    return RefinedModel(model, values, fits, covariance, response, history, step)


def _filled(found: np.ndarray, before: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Fits where there are some, finite numbers elsewhere."""
    keep = used.reshape(used.shape + (1,) * (found.ndim - 2)) & np.isfinite(found)
    return np.where(keep, found, np.nan_to_num(before)).astype(np.float32)


def _inverse(information: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix in scaled parameters; a direction that nothing determines keeps a finite error."""
    scale = np.sqrt(np.maximum(np.diagonal(information), 1e-300))
    scaled = information / scale[:, None] / scale + RIDGE * np.eye(len(scale))
    return np.linalg.inv(scaled) / scale[:, None] / scale
