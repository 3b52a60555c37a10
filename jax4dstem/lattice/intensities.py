"""Intensities of the disks of lattices that are known, and what is typical of a scan."""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.evidence import convincing
from jax4dstem.lattice.measure import LatticeSetup
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.patches import (
    gather_patches,
    mean_heights,
    patch_side_around,
    reflection_positions,
)
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar

UNEXPECTED = 1.1  # factor of a dispersion from 1 that more patterns than a sample has would not give by chance
SIGNIFICANT = 4.0  # standard errors above zero that a reflection's mean intensity must have
FAINTEST = 1e-3  # of the strongest reflection, below which one is not there
NARROWEST = 0.1  # spread of an intensity over its mean, at least: typical intensities are a prior, no certainty
SEEN = 2 / 3  # share of a disk on usable pixels, from which on its intensity counts
FEWEST = 7  # reflections that are kept at least


class Intensities(NamedTuple):
    """What the disks of a known lattice hold.

    Attributes:
        share: Of the pattern's electrons above the background, one number per reflection; NaN where less than two
            thirds of the disk are on the detector. Unlike fitted heights it may be negative, so that its mean over
            many patterns is unbiased.
        dose: Electrons of the pattern.
    """

    share: Float[Array, " n"]
    dose: Scalar


@dataclass(frozen=True)
class DiskIntensities:
    """Pattern function: the intensities of a lattice that is known, linear in the counts.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
    """

    patch: int

    def __call__(
        self, pattern: Pattern, center: Point, distortion: Float[Array, "2 2"], model: LatticeModel
    ) -> Intensities:
        """Return `Intensities`.

        Args:
            pattern: Counts ``(det_y, det_x)``.
            center: (y, x) in px.
            distortion: A of the lattice.
            model: Shared by the scan.
        """
        center, distortion = jnp.asarray(center, float), jnp.asarray(distortion, float)
        patches = gather_patches(pattern, center, distortion, model, self.patch)
        positions = reflection_positions(center, distortion, model)
        disk, _, seen = mean_heights(patches, positions, model)
        dose = pattern_dose(pattern, model.detector)
        share = disk * jnp.pi * model.radius**2 / dose
        return Intensities(jnp.where(seen > SEEN, share, jnp.nan), dose)


def map_intensities(
    dataset: Dataset,
    center: np.ndarray,
    distortion: np.ndarray,
    model: LatticeModel,
    progress: str | None = None,
) -> Intensities:
    """`Intensities` of every pattern, shares ``(scan_y, scan_x, n)``, of lattices that are known."""
    of_disks = DiskIntensities(patch_side_around(float(model.radius), model.tightest))
    places = (center, distortion)
    return map_patterns(of_disks, dataset, model, per_position=places, progress=progress)


def learn_intensities(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    """Typical intensities; reflections that are not there leave the model."""
    return _with_intensities(model, typical_intensities(model, sample, fits), fits)


def learn_fitted_intensities(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    """The same of the fitted intensities: means inside of disks that overlap are those of several disks."""
    return _with_intensities(model, _typical(fits.intensities, sample, fits), fits)


def _with_intensities(
    model: LatticeModel, typical: tuple[np.ndarray, np.ndarray, np.ndarray], fits: Any
) -> LatticeModel:
    intensity, spread, error = typical
    there = np.asarray(
        intensity > np.maximum(SIGNIFICANT * error, FAINTEST * np.max(intensity[1:]))
    )
    there[0] = True
    if there.sum() < FEWEST:
        there[np.argsort(-intensity)[:FEWEST]] = True
    dispersion = typical_dispersion(fits)
    intensity = np.maximum(intensity, 1e-9)
    return model._replace(
        indices=model.indices[there],
        intensity=jnp.asarray(intensity[there], jnp.float32),
        spread=jnp.asarray(np.maximum(spread, NARROWEST * intensity)[there], jnp.float32),
        dispersion=jnp.asarray(dispersion[there], jnp.float32),
        scatter=None if model.scatter is None else model.scatter[there],
    )


def typical_dispersion(fits: Any) -> np.ndarray:
    """Median over the scan around each disk; 1 where the noise explains it, or nothing is seen, as behind masked pixels."""
    good = convincing(fits)
    dispersion = np.nanmedian(np.where(good[..., None], fits.dispersion, np.nan), axis=(0, 1))
    dispersion = np.where(dispersion > 0, dispersion, 1.0)
    # Both ways: the noise of a detector that drops small counts is less than its gain says.
    return np.where(np.abs(np.log(dispersion)) > np.log(UNEXPECTED), dispersion, 1.0)


def typical_intensities(
    model: LatticeModel, sample: ScanSample, fits: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of every reflection's intensity, its spread over the scan, and the mean's error.

    Noise is what differs inside the sample's blocks, spread what differs between them (analysis of
    variance).
    """
    center, distortion = np.nan_to_num(fits.center), np.nan_to_num(fits.distortion)
    share = map_intensities(sample.dataset, center, distortion, model).share
    return _typical(np.asarray(share), sample, fits)


def _typical(
    values: np.ndarray, sample: ScanSample, fits: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.where(convincing(fits)[..., None], values, np.nan)
    shape, (rows, cols) = values.shape, sample.block
    blocks = values.reshape(shape[0] // rows, rows, shape[1] // cols, cols, -1)
    blocks = blocks.swapaxes(1, 2).reshape(-1, rows * cols, shape[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # reflections that no pattern shows
        mean, total = np.nanmean(values, axis=(0, 1)), np.nanvar(values, axis=(0, 1))
        count = np.isfinite(blocks).sum(axis=1, keepdims=True)
        within = (blocks - np.nanmean(blocks, axis=1, keepdims=True)) ** 2 * count / (count - 1)
        noise = np.nanmean(np.where(count > 1, within, np.nan), axis=(0, 1))
    seen = np.isfinite(values).sum(axis=(0, 1))
    error = np.sqrt(total / np.maximum(seen, 1))
    spread = np.sqrt(np.maximum(np.nan_to_num(total - np.nan_to_num(noise)), 0))
    return np.nan_to_num(mean), spread, np.nan_to_num(error, nan=np.inf)


def disk_pixels(model: LatticeModel) -> float:
    """Pixels under a disk."""
    return np.pi * float(model.radius) ** 2


def background_under(model: LatticeModel, indices: np.ndarray) -> np.ndarray:
    """Share of the electrons that are background under the disk of each reflection."""
    lengths = np.linalg.norm(indices @ np.asarray(model.lattice), axis=1)
    profile = np.asarray(model.background)
    return np.interp(lengths, np.arange(len(profile)), profile) * disk_pixels(model)


def search_weights(setup: LatticeSetup, dose: float) -> Any:
    """Typical contrast of the searched reflections: intensity over its noise, at a typical dose."""
    model = setup.model
    indices = np.asarray(setup.hypotheses.indices)
    order = {tuple(pair): n for n, pair in enumerate(np.asarray(model.indices).tolist())}
    which = [order.get(tuple(pair), -1) for pair in indices.tolist()]
    intensity = np.asarray(model.intensity)[which] * (np.array(which) >= 0)
    under = background_under(model, indices)
    noise = model.detector.noise.summed(disk_pixels(model))
    variance = np.asarray(noise.variance(dose * (under + intensity)), np.float64)
    return jnp.asarray(dose * intensity / np.sqrt(variance), jnp.float32)
