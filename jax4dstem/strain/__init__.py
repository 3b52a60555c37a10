"""Strain: from raw counts to maps with error bars."""

from jax4dstem.strain.bases import BaseStrain, strain_by_bases
from jax4dstem.strain.cepstral import strain_from_cepstrum
from jax4dstem.strain.convert import to_py4dstem, to_pyxem
from jax4dstem.strain.derived import Derived, derive, friedel_asymmetry
from jax4dstem.strain.maps import Status, StrainMap, strain_map
from jax4dstem.strain.measure import StrainMeasurement, measure_strain
from jax4dstem.strain.mixing import Mixing, mix_bases
from jax4dstem.strain.pooling import PooledStrain, pool_strain

__all__ = [
    "BaseStrain",
    "Derived",
    "Mixing",
    "PooledStrain",
    "Status",
    "StrainMap",
    "StrainMeasurement",
    "derive",
    "friedel_asymmetry",
    "measure_strain",
    "mix_bases",
    "pool_strain",
    "strain_by_bases",
    "strain_from_cepstrum",
    "strain_map",
    "to_py4dstem",
    "to_pyxem",
]
