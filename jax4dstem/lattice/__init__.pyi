from .adjoint import Implicit, Unrolled
from .binning import bin_counts, bin_point
from .cell import cell_lattice, crystal_rings, zone_lattice
from .cold_start import Learned, learn_lattice, learn_lattices
from .detection import (
    BraggDisks,
    DiskKernels,
    disk_contrast,
    disk_kernels,
    find_bragg_disks,
)
from .fit import FitLattice, lattice_deviance
from .measure import LatticeSetup, MeasureLattice
from .model import LatticeFit, LatticeModel, starting_model
from .relation import LatticeRelation, mirror_lattice, relate_lattices
from .rings import Rings
from .sample import ScanSample, sample_scan
from .search import Hypotheses, LatticeSearch, rotated_lattices, search_lattice

__all__ = [
    "BraggDisks",
    "DiskKernels",
    "FitLattice",
    "Hypotheses",
    "Implicit",
    "LatticeFit",
    "LatticeModel",
    "LatticeRelation",
    "LatticeSearch",
    "LatticeSetup",
    "Learned",
    "MeasureLattice",
    "Rings",
    "ScanSample",
    "Unrolled",
    "bin_counts",
    "bin_point",
    "cell_lattice",
    "crystal_rings",
    "disk_contrast",
    "disk_kernels",
    "find_bragg_disks",
    "lattice_deviance",
    "learn_lattice",
    "learn_lattices",
    "mirror_lattice",
    "relate_lattices",
    "rotated_lattices",
    "sample_scan",
    "search_lattice",
    "starting_model",
    "zone_lattice",
]
