"""Run-time checks as PEP 484 has them: an int is welcome where a float is."""

from collections.abc import Callable
from functools import wraps

from beartype import BeartypeConf, beartype

_typed = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(fn: Callable) -> Callable:
    """The check is written at the first call: a test process calls few of the package's functions."""
    checked: Callable | None = None

    @wraps(fn)
    def at_first_call(*args, **kwargs):
        nonlocal checked
        checked = checked or _typed(fn)
        return checked(*args, **kwargs)

    return at_first_call
