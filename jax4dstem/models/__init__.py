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
    kl_to_standard_normal,
    l1,
    mean_squared_error,
    poisson_deviance,
)
from jax4dstem.models.objectives import (
    EvidenceBound,
    GaussianNoise,
    PoissonNoise,
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
    "CycleConsistency",
    "CycleConsistentAutoEncoder",
    "CycleConsistentSpec",
    "Dense",
    "EvidenceBound",
    "GaussianNoise",
    "LatticeBases",
    "LatticeBasesSpec",
    "MarginalLikelihood",
    "PoissonNoise",
    "Reconstruction",
    "RotationInvariantSpec",
    "RotationInvariantVAE",
    "VariationalAutoEncoder",
    "VariationalSpec",
    "affine_warp",
    "best_rotation",
    "inverse_warp",
    "join",
    "kl_to_standard_normal",
    "l1",
    "mean_squared_error",
    "poisson_deviance",
    "rotate_polar",
    "split",
]
