"""How many CPU devices JAX is given; known before JAX is loaded."""

import os

MOST_DEVICES = 8  # reading and starting kernels are shared by all devices: more gain nothing


def cpu_devices() -> int:
    """One device per core that this process may use, at most eight.

    Example:
        >>> 1 <= cpu_devices() <= 8
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST_DEVICES)
