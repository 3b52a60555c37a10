"""Things that come in kinds (features, clusterers ...): frozen dataclasses, chosen by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from jax4dstem.errors import InputError

T = TypeVar("T")


def create(kinds: Mapping[str, type[T]], name: str, options: Mapping[str, Any]) -> T:
    """The kind of a name, with those of the options that it has.

    Args:
        kinds: Dataclasses by name.
        name: Of one of them.
        options: Values by attribute; those that the kind has not are for other kinds.

    Raises:
        InputError: There is no such kind.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Disk:
        ...     radius: float
        >>> create({"disk": Disk}, "disk", {"radius": 2.0, "inner": 1.0})
        Disk(radius=2.0)
    """
    if name not in kinds:
        raise InputError(f"there is no kind {name!r}; known: {', '.join(kinds)}")
    kind = kinds[name]
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in options.items() if key in known})
