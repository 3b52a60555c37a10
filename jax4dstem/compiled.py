"""Where compiled kernels are kept, so that the next session need not compile them: most of the time of small scans is that.

What the user has told JAX wins: a directory of their own (``JAX_COMPILATION_CACHE_DIR`` or
``jax.config``), or none, where that variable is empty.
"""

import functools
import hashlib
import os
import platform
from pathlib import Path

DIRECTORY, SHORTEST = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
SECONDS = (
    0.5  # of compilation from which on a kernel is kept: reading it back takes some hundredths
)
CPU = Path("/proc/cpuinfo")


def kept_in() -> Path:
    """The directory of this kind of processor: homes are shared by machines, and code of one may stop another.

    Example:
        >>> kept_in().parent.name
        'jax4dstem'
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    try:
        lines = CPU.read_text().splitlines()
        kind = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):  # Linux only
        kind = platform.processor()
    name = hashlib.sha256(f"{platform.machine()} {kind}".encode()).hexdigest()[:8]
    return Path(cache) / "jax4dstem" / name


@functools.cache
def keep_compiled() -> None:
    """Let JAX keep what it compiles from now on; called by the first lift of a session.

    Example:
        >>> keep_compiled()
    """
    import jax

    if DIRECTORY in os.environ or jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = kept_in()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written: compiled anew every time
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if SHORTEST not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)
