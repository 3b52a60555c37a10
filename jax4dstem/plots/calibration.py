"""The known crystal or powder drawn over the mean pattern, before and after calibration."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax4dstem.calibrate import CalibrationFound, CrystalCalibration, RingCalibration
from jax4dstem.lattice.basis import reflections
from jax4dstem.patterns.align import middle
from jax4dstem.plots.style import STYLE, log_norm, panels, show_image

MARKS = "#66CCEE"


def calibration_fit(found: CalibrationFound) -> Figure:
    """Mean pattern with the crystal's reflections, or the polycrystal's rings, without and with the ellipse found.

    Args:
        found: From `calibrate_scan` or `calibrate_rings`. Where the region of the first has grains in several orientations, that
            of the clearest pattern is drawn.

    Returns:
        The figure.

    Example:
        >>> found = CalibrationFound(
        ...     0.02, 1e-5, np.array([0.01, 0.0]), np.zeros(2), np.zeros((3, 3)), np.zeros(2), np.zeros(2), 9,
        ...     np.ones((8, 8)),
        ... )
        >>> calibration_fit(found).axes[0].get_title('left')
        'Known, pixel 0.02 1/Å, no ellipse'
    """
    seen = found.mean_pattern
    pattern = np.maximum(
        seen, np.min(seen, where=seen > 0, initial=np.inf)
    )  # no holes in a logarithm
    a, b = found.ellipse
    titles = (
        f"Known, pixel {found.pixel:.5g} 1/Å, no ellipse",
        f"With the ellipse a = {a:.4f}, b = {b:.4f}",
    )
    with matplotlib.rc_context(STYLE):
        figure, both = panels(2, pattern.shape, 2, below=0)
        for axes, title, fitted in zip(both, titles, (False, True), strict=True):
            show_image(axes, pattern, title, cmap="gray", norm=log_norm(pattern))
            if isinstance(found, CrystalCalibration):
                _mark_reflections(axes, found, fitted)
            elif isinstance(found, RingCalibration):
                _mark_rings(axes, found, fitted)
    return figure


def _mark_reflections(axes: Axes, found: CrystalCalibration, fitted: bool) -> None:
    shape = (found.mean_pattern.shape[0], found.mean_pattern.shape[1])
    center = np.asarray(middle(shape))
    lattice = found.fitted if fitted else found.undistorted
    y, x = (center + reflections(lattice, center, shape, 2.0) @ lattice).T
    axes.scatter(x, y, s=60, facecolors="none", edgecolors=MARKS, linewidths=1.0)


def _mark_rings(axes: Axes, found: RingCalibration, fitted: bool) -> None:
    """The upper half of every ring, so that the lower one is seen as it is."""
    shape = found.fitted if fitted else found.undistorted
    angle = np.linspace(-np.pi, 0, 181)
    circle = np.stack([np.sin(angle), np.cos(angle)], axis=1) @ shape
    center = np.asarray(middle(found.mean_pattern.shape))
    for radius in 1 / (found.spacings * found.pixel):
        y, x = (center + radius * circle).T
        axes.plot(x, y, color=MARKS, linewidth=0.8)
