"""How much memory there is, and what does not fit in it."""

import os
from pathlib import Path

from jax4dstem.errors import InputError

SHARE = (
    0.5  # of the memory that one array may take: almost whatever is done with it makes a second one
)
UNKNOWN = 8 * 2**30  # bytes, where the system does not tell: what small machines have
CONTAINER = Path("/sys/fs/cgroup/memory.max")  # "max", or bytes that this container may use


def check_memory(size: int, what: str, instead: str) -> None:
    """Raise InputError where an array would take more than half of the machine's memory.

    Args:
        size: Of the array in bytes.
        what: What would be made.
        instead: A part that may fit.

    Example:
        >>> check_memory(2**60, "np.asarray of this scan", "scan[:64]")
        Traceback (most recent call last):
        ...
        jax4dstem.errors.InputError: np.asarray of this scan takes 1,073,741,824.0 GiB, more than half of ...
    """
    most = SHARE * memory()
    if size > most:
        raise InputError(
            f"{what} takes {in_bytes(size)}, more than half of this machine's memory ({in_bytes(int(most))}): take a "
            f"part such as {instead}, or map_patterns and reduce_patterns, which read a tile at a time"
        )


def memory() -> int:
    """Bytes that this process may use.

    Example:
        >>> memory() > 2**20
        True
    """
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        found = UNKNOWN
    try:
        return min(found, int(CONTAINER.read_text()))
    except (OSError, ValueError):
        return found


def in_bytes(size: int) -> str:
    """A number of bytes in words.

    Example:
        >>> in_bytes(512), in_bytes(3 * 2**19)
        ('512 bytes', '1.5 MiB')
    """
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:,.1f} {unit}"
    return f"{size} bytes"
