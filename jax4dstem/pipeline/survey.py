"""Stage `survey`: is the data usable, what does the detector look like, where is the beam."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jax4dstem.align import find_direct_beam
from jax4dstem.dataset import Dataset
from jax4dstem.detector import find_bad_pixels, repair_pixels
from jax4dstem.detectors import count_invalid, total_counts
from jax4dstem.errors import InputError
from jax4dstem.io.results import Field
from jax4dstem.pipeline.recipe import Recipe
from jax4dstem.reducers import Moments
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Tree


def survey(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Validity and dose of every pattern; mean and spread of the raw detector; its bad pixels."""
    found = map_patterns(_validity, dataset, progress="checking patterns")
    invalid = found["invalid"]
    if recipe.input.invalid_patterns == "error" and invalid.any():
        raise InputError(_describe_invalid(invalid, found["blank"]))
    valid = invalid == 0
    if not valid.any():
        raise InputError("every pattern is blank or has NaN or infinite pixels")
    raw = reduce_patterns(Moments(), dataset, weights=valid, progress="detector statistics")
    bad = np.zeros(raw.mean.shape, bool)
    if recipe.prepare.repair_pixels:
        bad = find_bad_pixels(raw.mean, raw.std, int(valid.sum()), contrast=recipe.prepare.contrast)
    beam = find_direct_beam(np.asarray(repair_pixels(jnp.asarray(raw.mean), jnp.asarray(bad))))
    return {
        "invalid": Field(invalid, "px", "pixels that are NaN or infinite; all for a blank pattern"),
        "images": {
            "dose": Field(np.where(valid, found["dose"], np.nan), "counts", "sum of each pattern")
        },
        "detector": {
            "mean": Field(raw.mean, "counts", "mean raw pattern"),
            "std": Field(raw.std, "counts", "standard deviation over the scan, raw"),
            "bad_pixels": Field(bad, "", "hot and dead detector pixels"),
        },
        "beam": {
            "center": Field(beam.center, "px", "direct beam of the mean pattern (y, x)"),
            "radius": Field(
                np.array(beam.radius), "px", "its radius at half maximum, descan included"
            ),
        },
    }


def _validity(pattern: Any) -> dict[str, Any]:
    return {
        "invalid": count_invalid(pattern),
        "blank": jnp.all(pattern == 0),
        "dose": total_counts(pattern),
    }


def _describe_invalid(invalid: np.ndarray, blank: np.ndarray) -> str:
    which = np.argwhere(invalid > 0)
    y, x = which[0]
    what = "is all zero" if blank[y, x] else f"has {invalid[y, x]} NaN or infinite pixels"
    return (
        f"{len(which)} of {invalid.size} patterns are invalid: the one at scan position "
        f'({y}, {x}) {what}; exclude them with input.invalid_patterns = "exclude"'
    )
