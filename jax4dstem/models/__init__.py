"""Models: autoencoders of one sample, their losses, and what training minimizes."""

from jax4dstem.models.autoencoder import (
    AutoEncoder,
    AutoEncoderSpec,
    VariationalAutoEncoder,
    VariationalSpec,
    join,
    split,
)
from jax4dstem.models.bases import LatticeBases, LatticeBasesSpec, MarginalLikelihood
from jax4dstem.models.ccstae import (
    CycleConsistency,
    CycleConsistentAutoEncoder,
    CycleConsistentSpec,
)
from jax4dstem.models.layers import Convolutional, Dense
from jax4dstem.models.losses import (
    counts_deviance,
    kl_to_standard_normal,
    l1,
    mean_squared_error,
)
from jax4dstem.models.objectives import (
    CountingNoise,
    EvidenceBound,
    GaussianNoise,
    Reconstruction,
)
from jax4dstem.models.rotation import (
    AlignedEvidenceBound,
    RotationInvariantSpec,
    RotationInvariantVAE,
    best_rotation,
    rotate_polar,
)
from jax4dstem.models.warp import affine_warp, inverse_warp

__all__ = [
    "AlignedEvidenceBound",
    "AutoEncoder",
    "AutoEncoderSpec",
    "Convolutional",
    "CountingNoise",
    "CycleConsistency",
    "CycleConsistentAutoEncoder",
    "CycleConsistentSpec",
    "Dense",
    "EvidenceBound",
    "GaussianNoise",
    "LatticeBases",
    "LatticeBasesSpec",
    "MarginalLikelihood",
    "Reconstruction",
    "RotationInvariantSpec",
    "RotationInvariantVAE",
    "VariationalAutoEncoder",
    "VariationalSpec",
    "affine_warp",
    "best_rotation",
    "counts_deviance",
    "inverse_warp",
    "join",
    "kl_to_standard_normal",
    "l1",
    "mean_squared_error",
    "rotate_polar",
    "split",
]
