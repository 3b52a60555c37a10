"""Several lattices under one probe: how much of each, and whose strain a position at a boundary has."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from jax4dstem.coordinates import wrap_angle
from jax4dstem.dataset import Dataset
from jax4dstem.lattice.intensities import map_intensities
from jax4dstem.lattice.mixture import FitAmounts, KnownLattices, LatticeAmounts
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.nodes import nearest_node
from jax4dstem.strain.bases import BaseStrain, squared_distances
from jax4dstem.strain.maps import StrainMap
from jax4dstem.strain.measure import LatticeStrain, StrainMeasurement
from jax4dstem.stream import map_patterns

NEARBY = 1.0  # positions: standard deviation of the neighborhood that a second lattice comes from
REACH = 2  # positions: its radius
INSIDE = 0.95  # share of a base in its neighborhood from which on a position shows the base alone
SMALL = 0.75  # the same in the middle of the smallest grains; a boundary two positions wide has 0.7
CANDIDATES = 3  # lattices under one probe
SEPARATE = 0.5  # share of the diffraction in disks that lie beside those of another lattice
FAR = 20.0  # standard deviations within two bases: a misfit then looks like 5 % of the other
TOLD_APART = 0.15  # standard deviation of a share that still tells anything


def mix_bases(
    scan: Dataset, measured: StrainMeasurement, bases: BaseStrain, progress: str | None = None
) -> BaseStrain:
    """Fit every position as the sum of the base lattices around it: at most three, as where grains meet.

    One lattice fitted to a pattern of two follows one of them, or neither. Here all are known from the
    positions that show them alone, and only their amounts are fitted, to the counts.

    Args:
        scan: Raw counts, as for `measure_strain`.
        measured: Fits of one lattice each.
        bases: Learned from these fits.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        The same bases with the shares, and the strain that follows from them.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> from jax4dstem.strain import BaseTable, LatticeStrain, LearnedModel, StrainMap
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> zero, twice = np.zeros((1, 1)), np.zeros((1, 1, 2))
        >>> unstrained = StrainMap(zero, zero, zero, zero, 1e-6 * np.eye(4)[None, None], zero.astype(int), 12 * np.eye(2), "given")
        >>> fits = LatticeStrain(unstrained, twice, np.eye(2)[None, None], zero + 20, zero, zero, twice, zero, zero == 0)
        >>> measured = StrainMeasurement(fits, LearnedModel(model, 0.0))
        >>> table = BaseTable(np.zeros((1, 4)), 1e-6 * np.eye(4)[None], np.ones(1))
        >>> bases = BaseStrain(unstrained, table, np.zeros((1, 1), np.int32), "")
        >>> scan = Dataset.from_array(np.ones((1, 1, 64, 64), np.float32))
        >>> mix_bases(scan, measured, bases).share.tolist()  # one base alone: nothing to mix
        [[1.0]]
    """
    fits, model = measured.lattice, measured.model
    center = np.nan_to_num(fits.center)
    lattices = _base_distortions(fits, bases.base, len(bases.table))
    candidates = _neighboring_bases(bases.base, _beside(lattices, model) | _far(bases))
    if (candidates[..., 1] < 0).all():
        none, one, zero = (np.full(bases.base.shape, value) for value in (-1, 1.0, 0.0))
        return replace(bases, second=none.astype(np.int32), share=one, share_std=zero)
    own = map_intensities(scan, center, lattices[candidates[..., 0]], model)
    intensities = _base_intensities(np.asarray(own.share), bases.base, len(bases.table))
    found = map_patterns(
        FitAmounts(model.probe.side()),
        scan,
        KnownLattices(jnp.asarray(lattices), jnp.asarray(intensities)),
        model,
        per_position=(center, candidates),
        progress=progress,
    )
    return _mixing(bases, candidates, found)


def _beside(lattices: np.ndarray, model: LatticeModel) -> np.ndarray:
    """Which bases show disks of their own beside another's: at least half of their diffraction, ``(n, n)``.

    Disks that overlap could also be one lattice between the two, as where strain varies smoothly.
    """
    vectors = np.asarray(model.lattice) @ lattices @ np.asarray(model.to_detector)
    nodes = np.asarray(model.indices) @ vectors
    nearest = nearest_node(nodes[..., 0], nodes[..., 1], vectors[:, None, None])
    weight = np.asarray(model.intensity) * np.asarray(model.indices).any(axis=1)
    separate = nearest.distance_squared > float(model.radius) ** 2
    share = separate @ weight / max(weight.sum(), 1e-12)
    return np.minimum(share, share.T) >= SEPARATE


def _far(bases: BaseStrain) -> np.ndarray:
    """Which bases are so sharp that nothing lies between them, although their disks may overlap, ``(n, n)``."""
    period = bases.strain.period
    return squared_distances(bases.table.strain, bases.table.covariance, period) > FAR**2


def _neighboring_bases(base: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """The base that a position shows and the two most frequent others nearby; -1 where there is none.

    Only bases that some position shows all but alone are candidates: others were made of boundaries.

    Args:
        base: Base of every position, negative for none.
        apart: Whether two bases can be told apart under one probe, ``(n, n)``.

    Returns:
        ``(scan_y, scan_x, 3)``.
    """
    clear = np.array([(_nearby(base == b) > SMALL).any() for b in range(len(apart))])
    known = (base >= 0) & clear[np.maximum(base, 0)]
    candidates = [np.where(known, base, _most_frequent(base, clear, apart, []))]
    for _ in range(CANDIDATES - 1):
        candidates.append(_most_frequent(base, clear, apart, candidates))
    return np.stack(candidates, axis=-1).astype(np.int32)


def _most_frequent(
    base: np.ndarray, clear: np.ndarray, apart: np.ndarray, before: list[np.ndarray]
) -> np.ndarray:
    """The clear base most frequent around every position of those apart from all before; -1 for none.

    One base is looked at after the other: a map for each would not fit into memory on large scans.
    """
    most, which = np.zeros(base.shape, np.float32), np.full(base.shape, -1)
    for b in np.flatnonzero(clear):
        offered = np.all([(other >= 0) & apart[other, b] for other in before], axis=0)
        near = np.where(offered, _nearby(base == b), 0)
        which = np.where(near > most, b, which)
        most = np.maximum(near, most)
    return which


def _nearby(members: np.ndarray) -> np.ndarray:
    """Share of the members in the neighborhood of every position."""
    return ndimage.gaussian_filter(members.astype(np.float32), NEARBY, radius=REACH)


def _base_distortions(fits: LatticeStrain, base: np.ndarray, count: int) -> np.ndarray:
    """A of every base: the median of its members, of those whose g1 is not another of the symmetry."""
    symmetry = fits.strain.symmetry
    found = np.tile(np.eye(2, dtype=np.float32), (count, 1, 1))
    for b in range(count):
        members = fits.distortion[base == b]
        if len(members):
            turns = np.arctan2(
                members[:, 0, 1] - members[:, 1, 0], members[:, 0, 0] + members[:, 1, 1]
            )
            common = np.angle(np.exp(1j * symmetry * turns).mean()) / symmetry
            branch = np.rint((turns - common) * symmetry / (2 * np.pi)).astype(int) % symmetry
            found[b] = np.median(members[branch == np.bincount(branch).argmax()], axis=0)
    return found


def _base_intensities(own: np.ndarray, base: np.ndarray, count: int) -> np.ndarray:
    """Share of the electrons in every disk of every base, from the positions that show it alone."""
    found = np.zeros((count, own.shape[-1]), np.float32)
    for b in range(count):
        members = base == b
        near = np.where(members, _nearby(members), 0.0)
        chosen = np.nan_to_num(own[members & (near >= min(INSIDE, near.max()))])
        if len(chosen):
            found[b] = np.maximum(chosen.mean(axis=0), 0)
    return found


def _mixing(bases: BaseStrain, candidates: np.ndarray, found: LatticeAmounts) -> BaseStrain:
    """The two largest amounts of every position, and what follows from them."""
    amounts, covariance = (np.asarray(leaf, np.float64) for leaf in found)
    order = np.argsort(-amounts, axis=-1, kind="stable")[..., :2]
    two = np.take_along_axis(amounts, order, axis=-1)
    bases_of_two = np.take_along_axis(candidates, order, axis=-1)
    total = np.maximum(amounts.sum(axis=-1), 1e-9)
    share = two[..., 0] / total
    is_first = np.arange(amounts.shape[-1]) == order[..., :1]
    std = _std(covariance, (is_first - share[..., None]) / total[..., None])
    is_second = np.arange(amounts.shape[-1]) == order[..., 1:]
    ahead = (two[..., 0] - two[..., 1]) / _std(covariance, is_first * 1.0 - is_second)
    mixed = (bases.base > -2) & (bases_of_two >= 0).all(axis=-1) & (std < TOLD_APART)
    return replace(
        bases,
        strain=_strain_of_pairs(bases, bases_of_two[mixed], stats.norm.cdf(ahead[mixed]), mixed),
        base=np.where(mixed, bases_of_two[..., 0], bases.base),
        second=np.where(mixed, bases_of_two[..., 1], -1),
        share=np.where(mixed, share, 1.0),
        share_std=np.where(mixed, std, 0.0),
    )


def _std(covariance: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Standard deviation of a function of the amounts, to first order; infinite where it is unknown."""
    variance = np.einsum("...i,...ij,...j->...", slope, covariance, slope)
    return np.sqrt(np.where(variance > 0, variance, np.inf))


def _strain_of_pairs(
    bases: BaseStrain, pair: np.ndarray, chance: np.ndarray, mixed: np.ndarray
) -> StrainMap:
    """Mean and covariance of "the first's strain, or the second's", at the mixed positions."""
    strain, table = bases.strain, bases.table
    chance = chance[:, None]
    first, second = pair.T
    gap = table.strain[second] - table.strain[first]
    gap[:, 3] = wrap_angle(gap[:, 3], strain.period)
    moved = table.strain[first] + (1 - chance) * gap
    moved[:, 3] = wrap_angle(moved[:, 3], strain.period)
    inside = chance[..., None] * table.covariance[first]
    inside = inside + (1 - chance[..., None]) * table.covariance[second]
    between = (chance * (1 - chance))[..., None] * gap[:, :, None] * gap[:, None, :]
    values, covariance = strain.values.copy(), strain.covariance.copy()
    values[mixed], covariance[mixed] = moved, inside + between
    return strain.with_values(values, covariance, strain.ok)
