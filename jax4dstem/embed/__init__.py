"""Embeddings: PCA from a streamed covariance, UMAP, and autoencoders as scikit-learn estimators."""

from jax4dstem.embed.estimators import (
    AutoEncoder,
    ConvolutionalAutoEncoder,
    ConvolutionalVAE,
    DenoisingAutoEncoder,
    RotationInvariantVAE,
    VariationalAutoEncoder,
)
from jax4dstem.embed.projection import PCA, embed_umap, fit_pca, project, subsample

__all__ = [
    "PCA",
    "AutoEncoder",
    "ConvolutionalAutoEncoder",
    "ConvolutionalVAE",
    "DenoisingAutoEncoder",
    "RotationInvariantVAE",
    "VariationalAutoEncoder",
    "embed_umap",
    "fit_pca",
    "project",
    "subsample",
]
