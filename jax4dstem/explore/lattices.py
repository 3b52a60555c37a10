"""The lattices of a scan's strain, as lines over a pattern, and what they leave of its counts."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.explore.parts import pattern_of
from jax4dstem.lattice.intensities import DiskIntensities
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.patches import patch_side_around
from jax4dstem.lattice.render import render
from jax4dstem.strain import StrainMeasurement
from jax4dstem.typing import Array, Float, Pattern, Point

CHANNELS = 7  # center y, x; g1 y, x; g2 y, x, all in px of the detector; number of the lattice


def lattices_of(strain: StrainMeasurement) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Reflections and disk radius of every lattice, and where it lies in every pattern.

    Returns:
        Indices and radius, one per lattice; ``(scan_y, scan_x, 7)`` float32: center, g1 and g2 (y, x) in px of the
        detector and the lattice's number, NaN where there is no lattice.
    """
    parts = strain.parts()
    places = np.full((*strain.strain.status.shape, CHANNELS), np.nan, np.float32)
    for number, part in enumerate(parts):
        own = part.strain.ok
        vectors = part.fitted_lattices @ np.asarray(part.model.to_detector, np.float64)
        places[own, :2] = part.lattice.center[own]
        places[own, 2:6] = vectors[own].reshape(-1, 4)
        places[own, 6] = number
    about = [
        {
            "indices": np.asarray(part.model.indices).tolist(),
            "radius": float(part.model.radius),
        }
        for part in parts
    ]
    return about, places


def expected_and_residual(
    electrons: Dataset, strain: StrainMeasurement, y: int, x: int
) -> np.ndarray | None:
    """What the fitted lattice leads one to expect at a position, and what is there beyond it.

    The lattice is that of the results; the intensities of its disks are the pattern's own, measured around it, and the
    background is that of the scan.

    Args:
        electrons: The scan as the fits took it.
        strain: What was fitted.
        y: Row of the scan.
        x: Column of the scan.

    Returns:
        Expected electrons and electrons minus these, ``(2, det_y, det_x)``, NaN for pixels that say nothing; None where
        there is no lattice.
    """
    for part in strain.parts():
        if part.strain.ok[y, x]:
            model = part.model
            patch = patch_side_around(float(model.radius), model.tightest)
            pattern = pattern_of(electrons, y, x)
            lattice = part.lattice.center[y, x], part.lattice.distortion[y, x]
            return np.asarray(_compare(patch, pattern, *lattice, model))
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
