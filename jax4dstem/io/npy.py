"""NumPy .npy files, mapped tile by tile."""

from pathlib import Path

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.sources import memory_map


def read(path: Path, layout: Layout) -> Stored:
    """Find the array of a .npy file."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is truncated or no .npy file: {reason}") from error
    if mapped.flags.f_contiguous and not mapped.flags.c_contiguous:
        raise InputError(f"{path} is stored in Fortran order; save numpy.ascontiguousarray(data)")
    return Stored(
        memory_map(path, mapped.dtype, mapped.shape, mapped.offset),
        mapped.shape,
        mapped.dtype,
        str(path),
        path.name,
        notes=("format: NumPy array, memory-mapped",),
    )
