"""Reference lattice of a known crystal: what a CIF file and a zone axis say about the diffraction pattern."""

from pathlib import Path

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import reduce_basis

LARGEST_INDEX = 6  # of the reflections that are looked at
VISIBLE = 1e-2  # of the largest structure factor in the zone, above which a reflection counts


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
    try:
        import gemmi
    except ImportError as error:
        raise InputError("a CIF cell needs gemmi: pip install 'jax4dstem[crystal]'") from error
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}")
    if not any(zone):
        raise InputError("the zone axis 0,0,0 is no direction")
    try:
        crystal = gemmi.read_small_structure(str(path))
    except Exception as error:  # whatever a broken file makes it raise
        raise InputError(f"{path} cannot be read as CIF: {str(error).splitlines()[0]}") from error
    if not len(crystal.sites):
        raise InputError(f"{path} lists no atoms")
    steps = np.arange(-LARGEST_INDEX, LARGEST_INDEX + 1)
    indices = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    indices = indices[(indices @ np.array(zone) == 0) & indices.any(axis=1)]
    calculator = gemmi.StructureFactorCalculatorE(crystal.cell)
    strength = np.array(
        [abs(calculator.calculate_sf_from_small_structure(crystal, h)) for h in indices.tolist()]
    )
    seen = indices[strength > VISIBLE * strength.max(initial=0.0)]
    vectors = seen @ np.array(crystal.cell.frac.mat.tolist())
    order = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")
    flat = _in_plane(vectors[order])
    return reduce_basis(_finest(flat, path, zone)) / pixel_inv_angstrom


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
