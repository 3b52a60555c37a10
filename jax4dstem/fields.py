"""Fields and results: arrays that say their units, their meaning and the names of their dimensions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError

if TYPE_CHECKING:
    import xarray

Tree = dict[str, Any]  # nested groups, with a `Field` per dataset
_ENTRY, _PATH = "entry", "path"
WIDEST = 100  # letters of what a dictionary holds, where a result tells what it is
SCAN = "scan_y scan_x"
DETECTOR = "det_y det_x"
NAMED = {"yx": ("y", "x"), "from_yx": ("y", "x")}  # axes whose components have names
_R = TypeVar("_R", bound="Result")


@dataclass(frozen=True)
class Field:
    """One array (or text, or number) of a result.

    Attributes:
        data: The array; a text is an array without dimensions.
        units: Of its values; "" for counts of things, labels and texts.
        description: What it is, in words.
        dims: A name for every axis, such as ``("scan_y", "scan_x")``.

    Raises:
        InputError: There are more or fewer names than axes.

    Example:
        >>> Field(np.zeros((2, 3)), "px", "offset of the beam", ("scan_y", "scan_x")).dims
        ('scan_y', 'scan_x')
    """

    data: Any
    units: str = ""
    description: str = ""
    dims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every axis has a name."""
        if len(self.dims) != np.ndim(self.data):
            raise InputError(
                f"{self.description or 'a field'} has the axes {np.shape(self.data)} "
                f"and the names {self.dims}"
            )


@dataclass(frozen=True)
class Entry:
    """How an attribute of a result is written to a file.

    Attributes:
        dims: Names of its axes.
        units: Of its values; may contain attributes of the result in braces.
        description: What it is, in the same way.
        path: Where in the tree of fields.

    Example:
        >>> Entry(("vector",), "px", "of every vector", "length").dims
        ('vector',)
    """

    dims: tuple[str, ...]
    units: str
    description: str
    path: str

    def field(self, value: Any, result: Any) -> Field:
        """The field of a value of a result."""
        names = vars(result)
        units, text = (
            words.format_map(names) if "{" in words else words
            for words in (self.units, self.description)
        )
        return Field(value, units, text, self.dims)


def entry(dims: str, units: str, description: str, path: str = "", **options: Any) -> Any:
    """Declare an attribute of a `Result` that is part of its fields.

    Args:
        dims: Names of its axes, separated by spaces; "" for a number or a text.
        units: Of its values; ``"{unit}"`` stands for the attribute ``unit`` of the same result.
        description: What it is; may contain attributes like ``units``.
        path: Where in the tree, such as ``"images/dose"``; by default the attribute's name.
        options: Of `dataclasses.field`, such as ``default``.

    Returns:
        What `dataclasses.field` returns.

    Example:
        >>> @dataclass(frozen=True)
        ... class Length(Result):
        ...     length: np.ndarray = entry("vector", "{unit}", "of every vector")
        ...     unit: str = "px"
        >>> Length(np.ones(2), "nm").fields()["length"].units
        'nm'
    """
    about = Entry(tuple(dims.split()), units, description, path)
    return dataclasses.field(metadata={_ENTRY: about, _PATH: path}, **options)


def group(path: str, **options: Any) -> Any:
    """Declare where an attribute that is a result, or a dictionary of results, lies in the tree of fields.

    Args:
        path: Such as ``"clusters/splits"``.
        options: Of `dataclasses.field`.

    Returns:
        What `dataclasses.field` returns.

    Example:
        >>> @dataclass(frozen=True)
        ... class One(Result):
        ...     value: float = entry("", "1", "a number")
        >>> @dataclass(frozen=True)
        ... class All(Result):
        ...     parts: dict[str, One] = group("parts")
        >>> sorted(All({"a": One(1.0), "b": One(2.0)}).fields()["parts"])
        ['a', 'b']
    """
    return dataclasses.field(metadata={_PATH: path}, **options)


class Result:
    """Base of all answers: a frozen dataclass whose attributes are declared by `entry`.

    Attributes that are results themselves, or dictionaries of results, become groups named after them. What is declared
    otherwise, or is None, is not among the fields.

    Example:
        >>> @dataclass(frozen=True)
        ... class Dose(Result):
        ...     dose: np.ndarray = entry("scan_y scan_x", "electrons", "sum of each pattern", "images/dose")
        >>> Dose(np.ones((2, 3)))
        <Dose
          dose  2 x 3 float64 electrons: sum of each pattern>
        >>> tree = Dose(np.ones((2, 3))).fields()
        >>> tree["images"]["dose"].units
        'electrons'
        >>> float(Dose.from_fields(tree).dose.sum())
        6.0
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Take our representation, which shows no arrays, before a dataclass writes its own."""
        super().__init_subclass__(**options)
        cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Name, shape, units and meaning of every attribute, a line each."""
        declared = _declared(type(self))
        known = [(name, getattr(self, name), about) for name, _, about in declared]
        given = [
            (name, value, about)
            for name, value, about in known
            if value is not None and not (isinstance(value, dict) and not value)
        ]
        wide = max((len(name) for name, *_ in given), default=0)
        lines = [f"  {name:{wide}}  {_in_words(value, e, self)}" for name, value, e in given]
        return "\n".join([f"<{type(self).__name__}", *lines]) + ">"

    def fields(self) -> Tree:
        """All fields, as nested groups; `from_fields` is the inverse."""
        tree: Tree = {}
        whole: Any = self
        empty = dataclasses.MISSING
        optional = {f.name for f in dataclasses.fields(whole) if f.default_factory is not empty}
        for name, path, about in _declared(type(self)):
            value = getattr(self, name)
            if isinstance(value, Result):
                place(tree, path, value.fields())
            elif isinstance(value, dict) and (value or name not in optional):
                items = {
                    str(key): item.fields() if about is None else about.field(item, self)
                    for key, item in value.items()
                }
                place(tree, path, items)
            elif about is not None and value is not None:
                place(tree, path, about.field(value, self))
        return tree

    @classmethod
    def from_fields(cls: type[_R], tree: Tree) -> _R:
        """The result whose fields these are; attributes that the tree lacks take their defaults.

        Raises:
            InputError: A field without default is missing.
        """
        values: dict[str, Any] = {}
        for name, path, about in _declared(cls):
            found = find(tree, path)
            if found is None:
                continue
            if about is not None:
                values[name] = _data(found)
                attribute = about.units.strip("{}")
                named = attribute != about.units and isinstance(found, Field)
                # Files of older versions may say no unit: that of the class is left.
                if named and (found.units or not hasattr(cls, attribute)):
                    values.setdefault(attribute, found.units)
                continue
            kind = _result_type(cls, name)
            if kind is not None and _is_mapping(cls, name):
                values[name] = {key: kind.from_fields(item) for key, item in found.items()}
            elif kind is not None:
                values[name] = kind.from_fields(found)
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"the results lack parts of {cls.__name__}: {error}") from error

    @classmethod
    def layout(cls) -> dict[str, Entry]:
        """What `fields` can give, by path; ``<name>`` stands for the keys of a dictionary."""
        found: dict[str, Entry] = {}
        for name, path, about in _declared(cls):
            kind = _result_type(cls, name)
            if _is_mapping(cls, name):
                path = f"{path}/<name>"
            if about is not None:
                found[path] = about
            elif kind is not None:
                found |= {f"{path}/{below}": item for below, item in kind.layout().items()}
        return found

    def to_xarray(self, calibration: Calibration | None = None) -> xarray.DataTree:
        """The fields as an xarray tree, a node per group.

        Scan axes have coordinates in nm where the step is known, otherwise in positions, detector axes in px of the
        array. The y axes point up, so that ``.plot()`` shows the first row at the top.

        Args:
            calibration: Of the scan.
        """
        return tree_to_xarray(self.fields(), calibration or Calibration())


def _in_words(value: Any, about: Entry | None, result: Result) -> str:
    """An attribute of a result in one line."""
    if isinstance(value, dict):
        return f"{len(value)} by name: {', '.join(map(str, value))}"[:WIDEST]
    if about is None or isinstance(value, Result):
        return type(value).__name__
    field = about.field(value, result)
    if np.ndim(value):
        what = f"{' x '.join(map(str, np.shape(value)))} {np.asarray(value).dtype}"
    else:
        what = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{what} {field.units}".rstrip() + (
        f": {field.description}" if field.description else ""
    )


def dims_of(kind: type[Result]) -> dict[str, tuple[str, ...]]:
    """Names of the axes of every attribute of a result that is declared by `entry`."""
    return {name: about.dims for name, _, about in _declared(kind) if about is not None}


def place(tree: Tree, path: str, item: Any) -> None:
    """Put a field, or the fields of a group, at a path of a tree; what is there already stays."""
    *groups, name = path.split("/")
    for group in groups:
        tree = tree.setdefault(group, {})
    if isinstance(item, dict):
        merge(tree.setdefault(name, {}), item)
    else:
        tree[name] = item


def merge(tree: Tree, other: Tree) -> None:
    """Add the fields of another tree."""
    for name, item in other.items():
        if isinstance(item, dict):
            merge(tree.setdefault(name, {}), item)
        else:
            tree[name] = item


def find(tree: Tree, path: str) -> Any:
    """What lies at a path of a tree, or None."""
    found: Any = tree
    for name in path.split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def fields_of(tree: Tree, path: str = "") -> Iterator[tuple[str, Field]]:
    """All fields of a tree, with their paths."""
    for name, item in tree.items():
        if isinstance(item, Field):
            yield path + name, item
        elif isinstance(item, dict):
            yield from fields_of(item, f"{path}{name}/")


def components_of(field: Field) -> Iterator[tuple[str, np.ndarray]]:
    """Maps of the components of what every position of a scan has, each with its label; "" for the map of a number."""
    data = np.asarray(field.data)
    axes = [
        NAMED.get(dim, tuple(map(str, range(size))))
        for dim, size in zip(field.dims[2:], data.shape[2:], strict=True)
    ]
    for at in product(*(range(len(labels)) for labels in axes)):
        labels = [axis[i] for axis, i in zip(axes, at, strict=True)]
        yield ",".join(labels), data[(slice(None), slice(None), *at)]


def tree_to_xarray(
    tree: Tree, calibration: Calibration, attributes: dict[str, Any] | None = None
) -> xarray.DataTree:
    """Nested groups of fields as an xarray tree; see `Result.to_xarray`."""
    import xarray

    nodes = {"/": xarray.Dataset(attrs=attributes or {})}
    for name, fields in _groups(tree):
        variables = {key: _variable(field) for key, field in fields.items()}
        node = nodes.get(name, xarray.Dataset()).assign(variables)
        nodes[name] = node.assign_coords(
            _coordinates({str(k): n for k, n in node.sizes.items()}, calibration)
        )
    return xarray.DataTree.from_dict(nodes)


def _variable(field: Field) -> Any:
    import xarray

    attributes = {"units": field.units, "long_name": field.description}
    return xarray.Variable(field.dims, field.data, attributes | {"description": field.description})


def _coordinates(sizes: dict[str, int], calibration: Calibration) -> dict[str, Any]:
    """Coordinates of the axes of pictures; rows count downwards, coordinates upwards."""
    import xarray

    step, unit = calibration.scan_units
    found = {}
    for axis, (size, units) in {"scan": (step, unit), "det": (1.0, "px")}.items():
        for name, sign in ((f"{axis}_y", -1.0), (f"{axis}_x", 1.0)):
            if name in sizes:
                values = sign * size * np.arange(sizes[name]) + 0.0
                found[name] = xarray.Variable((name,), values, {"units": units})
    return found


def _groups(tree: Tree, name: str = "/") -> list[tuple[str, dict[str, Field]]]:
    found = [(name, {key: item for key, item in tree.items() if isinstance(item, Field)})]
    for key, item in tree.items():
        if isinstance(item, dict):
            found += _groups(item, f"{name.rstrip('/')}/{key}")
    return found


def _declared(cls: type) -> list[tuple[str, str, Entry | None]]:
    """Name, path and entry of every attribute of a result."""
    found = []
    for item in dataclasses.fields(cls):
        path = item.metadata.get(_PATH) or item.name
        found.append((item.name, path, item.metadata.get(_ENTRY)))
    return found


def _result_type(cls: type, name: str) -> type[Result] | None:
    """The result that an attribute holds, or holds a dictionary of."""
    hint = get_type_hints(cls)[name]
    for part in (hint, *getattr(hint, "__args__", ())):
        if isinstance(part, type) and issubclass(part, Result):
            return part
    return None


def _is_mapping(cls: type, name: str) -> bool:
    hint = get_type_hints(cls)[name]
    parts = (hint, *getattr(hint, "__args__", ()))
    return any(getattr(part, "__origin__", part) is dict for part in parts)


def _data(item: Field | Tree) -> Any:
    """Array, number or text of a field, or of every field of a group."""
    if isinstance(item, dict):
        return {key: _data(value) for key, value in item.items() if isinstance(value, Field)}
    return (
        item.data.item()
        if isinstance(item.data, np.ndarray | np.generic) and not np.ndim(item.data)
        else item.data
    )


__all__ = ["Entry", "Field", "Result", "entry", "group"]
