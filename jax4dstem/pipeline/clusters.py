"""Stage `cluster`: the domains, and what each of them is."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jax4dstem.cepstrum import cepstral_contrast
from jax4dstem.cluster import (
    HDBSCAN,
    ClusterTree,
    GaussianMixture,
    KMeans,
    Split,
    Splitter,
    agreement,
    divide,
    drop_outliers,
)
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.results import Field
from jax4dstem.pipeline.physics import (
    cluster_physics,
    physics_fields,
    ring_of,
)
from jax4dstem.pipeline.prepared import bin_factor, cepstrum_shape, prepare, with_cepstra
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.reducers import Mean
from jax4dstem.stream import reduce_patterns
from jax4dstem.typing import Tree


def cluster(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Divisive clustering, and the mean pattern and cepstrum of every cluster."""
    if recipe.cluster.space not in done["embedding"]:
        raise InputError(f"there is no {recipe.cluster.space} embedding of so few positions")
    scores = done["embedding"][recipe.cluster.space].data
    valid = np.isfinite(scores).all(axis=1)
    splitters = [
        splitter(method, level, recipe)
        for level, method in enumerate(recipe.cluster.methods, start=1)
    ]
    tree = divide(
        scores[valid],
        splitters,
        min_size=recipe.cluster.min_size,
        outliers=drop_outliers(scores[valid], recipe.cluster.drop_outliers),
        seed=recipe.seed,
    )
    tree = _on_scan(tree, valid)
    means = _cluster_means(dataset, done, recipe, tree)
    levels = range(1, len(tree.levels) + 1)
    labels = {
        f"level_{level}": Field(
            tree.levels[level - 1].reshape(dataset.scan_shape), "", "cluster id; -1 = outlier"
        )
        for level in levels
    }
    return {
        "labels": labels,
        "clusters": {
            **{
                f"level_{level}": {
                    **_level_group(tree, level, means),
                    **_physics_group(dataset, done, recipe, tree, level, means),
                }
                for level in levels
            },
            **_comparison(scores, valid, tree, recipe, dataset.scan_shape),
            "splits": {
                "whole" if parent < 0 else f"cluster_{parent}": _split_group(split)
                for parent, split in tree.splits.items()
            },
        },
    }


def splitter(method: str, level: int, recipe: Recipe) -> Splitter:
    """The splitter that a recipe names, for one level; a fixed K holds for the first."""
    options = recipe.cluster
    k = options.k if level == 1 else None
    if method == "kmeans":
        return KMeans(k, options.k_max, options.restarts)
    if method == "gmm":
        return GaussianMixture(k, options.k_max)
    return HDBSCAN(k, options.min_cluster_size, options.min_samples, options.join_outliers)


def _on_scan(tree: ClusterTree, valid: np.ndarray) -> ClusterTree:
    """Labels of all positions; excluded ones are outliers."""
    levels = []
    for labels in tree.levels:
        whole = np.full(len(valid), -1, np.int32)
        whole[valid] = labels
        levels.append(whole)
    return ClusterTree(tuple(levels), tree.nodes, tree.splits)


class _Means(NamedTuple):
    """Means over the members of every cluster, by id."""

    pattern: np.ndarray
    cepstrum: np.ndarray
    contrast: np.ndarray
    dark_field: np.ndarray


def _cluster_means(dataset: Dataset, done: Tree, recipe: Recipe, tree: ClusterTree) -> _Means:
    """Mean pattern, cepstrum, crystallinity and dark field of every cluster, in one pass."""
    both = with_cepstra(dataset, done, recipe)
    shape = prepare(dataset, done, recipe).pattern_shape
    ring = ring_of(cepstrum_shape(shape, recipe), recipe.cepstrum.padding)
    members = np.zeros((dataset.n_patterns, len(tree.nodes)), np.float32)
    for labels in tree.levels:
        rows = np.flatnonzero(labels >= 0)
        members[rows, labels[rows]] = 1
    weights = members.reshape(*dataset.scan_shape, -1)
    pattern, cepstrum, contrast = reduce_patterns(
        Mean(), both.map(_with_contrast, ring), weights=weights, progress="cluster means"
    )
    bright = np.nan_to_num(done["images"]["annular_dark_field"].data.ravel())
    dark_field = bright @ members / np.maximum(members.sum(axis=0), 1)
    return _Means(pattern, cepstrum, contrast, dark_field)


def _with_contrast(both: Any, ring: Any) -> Any:
    pattern, half = both
    return pattern, half, cepstral_contrast(half, ring)


def _level_group(tree: ClusterTree, level: int, means: _Means) -> Tree:
    ids = tree.ids(level)
    return {
        "ids": Field(ids, "", "cluster ids at this level"),
        "parent": Field(np.array([tree.nodes[i].parent for i in ids]), "", "-1 = the whole scan"),
        "size": Field(np.array([tree.nodes[i].size for i in ids]), "positions", "positions"),
        "mean_pattern": Field(means.pattern[ids], "counts", "mean prepared pattern"),
        "mean_cepstrum": Field(means.cepstrum[ids], "", "mean EWPC, right half plane"),
        "stability": Field(np.array(tree.stability(level)), "", "adjusted Rand index over seeds"),
    }


def _physics_group(
    dataset: Dataset, done: Tree, recipe: Recipe, tree: ClusterTree, level: int, means: _Means
) -> Tree:
    """Lattice, state and relation of the clusters of a level."""
    ids = tree.ids(level)
    padding = recipe.cepstrum.padding
    calibration = dataset.calibration.binned(bin_factor(dataset, recipe))
    size = cepstrum_shape(prepare(dataset, done, recipe).pattern_shape, recipe)
    members = [
        cluster_physics(means.cepstrum[i], float(means.contrast[i]), size, padding, calibration)
        for i in ids
    ]
    return physics_fields(
        ids,
        members,
        np.array([tree.nodes[i].size for i in ids]),
        means.dark_field[ids],
        recipe.cluster.reference,
        calibration.quefrency_step(1)[1],
    )


def _comparison(
    scores: np.ndarray, valid: np.ndarray, tree: ClusterTree, recipe: Recipe, scan: tuple[int, int]
) -> Tree:
    """Level 1 found a second time by another method, and where the two disagree."""
    method = recipe.cluster.compare
    if method == "none":
        return {}
    options = replace(recipe.cluster, k=len(tree.ids(1)))
    other = splitter(method, 1, replace(recipe, cluster=options)).split(scores[valid], recipe.seed)
    found = agreement(tree.levels[0][valid], other.labels)
    matched = np.full(len(valid), -1, np.int32)
    matched[valid] = found.matched
    disagree = np.zeros(len(valid), bool)
    disagree[valid] = found.matched != tree.levels[0][valid]
    return {
        "comparison": {
            "method": Field(method, "", "the second method"),
            "index": Field(np.array(found.index), "", "adjusted Rand index of the two"),
            "share": Field(np.array(found.share), "", "share of positions in matching clusters"),
            "labels": Field(
                matched.reshape(scan), "", "the second method's clusters in level 1's numbers"
            ),
            "disagreement": Field(disagree.reshape(scan), "", "positions in other clusters"),
        }
    }


def _split_group(split: Split) -> Tree:
    return {
        "k": Field(split.curves.k, "", "numbers of clusters tried"),
        "criterion": Field(split.curves.criterion, "", f"{split.curves.criterion_name} at each"),
        "criterion_name": Field(split.curves.criterion_name, "", "which criterion"),
        "silhouette": Field(split.curves.silhouette, "", "mean silhouette at each"),
        "noise": Field(
            np.array(split.curves.noise), "", "silhouette of split noise: mean, level to exceed"
        ),
        "stability": Field(np.array(split.stability), "", "adjusted Rand index over seeds"),
        "n_clusters": Field(np.array(split.n_clusters), "", "clusters made; 1 = not split"),
    }
