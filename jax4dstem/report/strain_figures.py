"""Figures of strain: maps with error bars, what follows from them, and the ways side by side."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax4dstem.fields import Tree
from jax4dstem.report.style import (
    FONT,
    calibration,
    cluster_color,
    cluster_image,
    new_figure,
    scale_bar,
    show_image,
)

COMPONENTS = {"e_xx": "$e_{xx}$", "e_yy": "$e_{yy}$", "e_xy": "$e_{xy}$", "theta": "rotation"}
METHODS = {
    "lattice": "lattice fit",
    "pooled": "pooled",
    "bases": "base lattices",
    "cepstrum": "cepstrum",
}
TITLES = METHODS | {"second": "second crystal under the probe"}
MISSING = "#d0d0d0"  # positions without strain
DISAGREE = 3.0  # standard deviations


def strain_maps(done: Tree, about: dict[str, Any], method: str) -> Figure | None:
    """The four components, their standard deviations and histograms."""
    group = done["strain"].get(method, {})
    if "e_xx" not in group:
        return None
    figure = new_figure(17, 11.5, f"Strain, {TITLES[method]}")
    grid = figure.subplots(3, 4, height_ratios=[1, 1, 0.7])
    for column, (name, title) in enumerate(COMPONENTS.items()):
        values, unit = _percent(group[name].data, name)
        errors, _ = _percent(group[f"{name}_std"].data, name)
        limit = _limit(values)
        _symmetric(grid[0, column], values, title, unit, limit)
        top = float(np.nanpercentile(errors, 99)) if np.isfinite(errors).any() else 1.0
        _map(
            grid[1, column], errors, f"standard deviation of {title}", unit, cmap="viridis",
            vmin=0, vmax=top,
        )  # fmt: skip
        _histogram(grid[2, column], values, errors, f"{title} / {unit}")
        scale_bar(grid[0, column], values.shape[1], *calibration(about).scan_units)
    return figure


def second_amounts(done: Tree, about: dict[str, Any]) -> Figure | None:
    """How much of the diffraction is of the second crystal under the probe, and its error."""
    group = done["strain"].get("second")
    if group is None:
        return None
    figure = new_figure(13, 4.6, "Crystals on top of each other")
    first, second, third = figure.subplots(1, 3)
    total = group["amount"].data + group["first_amount"].data
    share = 100 * group["amount"].data / total
    there = group["lattice_id"].data >= 0
    _map(
        first,
        np.where(there, share, np.nan),
        "diffraction of the second crystal",
        "%",
        vmin=0,
        vmax=50,
    )
    scale_bar(first, share.shape[1], *calibration(about).scan_units)
    error = 100 * group["amount_std"].data / total
    _map(second, np.where(there, error, np.nan), "its standard deviation", "%", vmin=0)
    _positive(third, np.where(there, group["score"].data, np.nan), "evidence", "noise units")
    return figure


def derived_maps(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Dilatation, maximum shear, lattice curvature, Burgers density, with error bars, and pooling."""
    group = done["strain"].get("derived")
    if group is None:
        return None
    figure = new_figure(17, 8.2, "What follows from the pooled strain")
    axes = figure.subplots(2, 4)
    dilatation = 100 * group["dilatation"].data
    _symmetric(axes[0, 0], dilatation, "Dilatation", "%", _limit(dilatation))
    _positive(axes[0, 1], 100 * group["max_shear"].data, "Maximum shear", "%")
    _positive(axes[0, 2], np.degrees(group["curvature"].data), "Lattice curvature", "°/position")
    burgers = np.linalg.norm(group["burgers"].data, axis=-1)
    _positive(axes[0, 3], burgers, "Burgers density", "1/position")
    _positive(axes[1, 0], 100 * group["dilatation_std"].data, "its standard deviation", "%")
    _positive(axes[1, 1], 100 * group["max_shear_std"].data, "its standard deviation", "%")
    _positive(axes[1, 2], done["strain"]["pooled"]["n_pooled"].data, "Patterns pooled", "patterns")
    tilt = np.linalg.norm(done["strain"]["lattice"]["asymmetry"].data, axis=-1)
    _positive(axes[1, 3], tilt, "Asymmetry of opposite reflections", "1")
    scale_bar(axes[0, 0], dilatation.shape[1], *calibration(about).scan_units)
    return figure


def consensus(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Strain and rotation in all ways, and where they differ by more than three standard deviations."""
    groups = {
        name: done["strain"][name]
        for name in METHODS
        if name in done["strain"] and "e_xx" in done["strain"][name]
    }
    if len(groups) < 2:
        return None
    figure = new_figure(4.4 * len(groups), 15.2, "Consensus")
    grid = figure.subplots(4, len(groups))
    for row, component in enumerate(("e_xx", "theta")):
        limit = _limit(_percent(groups["pooled"][component].data, component)[0])
        for column, (name, group) in enumerate(groups.items()):
            values, unit = _percent(group[component].data, component)
            title = f"{COMPONENTS[component]}, {METHODS[name]}"
            _symmetric(grid[2 * row, column], values, title, unit, limit)
            axes = grid[2 * row + 1, column]
            if name == "lattice":
                axes.axis("off")
                continue
            gap = _gap(groups["lattice"], group, component)
            known = gap[np.isfinite(gap)]
            far = 100 * np.count_nonzero(np.abs(known) > DISAGREE) / max(known.size, 1)
            title = f"lattice - {METHODS[name]}, {far:.1f} % beyond {DISAGREE:.0f} σ"
            _symmetric(axes, gap, title, "standard deviations", 2 * DISAGREE)
    width = groups["pooled"]["e_xx"].data.shape[1]
    scale_bar(grid[0, 0], width, *calibration(about).scan_units)
    return figure


def base_maps(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Which base lattice each position has, and its share; the bases' strains, and how narrow they are."""
    group = done["strain"].get("bases", {})
    if "base" not in group:
        return None
    figure = new_figure(18, 4.6, "Base lattices")
    first, second, *axes = figure.subplots(1, 4)
    base = group["base"].data
    show_image(first, cluster_image(np.maximum(base, -1)), "Base of every position")
    scale_bar(first, base.shape[1], *calibration(about).scan_units)
    if "share" in group:
        _positive(second, group["share"].data, "Share of the base", "1")
    else:
        second.axis("off")
    bases = group["table"]["strain"].data
    counts = np.bincount(base[base >= 0].ravel(), minlength=len(bases))
    points = axes[0].scatter(
        100 * bases[:, 0], 100 * bases[:, 1], s=8 + 200 * counts / max(counts.max(), 1),
        c=np.degrees(bases[:, 3]), cmap="twilight", alpha=0.8,
    )  # fmt: skip
    figure.colorbar(points, ax=axes[0], label="rotation / °")
    axes[0].set(xlabel="$e_{xx}$ / %", ylabel="$e_{yy}$ / %")
    axes[0].set_title("The bases; area: positions", fontsize=FONT)
    axes[1].bar(np.arange(len(bases)), group["table"]["sharpness"].data, color="#4477AA")
    axes[1].axhline(1, color="k", lw=0.8, ls="--")
    axes[1].set(xlabel="base, by size", ylabel="scatter within / noise of one pattern")
    note = group["note"].data
    axes[1].set_title(note or "Narrow: one lattice; wide: varying strain", fontsize=FONT)
    return figure


def status_map(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Evidence for the lattice, the status, and how well the model fits."""
    group = done["strain"].get("lattice")
    if group is None:
        return None
    figure = new_figure(13, 4.2, "Where there is a lattice")
    axes = figure.subplots(1, 3)
    _positive(axes[0], group["score"].data, "Evidence for the lattice", "noise units")
    scale_bar(axes[0], group["score"].data.shape[1], *calibration(about).scan_units)
    names = [part.split() for part in group["status"].description.split(", ")]
    show_image(axes[1], group["status"].data, "Status", None, cmap="tab10", vmin=-0.5, vmax=9.5)
    present = set(np.unique(group["status"].data).tolist())
    for number, name in names:
        if int(number) in present:
            axes[1].scatter([], [], marker="s", color=f"C{number}", label=name.replace("_", " "))
    axes[1].legend(fontsize=FONT - 2, loc="upper right", framealpha=0.9)
    _positive(axes[2], group["dispersion"].data, "χ² per pixel around disks", "1")
    return figure


def lattice_map(done: Tree, about: dict[str, Any]) -> Figure | None:
    """Which lattice every position shows, how sure that is, and what each is; nothing for one lattice."""
    table = done["strain"].get("lattices", {})
    if "a" not in table or len(table["a"].data) < 2:
        return None
    figure = new_figure(15, 4.6, "Lattices of the scan")
    first, second, third = figure.subplots(1, 3)
    number = done["strain"]["lattice_id"].data
    show_image(first, cluster_image(number), "Lattice of every position")
    scale_bar(first, number.shape[1], *calibration(about).scan_units)
    probability = done["strain"]["lattice_probability"].data
    _map(second, probability, "its probability", "1", cmap="viridis", vmin=0.5, vmax=1)
    unit = table["a"].units
    rows = [
        [
            str(k),
            _with_error(table["a"].data[k], table["a_std"].data[k]),
            _with_error(table["b"].data[k], table["b_std"].data[k]),
            _with_error(table["gamma"].data[k], table["gamma_std"].data[k]),
            f"{100 * table['share'].data[k]:.1f} %",
        ]
        for k in range(len(table["a"].data))
    ]
    third.axis("off")
    columns = ["lattice", f"a / {unit}", f"b / {unit}", "γ / °", "share"]
    shown = third.table(
        rows, colLabels=columns, loc="center", colWidths=[0.14, 0.25, 0.25, 0.22, 0.14]
    )
    shown.auto_set_font_size(False)
    shown.set_fontsize(FONT - 2)
    shown.scale(1, 2)
    for k in range(len(rows)):
        shown[k + 1, 0].set_facecolor((*cluster_color(k), 0.5))
    return figure


def _with_error(value: float, error: float) -> str:
    """Value and error with two digits of the error."""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.5g}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _percent(values: np.ndarray, component: str) -> tuple[np.ndarray, str]:
    return (np.degrees(values), "°") if component == "theta" else (100 * values, "%")


def _gap(ours: Tree, theirs: Tree, component: str) -> np.ndarray:
    """Difference in units of the larger error bar, which neither can be blamed to exceed alone."""
    error = np.maximum(ours[f"{component}_std"].data, theirs[f"{component}_std"].data)
    return (ours[component].data - theirs[component].data) / error


def _limit(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(finite, 98)), 1e-6) if finite.size else 1.0


def _symmetric(axes: Axes, values: np.ndarray, title: str, unit: str, limit: float) -> None:
    _map(axes, values, title, unit, cmap="RdBu_r", vmin=-limit, vmax=limit)


def _positive(axes: Axes, values: np.ndarray, title: str, unit: str) -> None:
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, 98)) if finite.size else 1.0
    _map(axes, values, title, unit, cmap="viridis", vmin=0, vmax=max(top, 1e-9))


def _map(axes: Axes, values: np.ndarray, title: str, unit: str, **options: Any) -> None:
    axes.set_facecolor(MISSING)
    show_image(axes, values, title, unit, **options)


def _histogram(axes: Axes, values: np.ndarray, errors: np.ndarray, label: str) -> None:
    finite = values[np.isfinite(values)]
    if finite.size:
        low, high = np.percentile(finite, [0.5, 99.5])
        axes.hist(finite, bins=60, range=(low, high + 1e-9), color="#4477AA")
        axes.set_title(
            f"median {np.median(finite):.3g}, error bar {np.nanmedian(errors):.2g}",
            fontsize=FONT - 1,
        )
    axes.set_xlabel(label, fontsize=FONT)
    axes.set_yticks([])
    axes.tick_params(labelsize=FONT - 2)
