"""Whether a path can be read at all: asked before anything heavy is loaded."""

import os
from pathlib import Path

from jax4dstem.errors import InputError


def check_readable(path: Path) -> None:
    """Raise InputError unless the file is there and may be read."""
    if not os.path.exists(path):  # unlike Path.exists, False where a folder may not be entered
        raise InputError(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise InputError(f"no permission to read {path}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
