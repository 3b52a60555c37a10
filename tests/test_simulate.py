"""The simulator: gradients, conservation of electrons, positions of disks, counting statistics."""

import dataclasses
import itertools

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jax4dstem.coordinates import (
    deform,
    deformation,
    reciprocal_basis,
    rotation_matrix,
    strain_of,
)
from jax4dstem.errors import InputError
from jax4dstem.simulate import (
    WS2,
    WSE2,
    Background,
    Optics,
    PatternParameters,
    background,
    bragg_disks,
    coherent_strain,
    heterojunction,
    hexagonal_indices,
    lattice_positions,
    monolayer_intensities,
    patch_side,
    probe_shares,
    simulate_pattern,
    simulate_scan,
    thin_crystal_intensities,
)
from jax4dstem.simulate.specimen import ridge_slopes, scan_coordinates

SHAPE = (40, 48)
draw = jax.jit(simulate_pattern, static_argnums=(2, 3))
draw_disks = jax.jit(bragg_disks, static_argnums=(0, 5))
RADIUS, EDGE = 3.2, 0.4
WINDOW = patch_side(RADIUS, EDGE)


def optics() -> Optics:
    halos = Background(
        1.0, 3.0, jnp.array([0.2, 0.1]), jnp.array([10.0, 18.0]), jnp.array([3.0, 2.0])
    )
    return Optics(jnp.asarray(hexagonal_indices(1)), RADIUS, EDGE, halos)


def position(dose: float = 1e4) -> PatternParameters:
    one = jnp.array([[0.3, 12.4], [-10.7, 6.1]])
    return PatternParameters(
        center=jnp.array([19.3, 23.77]),
        vectors=jnp.stack([one, 0.95 * one]),
        intensities=jnp.linspace(1.0, 2.0, 14).reshape(2, 7),
        background_fraction=jnp.asarray(0.15),
        dose=jnp.asarray(dose),
    )


def scan(shape: tuple[int, int] = (3, 4), dose: float = 1e4) -> PatternParameters:
    here = position(dose)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)), here)


def centroid(pattern: np.ndarray) -> np.ndarray:
    return np.array([(pattern * axis).sum() for axis in np.indices(pattern.shape)]) / pattern.sum()


def test_gradients_with_respect_to_everything():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))

    @jax.jit
    def loss(parameters: PatternParameters, radius, edge, halos: Background):
        model = optics()._replace(radius=radius, edge_width=edge, background=halos)
        return jnp.sum(weights * simulate_pattern(parameters, model, SHAPE, WINDOW))

    with jax.enable_x64(True):
        weights = jnp.asarray(weights, float)
        halos = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), optics().background)
        here = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), position())
        args = here, jnp.asarray(RADIUS), jnp.asarray(EDGE), halos
        check_grads(loss, args, order=1, modes=("fwd", "rev"), eps=1e-5, atol=1e-3, rtol=1e-5)
        slopes = jax.tree.leaves(jax.grad(loss, argnums=(0, 1, 2, 3))(*args))
    assert all(np.any(np.abs(slope) > 1e-6) for slope in slopes)


@pytest.mark.parametrize("offset", [0.0, 1e-3])
def test_gradient_is_finite_where_a_disk_is_centered_on_a_pixel(offset):
    @jax.jit
    @jax.grad
    def corner(center):
        disk = bragg_disks((32, 32), center[None], jnp.ones(1), 3.0, 0.3, 15)
        return jnp.sum(disk[:16, :16])

    assert np.isfinite(corner(jnp.array([16.0, 16.0 + offset]))).all()


def test_jit_vmap_and_plain_agree():
    plain = simulate_pattern(position(), optics(), SHAPE, WINDOW)
    jitted = draw(position(), optics(), SHAPE, WINDOW)
    many = jax.jit(jax.vmap(lambda p: simulate_pattern(p, optics(), SHAPE, WINDOW)))(
        jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), position())
    )
    np.testing.assert_allclose(jitted, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(many[1], plain, rtol=1e-4, atol=1e-4)


@given(
    st.floats(-5, 50), st.floats(-5, 50), st.floats(0, 1), st.floats(1, 1e6), st.floats(-0.5, 0.5)
)
@settings(max_examples=20, deadline=None)
def test_the_expected_electrons_are_the_dose(y, x, fraction, dose, angle):
    here = position(dose)._replace(
        center=jnp.array([y, x]),
        background_fraction=jnp.asarray(fraction),
        vectors=position().vectors @ rotation_matrix(angle).T,
    )
    pattern = draw(here, optics(), SHAPE, WINDOW)
    assert float(pattern.sum()) == pytest.approx(dose, rel=1e-4)
    assert float(pattern.min()) >= 0


@given(st.sampled_from([2.0, 3.1, 6.0]), st.floats(0.3, 0.8), st.floats(20, 28), st.floats(20, 28))
@settings(max_examples=25, deadline=None)
def test_a_disk_has_its_intensity_and_its_place(radius, edge, y, x):
    window = patch_side(radius, 0.8)
    disk = draw_disks((48, 48), jnp.array([[y, x]]), jnp.array([50.0]), radius, edge, window)
    assert float(disk.sum()) == pytest.approx(50, rel=5e-3)
    np.testing.assert_allclose(centroid(np.asarray(disk)), [y, x], atol=0.01)


def test_disks_lie_at_the_lattice_points():
    vectors = jnp.array([[1.5, 14.0], [-12.0, 6.0]])
    center = jnp.array([30.2, 31.7])
    for h, k in itertools.product((-1, 0, 1), repeat=2):
        at = lattice_positions(center, vectors, jnp.array([[h, k]]))
        disk = draw_disks((64, 64), at, jnp.ones(1), RADIUS, EDGE, WINDOW)
        expected = np.array([30.2 + 1.5 * h - 12 * k, 31.7 + 14 * h + 6 * k])
        np.testing.assert_allclose(centroid(np.asarray(disk)), expected, atol=0.01)


def test_a_window_changes_nothing_but_the_speed():
    args = jnp.array([[14.2, 15.9], [1.0, 30.5]]), jnp.array([1e3, 2e3]), RADIUS, EDGE
    small, whole = (draw_disks((32, 32), *args, window) for window in (WINDOW, 81))
    np.testing.assert_allclose(small, whole, atol=1e-4 * float(whole.max()))


def test_what_leaves_the_detector_does_not_come_back_on_the_other_side():
    disk = bragg_disks((32, 32), jnp.array([[-1.0, 15.0]]), jnp.ones(1), 3.0, 0.3, 15)
    assert float(disk[:4].sum()) > 0.2
    assert float(disk[8:].sum()) == 0


def test_background_is_radial_and_has_the_heights_given():
    center = jnp.array([16.0, 16.0])
    film = np.asarray(background((33, 33), center, optics().background))
    np.testing.assert_allclose(film, film.T, rtol=1e-6)
    np.testing.assert_allclose(film, film[::-1], rtol=1e-6)
    tail = 1 / (1 + (10 / 3) ** 2)
    assert film[16, 26] == pytest.approx(tail + 0.2 + 0.1 * np.exp(-8), rel=1e-5)


@given(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_strain_is_read_back_from_drawn_positions(e_xx, e_yy, e_xy, theta):
    basis = WS2.basis
    drawn = deform(reciprocal_basis(basis), deformation(e_xx, e_yy, e_xy, theta))
    gradient = reciprocal_basis(drawn).T @ jnp.linalg.inv(basis.T)  # columns: a' = F a
    np.testing.assert_allclose(strain_of(gradient), (e_xx, e_yy, e_xy, theta), atol=1e-5)


def test_hexagonal_indices_are_whole_shells():
    shells = [len(hexagonal_indices(n)) for n in (0, 1, 3, 4, 7, 9, 12, 13)]
    assert shells == [1, 7, 13, 19, 31, 37, 43, 55]


def test_counts_are_poisson():
    here = scan((40, 50), dose=2e4)
    flat = optics()._replace(
        background=Background(1.0, 1e6, jnp.zeros(0), jnp.zeros(0), jnp.ones(0))
    )
    here = here._replace(background_fraction=jnp.ones((40, 50)))
    counts = simulate_scan(here, flat, (32, 32)).reshape(2000, -1).astype(float)
    expected = 2e4 / 32**2
    n = counts.size
    assert counts.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / n))
    assert counts.var() == pytest.approx(expected, abs=5 * expected * np.sqrt(2 / n))
    neighbors = np.corrcoef(counts[:-1].ravel(), counts[1:].ravel())[0, 1]
    assert abs(neighbors) < 5 / np.sqrt(n)


def test_counts_have_the_drawn_mean():
    expected = draw(position(), optics(), SHAPE, WINDOW)
    counts = simulate_scan(scan((20, 20)), optics(), SHAPE).astype(float)
    chi = (counts.mean((0, 1)) - expected) / np.sqrt(expected / 400)
    assert np.abs(chi).max() < 6
    assert np.std(chi) == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_counts_in_any_tiles():
    first = simulate_scan(scan(), optics(), SHAPE, seed=3)
    for tile in (1, 5, 12, 100):
        np.testing.assert_array_equal(
            simulate_scan(scan(), optics(), SHAPE, seed=3, tile=tile), first
        )
    assert (simulate_scan(scan(), optics(), SHAPE, seed=4) != first).any()
    assert (first[0, 0] != first[0, 1]).any()


def test_counts_that_could_overflow_16_bits_get_32():
    assert simulate_scan(scan((1, 1), 6e4), optics(), SHAPE).dtype == np.uint16
    bright = simulate_scan(scan((1, 1), 1e7), optics(), SHAPE)
    assert bright.dtype == np.uint32
    assert int(bright.sum()) == pytest.approx(1e7, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "shape", "options", "words"),
    [
        ({"dose": jnp.full((3, 4), -1.0)}, SHAPE, {}, "dose has negative"),
        ({"dose": jnp.full((3, 4), jnp.nan)}, SHAPE, {}, "dose has NaN"),
        ({"dose": jnp.asarray(1.0)}, SHAPE, {}, "scan_y, scan_x"),
        ({"background_fraction": jnp.full((3, 4), 1.5)}, SHAPE, {}, "exceeds 1"),
        ({"center": jnp.zeros((2, 4, 2))}, SHAPE, {}, r"center has shape \(2, 4, 2\)"),
        ({"intensities": jnp.ones((3, 4, 2, 6))}, SHAPE, {}, "intensities has shape"),
        ({}, (31, 64), {}, "32 px"),
        ({}, SHAPE, {"seed": -1}, "seed -1"),
        ({}, SHAPE, {"tile": 0}, "tile 0"),
    ],
)
def test_bad_parameters_are_refused(change, shape, options, words):
    with pytest.raises(InputError, match=words):
        simulate_scan(scan()._replace(**change), optics(), shape, **options)


@pytest.mark.parametrize("change", [{"radius": 0.0}, {"edge_width": -0.3}])
def test_disks_without_extent_are_refused(change):
    with pytest.raises(InputError, match="must be positive"):
        simulate_scan(scan(), optics()._replace(**change), SHAPE)


def test_shares_add_up_and_are_pure_inside():
    domains = np.repeat([0, 1, 2], 8)[:, None] * np.ones((1, 10), int)
    shares = probe_shares(domains, 3, 0.8)
    np.testing.assert_allclose(shares.sum(-1), 1)
    assert shares[4, 5, 0] > 0.999
    # The edge lies half a position from either row, 0.625 sigma of the probe.
    assert shares[8, 5, 0] == pytest.approx(0.28, abs=0.03)


def test_a_coherent_strip_keeps_its_length_and_widens():
    strip = np.zeros((32, 64))
    strip[:, 28:36] = 1
    strain = coherent_strain(np.tile(strip, (4, 1)), 0.04, 0.25)[64, 31]
    assert strain[0, 0] == pytest.approx(0, abs=2.5e-3)  # along the strip: locked to the sheet
    assert strain[1, 1] == pytest.approx(
        1.25 * 0.04, rel=0.12
    )  # across: free, plus Poisson's share
    assert strain[0, 1] == pytest.approx(0, abs=1e-4)


def test_coherent_strain_is_compatible():
    points = scan_coordinates((48, 48))
    disk = np.exp(-((points / 0.12) ** 2).sum(-1))
    e = coherent_strain(disk, 0.03, 0.2)
    along_y, along_x = (lambda a: np.gradient(a, axis=0)), (lambda a: np.gradient(a, axis=1))
    terms = along_x(along_x(e[..., 0, 0])), along_y(along_y(e[..., 1, 1]))
    incompatibility = sum(terms) - 2 * along_x(along_y(e[..., 0, 1]))
    assert np.abs(incompatibility[4:-4, 4:-4]).max() < 0.03 * np.abs(terms[0]).max()


def test_ridge_slopes_are_the_gradient_of_a_height():
    points = scan_coordinates((64, 64)) - 0.01
    slopes = ridge_slopes(points, 0.1, 0.1)
    curl = np.gradient(slopes[..., 1], axis=0) - np.gradient(slopes[..., 0], axis=1)
    assert np.abs(curl[2:-2, 2:-2]).max() < 0.02 * np.abs(np.gradient(slopes[..., 1], axis=1)).max()
    assert np.linalg.norm(slopes, axis=-1).max() == pytest.approx(0.1)


def test_a_tilted_sheet_breaks_friedel_symmetry_the_other_way_round_when_tilted_back():
    beams = jnp.array([[1, 1], [-1, -1]])  # all atoms in phase: equal without tilt

    def asymmetry(tilt):
        plus, minus = monolayer_intensities(WSE2, beams, jnp.eye(2), jnp.array([0.0, tilt]), 80.0)
        return float((plus - minus) / (plus + minus))

    assert asymmetry(0.0) == pytest.approx(0, abs=2e-3)
    assert asymmetry(0.1) < -0.01
    assert asymmetry(-0.1) == pytest.approx(-asymmetry(0.1), abs=2e-3)


def test_intensities_have_the_symmetry_of_the_sheet():
    ring = jnp.array([[1, 0], [-1, 1], [0, -1], [-1, 0], [1, -1], [0, 1]])
    intensities = np.asarray(monolayer_intensities(WS2, ring, jnp.eye(2), jnp.zeros(2), 80.0))
    np.testing.assert_allclose(intensities[:3], intensities[0], rtol=1e-2)
    np.testing.assert_allclose(intensities[3:], intensities[3], rtol=1e-2)
    assert abs(intensities[0] / intensities[3] - 1) > 0.2


def test_tilt_has_a_gradient():
    @jax.jit
    def loss(tilt):
        beams = jnp.asarray(hexagonal_indices(4))
        return 1e3 * jnp.sum(
            monolayer_intensities(WS2, beams, jnp.eye(2), tilt, 80.0)[1:] * jnp.arange(18)
        )

    with jax.enable_x64(True):
        check_grads(loss, (jnp.array([0.05, -0.08]),), 1, modes=("rev",), rtol=1e-4)


@pytest.mark.parametrize(("material", "label"), [(WS2, 1), (WSE2, 2)])
def test_intensities_agree_with_multislice(shared_data, material, label):
    """Full multislice of flat sheets, disk sums above the film beside them; its polarity is inverse."""
    beams = [(h, k) for h, k in hexagonal_indices(4).tolist()]
    with (
        h5py.File(shared_data / "cbed_wide2_like_truth.h5") as file,
        h5py.File(shared_data / "cbed_wide2_like.mat") as data,
    ):
        truth = {name: file[name][:] for name in file}
        flat = truth["interior"] & (truth["flake"] == 1) & (truth["label"] == label)
        flat &= np.hypot(truth["tilt_x"], truth["tilt_y"]) < 0.3
        places = np.argwhere(flat)
        places = places[:: len(places) // 150]
        sums = np.mean([multislice_sums(data["cbed"], truth, beams, *at) for at in places], axis=0)
    ours = monolayer_intensities(material, -jnp.array(beams), jnp.eye(2), jnp.zeros(2), 80.0)
    np.testing.assert_allclose(sums[1:13] / sums[0], ours[1:13] / ours[0], rtol=0.08)
    np.testing.assert_allclose(sums[13:] / sums[0], ours[13:] / ours[0], rtol=0.2)


def multislice_sums(data, truth, beams, row: int, column: int) -> list[float]:
    pattern = data[column, row].T
    y, x = np.indices(pattern.shape)
    a1, a2 = truth["lattice"][row, column].T  # (x, y), 60 degrees apart, clockwise
    g = np.linalg.inv(np.stack([a1, a2 - a1], axis=1)) / 0.016
    sums = []
    for h, k in beams:
        gx, gy = h * g[0] + k * g[1]
        r = np.hypot(
            y - truth["center_y"][row, column] - gy, x - truth["center_x"][row, column] - gx
        )
        film = pattern[(r > 5) & (r < 8)].mean() if (h, k) != (0, 0) else 0.0
        sums.append(float((pattern[r < 4] - film).sum()))
    return sums


@pytest.fixture(scope="module")
def junction():
    return heterojunction((40, 40), (64, 64), dose=2e4, seed=1)


def test_heterojunction_has_all_domains_and_consistent_truth(junction):
    dataset, truth = junction
    assert dataset.shape == (40, 40, 64, 64)
    assert dataset.calibration.pixel_inv_angstrom == pytest.approx(0.032)
    assert all(np.mean(truth.label == n) > 0.05 for n in range(3))
    pure = truth.interior & (truth.label == 2)
    assert (truth.fraction_wse2[pure] > 0.95).all()
    for value in (truth.e_xx, truth.theta, truth.lattice[..., 0, 0], truth.tilt[..., 0]):
        np.testing.assert_array_equal(np.isnan(value), truth.label == 0)
    for label, bulk in ((1, 3.15), (2, 3.28)):
        area = np.abs(np.linalg.det(truth.lattice[truth.label == label]))
        spacing = np.sqrt(np.median(area) / np.sqrt(0.75))
        assert spacing == pytest.approx(bulk, rel=0.02)
        dilatation = np.median((truth.e_xx + truth.e_yy)[truth.label == label])
        assert spacing == pytest.approx(bulk * (1 + dilatation / 2), rel=2e-3)


def test_heterojunction_counts_follow_the_truth(junction):
    dataset, truth = junction
    counts = dataset.source.array
    assert counts.sum(axis=(2, 3)).mean() == pytest.approx(2e4, rel=1e-3)
    y, x = np.indices((64, 64))
    strong = truth.interior & (truth.label > 0)
    seen = []
    for row, column in np.argwhere(strong)[::5]:
        g = np.linalg.inv(truth.lattice[row, column]).T / dataset.calibration.pixel_inv_angstrom
        for spot in np.concatenate([g, -g]) + truth.center[row, column]:
            near = np.hypot(y - spot[0], x - spot[1]) < 3
            away = np.hypot(y - spot[0], x - spot[1]) < 5
            seen.append(counts[row, column][near].mean() - counts[row, column][away & ~near].mean())
    assert np.mean(seen) > 0.5  # a disk at every first-order point of the true lattice
    beam = np.hypot(y - truth.center[..., :1, None], x - truth.center[..., 1:, None]) < 3
    off = np.einsum("abyx,y->ab", counts * beam, np.arange(64.0)) / (counts * beam).sum((2, 3))
    assert np.abs(off - truth.center[..., 0]).mean() < 0.02


def test_heterojunction_is_reproducible():
    first, again, other = (heterojunction((6, 6), (32, 32), seed=seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.source.array, again.source.array)
    assert (first.source.array != other.source.array).any()


def test_heterojunction_covers_the_same_field_on_any_detector():
    small, large = (heterojunction((4, 4), shape)[0] for shape in ((32, 48), (64, 64)))
    assert small.calibration.pixel_inv_angstrom == pytest.approx(
        2 * large.calibration.pixel_inv_angstrom
    )


def test_truth_is_frozen(junction):
    with pytest.raises(dataclasses.FrozenInstanceError):
        junction[1].label = None


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        (((8, 8), (16, 16)), {}, "32 px"),
        (((8, 8), (64,)), {}, "32 px"),
        (((2, 8), (64, 64)), {}, "4 x 4"),
        (((8, 8), (64, 64)), {"dose": -1.0}, "dose is -1"),
        (((8, 8), (64, 64)), {"dose": float("nan")}, "dose is nan"),
        (((8, 8), (32, 32)), {"seed": -2}, "seed -2"),
    ],
)
def test_heterojunction_refuses_bad_arguments(args, options, words):
    with pytest.raises(InputError, match=words):
        heterojunction(*args, **options)


def test_a_thin_crystal_keeps_all_electrons_and_tilts_to_one_side():
    indices = jnp.asarray(np.mgrid[-2:3, -2:3].reshape(2, -1).T)
    strengths = jnp.full(len(indices), 0.01)
    cell = 4.0 * jnp.eye(2)

    def shares(tilt):
        return thin_crystal_intensities(cell, indices, strengths, jnp.array(tilt), 150.0, 200.0)

    flat = shares([0.0, 0.0])
    np.testing.assert_allclose(flat.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(flat, flat[::-1], rtol=1e-5)  # I(g) = I(-g)
    tilted = shares([0.0, -0.01])
    assert tilted[indices[:, 1] > 0].sum() > 1.5 * tilted[indices[:, 1] < 0].sum()
