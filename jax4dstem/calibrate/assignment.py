"""Which ring is which: the pixel size whose rings explain a radial profile, against all others."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.calibrate.powder import Counts, padded
from jax4dstem.calibrate.scoring import EXPECTED_WIDTHS, RingFit, fit_rings
from jax4dstem.coordinates import ellipse_matrix
from jax4dstem.errors import InputError
from jax4dstem.lattice.rings import RingModel, RingUnknowns
from jax4dstem.noise import Noise

BACKGROUND_TERMS = 6  # Chebyshev polynomials of its logarithm over the annulus
FINE = 0.5  # px: bins of the radial profile
GRID = 0.01, 0.003, 0.001  # steps of the ellipse that is looked for, coarse to fine
PIXEL_STEP = 0.5  # px that the outermost ring moves from one pixel size to the next
SMOOTH = 3.0  # disk radii (and a px): what is wider in a profile is background
CANDIDATES = 10  # pixel sizes that are fitted, those whose rings are most like the profile
SAME_PIXEL = 0.01  # relative difference of pixel sizes that count as one assignment
SILENT = -30.0  # logarithm of heights that are none


class Assignment(NamedTuple):
    """What pixel the rings of a profile tell."""

    fit: RingFit
    dispersion: float  # of the profile around the best fit
    explained: float  # share of what the profile has beside a smooth background
    rival: float  # pixel of the next best assignment
    lead: float  # logarithm of the odds of the best over that one


def find_ellipse(counts: Counts, noise: Noise, center: np.ndarray, model: RingModel) -> np.ndarray:
    """(a, b) that makes the sharpest rings: the largest variance between bins of radius, ``(2,)``.

    Args:
        counts: Of pixels.
        noise: Of them.
        center: Of the rings (y, x) in px.
        model: Its annulus, and the pixels' aspect ratio.
    """
    v = np.stack([(counts.y - center[0]) * float(model.aspect), counts.x - center[1]], axis=1)
    z = _stable(counts, noise)
    smooth = SMOOTH * (float(model.radius) + 1)
    z -= _smoothed(np.linalg.norm(v, axis=1), z, counts.pixels, smooth)
    best = np.zeros(2)
    reach = 0.1
    for step in GRID:
        offsets = np.arange(-reach, reach + step / 2, step)
        tried = best + np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
        best = max(tried, key=lambda one: _sharpness(v @ ellipse_matrix(*-one), z, counts.pixels))
        reach = step
    return best


def _stable(counts: Counts, noise: Noise) -> np.ndarray:
    """Means of counts per pixel, so stretched that they scatter alike."""
    stable = noise.stabilize(jnp.asarray(counts.counts, float))
    return np.asarray(stable, np.float64) / np.maximum(counts.pixels, 1) ** 0.5


def _smoothed(radii: np.ndarray, z: np.ndarray, weight: np.ndarray, width: float) -> np.ndarray:
    """The smooth part of a radial profile, at every pixel."""
    bins = radii.astype(int)
    sums = np.bincount(bins, weight * z), np.bincount(bins, weight)
    wide, norm = (ndimage.gaussian_filter1d(s, width, mode="constant") for s in sums)
    return (wide / np.maximum(norm, 1e-9))[bins]


def _sharpness(v: np.ndarray, z: np.ndarray, weight: np.ndarray) -> float:
    bins = np.sqrt((v**2).sum(axis=1)).astype(int)
    sums = np.bincount(bins, weight * z)
    return float((sums**2 / np.maximum(np.bincount(bins, weight), 1)).sum())


def radial_sums(
    counts: Counts, center: np.ndarray, ellipse: np.ndarray, model: RingModel
) -> Counts:
    """The counts in bins of the undistorted radius, as if they lay along x."""
    v = np.stack([(counts.y - center[0]) * float(model.aspect), counts.x - center[1]], axis=1)
    radii = np.linalg.norm(v @ ellipse_matrix(*-ellipse), axis=1)
    bins = (radii / FINE).astype(int)
    total = np.bincount(bins, counts.pixels)
    some = total > 0
    mean = np.bincount(bins, counts.pixels * radii)[some] / total[some]
    sums = np.bincount(bins, counts.counts)[some]
    return padded(np.zeros(len(mean)), mean, sums, total[some])


def assign_rings(profile: Counts, noise: Noise, model: RingModel) -> Assignment:
    """Fit the rings with all pixel sizes that may explain a profile; the best one, and how far it leads.

    Args:
        profile: Counts by radius, as from `radial_sums`.
        noise: Of them.
        model: Of the rings.

    Raises:
        InputError: No pixel size lays two rings into the profile.
    """
    fits = [_fit_profile(profile, noise, model, one) for one in _candidates(profile, noise, model)]
    if not fits:
        raise InputError(
            f"no pixel size lays two of the rings between {float(model.inner):.0f} px, where the direct beam "
            f"ends, and {float(model.outer):.0f} px, where the detector does"
        )
    degrees = max(
        np.count_nonzero(profile.pixels)
        - np.count_nonzero(fits[0].moves & (fits[0].precision == 0)),
        1,
    )
    dispersion = max(min(one.deviance for one in fits) / degrees, 1.0)
    fits.sort(key=lambda one: one.misfit(dispersion))
    best = fits[0]
    dispersion = max(best.deviance / degrees, 1.0)
    flat = _fit_profile(profile, noise, model, None)
    explained = 1 - (best.deviance - degrees) / max(flat.deviance - degrees, 1e-9)
    others = [one for one in fits if abs(float(one.at.log_pixel - best.at.log_pixel)) > SAME_PIXEL]
    lead, rival = float("inf"), float("nan")
    if others:
        lead = (others[0].misfit(dispersion) - best.misfit(dispersion)) / 2
        rival = float(np.exp(others[0].at.log_pixel))
    return Assignment(best, dispersion, float(explained), rival, lead)


def _candidates(profile: Counts, noise: Noise, model: RingModel) -> np.ndarray:
    """Logarithms of the pixel sizes whose rings correlate best with what a profile has beside its background."""
    radii, weight = profile.x.astype(float), profile.pixels
    width = float(np.hypot(model.radius / 2, 1.0))
    smooth = SMOOTH * (float(model.radius) + 1) / FINE
    q, strength = np.asarray(model.q, float), np.asarray(model.strength, float)
    inner, outer = float(model.inner), float(model.outer)

    def beside(values: np.ndarray) -> np.ndarray:
        sums = weight * values, weight
        wide, norm = (ndimage.gaussian_filter1d(s, smooth, mode="constant", axis=-1) for s in sums)
        return values - wide / np.maximum(norm, 1e-9)

    step = PIXEL_STEP / outer
    # Two rings at least lie in the annulus.
    tried = np.arange(np.log(q[1] / outer), np.log(q[-2] / inner), step)
    if not len(tried):
        return tried
    rho = q / np.exp(tried)[:, None]
    gap = radii - rho[..., None]
    drawn = np.einsum("k,pkr->pr", np.sqrt(strength), np.exp(-(gap**2) / (2 * width**2)))
    rings, seen = np.stack([beside(one) for one in drawn]), beside(_stable(profile, noise))
    norm = np.sqrt((weight * rings**2).sum(axis=1) * (weight * seen**2).sum())
    likeness = (weight * rings * seen).sum(axis=1) / np.maximum(norm, 1e-12)
    within = ((rho > inner) & (rho < outer)).sum(axis=1) >= 2
    likeness = np.where(within, likeness, -np.inf)
    peaks = within & (likeness >= ndimage.maximum_filter1d(likeness, 3))
    order = np.argsort(np.where(peaks, -likeness, np.inf), kind="stable")
    return tried[order[: min(CANDIDATES, np.count_nonzero(peaks))]]


def _fit_profile(
    profile: Counts, noise: Noise, model: RingModel, log_pixel: float | None
) -> RingFit:
    """Rings on a background, or (None) the background alone."""
    known = profile.pixels > 0
    mean = profile.counts[known] / profile.pixels[known]
    # Half of the typical counts as rings, until the fit tells.
    level = np.log(max(float(np.median(mean)), 1e-9))
    silent = log_pixel is None
    start = RingUnknowns(
        np.array(0.0 if log_pixel is None else log_pixel),
        np.zeros(2), np.zeros(2), EXPECTED_WIDTHS,
        np.array([SILENT if silent else level, 0.0]),
        np.zeros(len(model.q)),
        np.concatenate([[level], np.zeros(BACKGROUND_TERMS - 1)]),
    )  # fmt: skip
    moves = np.array(not silent)
    fixed = np.array(False)
    free = RingUnknowns(moves, fixed, fixed, moves, moves, moves, np.array(True))
    background = RingUnknowns(fixed, fixed, fixed, fixed, fixed, fixed, np.array(True))
    start = fit_rings(model, profile, noise, start, background).at
    return fit_rings(model, profile, noise, start, free)
