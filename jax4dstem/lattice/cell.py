"""Reference lattice of a known crystal: what a CIF file and a zone axis say about the diffraction pattern."""

from itertools import pairwise
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import reduce_basis
from jax4dstem.lattice.rings import Rings

LARGEST_INDEX = 6  # of the reflections that are looked at
VISIBLE = 1e-2  # of the largest structure factor in the zone, above which a reflection counts; of the brightest ring
FINEST = 0.6  # Å: spacing of the outermost rings that thin films show
MOST_RINGS = 40  # more cannot be told from each other
SAME_RING = 1e-4  # relative difference in length of reflections of one ring


def zone_lattice(
    path: str | Path, zone: tuple[int, int, int], pixel_inv_angstrom: float
) -> np.ndarray:
    """g1, g2 of the zero-order Laue zone of a crystal, in px.

    Of the reflections h with h · [uvw] = 0 those that the structure forbids are left out (kinematical electron
    structure factors); the two that span the finest lattice are its basis.

    Args:
        path: A CIF file.
        zone: Direct-lattice direction [uvw] along the beam.
        pixel_inv_angstrom: Detector pixel in 1/Å.

    Returns:
        Rows g1, g2 (y, x) in px, reduced, g1 to the right: the rotation of the crystal is not known.

    Raises:
        InputError: gemmi is not installed, the file is no crystal structure, or the zone shows no
            two-dimensional lattice.

    Example:
        >>> zone_lattice("MgO.cif", (0, 0, 1), 0.016)  # doctest: +SKIP
    """
    if not any(zone):
        raise InputError("the zone axis 0,0,0 is no direction")
    crystal = _read_crystal(path)
    indices = _indices((LARGEST_INDEX,) * 3)
    indices = indices[indices @ np.array(zone) == 0]
    strength = _structure_factors(crystal, indices)
    seen = indices[strength > VISIBLE * strength.max(initial=0.0)]
    vectors = seen @ _reciprocal(crystal)
    order = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")
    flat = _in_plane(vectors[order])
    return reduce_basis(_finest(flat, path, zone)) / pixel_inv_angstrom


def cell_lattice(a: float, b: float, gamma: float) -> np.ndarray:
    """g1, g2 of a lattice whose projected real-space cell is known.

    Args:
        a: Length of the cell's first side, seen along the beam, in Å.
        b: Of its second side, in Å.
        gamma: Angle between the two in degrees.

    Returns:
        Rows g1, g2 (y, x) in 1/Å, reduced; the lattice's rotation says nothing.

    Raises:
        InputError: A side is not positive, or the angle does not lie between 0 and 180 degrees.

    Example:
        >>> np.linalg.norm(cell_lattice(2.0, 4.0, 90.0), axis=1).tolist()
        [0.25, 0.5]

    Reference: the definition of a reciprocal lattice.
    """
    if not (a > 0 and b > 0 and 0 < gamma < 180):
        raise InputError(
            f"a cell has two positive sides in Å and an angle between 0 and 180°; got {a:g},{b:g},{gamma:g}"
        )
    angle = radians(gamma)
    sides = np.array([[0.0, a], [-b * sin(angle), b * cos(angle)]])
    return reduce_basis(np.linalg.inv(sides).T)


def crystal_rings(path: str | Path) -> Rings:
    r"""Debye-Scherrer rings of a crystal's powder, as bright as kinematical scattering makes them.

    A ring of spacing d takes all reflections of that length, and along it the intensity is

    .. math:: I \propto m \, |F|^2 d^2

    with the number m of reflections and their electron structure factor F; rings below a hundredth of the brightest, and those
    of spacings below 0.6 Å, are left out.

    Args:
        path: A CIF file.

    Returns:
        The rings from the largest spacing on, at most 40.

    Raises:
        InputError: gemmi is not installed, or the file is no crystal structure.

    Example:
        >>> crystal_rings("Au.cif").spacings[:3]  # doctest: +SKIP
        array([2.355, 2.039, 1.442])

    Reference: Vainshtein, Structure Analysis by Electron Diffraction, Pergamon (1964), for the intensities.
    """
    crystal = _read_crystal(path)
    cell = crystal.cell
    most = tuple(int(side / FINEST) for side in (cell.a, cell.b, cell.c))
    indices = _indices(most)
    q = np.linalg.norm(indices @ _reciprocal(crystal), axis=1)
    indices, q = indices[q <= 1 / FINEST], q[q <= 1 / FINEST]
    order = np.argsort(q, kind="stable")
    indices, q = indices[order], q[order]
    intensity = _structure_factors(crystal, indices) ** 2 / q**2
    begins = np.flatnonzero(np.diff(q, prepend=0.0) > SAME_RING * q)
    sums = [slice(*ends) for ends in pairwise([*begins, len(q)])]
    strength = np.array([intensity[part].sum() for part in sums])
    spacings = np.array([1 / q[part].mean() for part in sums])
    seen = strength > VISIBLE * strength.max(initial=0.0)
    return Rings(spacings[seen][:MOST_RINGS], strength[seen][:MOST_RINGS] / strength.max())


def _read_crystal(path: str | Path) -> Any:
    try:
        import gemmi
    except ImportError as error:
        raise InputError("a CIF cell needs gemmi: pip install 'jax4dstem[crystal]'") from error
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}")
    try:
        crystal = gemmi.read_small_structure(str(path))
    except Exception as error:  # whatever a broken file makes it raise
        raise InputError(f"{path} cannot be read as CIF: {str(error).splitlines()[0]}") from error
    if not len(crystal.sites):
        raise InputError(f"{path} lists no atoms")
    return crystal


def _indices(most: tuple[int, ...]) -> np.ndarray:
    """All hkl but 000 up to the largest h, k, l, ``(n, 3)``."""
    steps = [np.arange(-n, n + 1) for n in most]
    indices = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return indices[indices.any(axis=1)]


def _reciprocal(crystal: Any) -> np.ndarray:
    """a*, b*, c* as rows, in 1/Å."""
    return np.array(crystal.cell.frac.mat.tolist())


def _structure_factors(crystal: Any, indices: np.ndarray) -> np.ndarray:
    """|F| for electrons, ``(n,)``."""
    import gemmi

    calculator = gemmi.StructureFactorCalculatorE(crystal.cell)
    return np.array(
        [abs(calculator.calculate_sf_from_small_structure(crystal, h)) for h in indices.tolist()]
    )


def _in_plane(vectors: np.ndarray) -> np.ndarray:
    """Vectors of a plane in two coordinates (y, x), the first of them along x."""
    if not len(vectors):
        return np.zeros((0, 2))
    right = vectors[0] / np.linalg.norm(vectors[0])
    normal = np.linalg.svd(vectors)[2][2]
    return np.stack([-vectors @ np.cross(normal, right), vectors @ right], axis=1)


def _finest(flat: np.ndarray, path: str | Path, zone: tuple[int, int, int]) -> np.ndarray:
    """The pair of smallest area, the shortest of these."""
    shortest = flat[:60]
    area = np.abs(
        shortest[:, None, 0] * shortest[None, :, 1] - shortest[:, None, 1] * shortest[None, :, 0]
    )
    area[area < 1e-9] = np.inf
    if not np.isfinite(area).any():
        raise InputError(f"{path} has no two-dimensional lattice in zone {list(zone)}")
    first, second = np.unravel_index(np.argmin(area.round(9)), area.shape)
    return shortest[[first, second]]
