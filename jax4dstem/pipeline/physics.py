"""What each cluster is: its lattice, how that lies to a reference cluster's, how crystalline it is."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.cepstrum import cepstral_contrast, cepstral_ring, find_cepstrum_peaks
from jax4dstem.coordinates import Calibration
from jax4dstem.io.results import Field
from jax4dstem.lattice.basis import find_basis
from jax4dstem.lattice.relation import LatticeRelation, relate_lattices
from jax4dstem.typing import Tree

INNER = (
    4.0  # px of the unpadded transform: nearer the origin lies what the window leaves of the probe
)
TOLERANCE = 1.2  # px of the unpadded transform, between a cepstral peak and its lattice node
EXPLAINED = 0.6  # share of the peaks' heights that a lattice must explain
COHERENT = 3.0  # contrast of a mean cepstrum whose members have their peaks at the same places
OVER_NOISE = 1.25  # contrast of single patterns, in units of what noise alone gives


class ClusterPhysics(NamedTuple):
    """One cluster in the words of a microscopist.

    Attributes:
        basis: Real-space lattice vectors as rows (y, x), in Å or px of the transform; NaN where there is no lattice.
        crystallinity: Mean over its positions of the highest cepstral power over the mean.
        state: "crystalline", "polycrystalline" or "amorphous".
    """

    basis: np.ndarray
    crystallinity: float
    state: str


def cluster_physics(
    mean_cepstrum: np.ndarray,
    crystallinity: float,
    size: tuple[int, int],
    padding: int,
    calibration: Calibration,
) -> ClusterPhysics:
    """Lattice and state of one cluster.

    Args:
        mean_cepstrum: Right half plane, mean of its members.
        crystallinity: Mean over its members of `cepstral_contrast`.
        size: Of the whole transform.
        padding: Of the transform.
        calibration: Of the patterns that were transformed.
    """
    ring = ring_of(size, padding)
    together = float(cepstral_contrast(jnp.asarray(mean_cepstrum), jnp.asarray(ring)))
    basis = _basis(mean_cepstrum, size, padding, calibration) if together > COHERENT else None
    if basis is not None:
        return ClusterPhysics(basis, crystallinity, "crystalline")
    noise = np.log(ring.sum()) + np.euler_gamma
    peaks = together > COHERENT or crystallinity > OVER_NOISE * noise
    state = "polycrystalline" if peaks else "amorphous"
    return ClusterPhysics(np.full((2, 2), np.nan), crystallinity, state)


def ring_of(size: tuple[int, int], padding: int) -> np.ndarray:
    """Quefrencies in which peaks are looked for."""
    return cepstral_ring(size, INNER * padding, min(size) / 4)


def _basis(
    half: np.ndarray, size: tuple[int, int], padding: int, calibration: Calibration
) -> np.ndarray | None:
    """Shortest lattice vectors that explain the peaks of a cepstrum."""
    peaks = find_cepstrum_peaks(half, size, calibration, inner=INNER * padding)
    step = calibration.quefrency_step(min(size))[0]
    near = [peak for peak in peaks if peak.length < step * min(size) / 4]
    if len(near) < 2:
        return None
    vectors = np.array([peak.vector for peak in near])
    heights = np.array([peak.height for peak in near])
    found = find_basis(
        np.concatenate([vectors, -vectors]),
        np.concatenate([heights, heights]),
        TOLERANCE * padding * step,
    )
    return None if found is None or found.explained < EXPLAINED else found.vectors


def physics_fields(
    ids: np.ndarray,
    members: list[ClusterPhysics],
    sizes: np.ndarray,
    dark_field: np.ndarray,
    chosen: int | None,
    unit: str,
) -> Tree:
    """Physics of all clusters of a level, relative to a reference cluster.

    Args:
        ids: Cluster ids.
        members: Physics of each.
        sizes: Positions in each.
        dark_field: Mean annular dark field of each.
        chosen: Id of the reference; None takes the largest crystalline cluster.
        unit: Of the lattice vectors.
    """
    usable = np.array([member.state == "crystalline" for member in members])
    reference = int(np.argmax(np.where(usable, sizes, -1)))
    if chosen is not None and chosen in ids:
        reference = int(np.flatnonzero(ids == chosen)[0])
    strains, names = np.full((len(ids), 4), np.nan), []
    for n, member in enumerate(members):
        relation = _relation(member, members[reference]) if usable[reference] else None
        if relation is not None:
            strains[n] = relation.strain
        names.append(_name(member, relation, n == reference))
    against = f"relative to cluster {ids[reference]}" if usable[reference] else "no reference"
    return {
        "basis": Field(
            np.array([member.basis for member in members]), unit, "lattice vectors as rows (y, x)"
        ),
        "strain": Field(
            strains, "", f"e_xx, e_yy, e_xy, theta (radians) of the lattice, {against}"
        ),
        "relation": Field("\n".join(names), "", f"how each lattice lies, {against}; a line each"),
        "state": Field(
            "\n".join(member.state for member in members), "", "crystallinity class; a line each"
        ),
        "crystallinity": Field(
            np.array([member.crystallinity for member in members]),
            "",
            "cepstral peak power over mean power, mean of the members",
        ),
        "annular_dark_field": Field(dark_field, "counts", "mean over the members"),
    }


def _relation(member: ClusterPhysics, reference: ClusterPhysics) -> LatticeRelation | None:
    if member.state != "crystalline" or reference.state != "crystalline":
        return None
    return relate_lattices(member.basis, reference.basis)


def _name(member: ClusterPhysics, relation: LatticeRelation | None, is_reference: bool) -> str:
    if is_reference and member.state == "crystalline":
        return "reference"
    return relation.name if relation is not None else member.state
