"""How far off the Fisher information is at low counts, by fitting simulated patterns."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jax4dstem.coordinates import radius_from
from jax4dstem.dataset import Dataset
from jax4dstem.lattice.disks import bragg_disks, window_size
from jax4dstem.lattice.fit import interpolate_profile, pattern_dose
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.strain.learn import Learned, convincing
from jax4dstem.strain.sample import ScanSample
from jax4dstem.stream import map_patterns

CAP = 25.0  # squared distance beyond which an error counts no more
BATCH = 8  # expected patterns computed at once
DRAWS = 16  # parts of the patterns with a random stream of their own


def error_inflation(learned: Learned, sample: ScanSample, center: np.ndarray) -> float:
    r"""The k for which errors of variance σ² (1 + k / score²) cover what simulated patterns show.

    The Cramér-Rao bound is reached for many counts only. Patterns with the learned background, disks and
    intensities (a parametric bootstrap) are drawn on lattices fitted to the sample and fitted again.

    Args:
        learned: From `learn_lattice`.
        sample: It was learned from.
        center: At the sampled positions.

    Returns:
        k, zero or more.
    """
    rng = np.random.default_rng(0)
    fits, model = learned.fits, learned.setup.model
    scan_shape = fits.score.shape
    which = rng.choice(np.flatnonzero(convincing(fits).ravel()), fits.score.size)
    dose = np.asarray(map_patterns(pattern_dose, sample.dataset)).ravel()[which]
    distortion = fits.distortion.reshape(-1, 2, 2)[which]
    centers = center.reshape(-1, 2)[which].astype(np.float32)
    spread = rng.standard_normal((len(which), len(model.intensity))) * np.asarray(model.spread)
    spread[:, 0] = 0
    intensity = np.maximum(np.asarray(model.intensity) + spread, 0).astype(np.float32)
    edge = min(float(model.edge_width), float(model.radius) / 5)
    expected = _expected_patterns(
        (centers, distortion, intensity),
        model,
        sample.dataset.pattern_shape,
        window_size(float(model.radius), edge),
    )
    counts = _draw(np.asarray(expected) * dose[:, None, None], rng)
    again = map_patterns(
        learned.measure,
        Dataset.from_array(counts.reshape(*scan_shape, *counts.shape[1:]).astype(_dtype(sample))),
        learned.setup,
        per_position=(centers.reshape(*scan_shape, 2),),
    )
    return _excess(again, distortion.reshape(*scan_shape, 2, 2))


def _draw(expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poisson counts, by several threads; the same whatever their number."""
    parts = np.array_split(expected, DRAWS)
    with ThreadPoolExecutor() as pool:
        return np.concatenate(
            list(pool.map(lambda own, part: own.poisson(part), rng.spawn(DRAWS), parts))
        )


def _dtype(sample: ScanSample) -> np.dtype:
    """Of the sample, so that its compiled kernel serves again, unless that cannot hold counts."""
    dtype = sample.dataset.dtype
    return dtype if dtype.itemsize > 1 or dtype.kind == "f" else np.dtype(np.uint16)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _expected_patterns(
    parameters: Any, model: LatticeModel, shape: tuple[int, int], window: int
) -> jax.Array:
    """Expected share of the electrons in every pixel of every pattern."""

    def one(given: Any) -> jax.Array:
        center, distortion, intensity = given
        positions = center + model.indices @ model.lattice(distortion)
        disks = bragg_disks(shape, positions, intensity, model.radius, model.edge_width, window)
        return disks + interpolate_profile(model.background, radius_from(center, shape))

    return jax.lax.map(one, parameters, batch_size=BATCH)


def _excess(fits: Any, truth: np.ndarray) -> float:
    """k from the mean squared Mahalanobis distance of the fitted distortions, 4 for the bound."""
    error = np.swapaxes(fits.distortion - truth, -1, -2).reshape(-1, 4).astype(np.float64)
    information = fits.information.reshape(-1, 6, 6).astype(np.float64)
    inner = information[:, 2:, 2:] - information[:, 2:, :2] @ np.linalg.solve(
        information[:, :2, :2] + 1e-9 * np.eye(2), information[:, :2, 2:]
    )
    distance = np.einsum("ni,nij,nj->n", error, inner, error)
    near = (np.abs(error).max(axis=1) < 0.15) & np.isfinite(distance)  # not another rotation
    if near.sum() < 30:
        return 0.0
    ratio = np.minimum(distance[near], CAP).mean() / 4
    noise = np.sqrt(0.5 / near.sum())
    return float(max(0.0, (ratio - 1 - noise) * np.median(fits.score.ravel()[near]) ** 2))
