"""Radial background and disk shape of a scan, learned from the counts between and across its disks."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import interpolate, optimize, special

from jax4dstem.coordinates import detector_grid, radius_from
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.evidence import convincing, mean_over_fits
from jax4dstem.lattice.intensities import typical_intensities
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.nodes import nearest_node
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.typing import Pattern

PROFILE_STEP = 0.25  # px, of the measured disk profile
CLEAR = 4.0  # edge widths from a disk, where it is down to 2 % and the rest is background
MIN_KNOTS = 8  # rings that a background profile needs


def learn_background(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    """The radial profile between the disks, and the mean intensities above it."""
    radii = jnp.zeros(profile_length(sample.dataset.pattern_shape))
    counts, pixels = mean_over_fits(radial_background, sample, fits, model, radii)
    model = model._replace(
        background=jnp.asarray(
            _smooth_profile(counts, pixels, int(convincing(fits).sum())), jnp.float32
        )
    )
    intensity, _, _ = typical_intensities(model, sample, fits)
    return model._replace(intensity=jnp.asarray(np.maximum(intensity, 1e-9), jnp.float32))


def learn_disks(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    """Radius and edge width, from the mean profile across the diffracted disks; an image keeps its own."""
    if model.image is not None:
        return model
    bins = jnp.zeros(int(np.ceil((1.5 * float(model.radius) + 3) / PROFILE_STEP)))
    counts, pixels = mean_over_fits(disk_profile, sample, fits, model, bins)
    radius, edge = _fit_disk(counts, pixels, float(model.radius), float(model.edge_width))
    return model._replace(
        radius=jnp.asarray(radius, jnp.float32), edge_width=jnp.asarray(edge, jnp.float32)
    )


def profile_length(shape: tuple[int, ...]) -> int:
    """Samples of a radial profile at 0, 1, 2... px that reaches across the detector."""
    return int(np.hypot(shape[0], shape[1])) + 2


def radial_background(
    pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, radii: Any
) -> tuple[Any, Any]:
    """Counts outside all disks, and the number of pixels they fell on, by whole px from the center.

    Both are divided by the pattern's dose, respectively 1, so that their means give a profile.
    """
    shape, size = pattern.shape, radii.shape[0]
    y, x = detector_grid(shape)
    nearest = nearest_node(y - center[0], x - center[1], model.distorted(distortion))
    apart = jnp.sqrt(nearest.distance_squared)
    counted = model.detector.usable(pattern)
    counted &= apart > model.radius + jnp.maximum(1.5, CLEAR * model.edge_width)
    counts = jnp.where(counted, pattern, 0).astype(float)
    ring = jnp.clip(jnp.round(radius_from(center, shape)), 0, size - 1).astype(int)
    dose = jnp.maximum(pattern_dose(pattern, model.detector), 1.0)
    return radii.at[ring].add(counts / dose), radii.at[ring].add(counted.astype(float))


def disk_profile(
    pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, bins: Any
) -> tuple[Any, Any]:
    """Counts and number of pixels by the distance from the nearest diffracted reflection."""
    size = bins.shape[0]
    y, x = detector_grid(pattern.shape)
    nearest = nearest_node(y - center[0], x - center[1], model.distorted(distortion))
    apart = jnp.sqrt(nearest.distance_squared)
    nodes = jnp.stack([nearest.h, nearest.k], axis=-1)
    longest = model.indices[-1] @ model.lattice
    counted = model.detector.usable(pattern) & jnp.any(nodes != 0, axis=-1)
    counted &= jnp.sum((nodes @ model.lattice) ** 2, axis=-1) <= jnp.sum(longest**2) + 1.0
    index = jnp.round(apart / PROFILE_STEP).astype(int)
    index = jnp.where(counted, index, size)
    dose = jnp.maximum(pattern_dose(pattern, model.detector), 1.0)
    counts = jnp.where(counted, pattern, 0).astype(float) / dose
    return bins.at[index].add(counts, mode="drop"), bins.at[index].add(
        counted.astype(float), mode="drop"
    )


def _smooth_profile(counts: np.ndarray, pixels: np.ndarray, n_patterns: int) -> np.ndarray:
    """Share of the electrons per pixel: a smoothing spline of its logarithm, weighted by the counts.

    Noise in a ring would push all reflections of that ring the same way; generalized cross-validation
    chooses the smoothness. Beyond what was seen the profile is constant.
    """
    radii = np.arange(len(counts), dtype=float)
    seen = (pixels * n_patterns > 1) & (counts > 0)
    if seen.sum() < MIN_KNOTS:
        return np.ones(len(counts))
    stretched = np.arcsinh(radii)
    weight = counts[seen] / counts[seen].max()
    logarithm = np.log(counts[seen] / pixels[seen])
    spline = interpolate.make_smoothing_spline(stretched[seen], logarithm, np.maximum(weight, 1e-6))
    span = stretched[seen][0], stretched[seen][-1]
    return np.exp(spline(np.clip(stretched, *span)))


def _fit_disk(
    counts: np.ndarray, pixels: np.ndarray, radius: float, edge: float
) -> tuple[float, float]:
    """Radius and edge width of the soft disk that fits the measured profile."""
    distance = np.arange(len(counts)) * PROFILE_STEP
    seen = pixels > 0
    profile = counts[seen] / pixels[seen]
    weight = np.sqrt(pixels[seen] / np.maximum(profile, 1e-3 * profile.max()))

    def misfit(p: np.ndarray) -> np.ndarray:
        disk = special.expit((p[0] - distance[seen]) / p[1])
        # Height, level and slope of the background follow by linear least squares.
        columns = np.stack([disk, np.ones_like(disk), distance[seen]], axis=1) * weight[:, None]
        target = profile * weight
        solution = np.linalg.lstsq(columns, target, rcond=None)[0]
        return columns @ solution - target

    bounds = ([0.6 * radius, 0.05], [1.5 * radius, 0.5 * radius])
    start = np.clip([radius, edge], np.array(bounds[0]) * 1.01, np.array(bounds[1]) * 0.99)
    found = optimize.least_squares(misfit, start, bounds=bounds, x_scale=[1.0, 0.3])
    return float(found.x[0]), float(found.x[1])
