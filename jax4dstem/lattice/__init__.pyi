from .adjoint import Implicit, Unrolled
from .fit import FitLattice, lattice_deviance
from .model import LatticeFit, LatticeModel, starting_model

__all__ = [
    "FitLattice",
    "Implicit",
    "LatticeFit",
    "LatticeModel",
    "Unrolled",
    "lattice_deviance",
    "starting_model",
]
