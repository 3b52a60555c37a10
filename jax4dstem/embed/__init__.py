"""Embeddings: PCA from a streamed covariance, UMAP, and autoencoders as scikit-learn estimators."""

from jax4dstem.embed.codes import (
    BottleneckSweep,
    bottleneck_sweep,
    decoded_centroids,
    interpolate,
    traverse,
)
from jax4dstem.embed.estimators import (
    AutoEncoder,
    ConvolutionalAutoEncoder,
    ConvolutionalVAE,
    DenoisingAutoEncoder,
    RotationInvariantVAE,
    VariationalAutoEncoder,
)
from jax4dstem.embed.projection import PCA, embed_tsne, embed_umap, fit_pca, project, subsample

__all__ = [
    "PCA",
    "AutoEncoder",
    "BottleneckSweep",
    "ConvolutionalAutoEncoder",
    "ConvolutionalVAE",
    "DenoisingAutoEncoder",
    "RotationInvariantVAE",
    "VariationalAutoEncoder",
    "bottleneck_sweep",
    "decoded_centroids",
    "embed_tsne",
    "embed_umap",
    "fit_pca",
    "interpolate",
    "project",
    "subsample",
    "traverse",
]
