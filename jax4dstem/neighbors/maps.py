"""Maps of results by name, as numbers for other programs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.fields import Field, Tree, components_of, fields_of

FIRST = "strain/pooled/"  # of several ways to strain, as in report and explorer
MOST_COMPONENTS = 4  # of a map in the list of what there is; longer vectors are listed as one


@dataclass(frozen=True)
class Map:
    """One number per position of the scan.

    Attributes:
        path: Where it lies in the results, with the component of a vector in brackets.
        name: What it is called outside: as it was asked for, fit for the name of a file.
        units: Of its values; "" for labels.
        about: What it is, in words.
        data: ``(scan_y, scan_x)``, of the type that the results have.
    """

    path: str
    name: str
    units: str
    about: str
    data: np.ndarray


def find_maps(tree: Tree, names: Sequence[str]) -> list[Map]:
    """The maps of these names, in their order.

    A name is a path such as ``strain/lattice/e_xx``, or its end where that is unambiguous; of several ways to strain the
    end alone means the pooled one. A vector stands for all its components, or has one in brackets.

    Args:
        tree: Fields of results.
        names: Of maps.

    Returns:
        One map for every component.

    Raises:
        InputError: There is no such map, or several are meant.

    Example:
        >>> tree = {"beam": {"offset": Field(np.zeros((2, 3, 2)), "px", "", ("scan_y", "scan_x", "yx"))}}
        >>> [(found.path, found.name) for found in find_maps(tree, ["offset"])]
        [('beam/offset[y]', 'offset_y'), ('beam/offset[x]', 'offset_x')]
    """
    fields = _map_fields(tree)
    return [found for name in names for found in _found(name.strip(), fields)]


def list_maps(tree: Tree) -> list[Map]:
    """All maps there are, named by their paths; of vectors with many components the first alone.

    Args:
        tree: Fields of results.

    Returns:
        The maps, in the order of the results.

    Example:
        >>> tree = {"dose": Field(np.zeros((2, 3)), "electrons", "per pattern", ("scan_y", "scan_x"))}
        >>> [(item.path, item.units) for item in list_maps(tree)]
        [('dose', 'electrons')]
    """
    found = []
    for path, field in _map_fields(tree).items():
        parts = list(_components(path, path, field))
        found += parts if len(parts) <= MOST_COMPONENTS else parts[:1]
    return found


def _map_fields(tree: Tree) -> dict[str, Field]:
    return {
        path: field for path, field in fields_of(tree) if field.dims[:2] == ("scan_y", "scan_x")
    }


def _found(name: str, fields: dict[str, Field]) -> Iterable[Map]:
    stem, bracket, component = name.strip("/").partition("[")
    matches = [path for path in fields if f"/{path}".endswith(f"/{stem}")]
    if stem in fields:
        matches = [stem]
    elif len(matches) > 1:
        matches = [path for path in matches if path == FIRST + stem] or matches
    if len(matches) > 1:
        raise InputError(f"{name!r} may be any of {', '.join(matches)}: give the whole path")
    if not matches:
        raise InputError(f"there is no map {name!r}; {_what_there_is(stem, list(fields))}")
    parts = list(_components(matches[0], stem, fields[matches[0]]))
    chosen = [part for part in parts if part.path.endswith(f"[{component}")] if bracket else parts
    if not chosen:
        raise InputError(f"{matches[0]} has no component {name!r}: {[p.path for p in parts]}")
    return chosen


def _components(path: str, name: str, field: Field) -> Iterable[Map]:
    """A map for every component of what a position has; without further axes the map itself."""
    outside = name.replace("/", "_")
    for label, data in components_of(field):
        inside = f"{path}[{label}]" if label else path
        name = "_".join([outside, *label.split(",")]) if label else outside
        yield Map(inside, name, field.units, field.description, data)


def _what_there_is(name: str, paths: list[str]) -> str:
    if not paths:
        return "these results have no maps"
    ends = {path.rpartition("/")[2]: path for path in paths}
    near = [ends[end] for end in get_close_matches(name.rpartition("/")[2], ends)]
    told = f"did you mean {', '.join(near)}? " if near else ""
    return f"{told}there are {', '.join(paths)}"
