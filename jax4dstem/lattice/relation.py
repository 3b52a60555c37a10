"""How one two-dimensional lattice lies to another: strained, turned, or its twin."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import Strain, strain_of

SAME_STRAIN = 0.03  # strains below are those of one crystal
RELATED_STRAIN = 0.1  # beyond it is another lattice
SAME_SIZE = 0.01  # strains that measurement does not tell apart
SAME_ANGLE = np.radians(2.0)
OTHER = "another lattice"
ROWS = ((1, 0), (0, 1), (1, 1), (1, -1))  # lattice rows that twins are mirrored on

_ENTRIES = np.array(list(product(range(-2, 3), repeat=4))).reshape(-1, 2, 2)
CHANGES = _ENTRIES[np.abs(np.linalg.det(_ENTRIES)).round() == 1]  # of basis, within one lattice
_strains = jax.jit(jax.vmap(strain_of))


class LatticeRelation(NamedTuple):
    """A lattice relative to a reference.

    Attributes:
        strain: Strain and rotation (radians, counter-clockwise) that take the reference to it; of all that do, the
            smallest strain, then the smallest rotation.
        twin: Indices of the reference's row that mirrors it onto the lattice, or None.
        name: In words.
    """

    strain: Strain
    twin: tuple[int, int] | None
    name: str


def relate_lattices(basis: np.ndarray, reference: np.ndarray) -> LatticeRelation:
    """Compare two lattices, whatever basis each is written in.

    A lattice that is turned against the reference, and is its mirror image on a row of small indices, is called a twin: the
    two share that row, so their boundary along it can be coherent.

    Args:
        basis: Real-space basis vectors as rows (y, x).
        reference: The same of the reference, in the same unit.

    Returns:
        Strain, rotation, twin row, and a name such as "rotated by 12.3°".

    Example:
        >>> reference = np.array([[0.0, 4.4], [-4.15, 0.0]])
        >>> relate_lattices(np.array([[-4.4, 0.0], [0.0, -4.15]]), reference).name
        'rotated by 90.0°'
        >>> relate_lattices(mirror_lattice(reference, (1, 1)), reference).name
        'twin on [1 1], rotated by 86.7°'
    """
    strain = smallest_strain(basis, reference)
    size, angle = strain_size(strain), float(strain.theta)
    if size > RELATED_STRAIN:
        return LatticeRelation(strain, None, OTHER)
    twin = None
    if abs(angle) > SAME_ANGLE and size < SAME_STRAIN:
        twin = next((row for row in ROWS if _mirrors(basis, reference, row)), None)
    words = [f"twin on [{twin[0]} {twin[1]}]"] if twin else []
    if abs(angle) > SAME_ANGLE:
        words.append(f"rotated by {np.degrees(angle):.1f}°")
    if size > SAME_STRAIN:
        words.append(f"strained by {100 * size:.1f} %")
    return LatticeRelation(strain, twin, ", ".join(words) or "same lattice")


class Kin(NamedTuple):
    """A lattice among those before it.

    Attributes:
        leader: Number of the first lattice of its kind; its own where it is the first.
        to_leader: How it lies to that; None where it is the first.
        to_first: How it lies to the first lattice of all; None of that itself.
    """

    leader: int
    to_leader: LatticeRelation | None
    to_first: LatticeRelation | None


def find_kin(bases: Sequence[np.ndarray]) -> list[Kin]:
    """Sort lattices into kinds, each led by the first that is like none of the leaders before.

    Args:
        bases: Real-space basis vectors as rows (y, x), of every lattice.

    Example:
        >>> square, other = np.eye(2), np.diag([1.0, 1.5])
        >>> [kin.leader for kin in find_kin([square, other, 1.01 * square, other])]
        [0, 1, 0, 1]
    """
    leaders: list[int] = []
    kin = []
    for number, basis in enumerate(bases):
        found = [relate_lattices(basis, bases[leader]) for leader in leaders]
        alike = next((k for k, each in enumerate(found) if each.name != OTHER), None)
        if alike is None:
            leaders.append(number)
        kin.append(
            Kin(
                number if alike is None else leaders[alike],
                None if alike is None else found[alike],
                found[0] if found else None,
            )
        )
    return kin


def smallest_strain(basis: np.ndarray, reference: np.ndarray) -> Strain:
    """The smallest strain, with its rotation, that takes one lattice to the other."""
    return _closest(basis, reference)[1]


def in_basis_of(reference: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """A lattice in that of its bases which the smallest strain, and then the smallest rotation, takes to another lattice's.

    Args:
        reference: g1, g2 as rows (y, x).
        lattice: Of the other lattice.

    Example:
        >>> in_basis_of(np.array([[0.0, 20.0], [-26.0, 0.0]]), np.array([[26.1, 1.0], [-1.0, 20.1]])).tolist()
        [[26.0, 0.0], [0.0, 20.0]]
    """
    cells = (np.linalg.inv(each).T for each in (lattice, reference))
    change, _ = _closest(*cells)
    return np.linalg.inv(change).T @ reference + 0.0


def _closest(basis: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, Strain]:
    """The change of the reference's basis that leaves the smallest strain, and that strain."""
    gradients = np.swapaxes(np.linalg.solve(CHANGES @ reference, basis), -1, -2)
    turning = np.flatnonzero(np.linalg.det(gradients) > 0)
    found = np.stack(_strains(jnp.asarray(gradients[turning], float)), axis=1).astype(np.float64)
    sizes = np.array([strain_size(Strain(*row)) for row in found])
    # Equal strains are one lattice in its own symmetry: then the smallest rotation counts, and plus before minus.
    alike = np.flatnonzero(sizes < sizes.min() + SAME_SIZE)
    angles = found[alike, 3].round(3)
    best = alike[np.lexsort((-angles, np.abs(angles)))[0]]
    return CHANGES[turning[best]], Strain(*found[best].tolist())


def mirror_lattice(basis: np.ndarray, row: tuple[int, int]) -> np.ndarray:
    """The mirror image of a lattice on one of its rows: its twin, which shares that row.

    Args:
        basis: Vectors as rows (y, x).
        row: Indices of the row's direction.

    Returns:
        The mirrored vectors as rows (y, x).

    Example:
        >>> mirror_lattice(np.array([[0.0, 3.0], [-2.0, 1.0]]), (1, 0)).tolist()
        [[0.0, 3.0], [2.0, 1.0]]
    """
    along = np.array(row) @ basis
    along = along / np.linalg.norm(along)
    return basis @ (2 * np.outer(along, along) - np.eye(2))


def _mirrors(basis: np.ndarray, reference: np.ndarray, row: tuple[int, int]) -> bool:
    strain = smallest_strain(basis, mirror_lattice(reference, row))
    return bool(strain_size(strain) < SAME_STRAIN and abs(strain.theta) < SAME_ANGLE)


def strain_size(strain: Strain) -> float:
    """Magnitude of the larger principal strain."""
    middle = (strain.e_xx + strain.e_yy) / 2
    spread = np.hypot((strain.e_xx - strain.e_yy) / 2, strain.e_xy)
    return float(abs(middle) + spread)
