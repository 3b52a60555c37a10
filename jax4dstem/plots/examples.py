"""Figures of single patterns with the lattices fitted to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from jax4dstem.errors import InputError
from jax4dstem.fields import Tree
from jax4dstem.noise import COUNTED
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.style import (
    SIGNED,
    panels,
    plot,
    scale_bar,
    show_image,
)

DISKS, G1, G2 = "#66CCEE", "#FF9F40", "#66FF99"
SECOND = "#AA3377"  # circles of the second crystal's disks, in what the fit of the first leaves
MINUS = "\N{MINUS SIGN}"
BEAM = 2.0  # disk radii around the center that are the direct beam's
BRIGHT = 99.8  # percent of the pixels are darker than the last color
SPREAD = 4.0  # standard deviations of the noise that colors of residuals reach to


@plot("strain/examples/pattern")
def lattice_overlay(results: Results) -> Figure:
    """The typical pattern, its fitted g1, g2 and disks, and what the lattice leaves of it.

    Args:
        results: Of a run with strain.

    Returns:
        The figure.

    Raises:
        InputError: The results have no pattern with strain.

    Example:
        >>> lattice_overlay(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: lattice_overlay: the results have no strain/examples/pattern
    """
    return _examples(results, ["typical"])


@plot("strain/examples/pattern")
def pattern_examples(results: Results) -> Figure:
    """The best and the worst pattern, one at a boundary, one of two crystals and one without strain, each with its fit and what that leaves.

    A second crystal is circled in what the fit of the first leaves.

    Args:
        results: Of a run with strain.

    Returns:
        The figure.

    Raises:
        InputError: The results have no examples.

    Example:
        >>> pattern_examples(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: pattern_examples: the results have no strain/examples/pattern
    """
    return _examples(results, ["best", "worst", "boundary", "two crystals", "without strain"])


def _examples(results: Results, kinds: Sequence[str]) -> Figure:
    """A row per example: the pattern, the pattern with its fit, the residual."""
    found = results.fields()["strain"]["examples"]
    rows = [n for n, kind in enumerate(found["kind"].data.tolist()) if kind in kinds]
    if not rows:
        raise InputError(f"the results have no {' or '.join(kinds)} pattern")
    figure, axes = panels(3 * len(rows), found["pattern"].data.shape[1:], 3)
    for row, n in enumerate(rows):
        _example(axes[3 * row : 3 * row + 3], results, found, n)
    return figure


def _example(axes: Sequence[Axes], results: Results, found: Tree, n: int) -> None:
    pattern, expected = (found[name].data[n] for name in ("pattern", "expected"))
    y, x = found["position"].data[n].tolist()
    kind = str(found["kind"].data[n]).capitalize()
    norm = pattern_norm(pattern, found["center"].data[n], float(found["radius"].data[n]))
    options: dict[str, Any] = {"cmap": "magma", "norm": norm}
    at = f"row {y}, column {x}"
    show_image(axes[0], pattern, f"{kind}: {at}", "electrons, root scale", **options)
    scale_bar(axes[0], pattern.shape[1], *results.calibration.reciprocal_units)
    if not np.isfinite(expected).any():
        for each, words in zip(axes[1:], ("No lattice was fitted", ""), strict=True):
            each.axis("off")
            each.set_title(words)
        return
    show_image(
        axes[1], pattern, f"Fit{_strain_there(results, y, x)}", "electrons, root scale", **options
    )
    lattice_on(axes[1], found, n)
    # In units of the noise that these electrons are expected to have, which counts of 1 or less have too.
    noise = COUNTED.variance(np.maximum(expected, 1.0))
    gap = (pattern - expected) / np.sqrt(noise)
    chi = _dispersion(results, y, x)
    title = "What the fit leaves" + (f", χ² {chi:.2f}" if np.isfinite(chi) else "")
    show_image(
        axes[2], gap, title, "standard deviations of noise", cmap=SIGNED, vmin=-SPREAD, vmax=SPREAD
    )  # fmt: skip
    if "second_disks" in found:
        circles_on(axes[2], found["second_disks"].data[n], float(found["radius"].data[n]), SECOND)


def lattice_on(axes: Axes, found: Tree, n: int) -> None:
    """Fitted disks as circles, g1 and g2 as arrows, over the pattern of an example."""
    center, vectors, disks = (found[name].data[n] for name in ("center", "vectors", "disks"))
    radius = float(found["radius"].data[n])
    circles_on(axes, disks, radius, DISKS)
    for vector, color, name in zip(vectors, (G1, G2), ("g1", "g2"), strict=True):
        tip = center + vector
        axes.annotate(
            "", tip[::-1], center[::-1],
            arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        # Beyond the disk that the arrow ends in, and inside the pattern.
        label = tip + vector / np.linalg.norm(vector) * (radius + 0.04 * max(axes.get_xlim()))
        axes.text(
            label[1], label[0], name, color=color, ha="center", va="center", weight="bold",
            clip_on=True, bbox={"facecolor": "black", "alpha": 0.65, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def circles_on(axes: Axes, disks: np.ndarray, radius: float, color: str) -> None:
    """A circle around every disk (y, x) that is known."""
    disks = disks[np.isfinite(disks).all(axis=1)]
    size = np.full(len(disks), 2 * radius)
    circles = EllipseCollection(
        size, size, np.zeros(len(disks)), units="xy", offsets=disks[:, ::-1],
        transOffset=axes.transData, facecolors="none", edgecolors=color, linewidths=1.1,
    )  # fmt: skip
    axes.add_collection(circles, autolim=False)


def pattern_norm(image: np.ndarray, center: np.ndarray, radius: float) -> PowerNorm:
    """Colors by the root of the counts, whose noise is the same everywhere, up to the brightest beside the direct beam."""
    outside = np.isfinite(image)
    if np.isfinite(center).all():
        y, x = np.indices(image.shape)
        outside &= np.hypot(y - center[0], x - center[1]) > BEAM * radius
    top = float(np.percentile(image[outside], BRIGHT)) if outside.any() else 1.0
    return PowerNorm(0.5, 0.0, max(top, 1.0))


def _strain_there(results: Results, y: int, x: int) -> str:
    group = results.fields()["strain"].get("lattice", {})
    if "e_xx" not in group:
        return ""
    value, error = (100 * float(group[name].data[y, x]) for name in ("e_xx", "e_xx_std"))
    return f": e_xx {value:.2f} ± {error:.2f} %".replace("-", MINUS) if np.isfinite(value) else ""


def _dispersion(results: Results, y: int, x: int) -> float:
    group = results.fields()["strain"].get("lattice", {})
    return float(group["dispersion"].data[y, x]) if "dispersion" in group else np.nan
