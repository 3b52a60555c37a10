"""Differentiable simulation of nanobeam patterns and scans, and the built-in demonstration data."""

from jax4dstem.lattice.disks import (
    bragg_disks,
    hexagonal_indices,
    lattice_positions,
    patch_side,
)
from jax4dstem.simulate.heterojunction import HeterojunctionTruth, heterojunction
from jax4dstem.simulate.monolayer import WS2, WSE2, Monolayer, monolayer_intensities
from jax4dstem.simulate.pattern import (
    Background,
    Optics,
    PatternParameters,
    background,
    simulate_pattern,
)
from jax4dstem.simulate.polycrystal import PolycrystalTruth, polycrystal
from jax4dstem.simulate.scan import simulate_scan
from jax4dstem.simulate.specimen import coherent_strain, probe_shares, smooth_slopes
from jax4dstem.simulate.thin_crystal import thin_crystal_intensities

__all__ = [
    "WS2",
    "WSE2",
    "Background",
    "HeterojunctionTruth",
    "Monolayer",
    "Optics",
    "PatternParameters",
    "PolycrystalTruth",
    "background",
    "bragg_disks",
    "coherent_strain",
    "heterojunction",
    "hexagonal_indices",
    "lattice_positions",
    "monolayer_intensities",
    "patch_side",
    "polycrystal",
    "probe_shares",
    "simulate_pattern",
    "simulate_scan",
    "smooth_slopes",
    "thin_crystal_intensities",
]
