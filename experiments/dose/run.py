"""Predicted against thinned: errors of strain, lost lattices and confused domains at fewer electrons per pattern.

    python experiments/dose/run.py                   # about 15 minutes on two cores
    python experiments/dose/run.py --seeds 1 --size 12

Writes result.json beside this script. The crystals are drawn by the NumPy renderer of the tests, which shares nothing with the
library; thinned scans are measured from the start, with nothing known of the full ones.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import (
    Dataset,
    Mean,
    align_scan,
    map_patterns,
    prepare_patterns,
    reduce_patterns,
    survey_scan,
)
from jax4dstem.detector import Detector
from jax4dstem.domains import KMeansSplitter, find_domains, predict_domain_dose
from jax4dstem.noise import ElectronNoise
from jax4dstem.simulate import polycrystal
from jax4dstem.strain import (
    StrainMap,
    StrainMeasurement,
    StrainReference,
    measure_strain,
    pool_strain,
    predict_dose,
)

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
import second_renderer  # noqa: E402

LATTICE = np.array([[0.0, 24.0], [-21.0, 5.0]])  # px
SHAPE = (112, 112)
RADIUS = 4.0
DOSE = 1e5
DOSES = (1e5, 3e4, 1e4, 3e3)
CASES = ((0.1, 0.0), (0.5, 0.0), (0.1, 1.0))  # share of background, read-out noise in electrons
WRONG = 0.15  # a strain or rotation further off is that of another lattice


def crystal(size: int, background: float, seed: int) -> second_renderer.Scan:
    """Hard-edged disks of two grains that are bent a little: a wave of 0.2 % strain in every component."""
    rng = np.random.default_rng(seed)
    grains = rng.uniform(-1, 1, (2, 4)) * [0.02, 0.02, 0.02, np.radians(10)]
    phase, direction = 2 * np.pi * rng.random(4), rng.standard_normal((2, 4))
    rows, cols = np.indices((size, size))[..., None] / size
    wave = np.sin(2 * np.pi * (direction[0] * rows + direction[1] * cols) / 2 + phase)
    strain = grains[(np.arange(size) >= size // 2).astype(int)][None] + 2e-3 * wave
    center = (np.array(SHAPE) - 1) / 2 + rng.uniform(-0.5, 0.5, (size, size, 2))
    h, k = (grid.ravel() for grid in np.meshgrid(*2 * [np.arange(-6, 7)], indexing="ij"))
    length = np.hypot(*(np.stack([h, k], 1) @ LATTICE).T)
    near = (length > 0) & (length < min(SHAPE) / 2)
    h, k, length = h[near], k[near], length[near]
    shares = 0.01 * np.exp(1 - length / length.min()) * np.exp(0.3 * rng.standard_normal(len(h)))
    y, x = np.indices(SHAPE)
    counts = np.zeros((size, size, *SHAPE), np.uint16)
    for where in np.ndindex(size, size):
        film = np.exp(-np.hypot(y - center[where][0], x - center[where][1]) / (0.2 * min(SHAPE)))
        expected = background * DOSE * film / film.sum()
        basis = second_renderer.deform(LATTICE, strain[where])
        spots = [(center[where], 1 - shares.sum())]
        spots += [
            (center[where] + a * basis[0] + b * basis[1], share)
            for a, b, share in zip(h, k, shares, strict=True)
        ]
        for position, share in spots:
            window, covered = second_renderer.disk(SHAPE, position, RADIUS)
            expected[window] += (1 - background) * DOSE * share * covered / (np.pi * RADIUS**2)
        counts[where] = rng.poisson(expected)
    return second_renderer.Scan(counts, strain, center)


def rms_error(found: StrainMap, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Of the four components where the lattice is the right one, and the share of positions where it is."""
    gap = found.values - truth
    gap[..., 3] -= found.period * np.round(gap[..., 3] / found.period)
    with np.errstate(invalid="ignore"):
        right = found.ok & (np.abs(gap).max(axis=-1) < WRONG)
    return np.sqrt(np.mean(gap[right] ** 2, axis=0)), float(right.mean())


def compare(size: int, background: float, read_noise: float, seed: int) -> list[dict]:
    """Predicted and thinned errors of one scan, a row per dose."""
    rng = np.random.default_rng(seed + 1000)
    made = crystal(size, background, seed)
    noise, reference = ElectronNoise(1.0, read_noise), StrainReference.vectors(*LATTICE)
    counts = made.counts
    if read_noise:
        counts = (counts + read_noise * rng.standard_normal(counts.shape)).astype(np.float32)

    def measure(counts: np.ndarray) -> tuple[Dataset, StrainMeasurement]:
        scan = Dataset.from_array(counts)
        return scan, measure_strain(
            scan, made.center, RADIUS, reference=reference, detector=Detector(noise)
        )

    scan, full = measure(counts)
    predicted = predict_dose(scan, full, made.center)
    rows = []
    for dose in DOSES:
        at = int(np.argmin(np.abs(np.log(predicted.dose / dose))))
        share = dose / DOSE
        found = measure(noise.thin(rng, counts, share))[1].strain if share < 1 else full.strain
        error, kept = rms_error(found, made.strain)
        pooled, _ = rms_error(pool_strain(found).strain, made.strain)
        rows.append(
            {
                "dose": dose,
                "background": background,
                "read_noise": read_noise,
                "seed": seed,
                "predicted": predicted.error[at],
                "bound": predicted.bound[at],
                "thinned": error,
                "ratio": np.sqrt(np.mean((predicted.error[at] / error) ** 2)),
                "pooled_ratio": np.sqrt(np.mean((predicted.pooled[at] / pooled) ** 2)),
                "kept_predicted": predicted.kept[at],
                "kept_thinned": kept,
            }
        )
    return rows


def confusion(size: int, seed: int) -> dict:
    """Grains told apart by their mean patterns: at the predicted dose 5 % should be taken for the rival."""
    scan, truth = polycrystal((size, size), (96, 96), background=0.3, n_grains=3, seed=seed)
    survey = survey_scan(scan)
    beam = align_scan(scan, survey)
    # Each grain is a domain, as far as the probe covers no other.
    points = np.where(truth.interior, truth.grain, np.nan)[..., None]
    domains = find_domains(points, [KMeansSplitter(k=3)])
    prepared, noise = prepare_patterns(scan, survey, beam), survey.detector.of_electrons.noise
    found = predict_domain_dose(prepared, domains, noise)
    members = domains.levels[0][..., None] == found.ids
    # Known means: those of the same grains almost without noise. A mean of the scan itself would know its own positions.
    bright, _ = polycrystal((size, size), (96, 96), background=0.3, dose=1e8, n_grains=3, seed=seed)
    first = survey_scan(bright)
    clean = prepare_patterns(bright, first, align_scan(bright, first))
    means = reduce_patterns(Mean(), clean.patterns, weights=members.astype(float))
    means = np.asarray(means, np.float64) * found.own / clean.dose
    counts = scan.source.read(slice(0, size), slice(0, size))
    rng, confused = np.random.default_rng(seed), []
    for i, rival in enumerate(np.searchsorted(found.ids, found.rival)):
        share = float(found.needed[i] / found.own)
        thin = Dataset.from_array(noise.thin(rng, counts, share))
        patterns = prepare_patterns(thin, survey, beam, normalize="none").patterns
        own, other = means[i] + 1e-3, means[rival] + 1e-3
        weights = noise.evidence(own, other).astype(np.float32)
        ratios = map_patterns(weighted_sum, patterns, weights)[members[..., i]]
        middle = share * np.sum(weights * (own + other)) / 2
        confused.append(np.mean(ratios < middle))
    return {
        "seed": seed,
        "needed": found.needed,
        "separation": found.separation,
        "scatter": found.scatter,
        "confused": np.array(confused),
        "positions": members.sum(axis=(0, 1)),
    }


def weighted_sum(pattern: jax.Array, weights: jax.Array) -> jax.Array:
    """Of the counts of a pattern."""
    return jnp.sum(pattern * weights)


def plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(f"{value:.4g}") if np.asarray(value).ndim == 0 else plain(list(np.asarray(value)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    rows = []
    for background, read_noise in CASES:
        for seed in options.seeds:
            rows += compare(options.size, background, read_noise, seed)
            print(f"background {background} read-out noise {read_noise} seed {seed}", flush=True)
        for dose in DOSES:
            chosen = [r for r in rows[-len(options.seeds) * len(DOSES) :] if r["dose"] == dose]
            names = ("ratio", "pooled_ratio", "kept_predicted", "kept_thinned")
            means = {name: np.mean([row[name] for row in chosen]) for name in names}
            print(
                f"{dose:8.0f}",
                "  ".join(f"{name} {x:.3f}" for name, x in means.items()),
                flush=True,
            )
    domains = [confusion(options.size, seed) for seed in options.seeds]
    for row in domains:
        print(row["needed"].round(1), row["confused"].round(3), row["positions"])
    about = {"size": options.size, "seeds": options.seeds}
    text = json.dumps({"about": about, "strain": plain(rows), "domains": plain(domains)}, indent=1)
    (options.out / "result.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
