"""Figures of domains and of the levels of the clustering."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError
from jax4dstem.fields import Tree
from jax4dstem.patterns.cepstrum import unfold_cepstrum
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.colors import (
    Color,
    division_colors,
    divisions,
    label_image,
)
from jax4dstem.plots.style import (
    AMOUNT,
    INK,
    LEFT_OUT,
    LINE,
    SMALL,
    WARM,
    WIDTH,
    calibration_of,
    columns_for,
    log_norm,
    map_panels,
    new_figure,
    plot,
    scale_bar,
    scan_bar,
    show_image,
    tallness,
)

METHOD_WORDS = {"KMeans": "k-means", "GaussianMixture": "a Gaussian mixture"}
MOST_DRAWN = 16  # domains whose patterns are drawn, the largest
LEGEND_ROWS, LEGEND_COLUMNS = 16, 2
LEGEND_ROW = 21  # px
TALL = 0.6  # width over height below which maps stand side by side
SIDE = 130  # px of a legend's column


@plot("labels/domains", "labels/confidence")
def domain_map(results: Results) -> Figure:
    """The domain of every position, how sure it is, and how much of the position is another domain's.

    Args:
        results: Of a run with domains.

    Returns:
        The figure.

    Raises:
        InputError: The results have no domain map.

    Example:
        >>> from jax4dstem.domains import DomainMap
        >>> labels, sure = np.array([[0, 0, 1], [0, 1, 1]]), np.ones((2, 3))
        >>> tried = np.array(["sums"]), np.array([2]), np.array([0.9])
        >>> found = DomainMap(labels, sure, np.full((2, 3), -1), sure, "sums", *tried)
        >>> domain_map(Results(domain_map=found)).axes[0].get_title('left')
        '2 domains'
    """
    labels = results.fields()["labels"]
    height, width = labels["domains"].data.shape
    aspect = float(np.clip(width / (height * tallness(results)), 0.3, 3.0))
    right = 300.0
    left = WIDTH - right - SIDE - 30
    legend = legend_height(len(np.unique(labels["domains"].data)))
    tall = float(np.clip(left / aspect, max(300, legend), 520))
    left = max(min(left, tall * aspect), 240)
    first = left + SIDE + 30
    places: Any
    if aspect < TALL:
        column = min(0.85 * right, (WIDTH - first) / 2)
        places, widths = [["domains", "sure", "beside"]], [first, column, column]
    else:
        places, widths = [["domains", "sure"], ["domains", "beside"]], [first, right]
    figure = new_figure(sum(widths), tall + 50)
    axes = figure.subplot_mosaic(places, width_ratios=widths)
    for each in axes.values():
        each.set_aspect(tallness(results))
    label_map_on(axes["domains"], results, "domains", division_colors(results)["domains"])
    # From even odds to certainty.
    show_image(
        axes["sure"], labels["confidence"].data, "How sure the domain is", "probability",
        cmap="cividis", vmin=0.5, vmax=1.0,
    )  # fmt: skip
    beside = np.where(labels["second"].data >= 0, 1 - labels["share"].data, 0.0)
    beside = np.where(labels["domains"].data >= 0, beside, np.nan)
    show_image(
        axes["beside"], 100 * beside, "Second domain's share", "percent", cmap=AMOUNT, vmin=0,
        vmax=50,
    )  # fmt: skip
    for each in (axes["sure"], axes["beside"]):
        each.set_anchor("W")  # the title has room up to the color bar's end
    return figure


@plot("labels", "clusters")
def level_maps(results: Results) -> Figure:
    """Clusters at every level; what is not divided keeps its number and color.

    Args:
        results: Of a run with clusters.

    Returns:
        The figure.

    Raises:
        InputError: The results have no clusters.

    Example:
        >>> level_maps(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: level_maps: the results have no labels
    """
    tree, colors = results.fields(), division_colors(results)
    shown = [name for name in divisions(tree) if name != "domains"]
    if not shown:
        raise InputError("level_maps: the results have no levels of clusters")
    shape = tree["labels"][shown[0]].data.shape
    most = max(len(colors[name]) for name in shown)
    beside = SIDE * min(LEGEND_COLUMNS, -(-most // LEGEND_ROWS))
    figure, axes = map_panels(
        results, len(shown), shape, columns_for(shape, 2), beside=beside, below=0
    )
    for each, name in zip(axes, shown, strict=True):
        label_map_on(each, results, name, colors[name])
    return figure


def label_map_on(axes: Axes, results: Results, division: str, colors: Mapping[int, Color]) -> None:
    """One division of the scan; the legend gives the share of each part."""
    labels = results.fields()["labels"][division].data
    left_out = results.left_out(labels.shape)
    counted = labels[~left_out]
    numbers, sizes = np.unique(counted, return_counts=True)
    count = int((numbers >= 0).sum())
    noun = "domain" if division == "domains" else "cluster"
    of_level = "" if division == "domains" else f"{title_of(division)}: "
    image = label_image(labels, colors, left_out)
    show_image(axes, image, f"{of_level}{count} {noun}{'s' * (count != 1)}")
    scan_bar(axes, results, labels.shape[1])
    entries = [
        (colors[number], f"{'none' if number < 0 else number}: {100 * size / counted.size:.1f} %")
        for number, size in sorted(
            zip(numbers.tolist(), sizes.tolist(), strict=True), key=lambda n: (n[0] < 0, n[0])
        )
    ]
    legend_on(axes, entries + left_out_entry(left_out))


def legend_height(entries: int) -> float:
    """Px that a legend of so many entries takes at the right of an image."""
    return LEGEND_ROW * (min(LEGEND_ROWS, entries) + 1)


def left_out_entry(left_out: np.ndarray) -> list[tuple[str, str]]:
    """Color and words of positions that nothing counts, for a legend whose shares are of the others; empty where there are none."""
    number = int(left_out.sum())
    return [(LEFT_OUT, f"left out: {number}")] if number else []


def legend_on(axes: Axes, entries: list[tuple[Any, str]], below: bool = False) -> None:
    """Squares with words at the right of an image, or below it, row by row; what has no room is counted."""
    room = LEGEND_ROWS * LEGEND_COLUMNS
    more = len(entries) - room
    shown = entries if more <= 0 else entries[: room - 1]
    squares = [
        Line2D(
            [],
            [],
            marker="s",
            linestyle="",
            markersize=9,
            color=color,
            label=words,
            markeredgecolor=INK if color == LEFT_OUT else color,
        )
        for color, words in shown
    ]
    if more > 0:
        squares.append(Line2D([], [], linestyle="", label=f"and {more + 1} more"))
    place = {"loc": "upper left", "bbox_to_anchor": (-0.02, 0.0)}
    if not below:
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    axes.legend(
        handles=squares, ncols=1 if below else -(-len(squares) // LEGEND_ROWS), handletextpad=0.1,
        columnspacing=0.6, borderpad=0.2, **place,
    )  # fmt: skip


@plot("labels", "clusters")
def domain_patterns(results: Results, division: str = "domains") -> Figure:
    """Mean pattern (logarithmic) and mean cepstrum of every domain, or of every cluster of a level.

    Args:
        results: Of a run with domains or clusters.
        division: ``"domains"``, ``"level_1"``, ...

    Returns:
        The figure; of many parts the largest.

    Raises:
        InputError: The results have no such division.

    Example:
        >>> domain_patterns(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: domain_patterns: the results have no labels
    """
    group = results.fields()["clusters"].get(division)
    if group is None:
        raise InputError(f"domain_patterns: the results have no {division}")
    colors, calibration = division_colors(results)[division], calibration_of(results)
    largest = np.argsort(-group["size"].data, kind="stable")[:MOST_DRAWN]
    chosen = np.sort(largest).tolist()
    columns = min(4, len(chosen))
    bands = -(-len(chosen) // columns)
    height, width = group["mean_pattern"].data.shape[1:]
    cell = max(WIDTH / 4, min(320, WIDTH / columns))
    figure = new_figure(columns * cell, bands * (2 * cell * min(height / width, 1.5) + 40))
    grid = figure.subplots(2 * bands, columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    noun = "Domain" if division == "domains" else "Cluster"
    for n, part in enumerate(chosen):
        top, bottom = (grid[2 * (n // columns) + i, n % columns] for i in (0, 1))
        number, size = int(group["ids"].data[part]), int(group["size"].data[part])
        pattern = group["mean_pattern"].data[part]
        title = f"{noun} {number}: {size} positions"
        show_image(top, pattern, title, cmap="magma", norm=log_norm(pattern))
        scale_bar(top, width, *calibration.reciprocal_units)
        draw_cepstrum(bottom, group["mean_cepstrum"].data[part], cepstrum_shape(group), calibration)
        for axes in (top, bottom):
            axes.axis("on")
            for spine in axes.spines.values():
                spine.set(visible=True, color=colors[number], linewidth=4)
    return figure


def cepstrum_shape(group: Tree) -> tuple[int, int]:
    """Of the whole transform: a half plane and the padding give its width."""
    height = group["mean_cepstrum"].data.shape[1]
    detector = group["mean_pattern"].data.shape[1:]
    return height, detector[1] * (height // detector[0])


def draw_cepstrum(
    axes: Axes, half: np.ndarray, shape: tuple[int, int], calibration: Calibration
) -> None:
    """The inner half of a cepstrum, with colors for what lies beyond its bright center, and a scale bar.

    Args:
        axes: To draw on.
        half: Right half plane of the cepstrum, ``(quefrency_y, quefrency_x)``, as in `ClusterTable`.
        shape: Of the whole transform.
        calibration: Of the prepared patterns.

    Example:
        >>> axes = Figure().subplots()
        >>> half = np.random.default_rng(0).random((32, 17))
        >>> draw_cepstrum(axes, half, (32, 32), Calibration(pixel_inv_angstrom=0.1))
        >>> axes.texts[0].get_text()
        '1 Å'
    """
    full = np.asarray(jax.jit(unfold_cepstrum, static_argnums=1)(half, shape[1]))
    height, width = shape
    rows = slice(height // 4, height - height // 4)
    cols = slice(width // 4, width - width // 4)
    y, x = np.indices(shape)
    outside = np.hypot(y - height // 2, x - width // 2) > min(shape) / 24
    inner = full[rows, cols]
    visible = inner[outside[rows, cols] & np.isfinite(inner)]
    top = float(np.percentile(visible, 99.7)) if visible.size else 1.0
    show_image(axes, inner, "", cmap="viridis", vmin=0, vmax=top or 1.0)
    scale_bar(axes, inner.shape[1], *calibration.quefrency_step(width))


@plot("comparison/labels")
def clusterings_compared(results: Results) -> Figure:
    """Level 1, what another method makes of it in matching colors, and where the two disagree.

    Args:
        results: Of a run with a second clustering.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> clusterings_compared(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: clusterings_compared: the results have no comparison/labels
    """
    tree = results.fields()
    found, colors = tree["comparison"], division_colors(results)["level_1"]
    labels = found["labels"].data
    left_out = results.left_out(labels.shape)
    method, index = str(found["method"].data), float(found["index"].data)
    figure, axes = map_panels(results, 3, labels.shape, columns_for(labels.shape, 3), below=0)
    show_image(axes[0], label_image(tree["labels"]["level_1"].data, colors, left_out), "Level 1")
    show_image(
        axes[1],
        label_image(labels, colors, left_out),
        f"By {METHOD_WORDS.get(method, method)}, in matching colors",
    )
    disagreement = np.where(left_out, np.nan, found["disagreement"].data)
    share = 100 * float(np.nanmean(disagreement))
    title = f"Other clusters: {share:.1f} %; adjusted Rand index {index:.2f}"
    show_image(axes[2], disagreement, title, cmap="gray_r")
    scan_bar(axes[0], results, labels.shape[1])
    return figure


@plot("splits")
def split_curves(results: Results) -> Figure:
    """How many clusters: elbow (inertia or BIC) and silhouette of every split that was tried.

    Args:
        results: Of a run with clusters.

    Returns:
        The figure.

    Raises:
        InputError: The results have no splits, or only such of a fixed number.

    Example:
        >>> split_curves(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: split_curves: the results have no splits
    """
    splits = {n: s for n, s in results.fields()["splits"].items() if len(s["k"].data) > 1}
    if not splits:
        raise InputError("split_curves: every number of clusters was given")
    order = sorted(splits, key=lambda n: -1 if n == "whole" else int(n.removeprefix("cluster_")))
    columns = min(3, len(order))
    rows = -(-len(order) // columns)
    figure = new_figure(WIDTH / 3 * columns, 240 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(order) :]:
        axes.remove()
    for axes, name in zip(grid, order, strict=False):
        _split_curve(axes, name.replace("_", " "), splits[name])
    return figure


def _split_curve(axes: Axes, name: str, split: Tree) -> None:
    """Criterion (left axis), silhouette (right axis), noise level, and the K that was made."""
    k, made = split["k"].data, int(split["n_clusters"].data)
    verdict = f"{made} clusters" if made > 1 else "not split"
    axes.set_title(f"{name.capitalize()}: {verdict}")
    axes.plot(k, split["criterion"].data, "o-", color="#666666", markersize=4)
    axes.set_ylabel(str(split["criterion_name"].data), color="#555555")
    axes.set(yticks=[], xticks=k, xlabel="number of clusters")
    right = axes.twinx()
    right.plot(k, split["silhouette"].data, "s-", color=LINE, markersize=4)
    right.axhline(split["noise"].data[1], color=WARM, linestyle="--", linewidth=1.2)
    right.set_ylim(min(0.0, float(np.nanmin(split["silhouette"].data)) - 0.05), 1)
    right.set_ylabel("silhouette (noise: dashed)", color="#33618C", fontsize=SMALL)
    if made > 1:
        axes.axvline(made, color="black", linewidth=1, linestyle=":")


def title_of(division: str) -> str:
    """A division in words."""
    return division.replace("_", " ").capitalize()
