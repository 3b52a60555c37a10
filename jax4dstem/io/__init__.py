"""Files: raw data in, results out."""

from jax4dstem.io.opening import open_dataset

__all__ = ["open_dataset"]
