import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jax4dstem import detector
from jax4dstem.errors import InputError
from jax4dstem.patterns import detectors

patterns = arrays(np.float32, (8, 9), elements=st.floats(0, 1000, width=32))


@settings(deadline=None, max_examples=30)
@given(patterns, patterns, st.floats(-3, 3), st.floats(-3, 3))
def test_virtual_detectors_are_linear(a, b, alpha, beta):
    mask = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 9)))

    def signal(pattern):
        return float(detectors.virtual_image(jnp.asarray(pattern), mask))

    combined = signal(alpha * a.astype(np.float64) + beta * b)
    assert combined == pytest.approx(alpha * signal(a) + beta * signal(b), rel=1e-3, abs=0.5)


def test_ring_and_disk_partition_the_disk():
    center = jnp.array([10.2, 9.7])
    disk = detectors.disk_mask((21, 20), center, 8.0)
    inner = detectors.disk_mask((21, 20), center, 3.0)
    ring = detectors.annular_mask((21, 20), center, 3.0, 8.0)
    np.testing.assert_allclose(inner + ring, disk, atol=1e-6)


def test_disk_area_is_pi_r_squared():
    area = float(detectors.disk_mask((64, 64), jnp.array([31.4, 32.3]), 20.0).sum())
    assert area == pytest.approx(np.pi * 400, rel=2e-3)


def test_annular_dark_field_follows_the_beam():
    y, x = np.indices((40, 40))
    for center in ([20.0, 20.0], [17.0, 22.0]):
        ring = (np.hypot(y - center[0], x - center[1]) - 8).clip(-1, 1) == 0
        pattern = jnp.asarray(np.where(ring, 5.0, 0.0))
        signal = detectors.annular_dark_field(pattern, jnp.asarray(center), 5.0, 11.0)
        assert float(signal) == pytest.approx(5.0 * ring.sum())


def test_center_of_mass_of_an_empty_pattern_is_nan():
    assert np.isnan(detectors.center_of_mass(jnp.zeros((4, 4)))).all()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (np.ones((3, 3), np.float32), 0),
        (np.zeros((3, 3), np.uint8), 9),
        (np.array([[1, np.nan], [np.inf, 2]], np.float32), 2),
    ],
)
def test_invalid_pixels_are_counted(pattern, expected):
    assert int(detectors.count_invalid(jnp.asarray(pattern))) == expected


def test_bad_pixels_are_found_and_repaired(rng):
    y, x = np.indices((48, 48))
    clean = 200 * np.exp(-((y - 24) ** 2 + (x - 24) ** 2) / 6) + 3
    scan = rng.poisson(clean, (200, 48, 48)).astype(np.float32)
    scan[:, 5, 40] = 900  # hot
    scan[:, 30, 12] = 0  # dead
    bad = detector.find_bad_pixels(scan.mean(0), scan.std(0), len(scan))
    assert sorted(zip(*np.nonzero(bad), strict=True)) == [(5, 40), (30, 12)]
    repaired = np.asarray(detector.repair_pixels(jnp.asarray(scan[0]), jnp.asarray(bad)))
    assert repaired[5, 40] == pytest.approx(3, abs=3)
    assert repaired[30, 12] == pytest.approx(3, abs=3)
    keep = ~bad
    np.testing.assert_array_equal(repaired[keep], scan[0][keep])


def test_a_beam_on_one_pixel_is_not_a_hot_pixel():
    mean = np.full((32, 32), 0.01)
    mean[15:18, 15:18] = 1.0
    mean[16, 16] = 500.0
    assert not detector.find_bad_pixels(mean, np.sqrt(mean), 1000).any()


def test_few_counts_are_no_dead_pixels(rng):
    scan = rng.poisson(0.03, (100, 48, 48)).astype(np.float32)
    assert (scan.std(0) == 0).sum() > 20
    assert not detector.find_bad_pixels(scan.mean(0), scan.std(0), len(scan)).any()


@pytest.mark.parametrize("floor", [0.0, 0.003])
def test_darkness_between_sharp_disks_is_no_dead_pixel(rng, floor):
    y, x = np.indices((64, 64))
    apart = np.hypot((y + 8) % 16 - 8, (x + 8) % 16 - 8)
    disks = 20 / (1 + np.exp(np.minimum((apart - 3) / 0.3, 60))) + floor
    scan = rng.poisson(disks, (150, 64, 64)).astype(np.float32)
    assert (scan.std(0) == 0).sum() > 500
    assert not detector.find_bad_pixels(scan.mean(0), scan.std(0), len(scan)).any()
    scan[:, :, 32:34] = 0
    bad = detector.find_bad_pixels(scan.mean(0), scan.std(0), len(scan))
    assert bad[disks.mean(1) > 2, 32:34].mean() > 0.7  # a dead column where electrons come
    assert not bad[:, :28].any()


@pytest.mark.parametrize("offset", [-35.0, -3000.0])
def test_a_negative_offset_makes_no_pixel_hot(rng, offset):
    y, x = np.indices((48, 48))
    clean = 200 * np.exp(-((y - 24) ** 2 + (x - 24) ** 2) / 6) + 0.3
    scan = 13.0 * rng.poisson(clean, (40, 48, 48)) + rng.normal(offset, 5.0, (40, 48, 48))
    scan[:, 5, 40] += 9000  # hot
    bad = detector.find_bad_pixels(scan.mean(0), scan.std(0), len(scan))
    assert np.argwhere(bad).tolist() == [[5, 40]]


@pytest.mark.parametrize(("inner", "outer"), [(5, 5), (-1, 4), (7, 3)])
def test_ring_radii_must_be_ordered(inner, outer):
    with pytest.raises(InputError, match="inner < outer"):
        detectors.check_ring((32, 32), (16, 16), inner, outer)


def test_ring_outside_the_detector_is_an_error():
    with pytest.raises(
        InputError, match=r"leaves the 32 x 32 detector; the largest that fits is 10.5"
    ):
        detectors.check_ring((32, 32), (10, 16), 2, 14)
