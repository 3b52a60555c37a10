"""Stage `cluster`: the domains, and what the mean pattern of each looks like."""

import numpy as np

from jax4dstem.cluster import (
    HDBSCAN,
    ClusterTree,
    GaussianMixture,
    KMeans,
    Split,
    Splitter,
    divide,
    drop_outliers,
)
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.results import Field
from jax4dstem.pipeline.prepared import with_cepstra
from jax4dstem.pipeline.recipe import Recipe
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
    patterns, cepstrums = _cluster_means(dataset, done, recipe, tree)
    levels = range(1, len(tree.levels) + 1)
    return {
        "labels": {
            f"level_{level}": Field(
                tree.levels[level - 1].reshape(dataset.scan_shape), "", "cluster id; -1 = outlier"
            )
            for level in levels
        },
        "clusters": {
            **{
                f"level_{level}": _level_group(tree, level, patterns, cepstrums) for level in levels
            },
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
    return HDBSCAN(options.min_cluster_size)


def _on_scan(tree: ClusterTree, valid: np.ndarray) -> ClusterTree:
    """Labels of all positions; excluded ones are outliers."""
    levels = []
    for labels in tree.levels:
        whole = np.full(len(valid), -1, np.int32)
        whole[valid] = labels
        levels.append(whole)
    return ClusterTree(tuple(levels), tree.nodes, tree.splits)


def _cluster_means(
    dataset: Dataset, done: Tree, recipe: Recipe, tree: ClusterTree
) -> tuple[np.ndarray, np.ndarray]:
    """Mean pattern and mean cepstrum of every cluster, by id, in one pass."""
    both = with_cepstra(dataset, done, recipe)
    members = np.zeros((dataset.n_patterns, len(tree.nodes)), np.float32)
    for labels in tree.levels:
        rows = np.flatnonzero(labels >= 0)
        members[rows, labels[rows]] = 1
    weights = members.reshape(*dataset.scan_shape, -1)
    return reduce_patterns(Mean(), both, weights=weights, progress="cluster means")


def _level_group(
    tree: ClusterTree, level: int, patterns: np.ndarray, cepstrums: np.ndarray
) -> Tree:
    ids = tree.ids(level)
    return {
        "ids": Field(ids, "", "cluster ids at this level"),
        "parent": Field(np.array([tree.nodes[i].parent for i in ids]), "", "-1 = the whole scan"),
        "size": Field(np.array([tree.nodes[i].size for i in ids]), "positions", "positions"),
        "mean_pattern": Field(patterns[ids], "counts", "mean prepared pattern"),
        "mean_cepstrum": Field(cepstrums[ids], "", "mean EWPC, right half plane"),
        "stability": Field(np.array(tree.stability(level)), "", "adjusted Rand index over seeds"),
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
