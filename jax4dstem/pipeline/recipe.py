"""Recipes read from TOML and written to it; the parameters themselves are declared in `sections`.

``"auto"`` in TOML is None here: the value is found from the data. A key that is not declared, or a value of another type
or out of its range, is an error that names the key.
"""

import contextlib
import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w

from jax4dstem.errors import InputError
from jax4dstem.pipeline.keys import Doc
from jax4dstem.pipeline.sections import Recipe

if typing.TYPE_CHECKING:
    from jax4dstem.dataset import Dataset

SMALLEST_PATTERN = 8  # px along a side: beam, ring of features and edge need two or three each


def load_recipe(path: str | Path | None, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: A TOML file, or None for the default recipe.
        overrides: Values by dotted key, such as ``{"cluster.k": 3}``.

    Returns:
        The validated recipe.

    Raises:
        InputError: The file is missing or not TOML, a key is unknown, a value has a wrong type or range.

    Example:
        >>> load_recipe(None, {"cluster.k": 3}).cluster.k
        3
    """
    table = {} if path is None else read_recipe_table(path)
    for key, value in (overrides or {}).items():
        *sections, name = key.split(".")
        target = table
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"recipe key {key}: {section} is not a section")
        target[name] = value
    return _build(Recipe, table, "")


def parse_recipe(text: str) -> Recipe:
    """A recipe from its text, as results keep it.

    Args:
        text: What `dump_recipe` wrote.

    Returns:
        The recipe.

    Raises:
        InputError: A key is unknown, a value has a wrong type or range.

    Example:
        >>> parse_recipe("[cluster]\\nk = 3").cluster.k
        3
    """
    return _build(Recipe, tomllib.loads(text), "")


def read_recipe_table(path: str | Path) -> dict[str, Any]:
    """What a TOML file says, as it stands there.

    Raises:
        InputError: The file is missing or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the recipe {path} is not valid TOML: {error}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML text: every value, and above it what it means.

    Args:
        recipe: Any recipe.

    Returns:
        Text that `load_recipe` reads back to an equal recipe.

    Example:
        >>> print("\\n".join(dump_recipe(Recipe()).splitlines()[:2]))
        # seed of everything that is drawn at random
        seed = 0
    """
    lines: list[str] = []
    section = ""
    for key in recipe_keys():
        if key.section != section:
            section = key.section
            lines += ["", f"# {key.section_doc}", f"[{section}]"]
        value = key.value_in(recipe)
        lines += [f"# {key.comment}", f"{key.name} = {to_toml(value)}"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class RecipeKey:
    """A key of the recipe with what is declared of it.

    Attributes:
        section: The section it stands in; "" for the root.
        section_doc: What that section is about, in one line.
        name: Inside the section.
        hint: Its type, annotated with meaning and ranges.
        default: Its default.

    Example:
        >>> key = next(key for key in recipe_keys() if (key.section, key.name) == ("images", "bright_field"))
        >>> key.default_text, key.value_in(Recipe())
        ('1.5', 1.5)
    """

    section: str
    section_doc: str
    name: str
    hint: Any
    default: Any

    @property
    def doc(self) -> Doc:
        """Meaning and unit."""
        return next(note for note in self.hint.__metadata__ if isinstance(note, Doc))

    @property
    def range(self) -> str:
        """The values it may have, in words; "" for any of its type."""
        return ", ".join(_limits(self.hint))

    @property
    def comment(self) -> str:
        """Meaning, unit and range in one line."""
        doc, limits = self.doc, self.range
        return (
            doc.text + (f" [{doc.unit}]" if doc.unit else "") + (f" ({limits})" if limits else "")
        )

    @property
    def default_text(self) -> str:
        """The default as TOML."""
        return to_toml(self.default)

    def value_in(self, recipe: Recipe) -> Any:
        """Its value in a recipe."""
        return getattr(getattr(recipe, self.section) if self.section else recipe, self.name)


def recipe_keys() -> Iterator[RecipeKey]:
    """Every key of a recipe, in order, those of the root first.

    Returns:
        The keys.

    Example:
        >>> next(recipe_keys()).name
        'seed'
    """
    yield from _keys_of(Recipe, "")
    for part in dataclasses.fields(Recipe):
        if dataclasses.is_dataclass(part.type):
            yield from _keys_of(part.type, part.name)


def check_recipe_fits(recipe: Recipe, dataset: "Dataset") -> None:
    """Raise InputError for what the recipe asks and no result of this dataset could give; nothing is read."""
    height, width = dataset.pattern_shape
    factor = recipe.prepare.bin or 1
    if min(height, width) < SMALLEST_PATTERN:
        raise InputError(
            f"patterns of {height} x {width} px are too small, expected {SMALLEST_PATTERN} x {SMALLEST_PATTERN} or more: "
            "see jax4dstem info FILE for what is read, and give key or axes"
        )
    if factor > min(height, width) // SMALLEST_PATTERN:
        raise InputError(f"prepare.bin {factor} leaves too little of a {height} x {width} detector")
    room = min(height, width) / 2
    for name in ("inner", "outer"):
        value = getattr(recipe.features, name)
        if recipe.features.units == "px" and value is not None and value * factor > room:
            raise InputError(
                f"features.{name} {value:g} px lies outside the {height} x {width} detector; "
                f"a ring of at most {room / factor:g} px fits"
            )
    _check_reference_fits(recipe, dataset)


def _check_reference_fits(recipe: Recipe, dataset: "Dataset") -> None:
    options = recipe.strain
    if options.region is not None:
        y0, y1, x0, x1 = options.region
        height, width = dataset.scan_shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"strain.region rows {y0}:{y1}, columns {x0}:{x1} is empty or outside the "
                f"{height} x {width} scan"
            )
    for cif, _ in options.crystals:
        if not Path(cif).is_file():
            raise InputError(f"strain.cif: there is no file {cif}")
        if dataset.calibration.pixel_inv_angstrom is None:
            raise InputError("strain.cif needs the detector's calibration: --pixel in 1/Å")


def _keys_of(cls: Any, section: str) -> Iterator[RecipeKey]:
    hints = typing.get_type_hints(cls, include_extras=True)
    doc = cls.__doc__.splitlines()[0]
    for part in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(part.type):
            yield RecipeKey(section, doc, part.name, hints[part.name], part.default)


def to_toml(value: Any) -> str:
    """A value as TOML has it, lists in one line."""
    if value is None:
        return '"auto"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(to_toml, value))}]"
    return tomli_w.dumps({"_": value}).partition(" = ")[2].rstrip()


def _build(cls: Any, table: Any, prefix: str) -> Any:
    if not isinstance(table, dict):
        raise InputError(f"recipe key {prefix.rstrip('.')} must be a section, got {table!r}")
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            advice = (
                f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(hints)}"
            )
            raise InputError(f"unknown recipe key {prefix}{key}{advice}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            values[key] = _build(hint, value, f"{prefix}{key}.")
        else:
            values[key] = _convert(value, hint, f"{prefix}{key}")
    return cls(**values)


def _convert(value: Any, hint: Any, key: str) -> Any:
    """The TOML value as the annotated type, or an error that names the key."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = _convert(value, hint.__origin__, key)
        for allowed in _ranges(hint) if value is not None else ():
            if value not in allowed:
                shown = list(value) if isinstance(value, tuple) else f"{value:g}"
                raise InputError(f"recipe key {key} must be {allowed}; got {shown}")
        return value
    if origin is types.UnionType:
        if value == "auto":
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        return _convert_to_one_of(
            value, sorted(kinds, key=lambda kind: type(value) is not kind), key
        )
    if origin is Literal:
        if value in args:
            return value
        raise InputError(f"recipe key {key} must be one of {', '.join(args)}; got {value!r}")
    if origin is tuple:
        repeated = len(args) == 2 and args[1] is Ellipsis
        if isinstance(value, list | tuple) and (repeated or len(value) == len(args)):
            kinds = [args[0]] * len(value) if repeated else args
            return tuple(_convert(v, kind, key) for v, kind in zip(value, kinds, strict=True))
        expected = "a list" if repeated else f"a list of {len(args)} values"
        raise InputError(f"recipe key {key} must be {expected}; got {value!r}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"recipe key {key} must be of type {hint.__name__}; got {value!r}")


def _convert_to_one_of(value: Any, kinds: list[Any], key: str) -> Any:
    """The value as the first type that it fits, or the error of the first."""
    first, *others = kinds
    try:
        return _convert(value, first, key)
    except InputError:
        for kind in others:
            with contextlib.suppress(InputError):
                return _convert(value, kind, key)
        raise


def _ranges(hint: Any) -> list[Any]:
    """The ranges among the annotations of a type."""
    return [note for note in hint.__metadata__ if not isinstance(note, Doc)]


def _limits(hint: Any) -> list[str]:
    """In words, what a type and its annotations allow; of lists what every entry may be."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return [*_limits(args[0]), *map(str, _ranges(hint))]
    if origin is Literal:
        return ["one of " + ", ".join(args)]
    return _limits(args[0]) if args else []
