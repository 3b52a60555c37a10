"""The lattice of Bragg disks: its model, what a scan teaches of it, detection, search and likelihood fit."""

from jax4dstem.lattice.binning import bin_counts, bin_point
from jax4dstem.lattice.cell import zone_lattice
from jax4dstem.lattice.cold_start import Learned, learn_lattice
from jax4dstem.lattice.detection import (
    BraggDisks,
    DiskKernels,
    disk_contrast,
    disk_kernels,
    find_bragg_disks,
)
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.measure import LatticeSetup, MeasureLattice
from jax4dstem.lattice.model import LatticeFit, LatticeModel, starting_model
from jax4dstem.lattice.relation import LatticeRelation, mirror_lattice, relate_lattices
from jax4dstem.lattice.sample import ScanSample, sample_scan
from jax4dstem.lattice.search import Hypotheses, LatticeSearch, rotated_lattices, search_lattice

__all__ = [
    "BraggDisks",
    "DiskKernels",
    "FitLattice",
    "Hypotheses",
    "LatticeFit",
    "LatticeModel",
    "LatticeRelation",
    "LatticeSearch",
    "LatticeSetup",
    "Learned",
    "MeasureLattice",
    "ScanSample",
    "bin_counts",
    "bin_point",
    "disk_contrast",
    "disk_kernels",
    "find_bragg_disks",
    "learn_lattice",
    "mirror_lattice",
    "relate_lattices",
    "rotated_lattices",
    "sample_scan",
    "search_lattice",
    "starting_model",
    "zone_lattice",
]
