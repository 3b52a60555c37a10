"""One function per figure; each draws arrays of the results file and computes nothing."""

from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from jax4dstem.coordinates import Calibration
from jax4dstem.fields import Tree
from jax4dstem.patterns.cepstrum import unfold_cepstrum
from jax4dstem.report.style import (
    FONT,
    calibration,
    cluster_color,
    cluster_image,
    new_figure,
    scale_bar,
    show_image,
)

COLUMNS = 6  # clusters per row
MAX_POINTS = 20_000  # points of an embedding that are drawn


def overview(done: Tree, about: dict[str, Any]) -> Figure:
    """The result at one look: dark field, log-STD map, embedding, domains."""
    height, width = done["images"]["annular_dark_field"].data.shape
    figure = new_figure(17, 4.3)
    axes = figure.subplots(1, 4, width_ratios=[max(0.6, min(1.6, width / height)), 1, 1.05, 1.45])
    scan_image(
        axes[0], done["images"]["annular_dark_field"], "Annular dark field", about, bar=False
    )
    std_map_on(axes[1], done)
    division = shown_division(done)
    embedding_on(axes[2], done, division, 0, min(1, _points(done)[0].shape[1] - 1))
    label_map_on(axes[3], done, division, about)
    return figure


def shown_division(done: Tree) -> str:
    """What pictures that show one division show: the domain map; in older results the deepest level of at most six clusters."""
    names = divisions(done)
    small = [name for name in names if len(done["clusters"][name]["ids"].data) <= 6]
    return "domains" if "domains" in names else small[-1] if small else names[0]


def divisions(done: Tree) -> list[str]:
    """Names of the domain map, where there is one, and of the levels of the clustering, coarsest first."""
    labels = done.get("labels", {})
    levels = [name for name in labels if name.startswith("level_")]
    return ["domains"] * ("domains" in labels) + sorted(levels, key=lambda name: int(name[6:]))


def title_of(division: str) -> str:
    """A division in words."""
    return division.replace("_", " ").capitalize()


def virtual_images(done: Tree, about: dict[str, Any]) -> Figure:
    """Bright field, annular dark field, dose and the two components of the center of mass."""
    images = done["images"]
    com = images["center_of_mass"]
    figure = new_figure(15, 7.6, "Virtual images")
    axes = figure.subplots(2, 3).ravel()
    bright, inner, outer = images["radii"].data
    radii = f"disk of {bright:.1f} px", f"ring {inner:.0f}-{outer:.0f} px"
    scan_image(axes[0], images["bright_field"], f"Bright field ({radii[0]})", about)
    scan_image(axes[1], images["annular_dark_field"], f"Annular dark field ({radii[1]})", about)
    scan_image(axes[2], images["dose"], "Dose", about)
    for i, name in enumerate("yx"):
        values = com.data[..., i]
        limit = _largest(values) or 1.0
        show_image(
            axes[3 + i], values, f"Center of mass, {name} component", "px", cmap="RdBu_r",
            vmin=-limit, vmax=limit,
        )  # fmt: skip
    axes[5].axis("off")
    return figure


def scan_image(axes: Axes, field: Any, title: str, about: dict[str, Any], bar: bool = True) -> None:
    """An image over the scan with a scale bar; the color range leaves out the extreme half percent."""
    low, high = np.nanpercentile(field.data, [0.5, 99.5])
    show_image(
        axes, field.data, title, field.units if bar else None, cmap="gray", vmin=low,
        vmax=max(high, low + 1e-12),
    )  # fmt: skip
    scale_bar(axes, field.data.shape[1], *calibration(about).scan_units)


def _largest(values: np.ndarray) -> float:
    """Size of the values, but for the largest hundredth; 0 where there are none, as of centers that are given."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, 99)) if finite.size else 0.0


def descan(done: Tree, about: dict[str, Any]) -> Figure:
    """Center of the direct beam, and how far it is from the smooth surface."""
    figure = new_figure(15, 7.2, "Direct beam over the scan (descan)")
    axes = figure.subplots(2, 3)
    measured, surface = done["descan"]["measured"].data, done["descan"]["surface"].data
    for row, name in enumerate("yx"):
        center = done["center"].data[..., row]
        span = {"vmin": float(center.min()), "vmax": float(center.max()) + 1e-9}
        rest = measured[..., row] - surface[..., row]
        limit = _largest(rest) or 1e-3
        show_image(axes[row, 0], center, f"Center {name}", "px", cmap="viridis", **span)
        show_image(
            axes[row, 1], surface[..., row], f"Fitted surface {name}", "px", cmap="viridis", **span
        )
        show_image(
            axes[row, 2], rest, f"Measured - surface, {name}", "px", cmap="RdBu_r", vmin=-limit,
            vmax=limit,
        )  # fmt: skip
        scale_bar(axes[row, 0], center.shape[1], *calibration(about).scan_units)
    return figure


def std_map(done: Tree, about: dict[str, Any]) -> Figure:
    """Mean pattern and log-STD map with the feature mask drawn on it."""
    figure = new_figure(13, 6, "What varies over the scan")
    left, right = figure.subplots(1, 2)
    mean = done["features"]["mean_pattern"].data
    show_image(left, mean, "Mean pattern", "counts (log)", cmap="magma", norm=log_norm(mean))
    pixel, unit = calibration(about).reciprocal_units
    scale_bar(left, mean.shape[1], pixel, unit)
    std_map_on(right, done, bar=True)
    for radius in (
        done["features"]["ring"].data if done["features"]["mask"].data.shape == mean.shape else ()
    ):
        center = (mean.shape[1] // 2, mean.shape[0] // 2)
        right.add_patch(Circle(center, radius, fill=False, ec="white", ls="--", lw=1.2))
    return figure


def std_map_on(axes: Axes, done: Tree, bar: bool = False) -> None:
    """Log-STD map; pixels chosen as features are outlined."""
    std, mask = done["features"]["std_map"].data, done["features"]["mask"].data
    label = "standard deviation, counts (log)" if bar else None
    show_image(
        axes, std, "log-STD map, feature mask outlined", label, cmap="magma", norm=log_norm(std)
    )
    if mask.shape == std.shape and 0 < mask.sum() < mask.size:
        axes.contour(mask.astype(float), [0.5], colors="#66CCEE", linewidths=0.9)


def log_norm(image: np.ndarray) -> LogNorm:
    """Logarithmic colors between a low percentile of the positive values and the maximum."""
    positive = image[np.isfinite(image) & (image > 0)]
    if not positive.size:
        return LogNorm(0.1, 1)
    low = float(np.percentile(positive, 2))
    return LogNorm(low, max(float(positive.max()), low * 1.01))


def scree(done: Tree, about: dict[str, Any]) -> Figure:
    """Share of the variance in each principal component."""
    ratio = done["pca"]["explained_variance_ratio"].data
    figure = new_figure(7, 4, "Principal components of the features")
    axes = figure.subplots()
    axes.semilogy(
        np.arange(1, len(ratio) + 1), np.maximum(ratio, 1e-12) * 100, "o-", color="#4477AA"
    )
    axes.set_xlabel("component", fontsize=FONT)
    axes.set_ylabel("explained variance / %", fontsize=FONT)
    axes.set_xticks(np.arange(1, len(ratio) + 1))
    axes.grid(alpha=0.3)
    return figure


def embedding(done: Tree, about: dict[str, Any]) -> Figure:
    """Embedding colored by label: a row per division, a column per pair of axes."""
    shown = divisions(done)
    points = _points(done)[0]
    pairs = [(0, 1), (0, 2), (1, 2)] if points.shape[1] > 2 else [(0, min(1, points.shape[1] - 1))]
    figure = new_figure(4.6 * len(pairs), 4.3 * len(shown))
    grid = figure.subplots(len(shown), len(pairs), squeeze=False)
    for row, division in enumerate(shown):
        for column, (i, j) in enumerate(pairs):
            embedding_on(grid[row, column], done, division, i, j)
    return figure


def embedding_on(axes: Axes, done: Tree, division: str, i: int, j: int) -> None:
    """Two axes of the embedding, colored by the labels of a division."""
    points, name = _points(done)
    labels = done["labels"][division].data.ravel()
    chosen = np.flatnonzero(np.isfinite(points).all(axis=1))
    chosen = chosen[:: max(1, len(chosen) // MAX_POINTS)]
    colors = cluster_image(labels[chosen][None])[0]
    size = float(np.clip(4000 / max(len(chosen), 1), 1.5, 40))
    axes.scatter(
        points[chosen, i], points[chosen, j], c=colors, s=size, lw=0, alpha=0.7, rasterized=True
    )
    axes.set_xlabel(f"{name} {i + 1}", fontsize=FONT)
    axes.set_ylabel(f"{name} {j + 1}", fontsize=FONT)
    axes.set_title(f"{name}, colored by {division.replace('_', ' ')}", fontsize=FONT)
    axes.tick_params(labelsize=FONT - 2)


def _points(done: Tree) -> tuple[np.ndarray, str]:
    kind = "umap" if "umap" in done["embedding"] else "pca"
    points = done["embedding"][kind].data
    return points.reshape(-1, points.shape[-1]), kind.upper()


def domain_map(done: Tree, about: dict[str, Any]) -> Figure | None:
    """The domain of every position, how sure it is, and how much of it is another's; None in older results."""
    labels = done["labels"]
    if "domains" not in labels:
        return None
    height, width = labels["domains"].data.shape
    aspect = float(np.clip(width / height, 0.4, 2.5))
    figure = new_figure(min(20, 3 * (3.8 * aspect + 1.6)), 5.2)
    first, second, third = figure.subplots(1, 3)
    label_map_on(first, done, "domains", about)
    confidence, share = labels["confidence"].data, labels["share"].data
    # From even odds to certainty.
    options = {"cmap": "cividis", "vmin": 0.5, "vmax": 1.0}
    show_image(second, confidence, "Probability of the domain", bar="probability", **options)
    beside = np.where(labels["second"].data >= 0, 1 - share, 0.0)
    beside = np.where(labels["domains"].data >= 0, beside, np.nan)
    show_image(
        third, beside, "Share of a second domain", bar="share", cmap="viridis", vmin=0, vmax=0.5
    )
    return figure


def label_maps(done: Tree, about: dict[str, Any]) -> Figure:
    """Clusters at every level, with scale bar and legend."""
    shown = [name for name in divisions(done) if name != "domains"]
    height, width = done["labels"]["level_1"].data.shape
    aspect = float(np.clip(width / height, 0.4, 2.5))
    figure = new_figure(min(20, (3.8 * aspect + 2.4) * len(shown)), 5.2)
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        label_map_on(axes, done, name, about)
    return figure


def label_map_on(axes: Axes, done: Tree, division: str, about: dict[str, Any]) -> None:
    """One division of the scan; the legend gives the share of each part."""
    labels = done["labels"][division].data
    ids = np.unique(labels)
    number = int((ids >= 0).sum())
    title = f"{number} domain{'s' * (number != 1)}"
    if division != "domains":
        title = f"{title_of(division)}: {number} clusters"
    show_image(axes, cluster_image(labels), title)
    scale_bar(axes, labels.shape[1], *calibration(about).scan_units)
    for cluster in sorted(ids, key=lambda i: (i < 0, i)):
        share = 100 * (labels == cluster).mean()
        name = "outliers" if cluster < 0 else f"{cluster}"
        axes.scatter(
            [],
            [],
            marker="s",
            s=70,
            color=[cluster_color(int(cluster))],
            label=f"{name}: {share:.1f} %",
        )
    columns = 1 if len(ids) <= 16 else 2
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=FONT - 1 if len(ids) < 12 else FONT - 3,
        frameon=False, ncol=columns, handletextpad=0.3,
    )  # fmt: skip


def comparison(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Level 1, what another method makes of it, and where the two disagree."""
    found = done.get("comparison")
    if found is None:
        return None
    figure = new_figure(15, 4.9)
    first, second, third = figure.subplots(1, 3)
    method, index = str(found["method"].data), float(found["index"].data)
    show_image(first, cluster_image(done["labels"]["level_1"].data), "Level 1")
    show_image(second, cluster_image(found["labels"].data), f"{method}, matched")
    share = 100 * float(found["disagreement"].data.mean())
    title = f"disagreement: {share:.1f} %; adjusted Rand index {index:.2f}"
    show_image(third, found["disagreement"].data.astype(float), title, cmap="gray_r")
    scale_bar(first, found["labels"].data.shape[1], *calibration(about).scan_units)
    return figure


def mean_patterns(done: Tree, about: dict[str, Any], division: str) -> Figure:
    """Mean pattern (log) and mean cepstrum of every part of a division."""
    group = done["clusters"][division]
    ids, patterns = group["ids"].data, group["mean_pattern"].data
    columns = min(COLUMNS, len(ids))
    bands = -(-len(ids) // columns)
    figure = new_figure(
        2.9 * columns + 0.4,
        5.9 * bands + 0.5,
        f"{title_of(division)}: mean pattern (log) and mean cepstrum",
    )
    grid = figure.subplots(2 * bands, columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    pixel, unit = calibration(about).reciprocal_units
    for n, (cluster, pattern) in enumerate(zip(ids, patterns, strict=True)):
        top, bottom = (
            grid[2 * (n // columns), n % columns],
            grid[2 * (n // columns) + 1, n % columns],
        )
        what = "domain" if division == "domains" else "cluster"
        title = f"{what} {cluster}  ({group['size'].data[n]})"
        show_image(top, pattern, title, cmap="magma", norm=log_norm(pattern))
        top.title.set_color(cluster_color(int(cluster)))
        draw_cepstrum(
            bottom, group["mean_cepstrum"].data[n], cepstrum_shape(group), calibration(about)
        )
        if n == 0:
            scale_bar(top, pattern.shape[1], pixel, unit)
        for axes in (top, bottom):
            axes.axis("on")
    return figure


def cepstrum_shape(group: dict[str, Any]) -> tuple[int, int]:
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


def split_curves(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Elbow (inertia or BIC) and silhouette of every split that was tried."""
    splits = {n: s for n, s in done["splits"].items() if len(s["k"].data) > 1}
    if not splits:
        return None
    order = sorted(splits, key=lambda n: -1 if n == "whole" else int(n.removeprefix("cluster_")))
    columns = min(5, len(order))
    rows = -(-len(order) // columns)
    figure = new_figure(
        3.5 * columns + 0.5, 2.9 * rows + 0.6, "How many clusters: elbow and silhouette"
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(order) :]:
        axes.axis("off")
    for axes, name in zip(grid, order, strict=False):
        split_curve_on(axes, name.replace("_", " "), splits[name])
    return figure


def split_curve_on(axes: Axes, name: str, split: dict[str, Any]) -> None:
    """Criterion (left axis), silhouette (right axis), noise level, and the K that was made."""
    k, made = split["k"].data, int(split["n_clusters"].data)
    verdict = f"K = {made}" if made > 1 else "not split"
    axes.set_title(f"{name}: {verdict}", fontsize=FONT)
    axes.plot(k, split["criterion"].data, "o-", color="#888888", ms=4)
    axes.set_ylabel(str(split["criterion_name"].data), color="#666666", fontsize=FONT - 2)
    axes.set_yticks([])
    axes.set_xticks(k)
    axes.set_xlabel("K", fontsize=FONT - 2)
    right = axes.twinx()
    right.plot(k, split["silhouette"].data, "s-", color="#4477AA", ms=4)
    right.axhline(split["noise"].data[1], color="#EE6677", ls="--", lw=1.2)
    right.set_ylim(min(0.0, float(np.nanmin(split["silhouette"].data)) - 0.05), 1)
    right.set_ylabel("silhouette (noise: dashed)", color="#4477AA", fontsize=FONT - 3)
    right.tick_params(labelsize=FONT - 3)
    if made > 1:
        axes.axvline(made, color="black", lw=1, ls=":")
