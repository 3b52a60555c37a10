"""Probes of any shape, and disks that overlap: drawn by another program, found, and fitted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from second_renderer import disk, render

from jax4dstem import Dataset, InputError, measure_strain
from jax4dstem.beam import align_scan, survey_scan
from jax4dstem.lattice import cold_start
from jax4dstem.lattice.disks import bragg_disks
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.model import starting_model
from jax4dstem.lattice.patches import patch_side_around
from jax4dstem.lattice.probe import ProbeImage, SoftDisk, as_image, image_of
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.patterns.align import find_direct_beam
from jax4dstem.strain import StrainReference

SQUARE = 22.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])
APERTURES = {
    "hollow": lambda y, x: (y**2 + x**2 > 9).astype(float),
    "clipped": lambda y, x: (x < 2.5) * np.ones_like(y + x),
    "astigmatic": lambda y, x: ((y / 6) ** 2 + (x / 4.5) ** 2 < 1).astype(float),
}


def bullseye(y, x):
    distance = np.hypot(y, x)
    return (distance < 8) * (0.15 + 0.85 * (distance % 4 < 2)) * (0.3 + 0.7 * (np.abs(y) > 1))


def picture(aperture, radius=6.0, center=(24.3, 23.6)):
    """The direct beam alone."""
    image = np.zeros((48, 48))
    where, covered = disk(image.shape, np.array(center), radius, aperture)
    image[where] = covered
    return image


@pytest.mark.parametrize("aperture", APERTURES)
def test_an_image_is_that_of_its_picture(aperture):
    """Drawn at another place between the pixels, as the other program draws it there."""
    probe = image_of(picture(APERTURES[aperture]))
    shown = find_direct_beam(picture(APERTURES[aperture])).center - [24.3, 23.6]
    place = np.array([24.0, 24.45])
    truth = picture(APERTURES[aperture], center=place)
    y, x = (np.arange(48.0)[None] - at for at in place + shown)
    drawn = np.asarray(probe.draw(jnp.asarray(y), jnp.asarray(x)).height[0])
    drawn = drawn * truth.sum() / drawn.sum()
    assert np.sqrt(np.mean((drawn - truth) ** 2)) < 0.1 * np.sqrt(np.mean(truth**2))
    assert float(probe.area) == pytest.approx(np.pi * float(probe.radius) ** 2, rel=1e-3)


@pytest.mark.parametrize(
    "probe", [SoftDisk(4.0, 0.5), ProbeImage(4.0, 0.4, jnp.asarray(as_image(4.0, 0.4)))]
)
def test_derivatives_by_the_position_are_finite_differences(probe):
    y, x, step = jnp.linspace(-6, 6, 13)[None], jnp.linspace(-5, 6, 12)[None], 1e-2
    drawn = probe.draw(y, x)
    for slope, (dy, dx) in ((drawn.by_y, (step, 0.0)), (drawn.by_x, (0.0, step))):
        later, earlier = (probe.draw(y - s * dy, x - s * dx).height for s in (1, -1))
        assert jnp.allclose(slope, (later - earlier) / (2 * step), atol=2e-3)


def test_an_image_of_a_soft_disk_is_that_disk():
    soft = SoftDisk(6.0, 0.6)
    image = ProbeImage(6.0, 0.6, jnp.asarray(as_image(6.0, 0.6)))
    y, x = jnp.linspace(-9, 9, 19)[None] + 0.3, jnp.linspace(-9, 9, 19)[None]
    assert (
        float(jnp.abs(soft.draw(y, x).height - image.draw(y, x).height).max()) < 0.05
    )  # of the nodes' own blur


def test_the_beam_of_a_bullseye_is_found_whole():
    rng = np.random.default_rng(3)
    image = rng.poisson(50 * picture(bullseye, 9.0) + 0.2)
    beam = find_direct_beam(image, blur=0.5)
    assert np.hypot(*(beam.center - [24.3, 23.6])) < 0.15
    assert 6 < beam.radius < 9


def overlapping_pattern(radius, spacing, distortion=None, center=(47.6, 48.3)):
    """Noise-free disks on a square lattice, by the simulator's sum of disks."""
    h, k = np.mgrid[-3:4, -3:4].reshape(2, -1)
    order = np.argsort(h**2 + k**2, kind="stable")
    indices = np.stack([h, k], 1)[order]
    lattice = spacing * np.eye(2)
    vectors = lattice @ (np.eye(2) if distortion is None else distortion)
    share = np.exp(-0.3 * (indices**2).sum(1))
    positions = jnp.asarray(center + indices @ vectors)
    counts = 1 + bragg_disks((96, 96), positions, jnp.asarray(1e5 * share), radius, 0.35, 41)
    return np.asarray(counts), lattice, indices


def test_overlapping_disks_are_fitted_as_a_sum():
    truth = np.array([[1.01, 0.004], [-0.006, 0.99]])
    counts, lattice, indices = overlapping_pattern(11.0, 16.0, truth)
    model = starting_model(lattice, indices[:21], 11.0)._replace(edge_width=jnp.asarray(0.35))
    side = patch_side_around(11.0, lattice)
    assert model.overlapping
    fit = jax.jit(FitLattice(side, coarse=4, fine=6, joined=True))
    found = fit(jnp.asarray(counts), jnp.array([47.2, 48.6]), jnp.eye(2), model)
    assert np.abs(found.distortion - truth).max() < 2e-3
    assert np.abs(found.center - np.array([47.6, 48.3])).max() < 0.05
    apart = jax.jit(FitLattice(side, coarse=4, fine=6))
    alone = apart(jnp.asarray(counts), jnp.array([47.2, 48.6]), jnp.eye(2), model)
    assert np.abs(alone.distortion - truth).max() > 2 * np.abs(found.distortion - truth).max()


@pytest.mark.parametrize(
    ("apart", "sums", "better"),
    [
        ((0.7, True), (1.0, False), True),
        ((0.7, True), (0.6, False), False),
        ((0.7, True), (1.0, True), False),
        ((0.9, False), (1.0, False), False),
        ((0.2, False), (0.3, True), True),
        ((0.2, False), (0.1, False), False),
    ],
)
def test_separate_disks_that_leave_counts_unexplained_give_way_to_sums(apart, sums, better):
    apart, sums = (cold_start.Explained(*each) for each in (apart, sums))
    assert (apart.doubtful and apart.gives_way_to(sums)) == better


@pytest.mark.whole
def test_a_word_why_not_where_disks_overlap_and_are_not_seen():
    flat = np.random.default_rng(1).poisson(40.0, (4, 4, 96, 96))
    sample = sample_scan(Dataset.from_array(flat))
    center = np.full((4, 4, 2), 47.5)
    with pytest.raises(InputError, match=r"radius 12\.0 px at a spacing of 20\.0 px overlap"):
        cold_start.learn_lattice(sample, center, 12.0, 20.0 * np.eye(2))


def test_a_probe_at_the_rim_of_its_picture_is_refused():
    with pytest.raises(InputError, match="inside of the 48 x 48 pixels"):
        image_of(picture(None, center=(6.0, 24.0)))


@pytest.mark.whole
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("aperture", APERTURES)
def test_strain_with_a_probe_of_any_shape(aperture, given):
    shape = APERTURES[aperture]
    drawn = render(SQUARE, (12, 12), (128, 128), radius=6.0, dose=3e5, aperture=shape, seed=5)
    scan = Dataset.from_array(drawn.counts)
    beam = align_scan(scan, survey_scan(scan))
    found = measure_strain(
        scan,
        beam.center,
        beam.radius,
        reference=StrainReference.vectors(*SQUARE),
        probe=picture(shape) if given else None,
    )
    assert found.strain.ok.mean() > 0.98
    assert found.model.image is not None
    gap = (found.strain.values - drawn.strain)[found.strain.ok]
    gap[..., 3] -= np.pi / 2 * np.round(gap[..., 3] / (np.pi / 2))
    bars = np.sqrt(np.diagonal(found.strain.covariance, axis1=-2, axis2=-1))[found.strain.ok]
    assert 0.85 < np.sqrt(np.mean((gap / bars) ** 2)) < 1.15
    assert 0.92 < np.mean(np.abs(gap / bars) < 1.96) < 0.98
