"""Noise models against statistics: likelihood, variance and random counts belong together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem.detector import Detector, pattern_dose, repair_pixels
from jax4dstem.noise import (
    COUNTED,
    ElectronNoise,
    Noise,
    effective_electrons,
    quietest_gain,
)
from jax4dstem.simulate import polycrystal, simulate_scan

gains = st.floats(0.2, 20.0)
read_noises = st.floats(0.0, 30.0)
means = st.floats(0.05, 1e4)


@settings(deadline=None, max_examples=100)
@given(gains, read_noises, means, st.floats(0.0, 1e4))
def test_deviance_is_positive_and_zero_where_counts_are_expected(gain, read_noise, mean, counts):
    with jax.enable_x64(True):
        noise = ElectronNoise(gain, read_noise)
        expected, seen = jnp.asarray(mean), jnp.asarray(counts)
        scale = 1e-12 * (counts + mean + read_noise**2 / gain + gain)
        assert noise.deviance(seen, expected) >= -scale / gain
        assert noise.deviance(expected, expected) == pytest.approx(0, abs=scale / gain)


def test_deviance_of_very_many_counts_keeps_its_digits():
    """In float32, whose logarithm of a ratio near 1 is rounded: sums over a scan are of a thousand million counts."""
    expected = np.float32(1e9)
    counts = expected + np.float32(64) * np.arange(-1024, 1025, 256, dtype=np.float32)
    found = COUNTED.deviance(jnp.asarray(counts), jnp.full(counts.shape, expected))
    np.testing.assert_allclose(found, (counts.astype(float) - 1e9) ** 2 / 1e9, rtol=0.02, atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(gains, read_noises, means, st.just(0.0) | st.floats(1e-6, 1e4))
def test_slope_of_the_deviance_is_the_residual_over_the_variance(gain, read_noise, mean, counts):
    """Which is why Fisher scoring needs no more of a noise model than its variance."""
    with jax.enable_x64(True):
        noise = ElectronNoise(gain, read_noise)
        slope = jax.grad(noise.deviance, 1)(jnp.asarray(counts), jnp.asarray(mean))
        expected = 2 * (mean - counts) / noise.variance(mean)
        assert float(slope) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_counted_electrons_have_the_poisson_likelihood():
    from scipy import stats

    counts, mean = np.array([0, 1, 4, 30]), np.array([0.7, 2.0, 3.5, 33.0])
    with jax.enable_x64(True):
        deviance = COUNTED.deviance(jnp.asarray(counts), jnp.asarray(mean))
    likelihood, best = (stats.poisson.logpmf(counts, m) for m in (mean, counts))
    np.testing.assert_allclose(deviance, 2 * (best - likelihood), rtol=1e-12)
    np.testing.assert_array_equal(COUNTED.variance(mean), mean)
    odds = stats.poisson.logpmf(counts + 1, 5.0) - stats.poisson.logpmf(counts + 1, 2.0)
    one_less = stats.poisson.logpmf(counts, 5.0) - stats.poisson.logpmf(counts, 2.0)
    np.testing.assert_allclose(odds - one_less, COUNTED.evidence(5.0, 2.0))


@pytest.mark.parametrize("gain", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("read_noise", [0.0, 3.0])
def test_random_counts_have_the_variance(gain, read_noise, rng):
    noise = ElectronNoise(gain, read_noise)
    means = np.array([2.0, 40.0])
    expected = np.repeat(means, 20_000)
    drawn = noise.count(rng, expected), noise.draw(jax.random.key(1), jnp.asarray(expected, float))
    for counts in drawn:
        parts = np.asarray(counts, np.float64).reshape(2, -1)
        error = np.sqrt(noise.variance(means) / parts.shape[1])
        assert (abs(parts.mean(axis=1) - means) < 5 * error).all()
        np.testing.assert_allclose(parts.var(axis=1), noise.variance(means), rtol=0.1)


def test_sums_of_pixels_are_read_out_once_for_each(rng):
    noise = ElectronNoise(2.0, 3.0)
    sums = noise.count(rng, np.full((20_000, 9), 4.0)).sum(axis=1)
    assert sums.var() == pytest.approx(noise.summed(9).variance(36.0), rel=0.05)


@pytest.mark.parametrize("noise", [COUNTED, ElectronNoise(4.0, 10.0)])
def test_stabilized_counts_have_unit_variance(noise, rng):
    for mean in (50.0, 500.0):
        counts = noise.count(rng, np.full(20_000, mean * float(noise.gain)))
        assert np.asarray(noise.stabilize(jnp.asarray(counts))).std() == pytest.approx(1, abs=0.03)


def test_gain_does_not_change_the_electrons_behind_a_mean(rng):
    for gain in (1.0, 5.0):
        scan = ElectronNoise(gain).count(rng, np.full((4000, 6), 30.0 * gain))
        electrons = effective_electrons(scan.mean(axis=0), scan.std(axis=0))
        np.testing.assert_allclose(electrons, 30, rtol=0.1)
        found = quietest_gain(scan.mean(axis=0), scan.var(axis=0))
        assert found.gain == pytest.approx(gain, rel=0.1)


def test_electron_noise_is_a_noise_and_its_numbers_are_arguments():
    """Another gain compiles nothing anew."""
    assert isinstance(COUNTED, Noise)
    traces = []

    @jax.jit
    def variance(noise, mean):
        traces.append(1)
        return noise.variance(mean)

    for gain in (1.0, 2.0, 3.0):
        assert float(variance(ElectronNoise(gain, 1.0), 10.0)) == 10 * gain + 1
    assert len(traces) == 1


def test_a_simulated_scan_has_the_noise_of_its_detector():
    _, truth = polycrystal((2, 3), (64, 64), n_grains=1, dose=2e5)
    noise = ElectronNoise(gain=3.0, read_noise=5.0)
    arguments = truth.parameters, truth.optics, (64, 64)
    counts = simulate_scan(*arguments, noise=noise, seed=3)
    assert counts.dtype == np.float32
    dark = counts[..., :8, :8]  # far from the beam
    assert dark.std() == pytest.approx(5, rel=0.2)
    assert counts.sum() == pytest.approx(6 * 2e5, rel=0.02)
    assert simulate_scan(*arguments, seed=3).dtype.kind == "u"


def test_unusable_pixels_say_nothing():
    pattern = jnp.array([[1.0, jnp.nan, 3.0], [jnp.inf, 5.0, 1e9]])
    mask = jnp.array([[True, True, True], [True, True, False]])
    detector = Detector(saturation=5.0, mask=mask)
    assert detector.known(pattern).tolist() == [[True, False, True], [False, True, False]]
    assert detector.usable(pattern).tolist() == [[True, False, True], [False, False, False]]
    assert float(pattern_dose(pattern, detector)) == 9
    assert detector.clip(pattern).tolist() == [[1, 0, 3], [5, 5, 0]]
    repaired = repair_pixels(pattern, ~detector.known(pattern))
    assert np.isfinite(repaired).all()
    assert float(repaired[1, 2]) == pytest.approx(4)  # of 3 and 5


def test_negative_counts_are_data():
    """Around zero a detector with read-out noise gives as many below as above."""
    assert float(pattern_dose(jnp.array([[-2.0, 3.0]]), Detector())) == 1
    assert bool(Detector().usable(jnp.array([[-2.0]])).all())
