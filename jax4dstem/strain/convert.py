"""Strain in the conventions of other packages."""

import numpy as np

from jax4dstem.strain.maps import StrainMap


def to_py4dstem(strain: StrainMap) -> dict[str, np.ndarray]:
    r"""Maps as py4DSTEM's ``StrainMap.get_strain`` gives them.

    There x is along rows (our y), and the infinitesimal strain and rotation are read off the matrix β that
    maps measured to reference reciprocal vectors: tension positive, the rotation of the opposite sign.

    Args:
        strain: Ours.

    Returns:
        ``e_xx``, ``e_yy``, ``e_xy``, ``theta`` and ``mask`` (float, 1 where the strain is known).

    Example:
        >>> zero, cov = np.zeros((1, 1)), np.zeros((1, 1, 4, 4))
        >>> ours = StrainMap(zero + 0.01, zero, zero, zero + 0.1, cov, zero.astype(int), np.eye(2), "")
        >>> theirs = to_py4dstem(ours)
        >>> theirs["e_yy"][0, 0].item(), theirs["theta"][0, 0].item()
        (0.01, -0.1)
    """
    return {
        "e_xx": strain.e_yy,
        "e_yy": strain.e_xx,
        "e_xy": strain.e_xy,
        "theta": -strain.theta,
        "mask": strain.ok.astype(float),
    }


def to_pyxem(strain: StrainMap) -> dict[str, np.ndarray]:
    """Maps as pyxem's ``StrainMap`` orders them: x along columns, shear and rotation of opposite sign.

    Args:
        strain: Ours.

    Returns:
        ``e11`` (along x), ``e22`` (along y), ``e12`` and ``theta``.

    Example:
        >>> zero, cov = np.zeros((1, 1)), np.zeros((1, 1, 4, 4))
        >>> ours = StrainMap(zero, zero, zero + 0.01, zero, cov, zero.astype(int), np.eye(2), "")
        >>> to_pyxem(ours)["e12"][0, 0].item()
        -0.01
    """
    return {
        "e11": strain.e_xx,
        "e22": strain.e_yy,
        "e12": -strain.e_xy,
        "theta": -strain.theta,
    }
