"""Figures of strain: maps over their histograms, lattices, what follows, base lattices, a second crystal."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jax4dstem.errors import InputError
from jax4dstem.fields import Tree, find
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.colors import label_color, label_image
from jax4dstem.plots.domains import LEGEND_ROW, left_out_entry, legend_on
from jax4dstem.plots.style import (
    AMOUNT,
    BELOW,
    INK,
    LINE,
    SIGNED,
    UNDER,
    WIDTH,
    columns_for,
    limit_of,
    map_panels,
    new_figure,
    plot,
    scan_bar,
    show_image,
    show_values,
    tallness,
)

COMPONENTS = {
    "e_xx": "Strain along x, e_xx",
    "e_yy": "Strain along y, e_yy",
    "e_xy": "Shear strain, e_xy",
    "theta": "Rotation",
}
WAYS = {
    "lattice": "single patterns",
    "pooled": "pooled",
    "bases": "base lattices",
    "cepstrum": "cepstrum",
    "second": "second crystal",
}


@plot("strain")
def strain_map(results: Results, way: str = "pooled") -> Figure:
    """Strain and rotation, each over its histogram; gray where there is no value.

    Args:
        results: Of a run with strain.
        way: ``"pooled"``, ``"lattice"``, ``"bases"``, ``"cepstrum"`` or ``"second"``.

    Returns:
        The figure.

    Raises:
        InputError: The results have no strain in this way.

    Example:
        >>> strain_map(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: strain_map: the results have no strain
    """
    group = strain_of(results, way)
    shape = group["e_xx"].data.shape
    figure, axes = map_panels(results, 4, shape, columns_for(shape, 2), below=BELOW)
    for each, (name, title) in zip(axes, COMPONENTS.items(), strict=True):
        values, unit = in_percent(group[name].data, name)
        limit = limit_of(values)
        show_values(each, values, title, unit, SIGNED, -limit, limit)
        scan_bar(each, results, shape[1])
    return figure


@plot("strain")
def strain_errors(results: Results, way: str = "pooled") -> Figure:
    """One standard deviation of every component of strain, over its histogram.

    Args:
        results: Of a run with strain.
        way: As for `strain_map`.

    Returns:
        The figure.

    Raises:
        InputError: The results have no strain in this way.

    Example:
        >>> strain_errors(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: strain_errors: the results have no strain
    """
    group = strain_of(results, way)
    shape = group["e_xx"].data.shape
    figure, axes = map_panels(results, 4, shape, columns_for(shape, 2), below=BELOW)
    for each, (name, title) in zip(axes, COMPONENTS.items(), strict=True):
        values, unit = in_percent(group[f"{name}_std"].data, name)
        text = f"Error of {title[0].lower()}{title[1:]}"
        size = unit.partition(",")[0]  # has no direction
        show_values(each, values, text, size, AMOUNT, 0.0, limit_of(values, 99))
        scan_bar(each, results, shape[1])
    return figure


@plot("strain/lattices/a", "strain/lattice_id", "strain/lattice_probability")
def lattice_map(results: Results) -> Figure:
    """Which lattice every position shows, how sure that is, and what each is.

    Args:
        results: Of a run with strain.

    Returns:
        The figure.

    Raises:
        InputError: The results have no table of lattices.

    Example:
        >>> lattice_map(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: lattice_map: the results have no strain/lattices/a
    """
    strain = results.fields()["strain"]
    table, number = strain["lattices"], strain["lattice_id"].data
    count = len(table["a"].data)
    below = max(UNDER, LEGEND_ROW * (count + 2))
    columns = columns_for(number.shape, 2)
    left_out = results.left_out(number.shape)
    figure, (first, second) = map_panels(results, 2, number.shape, columns, below=below)
    show_image(first, label_image(number, left_out=left_out), "Lattice of every position")
    scan_bar(first, results, number.shape[1])
    entries = [(label_color(k), lattice_in_words(table, k)) for k in range(count)]
    none = 100 * (number < 0)[~left_out].mean()
    entries += [(label_color(-1), f"none: {none:.1f} %")] * bool(none)
    legend_on(first, entries + left_out_entry(left_out), below=True)
    probability = strain["lattice_probability"].data
    options = {"cmap": "cividis", "vmin": 0.5, "vmax": 1}
    show_image(second, probability, "How sure the lattice is", "probability", **options)
    return figure


def lattice_in_words(table: Tree, k: int) -> str:
    """Number, cell and share of a lattice."""
    a, b, gamma, share = (float(table[name].data[k]) for name in ("a", "b", "gamma", "share"))
    return f"{k}: {a:.4g} × {b:.4g} {table['a'].units}, {gamma:.1f}°, {100 * share:.1f} %"


@plot("strain/second/amount")
def second_crystal(results: Results) -> Figure:
    """How much of the diffraction is of the second crystal under the probe, its error, and the evidence for it.

    Args:
        results: Of a run with strain.

    Returns:
        The figure.

    Raises:
        InputError: The results have no second crystal.

    Example:
        >>> second_crystal(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: second_crystal: the results have no strain/second/amount
    """
    group = results.fields()["strain"]["second"]
    there = group["lattice_id"].data >= 0
    total = group["amount"].data + group["first_amount"].data
    share, error = (100 * group[name].data / total for name in ("amount", "amount_std"))
    drawn = (
        (share, "Diffraction of the second crystal", "percent", 50.0),
        (error, "Its standard deviation", "percent", None),
        (group["score"].data, "Evidence for it", "noise units", None),
    )
    figure, axes = map_panels(results, 3, share.shape, columns_for(share.shape, 3))
    for each, (values, title, unit, top) in zip(axes, drawn, strict=True):
        known = np.where(there, values, np.nan)
        top = limit_of(known) if top is None else top
        show_image(each, known, title, unit, cmap=AMOUNT, vmin=0, vmax=top)
    scan_bar(axes[0], results, share.shape[1])
    return figure


@plot("strain/derived/dilatation", "strain/pooled/n_pooled", "strain/lattice/asymmetry")
def strain_derived(results: Results) -> Figure:
    """What follows from the pooled strain: dilatation, shear, curvature, Burgers density, and how much was pooled.

    Args:
        results: Of a run with strain.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> strain_derived(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: strain_derived: the results have no strain/derived/dilatation
    """
    strain = results.fields()["strain"]
    group = strain["derived"]
    dilatation, percent = in_short_numbers(100 * group["dilatation"].data, "percent")
    per = "per " + group["curvature"].units.rpartition("/")[2]  # nm, or position
    limit = limit_of(dilatation)
    amounts = (
        (100 * group["max_shear"].data, "Maximum shear", "percent"),
        (np.degrees(group["curvature"].data), "Lattice curvature", f"degrees {per}"),
        (np.linalg.norm(group["burgers"].data, axis=-1), "Burgers density", per),
        (100 * group["dilatation_std"].data, "Error of the dilatation", "percent"),
        (100 * group["max_shear_std"].data, "Error of the maximum shear", "percent"),
        (strain["pooled"]["n_pooled"].data, "Patterns pooled", "patterns"),
        (
            np.linalg.norm(strain["lattice"]["asymmetry"].data, axis=-1),
            "Asymmetry of opposite reflections",
            "share of their sum",
        ),
    )
    shape = dilatation.shape
    figure, axes = map_panels(results, 8, shape, columns_for(shape, 3))
    options = {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    show_image(axes[0], dilatation, "Dilatation, e_xx + e_yy", percent, **options)
    for each, (values, title, unit) in zip(axes[1:], amounts, strict=True):
        shown, words = in_short_numbers(values, unit)
        show_image(each, shown, title, words, cmap=AMOUNT, vmin=0, vmax=limit_of(shown))
    scan_bar(axes[0], results, shape[1])
    return figure


@plot("strain/bases/base")
def base_lattices(results: Results) -> Figure:
    """Which base lattice each position has, the bases' strains, and how narrow they are.

    Args:
        results: Of a run with base lattices.

    Returns:
        The figure.

    Raises:
        InputError: The results have none.

    Example:
        >>> base_lattices(Results())
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: base_lattices: the results have no strain/bases/base
    """
    group = results.fields()["strain"]["bases"]
    base, bases = group["base"].data, group["table"]["strain"].data
    figure = new_figure(WIDTH, 660)
    axes = figure.subplots(2, 2).ravel()
    for each in axes[:2]:
        each.set_aspect(tallness(results))
    image = label_image(np.maximum(base, -1), left_out=results.left_out(base.shape))
    show_image(axes[0], image, "Base of every position; black: none")
    scan_bar(axes[0], results, base.shape[1])
    if "share" in group:
        show_image(
            axes[1], 100 * group["share"].data, "Share of the base", "percent", cmap=AMOUNT, vmin=0,
            vmax=100,
        )  # fmt: skip
    else:
        axes[1].axis("off")
    counts = np.bincount(base[base >= 0].ravel(), minlength=len(bases))
    points = axes[2].scatter(
        100 * bases[:, 0], 100 * bases[:, 1], s=8 + 200 * counts / max(counts.max(), 1),
        c=np.degrees(bases[:, 3]), cmap="twilight", alpha=0.8, edgecolors=INK, linewidths=0.4,
    )  # fmt: skip
    figure.colorbar(points, ax=axes[2], label="rotation, degrees")
    axes[2].set(xlabel="e_xx, percent", ylabel="e_yy, percent")
    axes[2].set_title("The bases; area: positions")
    axes[3].bar(np.arange(len(bases)), group["table"]["sharpness"].data, color=LINE)
    axes[3].axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes[3].set(xlabel="base, by size", ylabel="scatter / noise of one pattern")
    axes[3].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[3].set_title("Narrow: one lattice; wide: varying strain")
    return figure


def strain_of(results: Results, way: str) -> Tree:
    """Strain in one way.

    Raises:
        InputError: The results have none.
    """
    group = results.fields()["strain"].get(way, {})
    if not isinstance(group, dict) or "e_xx" not in group:
        raise InputError(f"the results have no strain by this way: {WAYS.get(way, way)}")
    return group


def ways_of(results: Results) -> list[str]:
    """The ways to the strain of every position that the results have."""
    return [
        way
        for way in WAYS
        if way != "second" and find(results.fields(), f"strain/{way}/e_xx") is not None
    ]


def in_short_numbers(values: np.ndarray, unit: str) -> tuple[np.ndarray, str]:
    """Values below a hundredth in thousandths, millionths or billionths of their unit, whose numbers have room below a map.

    Example:
        >>> in_short_numbers(np.array([0.00025]), "per nm")
        (array([250.]), '10⁻⁶ per nm')
    """
    top = limit_of(values)
    if not 1e-9 <= top < 1e-2:
        return values, unit
    power = int(np.floor(np.log10(top))) // 3 * 3
    return values * 10.0**-power, f"10⁻{'⁰¹²³⁴⁵⁶⁷⁸⁹'[-power]} {unit}"


def in_percent(values: np.ndarray, component: str) -> tuple[np.ndarray, str]:
    """Strain in percent, rotation in degrees, and the unit in words."""
    if component == "theta":
        return np.degrees(values), "degrees, counter-clockwise"
    return 100 * values, "percent"
