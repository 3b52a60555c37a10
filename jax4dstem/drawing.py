"""Who draws: what lies low asks for a figure of itself without knowing the room `plots`, which lies above all.

The package says it when it is imported, as `jax4dstem/__init__.py` is above all rooms.
"""

from collections.abc import Callable
from typing import Any

plots: Callable[[], Any]  # gives the room `plots`, loaded when it is first asked for
