"""What a fitted lattice leads one to expect of a pattern, and what it leaves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.intensities import DiskIntensities
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.patches import patch_side_around
from jax4dstem.lattice.render import render
from jax4dstem.strain.measure import StrainMeasurement
from jax4dstem.typing import Array, Float, Pattern, Point


def expected_and_residual(
    electrons: np.ndarray, strain: StrainMeasurement, y: int, x: int
) -> np.ndarray | None:
    """What the lattice fitted at a position leads one to expect there, and what is there beyond it.

    The lattice is that of the fit; the intensities of its disks are the pattern's own, measured around it, and the
    background is that of the scan.

    Args:
        electrons: Of the position, as the fit took it, ``(det_y, det_x)``.
        strain: What was fitted.
        y: Row of the scan.
        x: Column of the scan.

    Returns:
        Expected electrons and electrons minus these, ``(2, det_y, det_x)``, NaN for pixels that say nothing; None where
        there is no lattice.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> from jax4dstem.strain import LatticeStrain, LearnedModel, Status, StrainMap
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> zero, twice = np.zeros((1, 1)), np.zeros((1, 1, 2))
        >>> none = np.full((1, 1), Status.NO_LATTICE)
        >>> strain = StrainMap(zero, zero, zero, zero, np.zeros((1, 1, 4, 4)), none, 12 * np.eye(2), "given")
        >>> fits = LatticeStrain(strain, twice, np.eye(2)[None, None], zero, zero, zero, twice, zero, zero == 0)
        >>> expected_and_residual(np.ones((32, 32)), StrainMeasurement(fits, LearnedModel(model, 0.0)), 0, 0) is None
        True
    """
    for part in strain.parts():
        if part.strain.ok[y, x]:
            model = part.model
            patch = patch_side_around(float(model.radius), model.tightest)
            lattice = part.lattice.center[y, x], part.lattice.distortion[y, x]
            return np.asarray(_compare(patch, electrons, *lattice, model))
    return None


@partial(jax.jit, static_argnums=0)
def _compare(
    patch: int,
    pattern: Pattern,
    center: Point,
    distortion: Float[Array, "2 2"],
    model: LatticeModel,
) -> Float[Array, "2 det_y det_x"]:
    center, distortion = jnp.asarray(center, float), jnp.asarray(distortion, float)
    found = DiskIntensities(patch)(pattern, center, distortion, model)
    share = jnp.maximum(jnp.nan_to_num(found.share), 0.0)
    height, width = pattern.shape
    expected = found.dose * render((height, width), center, distortion, share, model, patch)
    known = model.detector.usable(pattern)
    return jnp.where(known, jnp.stack([expected, pattern - expected]), jnp.nan)
