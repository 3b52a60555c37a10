"""What a recipe key says of itself, as annotations of its field: meaning, unit, and the values it may have."""

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Doc:
    """What a key means, in one line.

    Attributes:
        text: The meaning; what "auto" finds stands behind "auto:".
        unit: Of the value; "" for numbers without one, names and switches.
    """

    text: str
    unit: str = ""


class Range(Protocol):
    """Which values a key may have; its text completes "must be ..."."""

    def __contains__(self, value: float) -> bool:
        """Whether the key may have the value; NaN is in no range."""
        ...


@dataclass(frozen=True)
class AtLeast:
    """Numbers from ``low`` on.

    Example:
        >>> 3 in AtLeast(2), float("nan") in AtLeast(2), str(AtLeast(2))
        (True, False, 'at least 2')
    """

    low: float

    def __contains__(self, value: float) -> bool:
        return value >= self.low

    def __str__(self) -> str:
        return f"at least {self.low:g}"


@dataclass(frozen=True)
class AtMost:
    """Numbers up to ``high``.

    Example:
        >>> 3 in AtMost(2), str(AtMost(0.5))
        (False, 'at most 0.5')
    """

    high: float

    def __contains__(self, value: float) -> bool:
        return value <= self.high

    def __str__(self) -> str:
        return f"at most {self.high:g}"


@dataclass(frozen=True)
class Positive:
    """Finite numbers above zero.

    Example:
        >>> 0.0 in Positive(), str(Positive())
        (False, 'positive')
    """

    def __contains__(self, value: float) -> bool:
        return value > 0 and math.isfinite(value)

    def __str__(self) -> str:
        return "positive"


@dataclass(frozen=True)
class NotEmpty:
    """Lists of one entry or more.

    Example:
        >>> () in NotEmpty(), str(NotEmpty())
        (False, 'not empty')
    """

    def __contains__(self, value: tuple) -> bool:
        return len(value) > 0

    def __str__(self) -> str:
        return "not empty"
