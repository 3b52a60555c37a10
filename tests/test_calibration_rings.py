"""Calibration by the rings of a polycrystal, against spots drawn by another renderer at random angles."""

import tomllib

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from second_renderer import powder

from jax4dstem import Dataset, InputError
from jax4dstem.calibrate import calibrate_rings
from jax4dstem.calibrate.powder import sum_patterns
from jax4dstem.coordinates import Calibration, ellipse_matrix
from jax4dstem.detector import Detector
from jax4dstem.lattice.rings import RingModel, Rings, RingUnknowns
from jax4dstem.pipeline.calibrate import KnownRings, calibrate
from jax4dstem.plots import calibration_fit

SHAPE, PIXEL, ELLIPSE, ASPECT = (144, 128), 0.0165, (0.02, -0.022), 0.95  # 3 %
GOLD = 4.078 / np.sqrt([3, 4, 8, 11, 12, 16, 19, 20, 24])
IRON = 2.866 / np.sqrt([2, 4, 6, 8, 10])
HEIGHTS = np.exp(0.3 * np.random.default_rng(1).standard_normal(9))


def optics(aspect=1.0):
    a, b = ELLIPSE
    return expm(np.array([[-a, b], [b, a]])) @ np.diag([1 / aspect, 1.0])


def film(spacings, seed, aspect=1.0, **given):
    intensity = spacings * HEIGHTS[: len(spacings)]
    return powder(
        1 / spacings, intensity, (4, 4), SHAPE, pixel=PIXEL, to_detector=optics(aspect), seed=seed, **given
    )  # fmt: skip


def found_in(drawn, spacings, calibration=None, radius=2.5):
    scan = Dataset.from_array(drawn.counts, calibration or Calibration())
    return calibrate_rings(scan, drawn.center, radius, Rings.of_spacings(tuple(spacings)))


def scores(found, drawn):
    """Errors of ln pixel, a, b and the center, in error bars."""
    return np.array(
        [
            np.log(found.pixel / PIXEL) * found.pixel / found.pixel_std,
            *(found.ellipse - ELLIPSE) / found.ellipse_std,
            *(found.center - drawn.center.mean(axis=(0, 1))) / found.center_std,
        ]
    )


@pytest.mark.whole
def test_rings_tell_pixel_ellipse_and_center():
    """Off-center, through a 3 % ellipse, on background, rectangular pixels: within error bars."""
    z = []
    known = Calibration(1.0, pixel_y_inv_angstrom=ASPECT)
    for seed in (1, 2, 3):
        drawn = film(GOLD, seed, ASPECT, spots=2000)
        found = found_in(drawn, GOLD, known)
        z.append(scores(found, drawn))
        assert found.pixel_std < 3e-3 * found.pixel
        assert found.ellipse_std.max() < 3e-3
        assert found.center_std.max() < 0.15
        assert found.lead > 100
        assert not found.doubts
    z = np.abs(z)
    assert z.max() < 4  # of 15
    assert np.mean(z < 1.96) >= 0.8
    assert np.sqrt(np.mean(z**2)) > 0.3  # not far too wide
    np.testing.assert_allclose(found.fitted, ellipse_matrix(*found.ellipse) @ found.undistorted)
    assert found.applied_to(known).pixel_y_inv_angstrom == pytest.approx(ASPECT * found.pixel)
    left, right = calibration_fit(found).axes
    assert len(left.lines) == len(right.lines) == len(found.spacings) > 4


@pytest.mark.whole
@pytest.mark.parametrize(
    ("width", "ellipse", "dose"), [(0.8, 0.05, 0.05), (0.8, 0.0, 1.0), (1.3, 0.014, 1.0), (4.0, 0.05, 0.05)]
)  # fmt: skip
def test_rings_may_be_sharper_or_wider_than_the_direct_beam(width, ellipse, dose):
    """A direct beam of 4 px, as one that blooms, and rings of Gaussian spots of this standard deviation in px."""
    at, spacings, pixel = np.array([0.83, -0.55]) * ellipse, GOLD[[0, 1, 2, 3]], 0.0112
    y, x = np.indices((192, 192)) - 96.0
    r = np.linalg.norm(np.stack([y, x], -1) @ np.linalg.inv(ellipse_matrix(*at)), axis=-1)
    expected = 1 + 5 * np.exp(-r / 18) + 2000.0 * (np.hypot(y, x) < 4)
    for d, height in zip(spacings, (26, 20, 11, 9), strict=True):
        rho = 1 / d / pixel
        # Of spots all around the arc is the shorter in angle the farther out.
        expected += (
            height
            / width
            * np.exp(-(((r - rho) / width) ** 2) / 2)
            * np.sqrt(rho / np.maximum(r, 1))
        )
    counts = np.random.default_rng(0).poisson(dose * expected, (3, 3, 192, 192))
    film, center = Rings.of_spacings(tuple(spacings)), np.full((3, 3, 2), 96.0)
    found = calibrate_rings(Dataset.from_array(counts), center, 4.0, film)
    assert not found.doubts
    assert found.explained > 0.99
    assert abs(found.pixel / pixel - 1) < min(4 * found.pixel_std / found.pixel, 0.02)
    assert np.abs(found.ellipse - at).max() < min(4 * found.ellipse_std.max(), 0.01)


@pytest.mark.whole
def test_few_grains_are_doubted_and_widen_the_error_bars():
    drawn = film(GOLD, 4, spots=60)
    found = found_in(drawn, GOLD)
    assert found.spottiness > 0.3
    assert any("spotty" in doubt for doubt in found.doubts)
    assert found.stretch > 5
    assert np.abs(scores(found, drawn)).max() < 4


@pytest.mark.whole
def test_rings_of_another_crystal_are_refused_or_doubted():
    gold, iron = film(GOLD, 5, spots=2000), film(IRON, 5, spots=2000)
    for told in (IRON, 3.834 / np.sqrt(np.arange(1, 7))):
        with pytest.raises(InputError, match="other rings than these"):
            found_in(gold, told)
    # 2 : 4 : 6 : 8 is 4 : 8 : 12 : 16, at nearly the same pixel; but 3 is not there, nor is 11.
    (doubt,) = found_in(iron, GOLD).doubts
    assert "rings of 2.35, 1.23 Å hardly show" in doubt


@pytest.mark.whole
def test_without_rings_nothing_is_found():
    nothing = film(GOLD, 6, background=1 - 1e-9, spots=16)
    with pytest.raises(InputError, match="other rings than these, or none"):
        found_in(nothing, GOLD)
    with pytest.raises(InputError, match="no pixel size lays two of the rings"):
        found_in(nothing, (40.0, 1.0))
    with pytest.raises(InputError, match="no rings can be fitted"):
        found_in(nothing, GOLD, radius=20.0)
    for spacings in ((2.0,), (2.0, -1.0), (2.0, np.nan)):
        with pytest.raises(InputError, match="two or more positive spacings"):
            Rings.of_spacings(spacings)


def test_patterns_are_added_by_whole_pixels(rng):
    """What comes from beyond the rim, and masked or unknown pixels, is not counted."""
    counts = rng.poisson(3.0, (2, 2, 8, 9)).astype(np.float32)
    counts[0, 1, 2, 3] = np.nan
    mask = np.ones((8, 9), bool)
    mask[5, 5] = False
    center = np.array([[[4.0, 4.0], [2.7, 4.4]], [[4.0, 6.1], [np.nan, np.nan]]])
    used = np.asarray(np.isfinite(center).all(axis=-1))
    total = sum_patterns(Dataset.from_array(counts), center, used, Detector(mask=jnp.asarray(mask)))
    expected, patterns = np.zeros((8, 9)), np.zeros((8, 9))
    for position, (dy, dx) in {(0, 0): (0, 0), (0, 1): (1, 0), (1, 0): (0, -2)}.items():
        for y, x in np.ndindex(8, 9):
            known = mask[y, x] and np.isfinite(counts[*position, y, x])
            if known and 0 <= y + dy < 8 and 0 <= x + dx < 9:
                expected[y + dy, x + dx] += counts[*position, y, x]
                patterns[y + dy, x + dx] += 1
    np.testing.assert_allclose(total.counts, expected, rtol=1e-5)
    np.testing.assert_array_equal(total.patterns, patterns)
    np.testing.assert_allclose(total.shift, [1 / 3, -2 / 3])


def test_the_model_lays_rings_where_the_calibration_does():
    model = RingModel(1 / GOLD, np.ones(9), 2.5, ASPECT, 8.0, 60.0)
    at = RingUnknowns(
        np.log(PIXEL), np.array(ELLIPSE), np.array([70.0, 60.0]), np.log([0.3, 1e-3, 1.0]), np.array([3.0, 0.0]),
        np.zeros(9), np.array([-3.0]),
    )  # fmt: skip
    angle = np.linspace(0, 2 * np.pi, 13)
    ring = 40.0 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    to_detector = Calibration(0.02, pixel_y_inv_angstrom=0.02 * ASPECT, ellipse=ELLIPSE).to_detector
    y, x = (at.center + ring @ to_detector).T
    np.testing.assert_allclose(model.radii(at, y, x), 40.0, rtol=1e-5)
    grid = model.grid()
    profile = np.asarray(model.profile(at, grid)) - np.exp(-3.0)
    around = np.abs(grid - 1 / GOLD[2] / PIXEL) < 4
    # An azimuthal average of disks of unit intensity along the ring: their integral, heavier towards the center.
    integral = (grid[1] - grid[0]) * profile[around].sum()
    assert integral == pytest.approx(np.exp(3.0), rel=2e-2)


@pytest.mark.whole
def test_the_command_writes_what_it_finds(tmp_path):
    """From counts alone: the direct beams are found too."""
    drawn = film(GOLD, 8, spots=1000, radius=3.0)
    np.save(tmp_path / "film.npy", drawn.counts)
    told = []
    known = KnownRings.of_spacings(tuple(GOLD))
    done = calibrate(tmp_path / "film.npy", tmp_path / "out", known, say=told.append)
    assert np.abs(scores(done.found, drawn)).max() < 4
    text = done.path.read_text()
    assert text.startswith("# calibration of film.npy by rings of given spacings\n# pixel ")
    assert tomllib.loads(text)["calibration"]["pixel"] == done.calibration.pixel_inv_angstrom
    assert [line.split()[0] for line in told] == ["pixel", "ellipse", "center", "rotation"]
