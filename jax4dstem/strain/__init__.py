"""Strain: from raw counts to maps with error bars."""

from jax4dstem.strain.answers import (
    FURTHER_WAYS,
    NoStrain,
    StrainAnswers,
    StrainWays,
    find_strain,
    strain_in_blocks,
)
from jax4dstem.strain.bases import BaseStrain, BaseTable, strain_by_bases
from jax4dstem.strain.between import ReferenceDifference, reference_difference
from jax4dstem.strain.ccstae import CCSTAEStrain, train_ccstae
from jax4dstem.strain.cepstral import strain_from_cepstrum
from jax4dstem.strain.convert import to_py4dstem, to_pyxem
from jax4dstem.strain.decomposition import MeasuredLattices, strain_map
from jax4dstem.strain.derived import Derived, derive, friedel_asymmetry
from jax4dstem.strain.dose import StrainDose, predict_dose
from jax4dstem.strain.examples import StrainExamples, strain_examples
from jax4dstem.strain.maps import COMPONENTS, Status, StrainMap
from jax4dstem.strain.measure import (
    LatticeStrain,
    LearnedModel,
    StrainMeasurement,
    measure_strain,
)
from jax4dstem.strain.mixing import mix_bases
from jax4dstem.strain.neighbors import sum_neighbors
from jax4dstem.strain.pooling import PooledStrain, pool_strain
from jax4dstem.strain.presence import base_of_positions, lattice_amount
from jax4dstem.strain.reference import StrainReference
from jax4dstem.strain.refine import RefinedStrain, refine_strain
from jax4dstem.strain.residual import expected_and_residual
from jax4dstem.strain.second import SecondCrystal

__all__ = [
    "COMPONENTS",
    "FURTHER_WAYS",
    "BaseStrain",
    "BaseTable",
    "CCSTAEStrain",
    "Derived",
    "LatticeStrain",
    "LearnedModel",
    "MeasuredLattices",
    "NoStrain",
    "PooledStrain",
    "ReferenceDifference",
    "RefinedStrain",
    "SecondCrystal",
    "Status",
    "StrainAnswers",
    "StrainDose",
    "StrainExamples",
    "StrainMap",
    "StrainMeasurement",
    "StrainReference",
    "StrainWays",
    "base_of_positions",
    "derive",
    "expected_and_residual",
    "find_strain",
    "friedel_asymmetry",
    "lattice_amount",
    "measure_strain",
    "mix_bases",
    "pool_strain",
    "predict_dose",
    "reference_difference",
    "refine_strain",
    "strain_by_bases",
    "strain_examples",
    "strain_from_cepstrum",
    "strain_in_blocks",
    "strain_map",
    "sum_neighbors",
    "to_py4dstem",
    "to_pyxem",
    "train_ccstae",
]
