"""Figures of what positions are told apart by: features, principal components, embedding, and all at one look."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from jax4dstem.pipeline.results import Results
from jax4dstem.plots.colors import Color, division_colors, divisions, label_image
from jax4dstem.plots.domains import SIDE, label_map_on, legend_height
from jax4dstem.plots.style import (
    LINE,
    PLAIN,
    WIDTH,
    calibration_of,
    log_norm,
    new_figure,
    panels,
    plot,
    scale_bar,
    scan_image,
    show_image,
    tallness,
)

MAX_POINTS = 20_000  # points of an embedding that are drawn


@plot("labels", "images/annular_dark_field", "features/std_map", "embedding/pca")
def overview(results: Results) -> Figure:
    """The result at one look: dark field, what varies, embedding, domains.

    Args:
        results: Of a whole run.

    Returns:
        The figure.

    Raises:
        InputError: The results lack a part of it.

    Example:
        >>> overview(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: overview: the results have no labels
    """
    tree = results.fields()
    image = tree["images"]["annular_dark_field"].data
    high = tallness(results) * image.shape[0] / image.shape[1]
    division = shown_division(results)
    colors = division_colors(results)[division]
    tall = max(250 * min(1.2, max(0.6, high)) + 60, legend_height(len(colors)))
    figure = new_figure(2 * WIDTH - 300, tall)
    axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1 + SIDE / 300])
    for each in (axes[0], axes[3]):
        each.set_aspect(tallness(results))
    scan_image(axes[0], results, image, "Annular dark field", None)
    std_map_on(axes[1], results)
    pair = (0, min(1, _points(results)[0].shape[1] - 1))
    embedding_on(axes[2], results, division, colors, pair)
    label_map_on(axes[3], results, division, colors)
    return figure


def shown_division(results: Results) -> str:
    """What pictures that show one division show: the domain map; in older results the deepest level of at most six clusters."""
    tree = results.fields()
    names = divisions(tree)
    small = [name for name in names if len(tree["clusters"][name]["ids"].data) <= 6]
    return "domains" if "domains" in names else small[-1] if small else names[0]


@plot("features/mean_pattern", "features/std_map")
def feature_map(results: Results) -> Figure:
    """Mean pattern, and how much each pixel varies over the scan, with the pixels that positions are told apart by.

    Args:
        results: Of a run with features.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> feature_map(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: feature_map: the results have no features/mean_pattern
    """
    found = results.fields()["features"]
    mean, mask = found["mean_pattern"].data, found["mask"].data
    figure, (left, right) = panels(2, mean.shape, 2)
    show_image(left, mean, "Mean pattern", "electrons", cmap="magma", norm=log_norm(mean))
    scale_bar(left, mean.shape[1], *calibration_of(results).reciprocal_units)
    std_map_on(right, results, bar=True)
    for radius in found["ring"].data if mask.shape == mean.shape else ():
        center = (mean.shape[1] // 2, mean.shape[0] // 2)
        right.add_patch(Circle(center, radius, fill=False, edgecolor="white", linestyle="--"))
    return figure


def std_map_on(axes: Axes, results: Results, bar: bool = False) -> None:
    """Standard deviation of every pixel over the scan; those chosen as features are outlined."""
    found = results.fields()["features"]
    std, mask = found["std_map"].data, found["mask"].data
    label = "standard deviation, electrons" if bar else None
    title = "What varies; outlined: features"
    show_image(axes, std, title, label, cmap="magma", norm=log_norm(std))
    if mask.shape == std.shape and 0 < mask.sum() < mask.size:
        axes.contour(mask.astype(float), [0.5], colors="#66CCEE", linewidths=0.9)


@plot("pca/explained_variance_ratio")
def principal_components(results: Results) -> Figure:
    """Share of the variance in each principal component of the features.

    Args:
        results: Of a run with principal components.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> principal_components(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: principal_components: the results have no pca/explained_variance_ratio
    """
    ratio = results.fields()["pca"]["explained_variance_ratio"].data
    figure = new_figure(WIDTH / 2, 280)
    axes = figure.subplots()
    number = np.arange(1, len(ratio) + 1)
    axes.semilogy(number, np.maximum(ratio, 1e-12) * 100, "o-", color=LINE)
    axes.set(xlabel="principal component", ylabel="percent of the variance", xticks=number)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.grid(alpha=0.3)
    return figure


@plot("labels", "embedding/pca")
def embedding(results: Results) -> Figure:
    """A point per position, in the colors of domains and levels: a row per division, a column per pair of axes.

    Args:
        results: Of a run with an embedding.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> embedding(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: embedding: the results have no labels
    """
    shown = divisions(results.fields())
    points = _points(results)[0]
    pairs = [(0, 1), (0, 2), (1, 2)] if points.shape[1] > 2 else [(0, min(1, points.shape[1] - 1))]
    figure = new_figure(WIDTH / 3 * len(pairs), 300 * len(shown))
    grid = figure.subplots(len(shown), len(pairs), squeeze=False)
    colors = division_colors(results)
    for row, division in zip(grid, shown, strict=True):
        for axes, pair in zip(row, pairs, strict=True):
            embedding_on(axes, results, division, colors[division], pair)
    return figure


def embedding_on(
    axes: Axes,
    results: Results,
    division: str,
    colors: Mapping[int, Color],
    pair: tuple[int, int],
) -> None:
    """Two axes of the embedding, colored by the labels of a division."""
    points, name = _points(results)
    labels = results.fields()["labels"][division].data.ravel()
    chosen = np.flatnonzero(np.isfinite(points).all(axis=1))
    chosen = chosen[:: max(1, len(chosen) // MAX_POINTS)]
    shown = label_image(labels[chosen][None], colors)[0]
    size = float(np.clip(4000 / max(len(chosen), 1), 1.5, 40))
    x, y = (points[chosen, i] for i in pair)
    axes.scatter(x, y, c=shown, s=size, linewidths=0, alpha=0.7, rasterized=True)
    axes.set(xlabel=f"{name} {pair[0] + 1}", ylabel=f"{name} {pair[1] + 1}")
    axes.set_title(f"Colored by {division.replace('_', ' ')}")


def _points(results: Results) -> tuple[np.ndarray, str]:
    found = results.fields()["embedding"]
    kind = "umap" if "umap" in found else "pca"
    points = found[kind].data
    return points.reshape(-1, points.shape[-1]), kind.upper()
