"""What lies above: a scan draws itself, and gives all its patterns, without knowing the rooms that do it.

The package says it when it is imported, as `jax4dstem/__init__.py` is above all rooms.
"""

from collections.abc import Callable
from typing import Any

name: Callable[[str], Any]  # gives what the package calls so, loaded when it is first asked for
