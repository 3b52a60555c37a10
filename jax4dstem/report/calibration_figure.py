"""The known crystal drawn over the mean pattern, before and after calibration."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jax4dstem.calibrate import CalibrationFound
from jax4dstem.lattice.basis import reflections
from jax4dstem.patterns.align import middle
from jax4dstem.report.figures import log_norm
from jax4dstem.report.style import new_figure, show_image


def calibration_figure(found: CalibrationFound) -> Figure:
    """Mean pattern of the region with the crystal's reflections, without and with the ellipse found.

    Args:
        found: From `calibrate_scan`. Where its region has grains in several orientations, that of the clearest pattern is
            drawn.
    """
    pattern = found.mean_pattern
    shape = (pattern.shape[0], pattern.shape[1])
    center = np.asarray(middle(shape))
    figure = new_figure(13, 6.6, f"Crystal and mean pattern: pixel {found.pixel:.5g} 1/Å")
    a, b = found.ellipse
    titles = "without ellipse", f"with the ellipse a = {a:.4f}, b = {b:.4f}"
    lattices = found.undistorted, found.fitted
    for axes, title, lattice in zip(figure.subplots(1, 2), titles, lattices, strict=True):
        show_image(axes, pattern, title, cmap="gray", norm=log_norm(pattern))
        y, x = (center + reflections(lattice, center, shape, 2.0) @ lattice).T
        axes.scatter(x, y, s=60, facecolors="none", edgecolors="#EE6677", linewidths=1.0)
    return figure


def draw_calibration(found: CalibrationFound, path: Path) -> None:
    """Write `calibration_figure` to a PNG file."""
    figure = calibration_figure(found)
    FigureCanvasAgg(figure)
    figure.savefig(path)
