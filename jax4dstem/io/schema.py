"""The layout of results files, and how files of the first layout (version 0.1.0) are read."""

from fnmatch import fnmatch

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
    "strain/model/vectors": ("vector", "yx"),
    "strain/model/indices": ("reflection", "hk"),
    "strain/model/background": ("ring",),
    "strain/model/*": ("reflection",),
    "strain/*/reference": ("vector", "yx"),
    "strain/*/covariance": (*_SCAN, "component", "component_2"),
    "strain/*/bases": ("base", "component"),
    "strain/*/sharpness": ("base",),
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
    "clusters/splits": "splits",
    "clusters/comparison": "comparison",
    "strain/ccstae": "strain/bases",
}
_PER_CLUSTER = ("relation", "state")  # texts that had a line per cluster


def upgrade(tree: Tree) -> Tree:
    """Fields of schema 1 with the paths and dimensions of today."""
    new: Tree = {}
    scan = tree["invalid"].data.shape if "invalid" in tree else ()
    for path, field in _leaves(tree):
        old, path = path, _moved(path)
        data, name = field.data, path.rpartition("/")[2]
        if old.startswith("clusters/level") and name in _PER_CLUSTER:
            data = np.array(str(data).split("\n"))
        if path.startswith("embedding/") and scan:
            data = data.reshape(*scan, -1)
        place(
            new,
            path,
            Field(data, field.units, field.description, _names(path, np.ndim(data), field.dims)),
        )
    return new


def _moved(path: str) -> str:
    for old, new in _MOVED.items():
        if path.startswith(old + "/"):
            return new + path[len(old) :]
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
