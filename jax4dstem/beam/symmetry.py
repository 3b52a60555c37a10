"""Where the patterns of a scan are their own inverse: the beam's center told by everything but the beam."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.beam.survey import Survey
from jax4dstem.dataset import BinDetector, Dataset
from jax4dstem.patterns.friedel import FEWEST_PAIRS, FriedelCenter, friedel_center
from jax4dstem.stream import map_patterns

SIDE = 64  # px to which patterns are summed for a check: the transform of 128 x 128 stays in a core's cache
CLEAR = 0.8  # symmetry of the best other center, relative: the half-way points of a lattice reach that in good patterns
HIDDEN = 0.5  # share of masked pixels in the middle of the beam, above which its centroid is that of a rim
CORE = 2.0  # px: radius of that middle; how large a hidden beam is nobody sees


@dataclass(frozen=True)
class Symmetric:
    """Inversion centers of all patterns; arrays over the scan, as of `FriedelCenter`.

    Attributes:
        center: (y, x) in px.
        symmetry: How symmetric the pattern is about it.
        rival: The same about the best point elsewhere.
    """

    center: np.ndarray
    symmetry: np.ndarray
    rival: np.ndarray

    def contradicts(self, center: np.ndarray, apart: float) -> np.ndarray:
        """Patterns that are clearly the inverse of themselves about another point, and about no third."""
        return self.is_far(center, apart) & (self.rival < CLEAR * self.symmetry)

    def is_far(self, center: np.ndarray, apart: float) -> np.ndarray:
        """Patterns that are most symmetric about another point, clearly or not."""
        return np.linalg.norm(self.center - center, axis=-1) > apart


def has_partners(center: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether so many pixels have a partner on the detector that the pattern's symmetry tells its center."""
    share = [max(2 * min(c, n - 1 - c) + 1, 0) / n for c, n in zip(center, shape, strict=True)]
    return bool(np.prod(share) > FEWEST_PAIRS)


def is_hidden(center: np.ndarray, usable: np.ndarray) -> bool:
    """Whether masked pixels cover most of the middle of the direct beam."""
    y, x = np.indices(usable.shape)
    core = np.hypot(y - center[0], x - center[1]) <= CORE
    return bool(core.any() and (~usable)[core].mean() > HIDDEN)


def symmetry_of(
    image: np.ndarray, usable: np.ndarray, expected: np.ndarray, search: float, apart: float
) -> FriedelCenter:
    """The inversion center of one image; see `friedel_center`."""
    place = jnp.asarray(np.reshape(expected, (-1, 2)).mean(axis=0), float)
    found = _compiled_center(
        jnp.asarray(image, float), place, jnp.asarray(usable), float(search), float(apart)
    )
    return FriedelCenter(*(np.asarray(part, np.float64) for part in found))  # type: ignore[arg-type]


_compiled_center = jax.jit(friedel_center)  # operation by operation, each would be compiled


def symmetric_centers(
    scan: Dataset,
    survey: Survey,
    expected: np.ndarray,
    search: float,
    apart: float,
    *,
    whole: bool = False,
) -> Symmetric:
    """The inversion center of every pattern.

    Args:
        scan: Raw patterns.
        survey: Of this scan.
        expected: Where it is looked for, ``(scan_y, scan_x, 2)`` (y, x) in px.
        search: How far from there, px.
        apart: Distance within which two centers are the same, px.
        whole: Whether patterns keep their pixels; otherwise they are summed to about 64 px, which tells centers to a
            fraction of a disk.
    """
    factor = 1 if whole else max(1, round(min(scan.pattern_shape) / SIDE))
    patterns, usable = survey.repaired(scan), ~survey.detector.bad_pixels
    if factor > 1:
        patterns = patterns.map(BinDetector(factor))
        height, width = (size // factor for size in usable.shape)
        blocks = usable[: height * factor, : width * factor]
        usable = blocks.reshape(height, factor, width, factor).all(axis=(1, 3))
    middle = (factor - 1) / 2
    found = map_patterns(
        friedel_center,
        patterns,
        usable,
        search / factor,
        max(apart / factor, 1.0),
        per_position=(((expected - middle) / factor).astype(np.float32),),
        progress="symmetry",
    )
    center = np.asarray(found.center) * factor + middle
    return Symmetric(center, np.asarray(found.symmetry), np.asarray(found.rival))
