"""Files: raw data in, results out."""

from jax4dstem.io.opening import open_dataset
from jax4dstem.io.results import open_results

__all__ = ["open_dataset", "open_results"]
