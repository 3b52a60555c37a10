"""Doses: thinned counts keep their statistics; predicted errors are those of thinned scans."""

import jax.numpy as jnp
import numpy as np
import pytest
import second_renderer
from typer.testing import CliRunner

from jax4dstem import Dataset, InputError, align_scan, prepare_patterns, survey_scan
from jax4dstem.cli import app
from jax4dstem.detector import Detector
from jax4dstem.domains import KMeansSplitter, find_domains, predict_domain_dose
from jax4dstem.lattice.dose import model_at_dose
from jax4dstem.lattice.model import starting_model
from jax4dstem.noise import COUNTED, ElectronNoise
from jax4dstem.pipeline import STAGES, Recipe, analyze, analyze_dataset, dump_recipe, load_recipe
from jax4dstem.pipeline.recipe import parse_recipe
from jax4dstem.strain import StrainDose, StrainReference, measure_strain, predict_dose

pytestmark = pytest.mark.whole


SQUARE = np.array([[0.0, 22.0], [-20.0, 4.0]])


@pytest.mark.parametrize("gain", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("read_noise", [0.0, 3.0])
@pytest.mark.parametrize("share", [0.03, 0.3])
def test_thinned_counts_have_mean_and_variance_of_fewer_electrons(gain, read_noise, share, rng):
    noise = ElectronNoise(gain, read_noise)
    means = gain * np.array([0.5, 5.0, 40.0])
    counts = noise.count(rng, np.repeat(means, 40_000))
    thinned = noise.thin(rng, counts, share).astype(np.float64).reshape(3, -1)
    expected = noise.variance(share * means)
    error = np.sqrt(expected / thinned.shape[1])
    assert (abs(thinned.mean(axis=1) - share * means) < 5 * error).all()
    np.testing.assert_allclose(thinned.var(axis=1), expected, rtol=0.1)  # 600 electrons or more


def test_thinned_electrons_are_electrons(rng):
    counts = COUNTED.count(rng, np.full(50_000, 20.0)).astype(np.uint16)
    thinned = COUNTED.thin(rng, counts, 0.25)
    assert thinned.dtype == np.uint16
    assert (thinned <= counts).all()
    assert thinned.var() == pytest.approx(5.0, rel=0.05)  # Poisson again
    assert thinned.mean() == pytest.approx(5.0, rel=0.01)
    # What is kept and what is not are independent, as of a Poisson law only.
    kept, lost = thinned.astype(float), counts.astype(float) - thinned
    assert abs(np.corrcoef(kept, lost)[0, 1]) < 0.02
    assert np.isnan(COUNTED.thin(rng, np.array([np.nan, 4.0]), 0.5)).tolist() == [True, False]


def test_what_a_model_misses_weighs_less_with_fewer_electrons():
    model = starting_model(SQUARE, np.array([[0, 0], [0, 1], [1, 0]]), 3.0)
    model = model._replace(dispersion=jnp.array([5.0, 1.0, 0.8]))
    tenth = model_at_dose(model, 1e4, 0.1).dispersion
    np.testing.assert_allclose(tenth, [1.4, 1.0, 0.8], rtol=1e-6)
    # Read-out noise drowns it sooner: (D - 1) f² v(λ) / v(f λ).
    noisy = model._replace(detector=Detector(ElectronNoise(1.0, 1e6)).as_arrays())
    np.testing.assert_allclose(model_at_dose(noisy, 1e4, 0.1).dispersion[0], 1.04, rtol=1e-3)


def test_doses_at_which_errors_are_reached():
    dose = np.array([1e2, 1e3, 1e4, 1e5])
    error = np.full((4, 4), np.nan)
    error[1:] = np.array([1e-2, 3e-3, 1e-3])[:, None] * [0.5, 1.0, 0.7, 9.0]
    found = StrainDose(dose, error, error, error / 2, np.array([0, 0.4, 0.98, 1.0]), 1e5)
    assert found.needed(3e-3) == pytest.approx(1e4)  # theta is no strain
    assert found.needed(3e-3, pooled=True) == pytest.approx(
        10 ** (3 + np.log(10 / 6) / np.log(10 / 3))
    )
    assert found.needed(2e-2) == 1e3  # below, lattices are lost
    assert found.needed(5e-4) == np.inf
    assert found.lost() == pytest.approx(10 ** (3 + 0.1 / 0.58))
    assert StrainDose(dose[2:], error[2:], error[2:], error[2:], np.ones(2), 1e5).lost() == 0.0


@pytest.fixture(scope="module")
def crystal():
    """A scan of the second renderer, its truth, and what its fits say of other doses."""
    made = second_renderer.render(SQUARE, (12, 12), (84, 84), background=0.1, dose=1e6, seed=3)
    scan, center = Dataset.from_array(made.counts), made.center
    reference = StrainReference.vectors(*SQUARE)
    measured = measure_strain(scan, center, 4.0, reference=reference)
    return made, reference, predict_dose(scan, measured, center)


def test_predicted_errors_are_those_of_the_thinned_scan(crystal, rng):
    made, reference, found = crystal
    at = np.flatnonzero(np.isclose(found.dose, 3e5)).item()
    counts = COUNTED.thin(rng, made.counts, found.dose[at] / found.own)
    thinned = measure_strain(
        Dataset.from_array(counts), made.center, 4.0, reference=reference
    ).strain
    gap = (thinned.values - made.strain)[thinned.ok]
    ratio = np.sqrt(np.mean(gap**2, axis=0)) / found.error[at]
    # Two numbers of 576 values each scatter by 3 % or more.
    assert 0.88 < np.sqrt(np.mean(ratio**2)) < 1.12
    assert thinned.ok.mean() == pytest.approx(found.kept[at], abs=0.05)


def test_errors_grow_and_lattices_are_lost_with_fewer_electrons(crystal):
    _, _, found = crystal
    known = np.isfinite(found.error[:, 0])
    assert (np.diff(found.error[known], axis=0) < 0).all()
    assert (np.diff(found.kept) > -0.02).all()
    assert (found.error[known] >= found.bound[known]).all()
    bright = found.dose >= 1e6
    # Of counted electrons the bound falls with the root of the dose, as long as priors tell nothing.
    slope = np.diff(np.log(found.bound[bright, 0])) / np.diff(np.log(found.dose[bright]))
    np.testing.assert_allclose(slope, -0.5, atol=0.03)
    assert found.needed(5e-3) < found.needed(2e-3)
    assert found.lost(0.95) > found.lost(0.5) > found.dose[0]


def test_read_out_noise_does_not_become_less(crystal, rng):
    """Ten times fewer electrons under a constant noise: errors are more than √10 times larger."""
    made, reference, counted = crystal
    noise = ElectronNoise(1.0, 4.0)
    counts = made.counts + 4.0 * rng.standard_normal(made.counts.shape).astype(np.float32)
    scan = Dataset.from_array(counts.astype(np.float32))
    measured = measure_strain(scan, made.center, 4.0, reference=reference, detector=Detector(noise))
    found = predict_dose(scan, measured, made.center)
    high, low = (np.flatnonzero(np.isclose(found.dose, dose)).item() for dose in (3e5, 3e6))
    assert (found.bound[high] / found.bound[low] > 1.5 * 10**0.5).all()
    assert found.lost() > counted.lost()


def test_domains_are_confused_at_the_predicted_dose(rng):
    """Two grains that differ in one reflection: counts of a Gaussian test with known means."""
    y, x = np.indices((48, 48))
    beam = 4e4 * (np.hypot(y - 24, x - 24) < 5) / 81 + 0.5
    spots = [np.hypot(y - 24 - dy, x - 24 - dx) < 4 for dy, dx in ((15, 0), (0, 15))]
    means = np.array(
        [beam + 4.0 * spots[0] + 2.0 * spots[1], beam + 2.0 * spots[0] + 4.0 * spots[1]]
    )
    grain = np.broadcast_to(np.arange(24) // 12, (24, 24))
    scan = Dataset.from_array(COUNTED.count(rng, means[grain]).astype(np.uint16))
    survey = survey_scan(scan)
    prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
    domains = find_domains(grain[..., None].astype(float), [KMeansSplitter(k=2)])
    found = predict_domain_dose(prepared, domains, COUNTED)
    # d² = Σ (λ_a - λ_b)² / λ, and 5 % beyond the middle where d is twice 1.645.
    squared = np.sum((means[0] - means[1]) ** 2 / means.mean(axis=0))
    needed = means[0].sum() * (2 * 1.645) ** 2 / squared
    np.testing.assert_allclose(found.needed, needed, rtol=0.15)
    assert found.rival.tolist() == [1, 0]
    assert (found.scatter < 0.1).all()
    thin = COUNTED.thin(
        rng, np.asarray(scan.source.read(slice(0, 24), slice(0, 24))), needed / found.own
    )
    ratio = (thin * np.log(means[0] / means[1])).sum(axis=(2, 3))
    confused = np.mean((ratio > 0) != (grain == 0))
    assert 0.02 < confused < 0.09  # 29 of 576


def test_a_recipe_is_read_back_from_its_text():
    recipe = load_recipe(None, {"cluster.k": 3, "strain.g1": [0, 28.0], "strain.g2": [28.0, 0]})
    assert parse_recipe(dump_recipe(recipe)) == recipe


def test_dose_of_results_is_told_and_nothing_is_written(crystal, tmp_path):
    made, _, _ = crystal
    file, out = tmp_path / "scan.npy", tmp_path / "out"
    np.save(file, made.counts)
    (y1, x1), (y2, x2) = SQUARE
    options = {
        "strain.g1": [y1, x1],
        "strain.g2": [y2, x2],
        "strain.bases": 0,
        "strain.further": [],
    }
    from jax4dstem.pipeline import STRAIN_STAGES

    analyze(file, out, load_recipe(None, options), lambda line: None, STRAIN_STAGES)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir())
    told = CliRunner().invoke(app, ["dose", str(out), "--error", "5e-3"])
    assert told.exit_code == 0, told.output
    assert "electrons per pattern" in told.output
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir())
    np.save(file, made.counts + 1)
    changed = CliRunner().invoke(app, ["dose", str(out)])
    assert changed.exit_code == 1
    assert "no longer the file" in changed.output
    file.unlink()
    assert CliRunner().invoke(app, ["dose", str(out)]).exit_code == 1


def test_results_without_strain_are_told(tmp_path, rng):
    scan = Dataset.from_array(rng.poisson(9.0, (3, 4, 16, 16)))
    analyze_dataset(scan, tmp_path, Recipe(), lambda line: None, STAGES[:1])
    told = CliRunner().invoke(app, ["dose", str(tmp_path)])
    assert told.exit_code == 1
    assert "neither strain nor domains" in told.output
    assert CliRunner().invoke(app, ["dose", str(tmp_path / "nothing")]).exit_code == 1


def test_no_dose_without_strain(rng):
    scan = Dataset.from_array(rng.poisson(9.0, (3, 4, 64, 64)))
    with pytest.raises(InputError):
        measure_strain(scan, np.full((3, 4, 2), 32.0), 4.0)
