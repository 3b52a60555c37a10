"""Pixel size, ellipse and center from the rings of a polycrystal."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jax4dstem.calibrate.assignment import (
    Assignment,
    assign_rings,
    find_ellipse,
    radial_sums,
)
from jax4dstem.calibrate.found import CalibrationFound
from jax4dstem.calibrate.powder import Counts, Summed, sum_patterns
from jax4dstem.calibrate.scoring import RingFit, Slopes, fit_rings, normal_equations, slopes, solve
from jax4dstem.coordinates import ellipse_matrix
from jax4dstem.dataset import Dataset
from jax4dstem.detector import IDEAL, Detector
from jax4dstem.errors import InputError
from jax4dstem.fields import entry
from jax4dstem.lattice.rings import RingModel, Rings, RingUnknowns
from jax4dstem.noise import Noise

SECTORS = 24  # of 15 degrees, between which spotty rings scatter
LEAST_EXPLAINED = 0.8  # of the profile: below it the rings are not those of the crystal
WELL_EXPLAINED = (
    0.97  # other crystals' rings explain up to 0.99 of simulated profiles, their own 0.997
)
FAINT = 2.0  # in units of SPREAD: a seventh of the height that a ring should have
LEAST_LEAD = 5.0  # logarithm of odds: e^5 = 150 against the next best assignment
CLEAR_LEAD = 20.0
SPOTTY = 0.3  # scatter of the intensity between sectors: about 11 spots in each


@dataclass(frozen=True)
class RingCalibration(CalibrationFound):
    r"""A calibration from the rings of a polycrystal.

    Attributes:
        spacings: Of the rings that lie on the detector, in Å, ``(rings,)``.
        undistorted: What makes circles, as rows (y, x) in widths of a pixel, to what is on the detector without the ellipse,
            ``(2, 2)``.
        fitted: The same with it.
        explained: Share of what the radial profile has beside a smooth background.
        missing: Spacings of those of them that are much fainter than they should be, ``(missing,)``.
        rival: Pixel in 1/Å of the next best assignment of the rings; NaN without one.
        lead: Logarithm of the odds of the best assignment over that one.
        spottiness: Relative standard deviation of the rings' intensity between sectors of 15 degrees, counting noise taken off.
        stretch: How many times larger than by counting the error bars are.

    Example:
        >>> found = RingCalibration(
        ...     0.02, 1e-5, np.array([0.01, 0.0]), np.zeros(2), np.zeros((3, 3)), np.zeros(2), np.zeros(2), 9,
        ...     np.zeros((8, 8)), np.ones(2), np.eye(2), np.eye(2), np.ones(0), 0.99, 0.01, 8.0, 0.02, 1.0,
        ... )
        >>> found.doubts
        ('a pixel of 0.01 1/Å explains the rings nearly as well (odds 1 : 3e+03)',)
    """

    spacings: np.ndarray = entry("ring", "Å", "spacings of the rings on the detector")
    undistorted: np.ndarray = entry("vector yx", "px", "from circles to the detector, no ellipse")
    fitted: np.ndarray = entry("vector yx", "px", "from circles to the detector")
    missing: np.ndarray = entry("faint_ring", "Å", "spacings of rings that hardly show")
    explained: float = entry("", "1", "share of the radial profile beside a smooth background")
    rival: float = entry("", "1/Å", "pixel of the next best assignment of the rings")
    lead: float = entry("", "1", "logarithm of the odds of the assignment over the next best")
    spottiness: float = entry("", "1", "scatter of the rings' intensity between sectors")
    stretch: float = entry("", "1", "largest error bar over that by counting")

    @property
    def doubts(self) -> tuple[str, ...]:
        """Another assignment, rings that are not explained, and too few grains."""
        told = []
        if self.lead < CLEAR_LEAD:
            told.append(
                f"a pixel of {self.rival:.4g} 1/Å explains the rings nearly as well (odds 1 : {np.exp(self.lead):.0e})"
            )
        if self.explained < WELL_EXPLAINED:
            told.append(
                f"the rings explain {100 * self.explained:.0f} % of the radial profile: others are there, or the crystal is another"
            )
        if len(self.missing):
            spacings = ", ".join(f"{d:.3g}" for d in self.missing)
            told.append(f"rings of {spacings} Å hardly show: texture, or the crystal is another")
        if self.spottiness > SPOTTY:
            told.append(
                f"the rings are spotty (intensity ± {100 * self.spottiness:.0f} % between sectors of 15°): "
                "few grains; error bars are those of the scatter between sectors"
            )
        return tuple(told)


def calibrate_rings(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    rings: Rings,
    *,
    detector: Detector | None = None,
) -> RingCalibration:
    r"""Pixel size, ellipse and center from the Debye-Scherrer rings of a scan's summed pattern.

    The patterns are added, shifted by whole pixels so that their direct beams meet, and the most likely `RingModel` of the
    counts is found by Fisher scoring: rings of free height and width on a smooth background, at radii :math:`q_k / p`, through the
    ellipse of `Calibration`, around a free center.

    Which ring is which is not given: all pixel sizes that lay two rings or more on the detector are tried on the radial profile, and
    those most like it are fitted. They are compared by their evidence (Laplace's approximation, residuals scaled to
    their scatter), in which rings that are missing and peaks without a ring both count.

    Error bars are the largest of what counting gives, and of jackknives over sectors of 15 degrees (spots of large grains, texture) and
    over the rings (profiles and backgrounds that the model does not describe).

    Args:
        scan: Raw counts of positions that show the polycrystal. Of its calibration only the aspect ratio of the pixels is used.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.
        radius: Of the direct beam in px.
        rings: Of the polycrystal, such as `crystal_rings` gives; all that are clearly seen should be among them.
        detector: Noise, saturation and usable pixels; None for counted electrons in every pixel.

    Returns:
        Pixel size, ellipse and center with error bars, and how sure the assignment is.

    Raises:
        InputError: The patterns show no rings, or not these, or two assignments are as good.

    Example:
        >>> from jax4dstem.lattice import Rings
        >>> rng, film = np.random.default_rng(0), Rings.of_spacings((4.0, 3.0, 2.5, 2.0))
        >>> r = np.hypot(*np.meshgrid(np.arange(-48, 48), np.arange(-48, 48)))
        >>> bells = [np.exp(-((r - q / 0.012) ** 2) / 4) for q in film.q]
        >>> scan = Dataset.from_array(rng.poisson(2 + 5 * sum(bells) + 500 * (r < 3), (2, 2, 96, 96)))
        >>> found = calibrate_rings(scan, np.full((2, 2, 2), 48.0), 3.0, film)
        >>> round(found.pixel, 4)
        0.012

    Reference: ours.
    """
    one = detector or IDEAL
    center = np.asarray(beam_center, np.float64)
    used = np.asarray(np.isfinite(center).all(axis=-1))
    total = sum_patterns(scan, center, used, one)
    start = np.nanmean(center, axis=(0, 1)) + total.shift
    aspect = scan.calibration.pixel_aspect
    model, counts = _annulus(total, start, radius, rings, aspect)
    noise = counts.noise(one)
    ellipse = find_ellipse(counts, noise, start, model)
    profile = radial_sums(counts, start, ellipse, model)
    assigned = assign_rings(profile, profile.noise(one), model)
    _check(assigned, model)
    begin = assigned.fit.at._replace(ellipse=ellipse, center=start)
    fit = fit_rings(model, counts, noise, begin, RingUnknowns(*7 * [np.array(True)]))
    return _found(fit, model, counts, noise, total, assigned, used)


def _annulus(
    total: Summed, center: np.ndarray, radius: float, rings: Rings, aspect: float
) -> tuple[RingModel, Counts]:
    """The model, and the counts of pixels beside the direct beam of which a whole circle lies on the detector."""
    shape = total.counts.shape
    y, x = np.indices(shape)
    radii = np.hypot((y - center[0]) * aspect, x - center[1])
    inner = float(np.ceil(2 * radius + 2))
    edges = [
        center[0] * aspect,
        (shape[0] - 1 - center[0]) * aspect,
        center[1],
        shape[1] - 1 - center[1],
    ]
    outer = float(np.floor(min(edges)))
    if outer < 2 * inner:
        raise InputError(
            f"beside a direct beam of {radius:.1f} px the detector shows whole circles up to {outer:.0f} px only: no rings can be fitted"
        )
    numbers = rings.q, rings.strength, radius, aspect, inner, outer
    model = RingModel(*(jnp.asarray(number, jnp.float32) for number in numbers))
    return model, total.annulus(radii, inner, outer)


def _check(assigned: Assignment, model: RingModel) -> None:
    """Refuse rings that are not there, are others, or could be assigned otherwise."""
    if assigned.explained < LEAST_EXPLAINED:
        raise InputError(
            f"the patterns show other rings than these, or none: {100 * max(assigned.explained, 0):.0f} % of the radial "
            "profile beside a smooth background is explained"
        )
    if assigned.lead < LEAST_LEAD:
        pixel = float(np.exp(assigned.fit.at.log_pixel))
        raise InputError(
            f"the rings fit pixels of {pixel:.4g} and of {assigned.rival:.4g} 1/Å alike: which ring is which cannot be told"
        )


def _found(
    fit: RingFit,
    model: RingModel,
    counts: Counts,
    noise: Noise,
    total: Summed,
    assigned: Assignment,
    used: np.ndarray,
) -> RingCalibration:
    at = fit.at
    covariance, stretch = _errors(fit, model, counts, noise)
    pixel, (a, b) = float(np.exp(at.log_pixel)), at.ellipse.tolist()
    rho = np.asarray(model.q, float) / pixel
    seen = (rho > float(model.inner)) & (rho < float(model.outer))
    faint = seen & (np.asarray(at.departures) < -FAINT)
    spacings = 1 / np.asarray(model.q, float)
    to_px = np.diag([1 / float(model.aspect), 1.0])
    error = np.sqrt(np.diagonal(covariance))
    return RingCalibration(
        pixel,
        pixel * float(error[0]),
        np.array([a, b]),
        error[1:3],
        covariance[:3, :3],
        np.asarray(at.center, float) - total.shift,
        error[3:],
        int(np.count_nonzero(used)),
        total.mean,
        spacings[seen],
        to_px,
        ellipse_matrix(a, b) @ to_px,
        spacings[faint],
        assigned.explained,
        assigned.rival,
        assigned.lead,
        _spottiness(fit, model, counts, noise),
        stretch,
    )


def _errors(
    fit: RingFit, model: RingModel, counts: Counts, noise: Noise
) -> tuple[np.ndarray, float]:
    """Covariance of (ln pixel, a, b, y, x), and how many times the largest error bar is that of counting."""
    parts = slopes(model, fit.at, counts, noise)
    total = fit.information + np.diag(fit.precision)
    counting = solve(total, np.eye(len(total)))[:5, :5]
    std = np.sqrt(np.diagonal(counting))
    cuts = _sectors(fit.at, counts), _rings_of(fit.at, model, counts)
    scatter = np.stack([_jackknife(parts, total, cut)[:5] for cut in cuts])
    stretch = np.maximum(scatter.max(axis=0) / std, 1.0)
    return counting * np.outer(stretch, stretch), float(stretch.max())


def _jackknife(parts: Slopes, total: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Standard deviations by leaving out one part of the pixels after the other, a scoring step each."""
    moved = []
    for part in np.unique(cut):
        slope, information = normal_equations(parts, cut == part)
        moved.append(solve(total - information, slope))
    n = len(moved)
    # Of few parts the scatter itself is uncertain: as wide as Student's distribution holds 95 %.
    student = stats.t.ppf(0.975, n - 1) / stats.norm.ppf(0.975)
    return student * np.sqrt((n - 1) / n * (np.square(moved)).sum(axis=0))


def _sectors(at: RingUnknowns, counts: Counts) -> np.ndarray:
    """Number of every pixel's sector."""
    turn = np.angle(counts.x - at.center[1] + 1j * (counts.y - at.center[0])) / (2 * np.pi)
    return np.floor(SECTORS * (turn % 1)).astype(int)


def _rings_of(at: RingUnknowns, model: RingModel, counts: Counts) -> np.ndarray:
    """Number of the ring that lies nearest to every pixel."""
    rho = np.asarray(model.q, float) * np.exp(-float(at.log_pixel))
    radii = np.asarray(model.radii(at, counts.y, counts.x))
    return np.searchsorted((rho[1:] + rho[:-1]) / 2, radii)


def _spottiness(fit: RingFit, model: RingModel, counts: Counts, noise: Noise) -> float:
    """Relative standard deviation of the intensity of the rings between sectors, beyond counting."""
    grid = model.grid()
    radii, beside, whole = map(np.asarray, _drawn(model, fit.at, counts, grid))
    background = counts.pixels * np.interp(radii, grid, beside)
    rings = counts.pixels * np.interp(radii, grid, whole) - background
    sectors = _sectors(fit.at, counts)
    # Matched sums: pixels count as much as the rings are bright there.
    weight = rings / np.maximum(rings + background, 1e-9)
    mean = np.bincount(sectors, weight * rings)
    relative = np.bincount(sectors, weight * (counts.counts - background)) / mean
    scatter = np.bincount(sectors, weight**2 * noise.variance(rings + background)) / mean**2
    return float(np.sqrt(max(np.var(relative, ddof=1) - scatter.mean(), 0.0)))


@jax.jit
def _drawn(model: RingModel, at: RingUnknowns, counts: Counts, grid: Any) -> tuple:
    """Radii of pixels; background, and all, at those of the grid."""
    return (
        model.radii(at, counts.y, counts.x),
        model.background(at, grid),
        model.profile(at, grid),
    )
