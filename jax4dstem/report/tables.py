"""Tables of the page: domains, clusters, lattices, settings, times."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from jax4dstem.errors import InputError
from jax4dstem.fields import Field, Tree
from jax4dstem.patterns.cepstrum import find_cepstrum_peaks
from jax4dstem.pipeline.recipe import parse_recipe, recipe_keys, to_toml
from jax4dstem.pipeline.results import Results
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.plots import division_colors, label_color
from jax4dstem.plots.domains import cepstrum_shape, title_of
from jax4dstem.plots.style import calibration_of

SPACINGS = 4  # the strongest of a mean cepstrum
ERROR = "_std"
TOLD = {"id", "size", "members"}  # columns of /domains that the table has already


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: With the unit in words.
        cells: Of every row.
        about: More words, seen when one points at the title.
    """

    title: str
    cells: list[str]
    about: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        title: Above it; "" for none.
        columns: All with as many cells.
        colors: Of the rows, as the figures have them; empty for none.
    """

    title: str
    columns: list[Column]
    colors: list[str]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """Color and cells of every row."""
        cells = list(map(list, zip(*(column.cells for column in self.columns), strict=True)))
        return list(zip(self.colors or [""] * len(cells), cells, strict=True))


def division_table(results: Results, division: str) -> Table | None:
    """What each domain, or each cluster of a level, is; None where it is not told."""
    tree = results.fields()
    group = tree.get("clusters", {}).get(division)
    if group is None:
        return None
    ids = group["ids"].data.tolist()
    noun = "domain" if division == "domains" else "cluster"
    columns = [Column(noun, [str(number) for number in ids]), *_sizes(results, division, group)]
    if division != "domains":
        parents = group["parent"].data.tolist()
        columns.append(Column("part of", ["whole scan" if p < 0 else str(p) for p in parents]))
    columns.append(
        Column("state", group["state"].data.tolist(), "by the peaks of the mean cepstrum")
    )
    further = tree.get("domains", {}) if division == "domains" else {}
    if "a" not in further:  # no lattice was fitted
        columns += [_cells(group), *_relations(group), _spacings(results, group)]
    columns += _further(further, len(ids))
    colors = division_colors(results)[division]
    return Table(title_of(division), columns, [to_hex(colors[number]) for number in ids])


def _sizes(results: Results, division: str, group: Tree) -> Iterator[Column]:
    labels = results.fields()["labels"]
    sizes, found = group["size"].data, labels[division].data
    total = found.size - int(results.left_out(found.shape).sum())
    yield Column("positions", [str(n) for n in sizes.tolist()])
    yield Column("share", [f"{100 * n / total:.1f} %" for n in sizes.tolist()])
    if division == "domains":
        sure = (
            np.nanmean(labels["confidence"].data[labels[division].data == number])
            for number in group["ids"].data.tolist()
        )
        yield Column("mean probability", [f"{each:.3f}" for each in sure], "of the assignment")


def _cells(group: Tree) -> Column:
    """Lattice of the mean cepstrum."""
    cells = []
    for basis in group["basis"].data:
        a, b = np.linalg.norm(basis, axis=1)
        known = np.isfinite(basis).all()
        angle = np.degrees(np.arccos(np.clip(basis[0] @ basis[1] / (a * b), -1, 1)))
        cells.append(f"{a:.2f} × {b:.2f}, {angle:.0f}°" if known else "")
    return Column(
        f"lattice, {group['basis'].units}", cells, "a × b and the angle between, from the cepstrum"
    )


def _relations(group: Tree) -> Iterator[Column]:
    states, relations = (group[name].data.tolist() for name in ("state", "relation"))
    told = ["" if r == s else r for s, r in zip(states, relations, strict=True)]
    reference = int(group["reference"].data) if "reference" in group else -1
    if reference >= 0:
        yield Column(f"relation to {reference}", told, "how the lattice lies, relative to that one")


def _spacings(results: Results, group: Tree) -> Column:
    shape, calibration = cepstrum_shape(group), calibration_of(results)
    cells = []
    for half, state in zip(group["mean_cepstrum"].data, group["state"].data.tolist(), strict=True):
        peaks = (
            []
            if state == "amorphous"
            else find_cepstrum_peaks(half, shape, calibration, inner=min(shape) / 30)
        )
        cells.append(", ".join(f"{peak.length:.2f}" for peak in peaks[:SPACINGS]) or "none")
    unit = calibration.quefrency_step(1)[1]
    return Column(f"strongest spacings, {unit}", cells, "of the mean cepstrum")


def _further(group: Tree, count: int) -> Iterator[Column]:
    """Whatever else the results tell of every domain, with errors where they are told too."""
    for name, item in group.items():
        if isinstance(item, dict):
            yield from _further(item, count)
        elif _is_column(item, count) and name not in TOLD and not name.endswith(ERROR):
            error = group.get(name + ERROR)
            errors = [np.nan] * count if error is None else error.data.tolist()
            cells = [
                value_in_words(value, float(each))
                for value, each in zip(item.data.tolist(), errors, strict=True)
            ]
            if any(cells):
                yield Column(_title(name, item.units), cells, item.description)


def _title(name: str, units: str) -> str:
    """Name and unit of a column in words."""
    words = {"gamma": "γ"}.get(name, name.replace("_", " "))
    return words if units in ("", "1") else f"{words}, {units.replace('deg', 'degrees')}"


def _is_column(item: Any, count: int) -> bool:
    return isinstance(item, Field) and item.dims == ("domain",) and len(item.data) == count


def lattice_table(results: Results) -> Table | None:
    """Cells of the lattices with errors; None without."""
    table = results.fields().get("strain", {}).get("lattices", {})
    if "a" not in table:
        return None
    count = range(len(table["a"].data))
    columns = [Column("lattice", [str(k) for k in count])]
    for name in ("a", "b", "gamma"):
        values, errors = table[name].data, table[name + ERROR].data
        cells = [value_in_words(float(values[k]), float(errors[k])) for k in count]
        columns.append(Column(_title(name, table[name].units), cells, table[name].description))
    columns.append(Column("share", [f"{100 * s:.1f} %" for s in table["share"].data]))
    columns.append(Column("symmetry", [f"{n}-fold" for n in table["symmetry"].data]))
    return Table("Lattices", columns, [to_hex(label_color(k)) for k in count])


def value_in_words(value: Any, error: float = np.nan) -> str:
    """A value, where there is an error with two digits of it; texts as they are."""
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return ""
    if not np.isfinite(error) or error <= 0:
        return str(value) if isinstance(value, int) else f"{value:.4g}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def changed_settings(results: Results) -> dict[str, str] | None:
    """Recipe values that differ from the defaults, as TOML, by key; None for a recipe of an earlier version."""
    try:
        recipe, default = parse_recipe(str(results.about["recipe"])), Recipe()
    except InputError:
        return None
    return {
        f"{key.section}.{key.name}" if key.section else key.name: to_toml(key.value_in(recipe))
        for key in recipe_keys()
        if key.value_in(recipe) != key.value_in(default)
    }


def time_table(results: Results) -> Table | None:
    """Seconds of every stage; None where they are not known."""
    seconds = json.loads(results.about.get("seconds", "{}"))
    if not seconds:
        return None
    names, times = list(seconds), [f"{s:.1f}" for s in seconds.values()]
    total = f"{sum(seconds.values()):.1f}"
    return Table("", [Column("stage", [*names, "all"]), Column("seconds", [*times, total])], [])
