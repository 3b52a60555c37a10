"""Arrays that a recipe names by their files: masks, centers."""

import hashlib
from pathlib import Path

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.arrays import read_array
from jax4dstem.pipeline.sections import Recipe


def given_center(recipe: Recipe) -> np.ndarray | None:
    """The center of the direct beam, (y, x) or one for every position; None where it is to be found."""
    center = recipe.prepare.center
    if isinstance(center, str):
        return read_array(center).astype(np.float64)
    return None if center is None else np.array(center)


def check_given_fits(recipe: Recipe, scan: Dataset) -> None:
    """Raise InputError for arrays that are not there or have another shape than the scan."""
    center = given_center(recipe)
    if center is not None:
        _check_center(center, scan)


def _check_center(center: np.ndarray, scan: Dataset) -> None:
    if center.shape not in ((2,), (*scan.scan_shape, 2)):
        raise InputError(
            f"prepare.center has the shape {center.shape}; expected (y, x), or {scan.scan_shape} of them"
        )
    height, width = scan.pattern_shape
    inside = (center >= 0) & (center <= (height - 1, width - 1))
    if not inside.all():
        y, x = center[~inside.all(axis=-1)].reshape(-1, 2)[0]
        raise InputError(
            f"prepare.center ({y:g}, {x:g}) lies outside of the {height} x {width} detector"
        )


def hash_of_given(recipe: Recipe) -> str:
    """Hash of what the named files hold: another mask under the same name is another recipe; "" without files."""
    names = [recipe.prepare.center, recipe.strain.cif]
    files = [name for name in names if isinstance(name, str)]
    digest = hashlib.sha256()
    for name in files:
        path = Path(name)
        path = path if path.is_file() else Path(name.rpartition(":")[0])
        digest.update(path.read_bytes())
    return digest.hexdigest() if files else ""
