"""How many electrons strain needs: error bars and lost lattices at other doses than the scan's own."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jax4dstem.coordinates import wrap_angle
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.fields import Result, entry
from jax4dstem.lattice.cold_start import learned_again, typical_dose
from jax4dstem.lattice.dose import FitsAtDose, fits_at_dose
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.strain.decomposition import EVIDENCE, MeasuredLattices, strain_map
from jax4dstem.strain.maps import COMPONENTS, StrainMap
from jax4dstem.strain.measure import StrainMeasurement
from jax4dstem.strain.pooling import pool_strain
from jax4dstem.strain.reference import StrainReference

FEWEST, MOST = 1e2, 1e6  # electrons per pattern that are looked at in any case
BEYOND = 3.0  # times the scan's own dose, looked at too: what the model misses grows beyond
LARGEST_ERROR = 0.15  # a strain or rotation that is off by more is that of another lattice
FEWEST_LATTICES = 8  # drawn patterns that an error is told from
LARGEST_MAP = 128  # positions along y and x of the map that is pooled


@dataclass(frozen=True)
class StrainDose(Result):
    """Errors of strain at doses from few electrons to many; NaN where lattices are lost.

    Attributes:
        dose: Electrons per pattern, growing, ``(doses,)``.
        bound: Cramér-Rao bound of (e_xx, e_yy, e_xy, theta), root mean square over the positions, ``(doses, 4)``.
        error: Errors that single patterns have, the same shape; larger than the bound where counts are few.
        pooled: Errors after pooling, the same shape.
        kept: Share of the positions with a lattice in the scan that show it at that dose, ``(doses,)``.
        own: Electrons per pattern of the scan.

    Example:
        >>> dose, error = np.array([1e3, 1e5]), np.array([[1e-2] * 4, [1e-3] * 4])
        >>> answer = StrainDose(dose, error, error, error / 2, np.array([0.9, 1.0]), 1e5)
        >>> round(answer.needed(2e-3)), round(answer.needed(2e-3, pooled=True)), answer.needed(1e-4)
        (25000, 6250, inf)
    """

    dose: np.ndarray = entry("dose", "electrons", "per pattern")
    bound: np.ndarray = entry("dose component", "1", "Cramér-Rao bound of one pattern")
    error: np.ndarray = entry("dose component", "1", "predicted error of one pattern")
    pooled: np.ndarray = entry("dose component", "1", "predicted error of pooled strain")
    kept: np.ndarray = entry("dose", "1", "share of the positions that keep their lattice")
    own: float = entry("", "electrons", "per pattern of the scan")

    def needed(self, wanted: float, *, pooled: bool = False) -> float:
        """Electrons per pattern at which the largest of the errors of e_xx, e_yy and e_xy is as wanted.

        Args:
            wanted: Standard deviation of strain.
            pooled: Of pooled strain instead of single patterns.

        Returns:
            The dose; infinite where none that was looked at is enough, 0 where all are.
        """
        worst = (self.pooled if pooled else self.error)[:, :3].max(axis=1)
        return _crossing(self.dose, -np.log(worst), -np.log(wanted))

    def lost(self, share: float = 0.5) -> float:
        """Electrons per pattern below which fewer than a share of the positions keep their lattice.

        Args:
            share: Of the positions that have a lattice in the scan.

        Returns:
            The dose; infinite where none that was looked at is enough, 0 where all are.
        """
        return _crossing(self.dose, self.kept, share)


def _crossing(dose: np.ndarray, values: np.ndarray, level: float) -> float:
    """The dose from which on growing values stay above a level, linear between in the logarithm of the dose."""
    below = np.flatnonzero(~(values >= level))
    if not len(below):
        return 0.0
    last = below[-1]
    if last == len(dose) - 1:
        return np.inf
    if not np.isfinite(values[last]):
        return float(dose[last + 1])
    rise = (level - values[last]) / (values[last + 1] - values[last])
    return float(dose[last] * (dose[last + 1] / dose[last]) ** rise)


def predict_dose(scan: Dataset, measured: StrainMeasurement, beam_center: np.ndarray) -> StrainDose:
    r"""Errors that strain would have had with fewer or more electrons, from the fits of one scan.

    A sample of the patterns is fitted with every count multiplied by f: the information that remains,

    .. math:: I_f = \sum_r \frac{f^2 \, \partial\lambda \, \partial\lambda^{\mathsf T}}{v(f \lambda)}

    with the variance v of the noise (read-out noise does not become less with the dose), is the Cramér-Rao bound, and it is not
    reached with few counts. How far it is missed, and how often the lattice is lost, is told by patterns drawn with so many
    electrons from the learned model and measured like the scan: search, fit, and the same test of evidence. Pooled errors
    are the error bars of the scan's own pooled map with random errors of that size, pooled again.

    Args:
        scan: The patterns that were measured, in electrons.
        measured: Their strain.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.

    Returns:
        Errors at doses from 100 electrons per pattern to three times those of the scan, at least a million.

    Raises:
        InputError: No position of the sample has strain.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.strain import measure_strain
        >>> scan, truth = polycrystal((8, 8), (96, 96), n_grains=2, seed=5)
        >>> measured = measure_strain(scan, truth.parameters.center, 4.2, reference=StrainReference.vectors(*truth.vectors))
        >>> found = predict_dose(scan, measured, truth.parameters.center)
        >>> bool(1e3 < found.needed(5e-3) < 1e5), bool(found.lost() < found.needed(5e-3))
        (True, True)

    Reference: ours; Kay, Fundamentals of Statistical Signal Processing: Estimation Theory (1993), for bound and threshold.
    """
    sample = sample_scan(scan)
    center = sample.of(np.asarray(beam_center, np.float32))
    learned = learned_again(measured.model, sample, center)
    has_strain = sample.of(measured.strain.ok)
    if not has_strain.any():
        raise InputError("no position of the sample has strain: a dose cannot be told")
    own = typical_dose(sample, measured.model.detector)

    def at(dose: float) -> _Errors:
        return _errors(fits_at_dose(learned, sample, center, dose / own), measured, has_strain)

    doses, now, found = _doses(own), at(own), []
    for dose in doses[::-1]:
        # With fewer electrons than leave no lattice there is none either.
        lost = bool(found) and not found[-1].kept and dose < own
        found.append(_LOST if lost else at(dose))
    pooled = [_pooled(measured.strain, one, now) for one in found]
    bound, error, kept = (np.array(part) for part in zip(*found, strict=True))
    return StrainDose(doses, bound[::-1], error[::-1], np.array(pooled)[::-1], kept[::-1], own)


def _doses(own: float) -> np.ndarray:
    """1, 3, 10, 30 ... hundred electrons."""
    most = max(MOST, BEYOND * own)
    decades = 10.0 ** np.arange(np.log10(FEWEST), np.log10(most) + 1)
    doses = np.stack([decades, 3 * decades], axis=1).ravel()
    return doses[doses < 1.01 * most]


class _Errors(NamedTuple):
    """At one dose: of the four components, and the share of lattices that are found."""

    bound: np.ndarray
    error: np.ndarray
    kept: float


_UNKNOWN = np.full(4, np.nan)
_LOST = _Errors(_UNKNOWN, _UNKNOWN, 0.0)


def _errors(fits: FitsAtDose, measured: StrainMeasurement, has_strain: np.ndarray) -> _Errors:
    """Bound of the sampled positions, by how much it is missed, and how many lattices remain."""
    lattice = np.asarray(measured.model.lattice)
    reference = StrainReference.vectors(*measured.strain.reference)
    drawn = strain_map(MeasuredLattices.of_fits(fits.drawn, lattice, fits.excess), reference)
    scaled, expected = (
        strain_map(_whatever_the_evidence(MeasuredLattices.of_fits(of, lattice)), reference)
        for of in (fits.scaled, fits.expected)
    )
    truth = MeasuredLattices.of_fits(fits.expected, lattice)._replace(distortion=fits.truth)
    gap = drawn.values - strain_map(_whatever_the_evidence(truth), reference).values
    gap[..., 3] = wrap_angle(gap[..., 3], drawn.period)
    with np.errstate(invalid="ignore"):
        right = drawn.ok & (np.abs(gap).max(axis=-1) < LARGEST_ERROR)
    weight = _chance(fits.scaled) * (has_strain & scaled.ok)
    others = right.mean() / max(_chance(fits.expected).mean(), 1e-9)  # wrong, or not converged
    kept = min(weight.sum() / has_strain.sum() * others, 1.0)
    compared = right & expected.ok
    if compared.sum() < FEWEST_LATTICES or not weight.any():
        return _Errors(_UNKNOWN, _UNKNOWN, float(kept))
    distance = np.linalg.solve(expected.covariance[compared], gap[compared][..., None])[..., 0]
    missed = np.sqrt(np.mean(np.sum(gap[compared] * distance, axis=1)) / 4)
    variances = np.diagonal(scaled.covariance, axis1=-2, axis2=-1)
    bound = np.sqrt(np.average(variances[weight > 0], axis=0, weights=weight[weight > 0]))
    return _Errors(bound, max(missed, 1.0) * bound, float(kept))


def _chance(fits: Any) -> np.ndarray:
    """That a pattern of such expected evidence, whose noise is 1, passes the test."""
    return stats.norm.cdf(np.nan_to_num(fits.score) - EVIDENCE)


def _whatever_the_evidence(measured: MeasuredLattices) -> MeasuredLattices:
    """The same lattices without a doubt that they are there."""
    return measured._replace(score=np.full(measured.score.shape, EVIDENCE), converged=True)


def _pooled(strain: StrainMap, then: _Errors, now: _Errors) -> np.ndarray:
    """Error bars after pooling: of the scan's own pooled strain with random errors and lost lattices of a dose."""
    if not np.isfinite(then.error).all():
        return _UNKNOWN
    rng = np.random.default_rng(0)
    shape = tuple(min(size, LARGEST_MAP) for size in strain.status.shape)
    part = tuple(
        slice((n - m) // 2, (n - m) // 2 + m)
        for n, m in zip(strain.status.shape, shape, strict=True)
    )
    smooth = pool_strain(_part(strain, part)).strain
    ok = smooth.ok & (rng.random(shape) < then.kept)
    if not ok.any():
        return _UNKNOWN
    growth = then.error / now.error
    covariance = strain.covariance[part] * growth[:, None] * growth
    root = np.linalg.cholesky(np.where(ok[..., None, None], covariance, np.eye(4)))
    noise = (root @ rng.standard_normal((*shape, 4, 1)))[..., 0]
    noisy = smooth.with_values(smooth.values + noise, covariance, ok)
    variances = np.diagonal(pool_strain(noisy).strain.covariance[ok], axis1=-2, axis2=-1)
    return np.sqrt(np.mean(variances, axis=0))


def _part(strain: StrainMap, part: tuple[slice, ...]) -> StrainMap:
    """A rectangle of a map."""
    maps = {name: getattr(strain, name)[part] for name in (*COMPONENTS, "covariance", "status")}
    return replace(strain, **maps)
