"""The layout of results files, and how files of the first layout (version 0.1.0) are read."""

import re
from fnmatch import fnmatch
from typing import Any

import numpy as np

from jax4dstem.fields import Field, Tree, place

SCHEMA = 2  # 1: no names of dimensions, texts with a line per cluster, embeddings as rows

_SCAN, _DETECTOR = ("scan_y", "scan_x"), ("det_y", "det_x")
# Names of the dimensions in files of schema 1, by path; the first pattern that fits.
_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "center": (*_SCAN, "yx"),
    "invalid": _SCAN,
    "images/center_of_mass": (*_SCAN, "yx"),
    "images/*": _SCAN,
    "detector/*": _DETECTOR,
    "beam/center": ("yx",),
    "descan/outlier": _SCAN,
    "descan/*": (*_SCAN, "yx"),
    "features/mask": ("mask_y", "mask_x"),
    "features/ring": ("radius",),
    "features/*": _DETECTOR,
    "pca/mean": ("feature",),
    "pca/components": ("component", "feature"),
    "pca/*": ("component",),
    "embedding/*": (*_SCAN, "component"),
    "labels/*": _SCAN,
    "clusters/*/mean_pattern": ("domain", *_DETECTOR),
    "clusters/*/mean_cepstrum": ("domain", "quefrency_y", "quefrency_x"),
    "clusters/*/basis": ("domain", "vector", "yx"),
    "clusters/*/strain": ("domain", "component"),
    "clusters/*": ("domain",),
    "splits/*/criterion": ("criterion_candidate",),
    "splits/*/noise": ("mean_level",),
    "splits/*": ("candidate",),
    "comparison/*": _SCAN,
    "strain/model/lattice": ("vector", "yx"),
    "strain/model/indices": ("reflection", "hk"),
    "strain/model/background": ("ring",),
    "strain/model/*": ("reflection",),
    "strain/*/reference": ("vector", "yx"),
    "strain/*/covariance": (*_SCAN, "component", "component_2"),
    "strain/*/table/strain": ("base", "component"),
    "strain/*/table/sharpness": ("base",),
    "strain/*/trained/history/*": ("epoch",),
    "strain/*/center": (*_SCAN, "yx"),
    "strain/*/asymmetry": (*_SCAN, "yx"),
    "strain/derived/burgers*": (*_SCAN, "yx"),
    "strain/*": _SCAN,
    "latent/*/codes": (*_SCAN, "code"),
    "latent/*/history/*": ("epoch",),
    "latent/*": _SCAN,
}
_MOVED = {
    r"^clusters/(splits|comparison)/": r"\1/",
    r"^strain/ccstae/bases$": r"strain/bases/table/strain",
    r"^strain/ccstae/sharpness$": r"strain/bases/table/sharpness",
    r"^strain/ccstae/": "strain/bases/",
    r"^strain/model/vectors$": "strain/model/lattice",
    r"^latent/(\w+)/(region_\d+)/boundary_sharpness$": r"latent/\1/regions/\2/boundary_sharpness",
    r"^latent/(\w+)/(region_\d+)/": r"latent/\1/regions/\2/trained/",
}
_RADII = ("bright_field_radius", "dark_field_inner", "dark_field_outer")
_PER_CLUSTER = ("relation", "state")  # texts that had a line per cluster


def upgrade(tree: Tree, about: dict[str, Any]) -> Tree:
    """Fields of schema 1 with the paths and dimensions of today.

    Args:
        tree: As it was read.
        about: Attributes of the file, which held some numbers that are fields now.
    """
    new: Tree = {}
    scan = tree["invalid"].data.shape if "invalid" in tree else ()
    for old, field in _leaves(tree):
        path, data = _moved(old), field.data
        name = path.rpartition("/")[2]
        if old.startswith("clusters/level") and name in _PER_CLUSTER:
            data = np.array(str(data).split("\n"))
        if path.startswith("embedding/") and scan:
            data = data.reshape(*scan, -1)
        dims = _names(path, np.ndim(data), field.dims)
        place(new, path, Field(data, field.units, field.description, dims))
        if path.startswith("strain/") and name == "reference":
            source = field.description.partition(":")[0]
            place(new, f"{path}_source", Field(source, "", "where the reference comes from"))
    radii = [about.get(key) for key in _RADII]
    if None not in radii:
        text = "bright field; dark field inner and outer radius"
        place(new, "images/radii", Field(np.array(radii), "px", text, ("radius",)))
    return new


def _moved(path: str) -> str:
    for pattern, new in _MOVED.items():
        path = re.sub(pattern, new, path)
    return path


def _names(path: str, ndim: int, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a field's dimensions; what the table does not know keeps neutral ones."""
    if ndim == 0:
        return ()
    if "/weights/" not in path:
        for pattern, names in _DIMENSIONS.items():
            if fnmatch(path, pattern) and len(names) == ndim:
                return names
    return given


def _leaves(tree: Tree, path: str = "") -> list[tuple[str, Field]]:
    found = []
    for name, item in tree.items():
        found += (
            _leaves(item, f"{path}{name}/") if isinstance(item, dict) else [(path + name, item)]
        )
    return found
