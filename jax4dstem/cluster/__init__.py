"""Which domains are there: one-round and divisive clustering of scores or embeddings."""

from jax4dstem.cluster.agreement import Agreement, agreement
from jax4dstem.cluster.splitters import HDBSCAN, Curves, GaussianMixture, KMeans, Split, Splitter
from jax4dstem.cluster.tree import ClusterTree, divide, drop_outliers

__all__ = [
    "HDBSCAN",
    "Agreement",
    "ClusterTree",
    "Curves",
    "GaussianMixture",
    "KMeans",
    "Split",
    "Splitter",
    "agreement",
    "divide",
    "drop_outliers",
]
