"""Embeddings: PCA from a streamed covariance, UMAP, and autoencoders as scikit-learn estimators."""

from jax4dstem.embed.codes import (
    BottleneckSweep,
    bottleneck_sweep,
    decoded_centroids,
    interpolate,
    traverse,
)
from jax4dstem.embed.estimators import (
    AutoEncoderEstimator,
    ConvolutionalEstimator,
    ConvolutionalVariationalEstimator,
    DenoisingEstimator,
    RotationInvariantEstimator,
    VariationalEstimator,
)
from jax4dstem.embed.projection import (
    PrincipalComponents,
    embed_tsne,
    embed_umap,
    fit_pca,
    project,
    subsample,
)

__all__ = [
    "AutoEncoderEstimator",
    "BottleneckSweep",
    "ConvolutionalEstimator",
    "ConvolutionalVariationalEstimator",
    "DenoisingEstimator",
    "PrincipalComponents",
    "RotationInvariantEstimator",
    "VariationalEstimator",
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
