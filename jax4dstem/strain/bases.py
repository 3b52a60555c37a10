"""Strain by base lattices: every pattern is read in the light of all patterns of its kind, near or far."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans

from jax4dstem.coordinates import wrap_angle
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.models import LatticeBasesSpec, MarginalLikelihood
from jax4dstem.strain.maps import COMPONENTS, PAIR, OnStrain, StrainMap
from jax4dstem.train import ArrayFeed, Trained, Training, train

MOST_BASES = 64  # more than the grains of most scans; those that are not needed are joined
PER_BASE = 16  # patterns per base, at least
STEPS = 300  # of training, however large the scan
BATCH = 256  # patterns in a step of training
LEARNING_RATE = (
    0.03  # of bases in units of one pattern's noise: three hundred steps cross nine of them
)
MOST_STARTS = 20_000  # patterns that the starting bases are found in
ONE_LATTICE = float(stats.chi2.ppf(0.99, 4))  # squared distance of bases that are one lattice
COLLAPSED = 0.95  # share of the patterns in one base


@dataclass(frozen=True)
class BaseTable(Result):
    """The base lattices, most frequent first; bases that differ by no more than their uncertainty count as one.

    Attributes:
        strain: (e_xx, e_yy, e_xy, theta) of every base, ``(n, 4)``, relative to the map's reference.
        covariance: Of the strain around every base, of those counted as one with it and of its own error,
            ``(n, 4, 4)``.
        sharpness: Standard deviation within each base over one pattern's noise, ``(n,)``.
    """

    strain: np.ndarray = entry("base component", "1, rad", "e_xx, e_yy, e_xy, theta of every base")
    covariance: np.ndarray = entry(f"base {PAIR}", "1", "of the strain around every base")
    sharpness: np.ndarray = entry("base", "1", "scatter within a base over one fit's noise")

    def __len__(self) -> int:
        """Number of bases."""
        return len(self.strain)


@dataclass(frozen=True)
class BaseStrain(OnStrain):
    """Strain by base lattices; the last three only where positions were fitted as sums of bases, by `mix_bases`.

    Attributes:
        strain: Per position, with error bars. Of a sum that of the lattice with the largest share; where that is uncertain
            the mean of the two largest, with the error bars of not knowing.
        base: Number in the table of each position's most probable base, of a sum the one with the largest
            share; -1 where no base fits (the broad one takes it), -2 for the background: no lattice,
            or less than half of the usual amount of it.
        table: The bases.
        note: What is unusual about the bases; empty if nothing.
        trained: The model.
        second: The base with the second largest share; -1 where no other base is near that could not
            be mistaken for a little strain of the first, or where the amounts cannot be told apart.
        share: Of ``base`` in the diffraction of all bases; 1 where there is no second.
        share_std: Standard deviation of it by counting noise; 0 where there is no second.
    """

    strain: StrainMap
    table: BaseTable
    base: np.ndarray = entry(SCAN, "", "base lattice; -1 fits none, -2 background")
    note: str = entry("", "", "what is unusual about the bases")
    trained: Trained | None = None
    second: np.ndarray | None = entry(
        SCAN, "", "base with the second largest share; -1 none", default=None
    )
    share: np.ndarray | None = entry(
        SCAN, "1", "of the base in the diffraction of all bases", default=None
    )
    share_std: np.ndarray | None = entry(SCAN, "1", "standard deviation of share", default=None)


def strain_by_bases(
    strain: StrainMap,
    amount: np.ndarray | None = None,
    *,
    n_bases: int = MOST_BASES,
    steps: int = STEPS,
    seed: int = 0,
    progress: str | None = None,
) -> BaseStrain:
    """Learn base lattices from the fits of all patterns, and what they say about each pattern.

    Unlike `pool_strain` it uses no neighborhood: a small grain profits from others of its kind, a boundary is
    as sharp as single patterns are, and so a pattern between two grains goes to the one that it shows.
    Where strain varies smoothly the bases stay broad, and little changes.

    Args:
        strain: Per-pattern strain with covariances, from `measure_strain`.
        amount: ``(scan_y, scan_x)``, such as the sum of the fitted intensities. A position with less than half of
            what is usual in its base shows mostly something else, and is background.
        n_bases: At most so many; fewer for few patterns.
        steps: Of training.
        seed: Of the starting bases and the order of the patterns.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        The strain and the bases.

    Raises:
        InputError: Too few positions have a lattice.

    Example:
        >>> e_xx, zero = np.repeat([[0.0, 0.02]], 64, axis=0).reshape(8, 16), np.zeros((8, 16))
        >>> e_xx = e_xx + np.random.default_rng(0).normal(0, 1e-3, e_xx.shape)
        >>> cov = np.tile(1e-6 * np.eye(4), (8, 16, 1, 1))
        >>> strain = StrainMap(e_xx, zero, zero, zero, cov, zero.astype(int), np.eye(2), "given")
        >>> found = strain_by_bases(strain, n_bases=2, steps=20)
        >>> np.unique(found.base).tolist()
        [0, 1]

    Reference: for the idea of few learned bases, the cycle-consistent spatial-transforming autoencoder.
    """
    ok = strain.ok
    n_bases = min(n_bases, int(ok.sum()) // PER_BASE)
    if n_bases < 1:
        raise InputError(
            f"{int(ok.sum())} positions have a lattice; bases can be learned from {PER_BASE} or more"
        )
    fits = _Fits.of(strain)
    epochs = max(1, round(steps * BATCH / len(fits.values)))
    trained = train(
        _starting_bases(fits, n_bases, seed),
        MarginalLikelihood(),
        ArrayFeed(fits.samples),
        Training(epochs=epochs, batch_size=BATCH, learning_rate=LEARNING_RATE, seed=seed),
        progress=progress,
    )
    posterior = trained.apply("posterior", fits.samples).astype(np.float64)
    shares = trained.apply("responsibilities", fits.samples).astype(np.float64)
    bases = _Bases.of(trained, shares, np.median(fits.covariance, axis=0))
    group = _same_lattice(bases, fits.period)
    base, leaders = _by_size(shares, group)
    labels = np.full(ok.shape, -2, np.int32)
    labels[ok] = base if amount is None else _without_background(base, amount[ok])
    table = BaseTable(
        _turned(bases.means[leaders] * fits.noise, strain),
        _spread(bases, shares, group, leaders, fits.period) * np.outer(fits.noise, fits.noise),
        np.sqrt(np.trace(bases.scatter[leaders], axis1=1, axis2=2) / 4),
    )
    error = np.einsum("nb,bij->nij", shares[:, :-1], bases.error)
    return BaseStrain(
        _on_scan(strain, fits, posterior, error), table, labels, _note(base, fits.values), trained
    )


class _Fits(NamedTuple):
    """Strain and covariance of all positions with a lattice, in units of the scan's typical noise."""

    values: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray
    period: float

    @classmethod
    def of(cls, strain: StrainMap) -> "_Fits":
        noise = np.median([strain.std(name)[strain.ok] for name in COMPONENTS], axis=1)
        covariance = strain.covariance[strain.ok] / noise[:, None] / noise
        period = float(strain.period / noise[3])
        return cls(strain.values[strain.ok] / noise, covariance, noise, period)

    @property
    def samples(self) -> np.ndarray:
        """As `LatticeBases` takes them."""
        flat = self.covariance.reshape(-1, 16)
        return np.concatenate([self.values, flat], axis=1).astype(np.float32)


class _Bases(NamedTuple):
    """Learned bases without the broad one: strain, scatter within, covariance of the strain's own error."""

    means: np.ndarray
    scatter: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, trained: Trained, shares: np.ndarray, typical: np.ndarray) -> "_Bases":
        model = trained.model
        scatter = np.asarray(model.scatter, np.float64)[:-1]
        members = np.maximum(shares.sum(axis=0)[:-1], 1.0)
        error = (scatter + typical) / members[:, None, None]
        return cls(np.asarray(model.means[...], np.float64), scatter, error)


def _turned(values: np.ndarray, strain: StrainMap) -> np.ndarray:
    """Strains whose rotation is in the lattice's own range."""
    theta = wrap_angle(values[..., 3:], strain.period)
    return np.concatenate([values[..., :3], theta], axis=-1)


def _on_scan(strain: StrainMap, fits: _Fits, posterior: np.ndarray, error: np.ndarray) -> StrainMap:
    """The posterior of every position as a strain map."""
    ok = strain.ok
    values = np.zeros((*ok.shape, 4))
    values[ok] = _turned(posterior[:, :4] * fits.noise, strain)
    covariance = np.tile(np.eye(4), (*ok.shape, 1, 1))
    covariance[ok] = (posterior[:, 4:].reshape(-1, 4, 4) + error) * np.outer(fits.noise, fits.noise)
    return strain.with_values(values, covariance, ok)


def _starting_bases(fits: _Fits, count: int, seed: int) -> LatticeBasesSpec:
    """K-means of the strains, the rotation as a point on its circle."""
    rng = np.random.default_rng(seed)
    values, period = fits.values, fits.period
    chosen = rng.permutation(len(values))[:MOST_STARTS]
    radius = period / 2 / np.pi
    angle = values[chosen, 3] / radius
    points = np.c_[values[chosen, :3], radius * np.cos(angle), radius * np.sin(angle)]
    centers = KMeans(count, n_init=1, random_state=seed).fit(points).cluster_centers_
    starts = np.c_[centers[:, :3], radius * np.arctan2(centers[:, 4], centers[:, 3])]
    center = np.r_[values[:, :3].mean(axis=0), 0.0]
    spread = np.r_[np.maximum(values[:, :3].std(axis=0), 1.0), period / 2]
    rows = tuple(tuple(row) for row in starts.round(4).tolist())
    return LatticeBasesSpec(
        rows, tuple(center.round(4).tolist()), tuple(spread.round(4).tolist()), period
    )


def _same_lattice(bases: _Bases, period: float) -> np.ndarray:
    """A number for every base; those that differ by no more than their scatter and error share it."""
    alike = squared_distances(bases.means, bases.scatter + bases.error, period) < ONE_LATTICE
    return connected_components(alike, directed=False)[1]


def squared_distances(means: np.ndarray, covariance: np.ndarray, period: float) -> np.ndarray:
    """Squared Mahalanobis distances of strains ``(n, 4)``, theta modulo a period, ``(n, n)``."""
    gap = means[:, None] - means
    gap[..., 3] = wrap_angle(gap[..., 3], period)
    solved = np.linalg.solve(covariance[:, None] + covariance, gap[..., None])[..., 0]
    return np.sum(gap * solved, axis=-1)


def _by_size(shares: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each position's lattice, most frequent first, -1 for the broad base; and every lattice's main base."""
    count = group.max() + 1
    joined = np.zeros((len(shares), count + 1))
    np.add.at(joined.T, np.r_[group, count], shares.T)
    most = joined.argmax(axis=1)
    sizes = np.bincount(most, minlength=count + 1)[:count]
    order = np.argsort(-sizes, kind="stable")[: max(1, np.count_nonzero(sizes))]
    rank = np.full(count + 1, -1)
    rank[order] = np.arange(len(order))
    weight = shares.sum(axis=0)[:-1]
    leaders = [int(np.flatnonzero(group == g)[weight[group == g].argmax()]) for g in order]
    return rank[most], np.array(leaders)


def _spread(
    bases: _Bases, shares: np.ndarray, group: np.ndarray, leaders: np.ndarray, period: float
) -> np.ndarray:
    """Covariance around every main base: scatter and error within the bases of its lattice, and between them."""
    gap = bases.means - bases.means[leaders][:, None]
    gap[..., 3] = wrap_angle(gap[..., 3], period)
    weight = shares.sum(axis=0)[:-1] * (group == group[leaders][:, None])
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    within = np.einsum("lb,bij->lij", weight, bases.scatter + bases.error)
    return within + np.einsum("lb,lbi,lbj->lij", weight, gap, gap)


def _without_background(base: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """-2 for positions with less than half of their base's median amount."""
    usual = np.array(
        [
            np.median(amount[base == b]) if (base == b).any() else 0.0
            for b in range(-1, base.max() + 1)
        ]
    )
    return np.where(amount < 0.5 * usual[base + 1], -2, base)


def _note(base: np.ndarray, values: np.ndarray) -> str:
    """A warning when one base holds nearly everything although the strains differ beyond noise."""
    share = np.mean(base == 0)
    varied = values[:, :3].std(axis=0).max() > 2
    if share > COLLAPSED and varied and len(np.unique(base)) > 1:
        return f"the bases collapsed: {100 * share:.0f} % of the patterns are in one"
    if np.mean(base == -1) > 0.5:
        return f"{100 * np.mean(base == -1):.0f} % of the patterns fit no base"
    return ""
