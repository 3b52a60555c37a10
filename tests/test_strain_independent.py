"""Strain of whole scans that another program has drawn: errors within their bars, on three lattices."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from second_renderer import render

from jax4dstem import Dataset, measure_strain
from jax4dstem.strain import StrainReference, strain_from_cepstrum

LATTICES = {
    "square": 22.0 * np.array([[0.0, 1.0], [-1.0, 0.0]]),
    "hexagonal": 22.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]]),
    "oblique": np.array([[2.0, 20.0], [-25.0, 7.0]]),
}
SYMMETRY = {"square": 4, "hexagonal": 6, "oblique": 2}


def given_lattice(lattice):
    return StrainReference.vectors(*lattice)


pytestmark = pytest.mark.whole


@pytest.fixture(scope="module", params=LATTICES)
def measured(request):
    lattice = LATTICES[request.param]
    drawn = render(lattice, (12, 12), (128, 128), dose=1e6, seed=3)
    found = measure_strain(
        Dataset.from_array(drawn.counts), drawn.center, 4.2, reference=given_lattice(lattice)
    )
    assert found.strain.ok.all()
    gap = found.strain.values - drawn.strain
    period = 2 * np.pi / SYMMETRY[request.param]
    gap[..., 3] -= period * np.round(gap[..., 3] / period)
    return drawn, gap, found.strain.covariance


def test_strain_is_that_of_the_specimen(measured):
    drawn, gap, covariance = measured
    rms = np.sqrt(np.mean(gap**2, axis=(0, 1)))
    assert (rms < 0.1 * drawn.strain.std(axis=(0, 1))).all()
    mean_z = gap.mean(axis=(0, 1)) / np.sqrt(np.diagonal(covariance.mean(axis=(0, 1))) / 144)
    assert np.abs(mean_z).max() < 4


def test_error_bars_are_neither_too_short_nor_too_long(measured):
    _, gap, covariance = measured
    z = gap / np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    # 576 numbers: the binomial error of a coverage of 95 % is 0.9 %, that of the rms z 3 %.
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98
    assert 0.9 < np.sqrt(np.mean(z**2)) < 1.12
    # All of the covariance: squared Mahalanobis distances have mean 4, of 144 of them with an error of 0.24.
    joint = np.einsum("yxi,yxij,yxj->yx", gap, np.linalg.inv(covariance), gap)
    assert 3.2 < joint.mean() < 4.9


def test_counts_that_scatter_less_than_electrons_are_measured_as_they_are():
    """A smoothing detector, whose noise is learned around each disk."""
    lattice = LATTICES["square"]
    drawn = render(lattice, (12, 12), (128, 128), dose=1e6, seed=3)
    smooth = ndimage.gaussian_filter(drawn.counts.astype(np.float32), (0, 0, 0.7, 0.7))
    found = measure_strain(
        Dataset.from_array(smooth), drawn.center, 4.2, reference=given_lattice(lattice)
    )
    assert found.strain.ok.all()
    assert np.median(found.model.dispersion) < 0.8
    assert 0.9 < np.median(found.lattice.dispersion) < 1.1


def test_cepstral_strain_agrees_within_its_errors():
    """From the rotation alone: no strain is given away by the start."""
    lattice = LATTICES["square"]
    drawn = render(lattice, (12, 12), (128, 128), dose=1e6, seed=3)
    cos, sin = np.cos(drawn.strain[..., 3]), np.sin(drawn.strain[..., 3])
    turned_back = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    scan = Dataset.from_array(drawn.counts)
    found = measure_strain(scan, drawn.center, 4.2, reference=given_lattice(lattice))
    start = replace(found, lattice=replace(found.lattice, distortion=turned_back))
    strain = strain_from_cepstrum(scan, start, reference=given_lattice(lattice))
    assert strain.ok.all()
    gap = strain.values - drawn.strain
    z = gap / np.sqrt(np.diagonal(strain.covariance, axis1=-2, axis2=-1))
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98
    # Zeros have slope 0. A cepstrum of few fringes is not free of bias, which the error bars cover.
    for found, given in zip(
        strain.values.reshape(-1, 4).T, drawn.strain.reshape(-1, 4).T, strict=True
    ):
        assert np.polyfit(given, found, 1)[0] == pytest.approx(1, abs=0.25)
