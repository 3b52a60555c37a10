"""How far off the Fisher information is at low counts, by fitting simulated patterns."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.cold_start import Learned
from jax4dstem.lattice.evidence import convincing
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.render import render
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.noise import Noise
from jax4dstem.stream import map_patterns

CAP = 25.0  # squared distance beyond which an error counts no more
OTHER = 0.15  # distortion from the truth beyond which a fit has found another rotation
FEWEST = 30  # fits that an excess is told from
BATCH = 8  # expected patterns computed at once
DRAWS = 16  # parts of the patterns with a random stream of their own


class Bootstrap(NamedTuple):
    """Patterns to draw, in the order of the sample's positions.

    Attributes:
        expected: Counts, ``(rows, cols, det_y, det_x)``.
        center: Of the direct beam, ``(rows, cols, 2)``.
        distortion: Of the lattices, ``(rows, cols, 2, 2)``.
    """

    expected: np.ndarray
    center: np.ndarray
    distortion: np.ndarray


def error_inflation(learned: Learned, sample: ScanSample, center: np.ndarray) -> float:
    r"""The k for which errors of variance σ² (1 + k / score²) cover what simulated patterns show.

    The Cramér-Rao bound is reached for many counts only: patterns of `bootstrap_patterns` are drawn and fitted again.

    Args:
        learned: From `learn_lattice`.
        sample: It was learned from.
        center: At the sampled positions.

    Returns:
        k, zero or more.
    """
    rng = np.random.default_rng(0)
    which, model = draw_positions(learned, rng), learned.setup.model
    spread = rng.standard_normal((len(which), len(model.intensity))) * np.asarray(model.spread)
    spread[:, 0] = 0
    intensity = np.maximum(np.asarray(model.intensity) + spread, 0).astype(np.float32)
    patterns = bootstrap_patterns(learned, sample, center, which, intensity)
    return excess_of(fit_drawn(learned, sample, patterns, rng), patterns.distortion)


def draw_positions(learned: Learned, rng: np.random.Generator) -> np.ndarray:
    """Positions of the sample whose lattices are drawn again, as many as it has; flat indices."""
    score = learned.fits.score
    return rng.choice(np.flatnonzero(convincing(learned.fits).ravel()), score.size)


def bootstrap_patterns(
    learned: Learned,
    sample: ScanSample,
    center: np.ndarray,
    which: np.ndarray,
    intensity: np.ndarray,
) -> Bootstrap:
    """Expected counts of the learned background and disks on lattices of the sample (for a parametric bootstrap).

    Args:
        learned: From `learn_lattice`.
        sample: It was learned from.
        center: At the sampled positions.
        which: Position that each pattern has center, lattice and electrons from; see `draw_positions`.
        intensity: Shares of the electrons in the disks of each, ``(rows * cols, n)``.
    """
    fits, model = learned.fits, learned.setup.model
    scan_shape, shape = fits.score.shape, sample.dataset.pattern_shape
    dose = np.asarray(map_patterns(pattern_dose, sample.dataset, model.detector)).ravel()[which]
    distortion = fits.distortion.reshape(-1, 2, 2)[which]
    centers = center.reshape(-1, 2)[which].astype(np.float32)
    shares = _expected_patterns((centers, distortion, intensity), model, shape, model.probe.side())
    expected = np.asarray(shares) * dose[:, None, None]
    return Bootstrap(
        expected.reshape(*scan_shape, *shape),
        centers.reshape(*scan_shape, 2),
        distortion.reshape(*scan_shape, 2, 2),
    )


def fit_drawn(
    learned: Learned, sample: ScanSample, patterns: Bootstrap, rng: np.random.Generator
) -> Any:
    """Draw random counts and measure their lattices, ``(rows, cols, ...)``.

    Args:
        learned: From `learn_lattice`.
        sample: Its type of numbers is taken.
        patterns: To draw.
        rng: Draws them.
    """
    flat = patterns.expected.reshape(-1, *patterns.expected.shape[2:])
    counts = draw_counts(learned.setup.model.detector.noise, flat, rng)
    drawn = Dataset.from_array(_recorded(counts.reshape(patterns.expected.shape), sample))
    return map_patterns(learned.measure, drawn, learned.setup, per_position=(patterns.center,))


def draw_counts(noise: Noise, expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random counts, by several threads; the same whatever their number."""
    parts = np.array_split(expected, DRAWS)
    with ThreadPoolExecutor() as pool:
        return np.concatenate(list(pool.map(noise.count, rng.spawn(DRAWS), parts)))


def _recorded(counts: np.ndarray, sample: ScanSample) -> np.ndarray:
    """In the sample's type, so that its compiled kernel serves again, unless that cannot hold counts."""
    dtype = sample.dataset.dtype
    dtype = dtype if dtype.itemsize > 1 else np.dtype(np.uint16)
    # Read-out noise is neither whole nor positive, and of more electrons some types cannot hold the direct beam.
    if dtype.kind == "f" or counts.dtype.kind == "f" or counts.max() > np.iinfo(dtype).max:
        return counts.astype(dtype if dtype.kind == "f" else np.float32)
    return counts.astype(dtype)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _expected_patterns(
    parameters: Any, model: LatticeModel, shape: tuple[int, int], patch: int
) -> jax.Array:
    """Expected share of the electrons in every pixel of every pattern."""

    def one(given: Any) -> jax.Array:
        center, distortion, intensity = given
        return render(shape, center, distortion, intensity, model, patch)

    return jax.lax.map(one, parameters, batch_size=BATCH)


def excess_of(fits: Any, truth: np.ndarray) -> float:
    """k from the mean squared Mahalanobis distance of the fitted distortions, 4 for the bound."""
    error = np.swapaxes(fits.distortion - truth, -1, -2).reshape(-1, 4).astype(np.float64)
    information = fits.information.reshape(-1, 6, 6).astype(np.float64)
    inner = information[:, 2:, 2:] - information[:, 2:, :2] @ np.linalg.solve(
        information[:, :2, :2] + 1e-9 * np.eye(2), information[:, :2, 2:]
    )
    distance = np.einsum("ni,nij,nj->n", error, inner, error)
    near = (np.abs(error).max(axis=1) < OTHER) & np.isfinite(distance)
    if near.sum() < FEWEST:
        return 0.0
    ratio = np.minimum(distance[near], CAP).mean() / 4
    noise = np.sqrt(0.5 / near.sum())
    return float(max(0.0, (ratio - 1 - noise) * np.median(fits.score.ravel()[near]) ** 2))
