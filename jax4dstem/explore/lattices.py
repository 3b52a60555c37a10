"""The lattices of a scan's strain, as lines over a pattern."""

from typing import Any

import numpy as np

from jax4dstem.strain import StrainMeasurement

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
        vectors = part.lattices_on_detector
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
