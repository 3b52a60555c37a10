import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem.coordinates import Calibration
from jax4dstem.patterns import cepstrum

CENTER = jnp.array([32.0, 32.0])


def lattice_pattern(spacing=8.0, shape=(64, 64), center=(32, 32)):
    """Disks on a square lattice of reciprocal spacing ``spacing`` px."""
    y, x = np.indices(shape)
    pattern = np.full(shape, 1.0)
    for h in range(-8, 9):
        for k in range(-8, 9):
            distance = (y - center[0] - h * spacing) ** 2 + (x - center[1] - k * spacing) ** 2
            pattern += 50 * np.exp(-distance / 4)
    return jnp.asarray(pattern)


@settings(deadline=None, max_examples=25)
@given(st.floats(1e-3, 1e4))
def test_intensity_scale_does_not_matter(scale):
    pattern = lattice_pattern()
    reference = cepstrum.ewpc(pattern, CENTER, 12.0, 0.1)
    scaled = cepstrum.ewpc(scale * pattern, CENTER, 12.0, 0.1)
    np.testing.assert_allclose(scaled, reference, rtol=2e-3, atol=2e-3)


def test_inverting_the_pattern_does_not_matter(rng, precision):
    # Odd sizes: the inversion through the center pixel maps the detector onto itself.
    pattern = jnp.asarray(rng.uniform(1, 9, (33, 35)))
    center = jnp.array([16.0, 17.0])
    reference = cepstrum.ewpc(pattern, center, 7.0, 0.1)
    inverted = cepstrum.ewpc(pattern[::-1, ::-1], center, 7.0, 0.1)
    tolerance = 1e-3 if precision == "float32" else 1e-10
    np.testing.assert_allclose(inverted, reference, rtol=tolerance, atol=tolerance)


def test_half_plane_equals_scipy_style_full_transform(rng):
    pattern = rng.uniform(1, 9, (20, 22))
    center = np.array([9.3, 11.2])
    y, x = np.indices(pattern.shape)
    weight = np.exp(-0.5 * ((y - center[0]) ** 2 + (x - center[1]) ** 2) / 25)
    logarithm = np.log(pattern / pattern.mean() + 0.2)
    logarithm -= (weight * logarithm).sum() / weight.sum()
    expected = np.fft.fftshift(np.abs(np.fft.fft2(logarithm * weight)))
    with jax.enable_x64(True):
        half = cepstrum.ewpc(jnp.asarray(pattern), jnp.asarray(center), 5.0, 0.2)
        full = cepstrum.unfold_cepstrum(half, 22)
    np.testing.assert_allclose(full, expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (8, 11), (11, 8)])
def test_unfolding_gives_the_shifted_full_transform(shape, rng):
    image = rng.normal(size=shape)
    half = np.fft.fftshift(np.abs(np.fft.rfft2(image)), axes=0)
    full = np.fft.fftshift(np.abs(np.fft.fft2(image)))
    np.testing.assert_allclose(
        cepstrum.unfold_cepstrum(jnp.asarray(half), shape[1]), full, rtol=1e-5
    )


def test_peaks_lie_at_the_lattice_vectors_in_angstrom():
    spacing, pixel = 8.0, 0.02
    half = np.asarray(cepstrum.ewpc(lattice_pattern(spacing), CENTER, 12.0, 0.1))
    peaks = cepstrum.find_cepstrum_peaks(half, (64, 64), Calibration(pixel), inner=4.0)
    lengths = sorted(peak.length for peak in peaks[:4])
    a = 1 / (spacing * pixel)
    assert peaks[0].unit == "Å"
    np.testing.assert_allclose(lengths[:2], a, rtol=0.01)
    np.testing.assert_allclose(lengths[2:], np.sqrt(2) * a, rtol=0.01)


def test_quefrency_is_calibrated():
    y, x, unit = cepstrum.quefrency_axes((64, 32), Calibration(0.02))
    assert unit == "Å"
    assert y[32] == 0
    assert x[0] == 0
    assert x[1] == pytest.approx(1 / (32 * 0.02))
    assert cepstrum.quefrency_axes((64, 32), Calibration())[2] == "px"


def test_ring_counts_symmetric_pairs_once():
    ring = cepstrum.cepstral_ring((32, 32), 0, 3)
    y, x = np.mgrid[-3:4, -3:4]
    assert ring.sum() == ((np.hypot(y, x) <= 3).sum() - 1) / 2


def test_padding_interpolates_the_cepstrum():
    pattern = lattice_pattern()
    plain = cepstrum.Cepstrum()(pattern, CENTER, 12.0, 0.1)
    fine = cepstrum.Cepstrum(padding=2)(pattern, CENTER, 12.0, 0.1)
    np.testing.assert_allclose(fine[::2, ::2], plain, atol=1e-3)


def test_a_hann_window_sees_nothing_outside_its_radius(rng):
    pattern = lattice_pattern()
    far = np.hypot(*(np.indices((64, 64)) - 32)) > 20
    other = jnp.where(jnp.asarray(far), jnp.asarray(rng.uniform(1, 9, (64, 64))), pattern)
    # Equal total intensity, as the logarithm is relative to the mean.
    other = other * jnp.where(
        jnp.asarray(far), (pattern.sum() - pattern[~far].sum()) / other[far].sum(), 1
    )
    hann = cepstrum.Cepstrum("hann")
    np.testing.assert_allclose(
        hann(other, CENTER, 20.0, 0.1), hann(pattern, CENTER, 20.0, 0.1), rtol=1e-3, atol=2e-2
    )


def test_difference_cepstrum_shows_only_what_differs():
    common, added = lattice_pattern(8.0), lattice_pattern(11.0)
    difference = cepstrum.Cepstrum().difference
    same = difference(3.0 * common, common, CENTER, 12.0, 0.1)
    np.testing.assert_allclose(same, 0.0, atol=1e-2)
    half = np.asarray(difference(common * added, common, CENTER, 12.0, 1e-3))
    alone = np.asarray(cepstrum.ewpc(added, CENTER, 12.0, 1e-3))
    ring = cepstrum.cepstral_ring((64, 64), 4, 16)
    assert np.corrcoef(half[ring], alone[ring])[0, 1] > 0.99


def test_flattened_rings_have_mean_one():
    half = cepstrum.ewpc(lattice_pattern(), CENTER, 12.0, 0.1)
    flat = np.asarray(cepstrum.flatten_rings(half))
    y, x, _ = cepstrum.quefrency_axes((64, 64), Calibration())
    ring = np.round(np.hypot(y[:, None], x[None])) == 10
    assert flat[ring].mean() == pytest.approx(1.0, rel=1e-4)


def test_contrast_of_noise_is_what_chance_gives_and_a_lattice_exceeds_it(rng):
    ring = jnp.asarray(cepstrum.cepstral_ring((64, 64), 4, 16))
    noise = jnp.asarray(rng.poisson(100.0, (40, 64, 64)).astype(float))

    def contrast(pattern):
        return cepstrum.cepstral_contrast(cepstrum.ewpc(pattern, CENTER, 12.0, 0.01), ring)

    chance = np.log(float(ring.sum())) + np.euler_gamma
    assert float(jnp.mean(jax.vmap(contrast)(noise))) == pytest.approx(chance, rel=0.25)
    assert float(contrast(lattice_pattern())) > 2 * chance


def test_offset_of_one_count():
    assert cepstrum.count_offset((64, 32), 1024.0) == 2.0
