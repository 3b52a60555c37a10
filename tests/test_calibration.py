"""Calibration: what the microscope does to patterns is undone before any answer, and found from the data."""

import h5py
import numpy as np
import pytest
from scipy import ndimage
from scipy.linalg import expm
from second_renderer import render

from jax4dstem import Dataset, InputError, measure_strain, open_dataset
from jax4dstem.calibrate import calibrate_scan, find_scan_rotation
from jax4dstem.coordinates import Calibration, ellipse_matrix, ellipse_of
from jax4dstem.lattice import cell_lattice
from jax4dstem.strain import StrainReference, strain_from_cepstrum

HEXAGONAL = 20.0 * np.array(
    [[0.0, 1.0], [-np.sqrt(0.75), 0.5]]
)  # px as wide as those of the detector
SHAPE = (112, 96)
TURN, ASPECT, ELLIPSE = np.radians(25.0), 0.85, (0.02, -0.015)
KNOWN = Calibration(
    0.02, scan_rotation=TURN, scan_flip=True, pixel_y_inv_angstrom=0.02 * ASPECT, ellipse=ELLIPSE
)


def optics(turn, flip, ellipse, aspect):
    """On row vectors (y, x): mirror, counter-clockwise turn on a screen with y down, lenses, tall pixels."""
    a, b = ellipse
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    mirror = np.diag([-1.0, 1.0]) if flip else np.eye(2)
    return mirror @ turned @ expm(np.array([[-a, b], [b, a]])) @ np.diag([1 / aspect, 1.0])


def test_the_matrix_of_a_calibration():
    np.testing.assert_allclose(KNOWN.to_detector, optics(TURN, True, ELLIPSE, ASPECT), atol=1e-12)
    np.testing.assert_allclose(KNOWN.to_detector @ KNOWN.to_scan_axes, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(ellipse_of(7 * ellipse_matrix(*ELLIPSE)), ELLIPSE, atol=1e-12)
    # +90 degrees: the scan's x axis, to the right, appears upwards.
    quarter = Calibration(scan_rotation=np.pi / 2)
    np.testing.assert_allclose([0.0, 1.0] @ quarter.to_detector, [-1.0, 0.0], atol=1e-12)


@pytest.fixture(scope="module")
def drawn():
    seen = optics(TURN, True, ELLIPSE, ASPECT)
    return render(HEXAGONAL, (8, 8), SHAPE, dose=1e6, to_detector=seen, seed=4)


@pytest.fixture(scope="module")
def measured(drawn):
    scan = Dataset.from_array(drawn.counts, KNOWN)
    # Given as it lies on the detector, as one reads it off a pattern.
    reference = StrainReference.vectors(*HEXAGONAL @ optics(TURN, True, ELLIPSE, ASPECT))
    return measure_strain(scan, drawn.center, 4.2, reference=reference)


def gaps(strain, drawn):
    gap = strain.values - drawn.strain
    gap[..., 3] -= np.pi / 3 * np.round(gap[..., 3] / (np.pi / 3))
    return gap, gap / np.sqrt(np.diagonal(strain.covariance, axis1=-2, axis2=-1))


@pytest.mark.whole
def test_strain_is_that_of_the_specimen_in_scan_axes(drawn, measured):
    """Turned, mirrored, through an ellipse, on rectangular pixels: errors within their bars all the same."""
    assert measured.strain.ok.all()
    gap, z = gaps(measured.strain, drawn)
    assert (np.sqrt(np.mean(gap**2, axis=(0, 1))) < 0.15 * drawn.strain.std(axis=(0, 1))).all()
    assert 0.85 < np.sqrt(np.mean(z**2)) < 1.15  # 256 numbers: 4 %
    assert 0.91 < np.mean(np.abs(z) < 1.96) < 0.985
    np.testing.assert_allclose(measured.strain.reference, HEXAGONAL, atol=1e-6)


@pytest.mark.whole
def test_other_ways_and_references_see_the_same_axes(drawn, measured):
    scan = Dataset.from_array(drawn.counts, KNOWN)
    reference = StrainReference.vectors(*HEXAGONAL @ KNOWN.to_detector)
    cepstral = strain_from_cepstrum(scan, measured, reference=reference)
    assert np.abs(gaps(cepstral, drawn)[1]).mean() < 1.2
    again = measured.relative_to(reference)
    np.testing.assert_allclose(again.strain.values, measured.strain.values, atol=1e-5)
    np.testing.assert_allclose(
        again.strain.covariance, measured.strain.covariance, rtol=1e-2, atol=1e-9
    )


@pytest.mark.whole
def test_a_known_crystal_tells_pixel_and_ellipse(drawn):
    """Grains in all orientations; the aspect ratio of the pixels is known, everything else is not."""
    seen = optics(TURN, True, ELLIPSE, ASPECT)
    plain = render(HEXAGONAL, (8, 8), SHAPE, dose=1e6, largest_strain=0.0, to_detector=seen, seed=6)
    known = Calibration(1.0, pixel_y_inv_angstrom=ASPECT)
    scan = Dataset.from_array(plain.counts, known)
    oblique = np.array([[1.0, 0.0], [1.0, 1.0]]) @ HEXAGONAL  # another basis of the lattice
    found = calibrate_scan(scan, plain.center, 4.2, 0.0173 * oblique)
    # The turn stands between crystal and lenses, so they act in detector axes.
    z = np.array([np.log(found.pixel / 0.0173) / (found.pixel_std / found.pixel), 0, 0])
    z[1:] = (found.ellipse - ELLIPSE) / found.ellipse_std
    assert np.abs(z).max() < 4
    assert found.pixel_std < 2e-3 * found.pixel
    assert found.ellipse_std.max() < 1e-3
    assert np.abs(found.center - plain.center.mean(axis=(0, 1))).max() < 0.05
    np.testing.assert_allclose(found.fitted, found.lattice, atol=0.2)
    assert found.applied_to(known).pixel_y_inv_angstrom == pytest.approx(ASPECT * found.pixel)
    with pytest.raises(InputError, match="not that of the crystal"):
        calibrate_scan(scan, plain.center, 4.2, 0.0173 * np.diag([10.0, 17.0]))


@pytest.mark.whole
@pytest.mark.parametrize("cell", [(3.0, 3.0, 90.0), (3.15, 3.15, 120.0), (2.6, 3.3, 75.0)])
def test_a_known_lattice_tells_the_same_as_a_crystal(cell):
    """Square, hexagonal and oblique, from the two sides and the angle of the projected cell."""
    a, b, gamma = cell
    pixel, shape = 0.0173, (112, 96)
    sides = np.array([[0.0, a], [b * np.sin(np.radians(gamma)), b * np.cos(np.radians(gamma))]])
    plane = np.linalg.inv(sides).T / pixel
    np.testing.assert_allclose(
        np.abs(np.linalg.det(cell_lattice(*cell))), np.abs(np.linalg.det(plane)) * pixel**2
    )
    seen = optics(0.4, False, ELLIPSE, 1.0)
    plain = render(plane, (8, 8), shape, dose=1e6, largest_strain=0.0, to_detector=seen, seed=7)
    found = calibrate_scan(Dataset.from_array(plain.counts), plain.center, 4.2, cell_lattice(*cell))
    z = (found.ellipse - ELLIPSE) / found.ellipse_std
    assert np.abs([np.log(found.pixel / pixel) * pixel / found.pixel_std, *z]).max() < 4
    assert found.pixel_std < 2e-3 * pixel


def test_a_cell_that_is_none_is_refused():
    for cell in ((0.0, 2.0, 90.0), (2.0, -1.0, 90.0), (2.0, 2.0, 180.0), (2.0, np.nan, 60.0)):
        with pytest.raises(InputError, match="two positive sides"):
            cell_lattice(*cell)


def gradient_field(rng, turn, flip, noise):
    potential = ndimage.gaussian_filter(rng.standard_normal((48, 40)), 3, mode="wrap")
    field = np.stack(np.gradient(potential), axis=-1)
    field = field / field.std() + noise * rng.standard_normal(field.shape)
    return field @ optics(turn, flip, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("flip", [False, True])
def test_rotation_from_the_curl(rng, flip):
    scores = []
    for turn in np.radians([-80.0, -35.0, 0.0, 12.0, 50.0]):
        found = find_scan_rotation(gradient_field(rng, turn, flip, 0.02))
        assert found.found, found.reason
        assert found.flip is flip
        gap = (found.angle - turn + np.pi / 2) % np.pi - np.pi / 2
        scores.append(gap / found.std)
        assert abs(gap) < np.radians(5)
    assert np.abs(scores).max() < 4


def test_no_signal_is_said(rng):
    for _ in range(20):
        found = find_scan_rotation(rng.standard_normal((40, 40, 2)))
        assert not found.found
        assert found.reason
    assert "small" in find_scan_rotation(np.zeros((3, 9, 2))).reason
    assert not find_scan_rotation(np.zeros((9, 9, 2))).found


def test_the_ellipse_of_a_py4dstem_file(tmp_path):
    """A ring of radius 10 appears with semiaxes 11 and 9.7, the longer at 30 degrees from rows to columns."""
    path, a, b, theta = tmp_path / "scan.h5", 11.0, 9.7, np.radians(30)
    with h5py.File(path, "w") as file:
        file["root/datacube/data"] = np.ones((3, 4, 16, 16), np.uint16)
        group = file.create_group("root/metadatabundle/calibration")
        for name, value in {"Q_pixel_size": 0.02, "Q_pixel_units": "A^-1", "a": a, "b": b}.items():
            group[name] = value
        group["theta"] = theta
    found = open_dataset(path).calibration
    angle = np.linspace(0, 2 * np.pi, 20)
    axes = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
    ring = np.stack([a * np.cos(angle), b * np.sin(angle)], axis=1) @ axes
    lengths = np.linalg.norm(ring @ found.to_scan_axes, axis=1) * found.pixel_inv_angstrom
    np.testing.assert_allclose(lengths, 0.02 * b, rtol=1e-9)  # as py4DSTEM: the ring keeps b
