"""Small benchmarks that differ in kind; each takes seconds, and makes its data before any constant is changed."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from sklearn.metrics import adjusted_rand_score

from jax4dstem import (
    Dataset,
    align_scan,
    measure_strain,
    open_dataset,
    pool_strain,
    prepare_patterns,
    survey_scan,
)
from jax4dstem.beam import BeamPositions, Prepared, Survey
from jax4dstem.domains import (
    KMeansSplitter,
    VaryingPixels,
    choose_features,
    describe_domains,
    domain_agreement,
    feature_vectors,
    find_domains,
    map_domains,
    score_features,
)
from jax4dstem.simulate import PolycrystalTruth, heterojunction, polycrystal
from jax4dstem.strain import (
    COMPONENTS,
    StrainMap,
    StrainMeasurement,
    StrainReference,
    mix_bases,
    strain_by_bases,
)

PROJECT = Path(__file__).resolve().parents[2]
RIGHT = 0.02  # errors of strain and rotation below which the right lattice was found: half of a cell's symmetry is 0.5
Figures = dict[str, float]
Run = Callable[[], Figures]


def _script(path: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, PROJECT / path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[spec.name] = module  # type: ignore[union-attr]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def grains(dose: float, background: float) -> Run:
    """A polycrystal of ours: strain found with nothing given, over the Cramér-Rao bound."""
    scan, truth = polycrystal(
        (12, 12), (96, 96), background=background, dose=dose, n_grains=3, seed=301
    )
    bound = _script("experiments/strain_benchmark/run.py").bounds(truth, (96, 96))
    known = _stacked(truth)

    def run() -> Figures:
        _, beam, found = _strain(scan)
        found = found.relative_to(StrainReference.vectors(*truth.vectors))
        figures = _judged(found.strain, known, bound, truth.interior)
        figures["center_px"] = _center_error(beam, np.asarray(truth.parameters.center))
        return figures

    return run


def other_renderer() -> Run:
    """Hard disks on an exponential film, by the renderer of the tests; its lattice given, 10 counts per electron, one pixel in 500 hot."""
    lattice = np.array([[0.0, 20.0], [-20.0, 0.0]])
    made = _script("tests/second_renderer.py").render(
        lattice, (12, 12), (96, 96), dose=2e5, largest_strain=0.015, seed=302
    )
    rng = np.random.default_rng(302)
    hot = rng.random((96, 96)) < 0.002
    hot[40:56, 40:56] = False
    counts = np.minimum(10 * made.counts.astype(np.int64), 60_000).astype(np.uint16)
    counts[:, :, hot] = rng.poisson(5_000, (12, 12, hot.sum()))
    scan = Dataset.from_array(counts)

    def run() -> Figures:
        survey, beam, found = _strain(scan, StrainReference.vectors(*lattice))
        bad = survey.detector.bad_pixels
        return {
            **_judged(
                found.strain, made.strain, np.full(made.strain.shape, 1e-3), np.ones((12, 12), bool)
            ),
            "center_px": _center_error(beam, made.center),
            "gain": survey.detector.gain / 10,
            "hot_found": float(bad[hot].mean()),
            "bad_besides": float(bad[~hot].sum()),
        }

    return run


def sheet() -> Run:
    """Two materials on a film, under descan: their domains, and what each is."""
    scan, truth = heterojunction((28, 28), (48, 48), dose=2e4, seed=303)
    crystal = truth.label > 0

    def run() -> Figures:
        survey = survey_scan(scan)
        beam = align_scan(scan, survey)
        prepared = prepare_patterns(scan, survey, beam)
        kind = VaryingPixels()
        vectors = feature_vectors(prepared, kind, choose_features(prepared, kind))
        scores = score_features(vectors, survey.valid).scores
        found = find_domains(scores, [KMeansSplitter()] * 3)
        tables = describe_domains(found, prepared, np.ones(scan.scan_shape)).levels
        figures = {"center_px": _center_error(beam, truth.center)}
        for (level, labels), table in zip(found.labels.items(), tables.values(), strict=True):
            own, merged = domain_agreement(labels, truth.label)
            states = np.array(table.state) == "crystalline"
            told = states[np.searchsorted(table.ids, np.maximum(labels, 0))]
            number = level.rpartition("_")[2]
            figures |= {
                f"ari_{number}": own,
                f"merged_{number}": merged,
                f"clusters_{number}": len(table.ids),
            }
            figures[f"state_{number}"] = float((told == crystal)[labels >= 0].mean())
        return figures

    return run


def domain_map() -> Run:
    """Domains with nothing given: small grains, two materials on a film whose strain varies, one bent crystal."""
    grains, of_grains = polycrystal((40, 40), (64, 64), n_grains=10, dose=2e4, seed=306)
    made, of_sheet = heterojunction((40, 40), (48, 48), dose=2e4, seed=307)
    bent, _ = polycrystal((32, 32), (64, 64), n_grains=1, gradient=1e-3, dose=1e5, seed=308)
    scans = {"grains": (grains, of_grains.grain), "sheet": (made, of_sheet.label)}
    scans["bent"] = bent, np.zeros((32, 32), int)
    prepared = {name: _prepared(scan) for name, (scan, _) in scans.items()}

    def run() -> Figures:
        figures = {}
        for name, (_, label) in scans.items():
            found = map_domains(prepared[name])
            figures[f"ari_{name}"] = float(adjusted_rand_score(label.ravel(), found.labels.ravel()))
            figures[f"number_{name}"] = float(len(found.size))
            figures[f"unusual_{name}"] = float(found.unusual.mean())  # type: ignore[union-attr]
            figures[f"mixed_{name}"] = float((found.second >= 0).mean())
        return figures

    return run


def bases() -> Run:
    """Base lattices of a polycrystal whose lattice is given, and how much of each is under the probe."""
    scan, truth = polycrystal((20, 20), (96, 96), background=0.3, dose=5e4, n_grains=4, seed=304)
    fits = _strain(scan, StrainReference.vectors(*truth.vectors))[2]
    known, one = _stacked(truth), np.full((20, 20, 4), 1e-3)

    def run() -> Figures:
        learned = strain_by_bases(fits.strain, fits.lattice.amount)
        mixed = mix_bases(scan, fits, learned)
        figures = _judged(mixed.strain, known, one, fits.strain.ok)
        figures["bases"] = len(learned.table)
        figures["mixed"] = float((mixed.second >= 0).mean())  # type: ignore[operator]
        gap = np.asarray(mixed.share) - truth.purity
        figures["purity_rms"] = float(np.sqrt(np.mean(gap**2)))
        return figures

    return run


def smooth() -> Run:
    """Pooling of strain that varies smoothly, given with its noise; no patterns."""
    fields = _script("experiments/strain_benchmark/smooth_fields.py")
    made = []
    for seed, kind in enumerate(("ramp", "random", "bump"), start=305):
        rng = np.random.default_rng(seed)
        truth = fields.smooth_strain(kind, 3e-4, rng)
        made.append((truth, fields.observed(truth, 2e-3, rng)))

    def run() -> Figures:
        rms, coverage = [], []
        for truth, strain in made:
            pooled = pool_strain(strain).strain
            std = np.stack([strain.std(name) for name in COMPONENTS], axis=-1)
            figures = _judged(pooled, truth, std, strain.ok)
            rms.append(figures["rms"])
            coverage.append(figures["coverage"])
        return {"pooled_rms": float(np.mean(rms)), "pooled_coverage": float(np.mean(coverage))}

    return run


def measured(path: Path) -> Run:
    """A crop of a measured scan, whose truth nobody knows: share with strain, its spread, and the detector."""
    scan = open_dataset(path)
    rows, cols = (range((n - 20) // 2, (n - 20) // 2 + 20) for n in scan.scan_shape)
    scan = scan.sample_scan(rows, cols)
    counts = scan.source.read(slice(0, 20), slice(0, 20))
    scan = Dataset.from_array(np.asarray(counts))

    def run() -> Figures:
        survey, beam, found = _strain(scan)
        ok = found.strain.ok
        return {
            "found": float(ok.mean()),
            "spread_1e-3": 1e3 * float(found.strain.values[ok][:, :3].std(axis=0).mean()),
            "bar_1e-3": 1e3 * float(np.median(found.strain.std("e_xx")[ok])),
            "area_px2": abs(float(np.linalg.det(np.asarray(found.model.lattice)))),
            "dispersion": float(np.nanmedian(found.lattice.dispersion[ok])),
            "gain": survey.detector.gain,
            "bad_pixels": float(survey.detector.bad_pixels.sum()),
            "center_scatter_px": float(
                np.linalg.norm(beam.measured - beam.surface, axis=-1).mean()
            ),
        }

    return run


def _prepared(scan: Dataset) -> Prepared:
    survey = survey_scan(scan)
    return prepare_patterns(scan, survey, align_scan(scan, survey))


def _strain(
    scan: Dataset, reference: StrainReference | None = None
) -> tuple[Survey, BeamPositions, StrainMeasurement]:
    """From counts to strain, by the defaults."""
    survey = survey_scan(scan)
    beam = align_scan(scan, survey)
    found = measure_strain(
        survey.electrons(scan),
        beam.center,
        beam.radius,
        reference=reference,
        detector=survey.detector.of_electrons,
    )
    return survey, beam, found


def _judged(strain: StrainMap, known: np.ndarray, unit: np.ndarray, where: np.ndarray) -> Figures:
    """Positions with the right lattice, those with a wrong one; of the right: rms of error over a unit, coverage of the bars."""
    error = strain.values - known
    error[..., 3] -= strain.period * np.round(error[..., 3] / strain.period)
    there = where & strain.ok
    right = there & np.all(np.abs(error) < RIGHT + 5 * unit, axis=-1)
    std = np.stack([strain.std(name) for name in COMPONENTS], axis=-1)[right]
    return {
        "found": float(right.sum() / where.sum()),
        "wrong": float((there & ~right).sum() / where.sum()),
        "rms": float(np.sqrt(np.mean((error[right] / unit[right]) ** 2))),
        "coverage": float(np.mean(np.abs(error[right]) < 1.96 * std)),
    }


def _stacked(truth: PolycrystalTruth) -> np.ndarray:
    return np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1)


def _center_error(beam: BeamPositions, truth: np.ndarray) -> float:
    """Median distance of the centers from the truth, px."""
    return float(np.median(np.linalg.norm(beam.center - truth, axis=-1)))


class Benchmark(NamedTuple):
    """What it runs, and the rooms or modules whose constants it is there for."""

    make: Callable[[], Run]
    about: tuple[str, ...]


STRAIN = ("lattice.", "strain.decomposition")
BEAM = ("detector", "beam.", "patterns.align")
BENCHMARKS = {
    "smooth": Benchmark(smooth, ("strain.pooling",)),
    "bases": Benchmark(bases, ("strain.bases", "strain.mixing")),
    "sheet": Benchmark(sheet, ("domains.", "patterns.features")),
    "domain map": Benchmark(domain_map, ("domains.",)),
    "other renderer": Benchmark(other_renderer, BEAM),
    "grains": Benchmark(lambda: grains(2e4, 0.1), STRAIN),
    "grains, bright": Benchmark(lambda: grains(1e5, 0.3), STRAIN),
}


def of_measured(path: Path) -> Benchmark:
    return Benchmark(lambda: measured(path), STRAIN + BEAM)
