"""What varies inside the domains: autoencoders of every region, clusters of their codes, and anomalies."""

from jax4dstem.regions.codes import (
    RegionCodes,
    RegionModel,
    RegionModels,
    RegionTraining,
    boundary_sharpness,
    encode_regions,
    standardize,
    standardize_region,
)

__all__ = [
    "RegionCodes",
    "RegionModel",
    "RegionModels",
    "RegionTraining",
    "boundary_sharpness",
    "encode_regions",
    "standardize",
    "standardize_region",
]
