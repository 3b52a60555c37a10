import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem import map_patterns
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.patterns import align
from jax4dstem.patterns.detectors import disk_mask

shifts = st.tuples(st.floats(-3, 3), st.floats(-3, 3))


def smooth_pattern(size=33):
    y, x = np.indices((size, size))
    return jnp.asarray(np.exp(-((y - 15.2) ** 2 + (x - 16.9) ** 2) / 12))


@settings(deadline=None, max_examples=30)
@given(shifts)
def test_fourier_shift_and_back_is_the_identity(shift):
    pattern, shift = smooth_pattern(), jnp.asarray(shift, float)
    back = align.fourier_shift(align.fourier_shift(pattern, shift), -shift)
    np.testing.assert_allclose(back, pattern, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(shifts)
def test_bilinear_shift_keeps_the_sum_and_moves_the_center(shift):
    pattern, shift = smooth_pattern(), jnp.asarray(shift, float)
    moved = align.shift_pattern(pattern, shift)
    assert float(moved.sum()) == pytest.approx(float(pattern.sum()), rel=1e-3)
    before, after = (align.center_of_mass(p) for p in (pattern, moved))
    np.testing.assert_allclose(after - before, shift, atol=5e-3)


@given(st.tuples(st.integers(-3, 3), st.integers(-3, 3)))
@settings(deadline=None, max_examples=20)
def test_whole_pixel_shift_and_back_is_exact(shift):
    pattern = smooth_pattern().at[:4].set(0).at[-4:].set(0).at[:, :4].set(0).at[:, -4:].set(0)
    shift = jnp.asarray(shift, float)
    back = align.shift_pattern(align.shift_pattern(pattern, shift), -shift)
    np.testing.assert_array_equal(back, pattern)


def nanobeam(center, rng, shape=(64, 60), dose=1e4):
    """Direct beam, brighter-than-background Bragg disks and a sloping background, with shot noise."""
    center = jnp.asarray(center, float)
    pattern = 20.0 * disk_mask(shape, center, 3.0)
    for y, x in [(15, 3), (-15, -3), (-3, 15), (3, -15)]:
        pattern += 4.0 * disk_mask(shape, center + jnp.array([y, x]), 3.0)
    pattern += 0.02 + 0.05 * jnp.exp(-0.001 * jnp.square(jnp.arange(shape[0]) - 20.0))[:, None]
    return rng.poisson(np.asarray(pattern / pattern.sum() * dose))


def test_centers_are_recovered_to_a_few_hundredths_of_a_pixel(rng):
    truth = rng.uniform([26, 24], [37, 35], (40, 2))
    scan = np.stack([nanobeam(center, rng) for center in truth]).reshape(4, 10, 64, 60)
    beam = align.find_direct_beam(scan.mean((0, 1)))
    found = map_patterns(
        align.align_direct_beam, Dataset.from_array(scan), jnp.asarray(beam.center), 3.0, 16.0
    )
    error = np.linalg.norm(found.reshape(-1, 2) - truth, axis=1)
    assert np.median(error) < 0.05
    assert error.max() < 0.2


def test_direct_beam_radius_is_the_half_maximum_radius():
    pattern = np.asarray(disk_mask((64, 64), jnp.array([30.4, 33.7]), 6.0))
    beam = align.find_direct_beam(pattern)
    np.testing.assert_allclose(beam.center, [30.4, 33.7], atol=0.1)
    assert beam.radius == pytest.approx(6.0, abs=0.3)


def test_an_empty_mean_pattern_has_no_beam():
    with pytest.raises(InputError, match="empty"):
        align.find_direct_beam(np.zeros((8, 8)))


def descan(height=20, width=30):
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([32 + 3 * y - x + 0.4 * x * y, 31 - y + 2 * x + 0.3 * x**2], -1)


def test_descan_fit_ignores_outliers_and_fills_gaps(rng):
    truth = descan()
    measured = truth + rng.normal(0, 0.02, truth.shape)
    measured[3, 4] += 11
    measured[10, 20] = np.nan
    fit = align.fit_descan(measured)
    assert fit.outlier[3, 4]
    assert fit.outlier[10, 20]
    assert fit.outlier.sum() == 2
    np.testing.assert_allclose(fit.surface, truth, atol=0.02)
    np.testing.assert_allclose(fit.center[3, 4], truth[3, 4], atol=0.02)


def test_descan_center_is_the_surface_when_shot_noise_explains_the_scatter(rng):
    truth = descan()
    noisy = truth + rng.normal(0, 0.5, truth.shape)
    shrunk = align.fit_descan(noisy, noise=0.5)
    kept = align.fit_descan(noisy, noise=0.01)
    assert np.abs(shrunk.center - truth).mean() < 0.3 * np.abs(noisy - truth).mean()
    inliers = ~kept.outlier
    np.testing.assert_allclose(kept.center[inliers], noisy[inliers], atol=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (3, 2)])
def test_descan_fit_of_tiny_scans(shape):
    measured = np.full((*shape, 2), 16.0)
    np.testing.assert_allclose(align.fit_descan(measured).center, 16.0, atol=1e-6)


def test_descan_fit_needs_one_center():
    with pytest.raises(InputError, match="no direct beam"):
        align.fit_descan(np.full((2, 2, 2), np.nan))


def test_a_shift_beyond_the_pattern_leaves_nothing():
    pattern = smooth_pattern()
    for shift in ([33.0, 0.0], [-33.0, 2.5], [0.5, 40.0], [1.0, -100.3]):
        assert not align.shift_pattern(pattern, jnp.asarray(shift)).any()
    np.testing.assert_allclose(
        align.shift_pattern(pattern, jnp.asarray([32.0, -31.5]))[-1, 0], pattern[0, 31:33].mean()
    )


def test_a_beam_is_located_alike_in_what_lies_around_it(rng):
    centers = [[30.2, 28.6], [5.1, 4.0], [60.3, 55.8]]  # in corners what lies around is cut
    locate = align.LocateDirectBeam.of_radius(3.0)
    assert 2 * locate.reach + 1 < 60  # the pattern is wider
    for center in centers:
        pattern, given = jnp.asarray(nanobeam(center, rng), float), jnp.asarray(center)
        found = locate(pattern, given, 3.0, 6.0)
        whole = align.align_direct_beam(pattern, given, 3.0, 6.0)
        np.testing.assert_allclose(found, whole, atol=1e-3)
