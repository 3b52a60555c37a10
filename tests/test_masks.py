"""What a masked pixel holds changes nothing, whatever it is; the rest of the pattern says the same without it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax4dstem import Dataset, measure_strain
from jax4dstem.coordinates import deformation
from jax4dstem.detector import Detector, pattern_dose
from jax4dstem.lattice import detection, fit, intensities, measure, mixture, profiles, search
from jax4dstem.lattice.disks import bragg_disks, disk_textures, hexagonal_indices
from jax4dstem.lattice.model import FLOOR, starting_model
from jax4dstem.lattice.patches import gather_patches
from jax4dstem.lattice.probe import soft_disk
from jax4dstem.lattice.render import render
from jax4dstem.noise import ElectronNoise
from jax4dstem.simulate import polycrystal
from jax4dstem.strain import StrainReference

SHAPE = (96, 96)
CENTER = np.array([47.3, 48.6], np.float32)
HEXAGONAL = 18.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
INDICES = hexagonal_indices(4)
DOSE = 3e4
RADIUS = 3.0
MASK = np.ones(SHAPE, bool)
MASK[20] = False  # a dead row, a dead column through disks, and single pixels
MASK[:, 66] = False
MASK[np.arange(5, 90, 7), np.arange(90, 5, -7)] = False
IN_PLACE = [0.0, 7.0, -50.0, 1e9, np.nan, np.inf]


def lattice_model(mask=MASK):
    detector = Detector(mask=None if mask is None else jnp.asarray(mask))
    intensity = jnp.full(len(INDICES), 8e-3).at[0].set(0.7)
    return starting_model(HEXAGONAL, INDICES, RADIUS, detector)._replace(
        edge_width=jnp.asarray(0.3),
        background=jnp.asarray(2e-4 / (1 + np.arange(150.0)), jnp.float32),
        intensity=intensity,
        spread=0.5 * intensity,
    )


TRUTH = np.linalg.inv(np.asarray(deformation(0.01, -0.008, 0.004, 0.02))).astype(np.float32)


def counts_of(rng):
    model = lattice_model(None)
    share = jax.jit(render, static_argnums=(0, 5))(
        SHAPE, jnp.asarray(CENTER), jnp.asarray(TRUTH), model.intensity, model, 15
    )
    return rng.poisson(DOSE * np.asarray(share)).astype(np.float32)


def setup_of(model):
    kernels = detection.disk_kernels(SHAPE, RADIUS, model.detector)
    hypotheses = search.rotated_lattices(HEXAGONAL, INDICES[1:], np.ones(18), RADIUS)
    return measure.LatticeSetup(kernels, hypotheses, model)


def known_lattices(model):
    two = jnp.stack([jnp.asarray(TRUTH), deformation(0.0, 0.0, 0.0, 0.4)])
    return mixture.KnownLattices(two, jnp.tile(model.intensity, (2, 1)))


SETUP = setup_of(lattice_model())
FUNCTIONS = {
    "dose": lambda pattern, model: pattern_dose(pattern, model.detector),
    "contrast": lambda pattern, model: detection.disk_contrast(pattern, SETUP.kernels),
    "fit": lambda pattern, model: fit.FitLattice(13)(
        pattern, jnp.asarray(CENTER), jnp.eye(2), model
    ),
    "binned fit": lambda pattern, model: fit.FitLattice(13, binning=2)(
        pattern, jnp.asarray(CENTER), jnp.eye(2), model
    ),
    "measurement": lambda pattern, model: measure.MeasureLattice(fit.FitLattice(13))(
        pattern, jnp.asarray(CENTER), SETUP
    ),
    "deviance": lambda pattern, model: fit.lattice_deviance(
        pattern, jnp.asarray(CENTER), jnp.asarray(TRUTH), model, 13
    ),
    "intensities": lambda pattern, model: intensities.DiskIntensities(13)(
        pattern, jnp.asarray(CENTER), jnp.asarray(TRUTH), model
    ),
    "amounts": lambda pattern, model: mixture.FitAmounts(15)(
        pattern, jnp.asarray(CENTER), jnp.array([0, 1]), known_lattices(model), model
    ),
    "background": lambda pattern, model: profiles.radial_background(
        pattern, jnp.asarray(CENTER), jnp.asarray(TRUTH), model, jnp.zeros(90)
    ),
    "disk profile": lambda pattern, model: profiles.disk_profile(
        pattern, jnp.asarray(CENTER), jnp.asarray(TRUTH), model, jnp.zeros(30)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_masked_pixel_holds_changes_nothing(name, rng):
    counts, model = counts_of(rng), lattice_model()
    run = jax.jit(lambda pattern: FUNCTIONS[name](pattern, model))
    first, *others = (run(jnp.asarray(np.where(MASK, counts, value))) for value in IN_PLACE)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)
    assert all(np.isfinite(leaf).any() for leaf in jax.tree.leaves(first))


@pytest.mark.parametrize("binning", [1, pytest.param(2, marks=pytest.mark.whole)])
def test_a_masked_pattern_has_the_lattice_of_the_whole_within_its_errors(binning, rng):
    counts = jnp.asarray(counts_of(rng))
    run = jax.jit(fit.FitLattice(13, binning=binning))
    whole, masked = (run(counts, CENTER, jnp.eye(2), lattice_model(m)) for m in (None, MASK))
    covariance = [np.linalg.inv(np.asarray(f.information, np.float64)) for f in (whole, masked)]
    gap = np.asarray(masked.distortion - whole.distortion).T.ravel()
    assert (abs(gap) < np.sqrt(np.diag(covariance[1]))[2:]).all()
    assert np.trace(covariance[1]) > np.trace(covariance[0])


def test_contrast_beside_masked_pixels_has_unit_variance(rng):
    counts = rng.poisson(5.0, (200, 48, 48)).astype(np.float32)
    mask = MASK[:48, 40:88]
    kernels = detection.disk_kernels((48, 48), 3.0, Detector(mask=jnp.asarray(mask)))
    stuck = np.where(mask, counts, 1e6)
    contrast = np.asarray(jax.vmap(detection.disk_contrast, (0, None))(stuck, kernels))
    assert abs(contrast.mean(axis=0)).max() < 0.4
    np.testing.assert_allclose(contrast.std(axis=0), 1, atol=0.25)


def test_read_out_noise_enters_the_error_bars(rng):
    """Errors of fits to counts of a camera with gain and read-out noise, over their bars, have unit variance."""
    camera = Detector(ElectronNoise(gain=3.0, read_noise=4.0))
    model = lattice_model(None)._replace(detector=camera.as_arrays())
    share = render(SHAPE, jnp.asarray(CENTER), jnp.asarray(TRUTH), model.intensity, model, 15)
    expected = np.broadcast_to(3 * DOSE * np.asarray(share, np.float64), (200, *SHAPE))
    counts = camera.noise.count(rng, expected)
    found = jax.jit(jax.vmap(fit.FitLattice(13), (0, None, None, None)))(
        counts, CENTER, TRUTH, model
    )
    error = np.swapaxes(np.asarray(found.distortion) - TRUTH, 1, 2).reshape(-1, 4)
    covariance = np.linalg.inv(np.asarray(found.information, np.float64))[:, 2:, 2:]
    squared = np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error)
    assert squared.mean() == pytest.approx(4, rel=0.2)
    assert np.mean(np.asarray(found.dispersion)[:, 1:]) == pytest.approx(1, abs=0.03)


def test_the_fit_expects_what_is_rendered():
    """One forward model: disks, textures and background in the fit's patches are those of `render`."""
    model = lattice_model(None)._replace(background=jnp.full(150, 1e-5))
    textures = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 0.2, (len(INDICES), 5)), float)
    place = jnp.asarray(CENTER), jnp.asarray(TRUTH)
    image = DOSE * jax.jit(render, static_argnums=(0, 5))(
        SHAPE, *place, model.intensity, model, 15, textures
    )
    area = float(soft_disk(_distances(), RADIUS, 0.3).sum()) / 400
    tops = DOSE * model.intensity / area
    under = jnp.full(len(INDICES), DOSE * 1e-5)
    heights = jnp.concatenate([tops[:, None], under[:, None], tops[:, None] * textures], axis=1)
    patches = jax.jit(gather_patches, static_argnums=4)(image, *place, model, 13)
    _, shapes = jax.jit(fit._shapes, static_argnums=4)(
        fit._State(*place, heights), patches, model, model.edge_width, 5
    )
    expected = jnp.einsum("nk,nkp->np", heights, shapes) + FLOOR
    np.testing.assert_allclose(patches.used * expected, patches.counts, rtol=2e-3, atol=0.02)


def _distances():
    """From the middle of a disk, on a grid of 20 x 20 points per px."""
    y, x = (np.indices((320, 320)) - 159.5) / 20
    return jnp.asarray(np.hypot(y, x))


def test_textures_move_no_electrons():
    flat, textured = (
        bragg_disks((40, 40), jnp.array([[19.4, 20.1]]), jnp.array([100.0]), 6.0, 0.3, 27, textures)
        for textures in (None, jnp.array([[0.3, -0.2, 0.1, 0.2, 0.1]]))
    )
    assert float(textured.sum()) == pytest.approx(float(flat.sum()), rel=0.03)
    assert float(abs(textured - flat).sum()) > 10
    assert len(disk_textures(jnp.zeros(1), jnp.zeros(1))) == 5


@pytest.mark.whole
def test_stuck_pixels_do_not_change_the_strain_of_a_scan():
    made, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
    counts = made.source.read(slice(0, 12), slice(0, 12))
    mask = np.random.default_rng(0).random((128, 128)) > 0.01
    mask[60:66, 60:66] = True  # the direct beam, which tells the dose
    found = [
        measure_strain(
            Dataset.from_array(np.where(mask, counts, value).astype(np.uint16)),
            truth.parameters.center,
            4.2,
            reference=StrainReference.vectors(*truth.vectors),
            detector=Detector(mask=jnp.asarray(mask)),
        )
        for value in (0, 60_000)
    ]
    np.testing.assert_array_equal(*(f.strain.values for f in found))
    ok = found[0].strain.ok & truth.interior
    assert ok.mean() > 0.5
    gap = (found[0].strain.e_xx - truth.e_xx)[ok]
    assert np.median(abs(gap)) < 3e-3


def test_a_disk_behind_masked_pixels_divides_by_no_zero():
    dispersion = np.tile([0.0, 1.05, 3.0, 0.4], (2, 3, 1))
    fits = SimpleNamespace(
        information=np.ones((2, 3, 6, 6)), score=np.full((2, 3), 50.0), dispersion=dispersion
    )
    np.testing.assert_allclose(intensities.typical_dispersion(fits), [1.0, 1.0, 3.0, 0.4])
