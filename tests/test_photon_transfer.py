"""Gain, offset and read-out noise from a scan whose specimen varies everywhere, drawn by another renderer."""

import numpy as np
import pytest
from second_renderer import render

from jax4dstem import Dataset, survey_scan
from jax4dstem.beam import DetectorOptions, photon_transfer
from jax4dstem.beam.scaling import INVERSES
from jax4dstem.errors import InputError

SQUARE = np.array([[0.0, 17.0], [-17.0, 0.0]])


@pytest.fixture(scope="module")
def counts():
    """Electrons of a scan with another strain at every position."""
    return render(SQUARE, (12, 12), (96, 96), dose=3e4, seed=7).counts.astype(np.float64)


def found(data, **options):
    return survey_scan(Dataset.from_array(data), detector=DetectorOptions(**options)).detector


@pytest.mark.parametrize("gain", [0.02, 7.0, 500.0])
def test_gain_is_found(counts, gain):
    detector = found((gain * counts).astype(np.float32))
    assert detector.gain == pytest.approx(gain, rel=0.06)
    assert detector.offset == 0
    assert detector.read_noise < 0.2 * gain


def test_counted_electrons_stay_as_they_are(counts):
    detector = found(counts.astype(np.uint16))
    assert detector.counts_electrons
    assert detector.source == "found: counts are electrons"
    scan = Dataset.from_array(counts.astype(np.uint16))
    assert detector.electrons(scan) is scan


def test_read_out_noise_and_negative_values(counts):
    rng = np.random.default_rng(0)
    read = 60.0 * counts + 45.0 * rng.standard_normal(counts.shape)
    assert (read < 0).any()
    detector = found(read.astype(np.float32))
    assert detector.gain == pytest.approx(60, rel=0.08)
    assert detector.read_noise == pytest.approx(45, rel=0.05)
    survey = survey_scan(Dataset.from_array(read.astype(np.float32)))
    np.testing.assert_allclose(survey.dose, counts.sum(axis=(2, 3)), rtol=0.1)


def test_an_offset_is_taken_off(counts):
    detector = found((30.0 * counts + 200).astype(np.int16))
    assert detector.gain == pytest.approx(30, rel=0.08)
    assert detector.offset == pytest.approx(200, abs=15)


@pytest.mark.parametrize(("gain", "read_noise", "offset"), [(1, 0, -3), (1, 0, -40), (14, 5, -35)])
def test_means_below_zero_are_an_offset(counts, gain, read_noise, offset):
    noise = read_noise * np.random.default_rng(1).standard_normal(counts.shape)
    data = np.round(gain * counts + noise + offset).astype(np.int32)
    survey = survey_scan(Dataset.from_array(data))
    assert survey.detector.gain == pytest.approx(gain, rel=0.06)
    assert survey.detector.offset == pytest.approx(offset, abs=0.6 * gain)
    np.testing.assert_allclose(survey.dose, counts.sum(axis=(2, 3)), rtol=0.2)


@pytest.mark.parametrize("pedestal", [3, 200])
def test_counts_on_a_pedestal_are_no_electrons(counts, pedestal):
    survey = survey_scan(Dataset.from_array((counts + pedestal).astype(np.uint16)))
    assert survey.detector.offset == pytest.approx(pedestal, rel=0.05)
    np.testing.assert_allclose(survey.dose, counts.sum(axis=(2, 3)), rtol=0.05)


def test_less_than_no_electrons_is_an_error(counts):
    with pytest.raises(InputError, match=r"an offset of 1000 counts leaves .* electrons"):
        found(counts.astype(np.float32), offset=1e3)


def test_a_large_descan_is_no_blur():
    """Patterns of counted electrons that move by pixels between neighbors: sums of pixels scatter more than single ones."""
    places = 1.7 * np.indices((8, 8))[:, :, :, None, None]
    y, x = (np.mod(n - p, 16) - 8 for n, p in zip(np.indices((64, 64)), places, strict=True))
    envelope = np.exp(-np.hypot(*(np.indices((64, 64)) - 32)) / 12)
    disks = 30 / (1 + np.exp((np.hypot(y, x) - 3) / 0.35))
    moved = np.random.default_rng(0).poisson((disks + 0.5) * envelope)
    found_alone = photon_transfer(*moved.reshape(32, 2, 64, 64).swapaxes(0, 1))
    assert found_alone.blur > 0.3
    assert found_alone.of_pixels == pytest.approx(1, abs=0.1)
    detector = found(moved.astype(np.uint16))
    assert detector.counts_electrons
    assert detector.blur == 0


def test_correlated_noise_of_a_blurring_detector(counts):
    from scipy.ndimage import gaussian_filter

    detector = found(gaussian_filter(20.0 * counts, (0, 0, 0.7, 0.7)).astype(np.float32))
    assert detector.blur == pytest.approx(0.7, abs=0.1)
    assert detector.gain == pytest.approx(20, rel=0.2)


def test_what_cannot_be_told_is_assumed_and_said(counts):
    one = found(counts[:1, :1].astype(np.uint16))
    assert one.counts_electrons
    assert "assumed" in one.source
    smooth = np.outer(np.hanning(64), np.hanning(64)) + 0.1
    silent = found(np.tile(smooth, (6, 6, 1, 1)).astype(np.float32))
    assert "no noise" in silent.source
    assert silent.electrons(Dataset.from_array(np.zeros((1, 1, 4, 4)))).steps


def test_given_numbers_win(counts):
    detector = found((7.0 * counts).astype(np.float32), gain=9.0)
    assert detector.gain == 9.0
    assert detector.source.startswith("gain given")


def test_photon_transfer_of_nothing_is_no_number():
    empty = np.zeros((3, 8, 8))
    assert np.isnan(photon_transfer(empty, empty).gain)


@pytest.mark.parametrize(
    "kind", ["pair", "cluster", "column", "row", "hot column", "largest value", "nan"]
)
def test_bad_pixels_of_all_shapes_are_found_and_count_nowhere(counts, kind):
    data = counts.astype(np.float32 if kind == "nan" else np.uint32)
    bad = np.zeros(data.shape[2:], bool)
    if kind == "pair":
        bad[30, 40:42] = True
    elif kind == "cluster":
        bad[60:63, 20:23] = True
    elif kind == "row":
        bad[17] = True
    else:
        bad[:, 70] = True
    value = {"column": 0, "row": 0, "largest value": 2**32 - 1, "nan": np.nan}.get(kind, 5000)
    data[..., bad] = value
    survey, clean = (survey_scan(Dataset.from_array(d)) for d in (data, counts.astype(np.uint32)))
    np.testing.assert_array_equal(survey.detector.bad_pixels, bad)
    assert survey.valid.all()
    np.testing.assert_allclose(survey.dose, clean.dose, rtol=0.05)
    assert np.linalg.norm(survey.center - clean.center) < 0.3


def test_a_beam_stop_is_bad_and_a_saturated_beam_is_not(counts):
    stopped = counts.astype(np.uint16)
    stopped[:, :, 40:56, :60] = 0
    bad = survey_scan(Dataset.from_array(stopped)).detector.bad_pixels
    assert bad[40:56, :60].mean() > 0.95
    assert bad.sum() < 1.1 * 16 * 60
    assert not survey_scan(Dataset.from_array(stopped)).detector.clipped_in_words
    limit = int(np.quantile(counts, 0.998))
    clipped = survey_scan(Dataset.from_array(np.minimum(counts, limit).astype(np.uint16))).detector
    assert not clipped.bad_pixels.any()
    assert clipped.clipped_in_words == f"the direct beam is clipped at {limit} counts"


def test_half_of_a_detector_at_the_largest_value_is_masked_and_a_wide_saturated_beam_is_not(counts):
    data = counts.astype(np.uint16)
    data[:, :, :, 53:] = 65535
    bad = survey_scan(Dataset.from_array(data)).detector.bad_pixels
    np.testing.assert_array_equal(bad, np.broadcast_to(np.arange(96) > 52, (96, 96)))
    y, x = np.indices((96, 96))
    wide = 2e3 / (1 + np.exp(2 * (np.hypot(y - 48, x - 47) - 20)))
    wide = counts + np.random.default_rng(0).poisson(wide, counts.shape)
    clipped = survey_scan(Dataset.from_array(np.minimum(wide, 500).astype(np.uint16)))
    assert not clipped.detector.bad_pixels.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", INVERSES)
def test_logarithms_and_roots_of_counts_are_told(counts, name, dtype):
    functions = (np.log1p, lambda n: np.log10(1 + n), lambda n: np.log2(1 + n), np.sqrt)
    values = dict(zip(INVERSES, functions, strict=True))[name](counts).astype(dtype)
    told = found(values)
    assert told.scaling == name
    assert name in told.scaled_in_words


@pytest.mark.parametrize(
    "scale", [lambda n: np.round(35 * np.log1p(n)), lambda n: np.log(1 + n / 3)]
)
def test_scaled_values_that_no_function_gives_back_are_told_by_their_scatter(scale):
    """Of a crystal without strain: one that differs everywhere has no pixels that stay bright."""
    mean = render(SQUARE, (1, 1), (96, 96), dose=1e8, seed=7).counts[0, 0] * (3e4 / 1e8)
    same = np.random.default_rng(1).poisson(mean, (8, 8, 96, 96))
    assert found(same).scaled_in_words == ""
    detector = found(scale(same).astype(np.float32))
    assert detector.scaling == ""
    assert "logarithm or root" in detector.scaled_in_words


@pytest.mark.parametrize("gain", [1.0, 0.02, 60.0])
@pytest.mark.parametrize("read_noise", [0.0, 0.6])
def test_counts_behind_any_gain_are_not_taken_for_scaled_ones(counts, gain, read_noise):
    noise = read_noise * np.random.default_rng(3).standard_normal(counts.shape)
    detector = found((gain * (counts + noise)).astype(np.float32))
    assert detector.scaled_in_words == ""
    assert detector.linearity == pytest.approx(1, abs=0.15)
