"""What each cluster is: its lattice, how that lies to a reference cluster's, how crystalline it is."""

from typing import NamedTuple

import jax
import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.lattice.basis import find_basis
from jax4dstem.lattice.relation import OTHER, find_kin
from jax4dstem.patterns.cepstrum import (
    cepstral_contrast,
    cepstral_ring,
    find_cepstrum_peaks,
    lattice_quefrencies,
)

# At twice as much 77 % instead of 91 % of the positions get the right state: wide nodes explain anything (experiments/sensitivity).
TOLERANCE = 1.0  # px of the unpadded transform, between a cepstral peak and its lattice node
STRONG = (
    0.3  # of the highest peak; weaker ones lie anywhere, and any fine enough lattice explains them
)
EXPLAINED = 0.6  # share of the peaks' heights that a lattice must explain, beyond chance
COHERENT = 3.0  # contrast of a mean cepstrum whose members have their peaks at the same places
OVER_NOISE = 1.08  # mean contrast of single patterns, in units of what noise alone gives


class ClusterPhysics(NamedTuple):
    """One cluster in the words of a microscopist.

    Attributes:
        basis: Real-space lattice vectors as rows (y, x), in Å or px of the transform; NaN where there is no lattice.
        crystallinity: Peak contrast of its mean cepstrum: about 1 for an amorphous cluster, more the sharper the peaks are
            and the more its positions agree on where they lie.
        state: "crystalline", "polycrystalline" or "amorphous".
    """

    basis: np.ndarray
    crystallinity: float
    state: str


def cluster_physics(
    mean_cepstrum: np.ndarray,
    contrast: float,
    size: tuple[int, int],
    padding: int,
    calibration: Calibration,
) -> ClusterPhysics:
    """Lattice and state of one cluster.

    Args:
        mean_cepstrum: Right half plane, mean of its members.
        contrast: Mean over its members of their own `cepstral_contrast`; grains of many orientations have peaks in single
            patterns that the mean of them does not show.
        size: Of the whole transform.
        padding: Of the transform.
        calibration: Of the patterns that were transformed.
    """
    ring = ring_of(size, padding)
    crystallinity = float(jax.jit(cepstral_contrast)(mean_cepstrum, ring))
    coherent = crystallinity > COHERENT
    basis = _basis(mean_cepstrum, size, padding, calibration) if coherent else None
    if basis is not None:
        return ClusterPhysics(basis, crystallinity, "crystalline")
    noise = np.log(ring.sum()) + np.euler_gamma
    peaks = coherent or contrast > OVER_NOISE * noise
    state = "polycrystalline" if peaks else "amorphous"
    return ClusterPhysics(np.full((2, 2), np.nan), crystallinity, state)


def ring_of(size: tuple[int, int], padding: int) -> np.ndarray:
    """Quefrencies in which peaks are looked for."""
    return cepstral_ring(size, *lattice_quefrencies(size, padding))


def _basis(
    half: np.ndarray, size: tuple[int, int], padding: int, calibration: Calibration
) -> np.ndarray | None:
    """Shortest lattice vectors that explain the peaks of a cepstrum."""
    nearest, farthest = lattice_quefrencies(size, padding)
    peaks = find_cepstrum_peaks(half, size, calibration, inner=nearest)
    step = calibration.quefrency_step(min(size))[0]
    near = [peak for peak in peaks if peak.length < step * farthest]
    near = [peak for peak in near if peak.height > STRONG * near[0].height]
    if len(near) < 2:
        return None
    vectors = np.array([peak.vector for peak in near])
    heights = np.array([peak.height for peak in near])
    found = find_basis(
        np.concatenate([vectors, -vectors]),
        np.concatenate([heights, heights]),
        TOLERANCE * padding * step,
    )
    if found is None:
        return None
    # A fine lattice has a node near any point: what chance explains does not count.
    area = np.pi * (TOLERANCE * padding * step) ** 2
    chance = min(area / abs(np.linalg.det(found.vectors)), 0.99)
    return found.vectors if (found.explained - chance) / (1 - chance) > EXPLAINED else None


class Relations(NamedTuple):
    """How the lattices of clusters lie to a reference's.

    Attributes:
        strain: e_xx, e_yy, e_xy, theta (radians) of every cluster, ``(n, 4)``; NaN where there is no lattice.
        names: In words.
        reference: Id of the reference cluster, -1 where no cluster is crystalline.
    """

    strain: np.ndarray
    names: list[str]
    reference: int


def relate_clusters(
    ids: np.ndarray, members: list[ClusterPhysics], sizes: np.ndarray, chosen: int | None
) -> Relations:
    """Strain, rotation and name of every cluster's lattice relative to a reference cluster's.

    Args:
        ids: Cluster ids.
        members: Physics of each.
        sizes: Positions in each.
        chosen: Id of the reference; None takes the largest crystalline cluster.
    """
    usable = np.array([member.state == "crystalline" for member in members])
    order = [int(n) for n in np.argsort(np.where(usable, -sizes, 1), kind="stable") if usable[n]]
    if chosen is not None and chosen in ids[usable]:
        first = int(np.flatnonzero(ids == chosen)[0])
        order = [first, *(n for n in order if n != first)]
    strains = np.full((len(ids), 4), np.nan)
    names = [member.state for member in members]
    for n, kin in zip(order, find_kin([members[n].basis for n in order]), strict=True):
        strains[n] = np.zeros(4) if kin.to_first is None else np.array(kin.to_first.strain)
        if n == order[0]:
            names[n] = "reference"
        elif kin.to_leader is None:
            names[n] = OTHER
        else:
            to = f" to cluster {ids[order[kin.leader]]}" if kin.leader else ""
            names[n] = kin.to_leader.name + to
    return Relations(strains, names, int(ids[order[0]]) if order else -1)
