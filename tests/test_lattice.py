"""The lattice model against physics: known disks, known lattices, counting statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jax4dstem.coordinates import deform, deformation, rotation_matrix
from jax4dstem.detector import Detector
from jax4dstem.errors import InputError
from jax4dstem.lattice import basis, binning, detection, fit, model, search
from jax4dstem.lattice.cell import crystal_rings, zone_lattice
from jax4dstem.lattice.disks import bragg_disks, hexagonal_indices, lattice_positions, patch_side

SHAPE = (96, 96)
CENTER = np.array([47.3, 48.6])
HEXAGONAL = 18.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])


bragg_disks_of = jax.jit(bragg_disks, static_argnums=(0, 5))


def expected_pattern(vectors, counts=150.0, level=0.3, radius=3.0, edge=0.3, center=CENTER):
    """Direct beam and two rings of disks of the same intensity on a sloping background."""
    indices = hexagonal_indices(4)
    positions = lattice_positions(jnp.asarray(center), jnp.asarray(vectors), jnp.asarray(indices))
    intensities = jnp.full(len(indices), counts).at[0].set(2e4)
    side = patch_side(radius, edge)
    disks = bragg_disks_of(SHAPE, positions, intensities, radius, edge, side)
    y, x = np.indices(SHAPE)
    slope = 30.0 / (1 + np.hypot(y - center[0], x - center[1]))
    return np.asarray(disks) + level * slope


def shared_model(radius=3.0):
    indices = hexagonal_indices(4)
    radii = np.arange(150.0)
    return model.starting_model(HEXAGONAL, indices, radius)._replace(
        edge_width=jnp.asarray(0.3),
        background=jnp.asarray(30.0 / (1 + radii), jnp.float32),
        intensity=jnp.full(len(indices), 5e-3),
        spread=jnp.full(len(indices), 5e-3),
    )


def contrast_of(counts, radius):
    kernels = detection.disk_kernels(SHAPE, radius)
    return jax.jit(detection.disk_contrast)(jnp.asarray(counts), kernels)


@functools.cache
def fitted(fitter):
    """The fit, compiled as a whole, once for each of its options."""
    return jax.jit(fitter)


def test_contrast_of_pure_noise_has_unit_variance_whatever_the_slope(rng):
    y, x = np.indices(SHAPE)
    counts = rng.poisson(2.0 + 0.1 * x + 0.05 * y)
    contrast = contrast_of(counts, 4.0)
    inner = np.asarray(contrast)[12:-12, 12:-12]
    assert abs(inner.mean()) < 0.15
    assert 0.8 < inner.std() < 1.15


def test_disks_are_found_where_they_are(rng):
    truth = np.array([[20.3, 30.8], [60.0, 22.4], [47.6, 70.1]])
    disks = bragg_disks_of(SHAPE, jnp.asarray(truth), jnp.full(3, 400.0), 4.0, 0.3, 17)
    counts = rng.poisson(np.asarray(disks) + 0.5)
    found = jax.jit(detection.find_bragg_disks, static_argnames="n_max")(
        jnp.asarray(counts), detection.disk_kernels(SHAPE, 4.0), 4.0, 6.0, n_max=8
    )
    assert int(found.valid.sum()) == 3
    positions = np.asarray(found.positions)[:3]
    nearest = np.linalg.norm(positions[:, None] - truth, axis=-1).min(axis=0)
    assert nearest.max() < 0.5


@pytest.mark.parametrize("angle", [60.0, 90.0])
def test_reduction_ends_where_lengths_tie(angle):
    for turn in np.radians(np.linspace(0, 360, 999)):
        b = turn + np.radians(angle)
        tied = 28.3 * np.array([[-np.sin(turn), np.cos(turn)], [-np.sin(b), np.cos(b)]])
        reduced = basis.reduce_basis(tied)
        np.testing.assert_allclose(np.linalg.norm(reduced, axis=1), 28.3)
        np.testing.assert_allclose(basis.reduce_basis(reduced[::-1]), reduced)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(8, 40),
    st.floats(1.0, 1.9),
    st.floats(60.0, 90.0),
    st.floats(0, 360),
    st.integers(0, 99),
)
def test_a_lattice_is_found_from_noisy_points(length, ratio, angle, turn, seed):
    rng = np.random.default_rng(seed)
    angle, turn = np.radians(angle), np.radians(turn)
    a = length * np.array([-np.sin(turn), np.cos(turn)])
    b = length * ratio * np.array([-np.sin(turn + angle), np.cos(turn + angle)])
    truth = basis.reduce_basis(np.stack([a, b]))
    indices = np.stack(np.mgrid[-3:4, -3:4], -1).reshape(-1, 2)
    points = indices[np.any(indices != 0, axis=1)] @ truth
    points = points[rng.random(len(points)) > 0.2] + 0.0
    points = points + rng.normal(0, 0.01 * length, points.shape)
    found = basis.find_basis(points, np.ones(len(points)), 0.1 * length)
    assert found is not None
    assert abs(np.linalg.det(found.vectors)) == pytest.approx(abs(np.linalg.det(truth)), rel=0.05)
    # The same lattice: each basis has whole coordinates in the other.
    coordinates = found.vectors @ np.linalg.inv(truth)
    assert np.abs(coordinates - np.round(coordinates)).max() < 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3000, 3000).map(lambda n: n / 100), min_size=4, max_size=4))
def test_reduction_keeps_the_lattice_and_is_idempotent(numbers):
    vectors = np.array(numbers).reshape(2, 2)
    if abs(np.linalg.det(vectors)) < 1.0:
        return
    reduced = basis.reduce_basis(vectors)
    coordinates = reduced @ np.linalg.inv(vectors)
    np.testing.assert_allclose(coordinates, np.round(coordinates), atol=1e-6)
    assert abs(np.linalg.det(reduced)) == pytest.approx(abs(np.linalg.det(vectors)))
    np.testing.assert_allclose(basis.reduce_basis(reduced), reduced, atol=1e-9)


@pytest.mark.parametrize("turn", [0.0, 17.0, 44.0, 123.0])
def test_any_rotation_is_found_with_no_start(turn, rng):
    vectors = HEXAGONAL @ np.asarray(rotation_matrix(np.radians(turn))).T
    counts = rng.poisson(expected_pattern(vectors))
    indices, _ = basis.rotations_of(HEXAGONAL, 38.0)
    hypotheses = search.rotated_lattices(HEXAGONAL, indices[1:], np.ones(len(indices) - 1), 3.0)
    contrast = contrast_of(counts, 3.0)
    found = jax.jit(search.search_lattice)(contrast, jnp.asarray(CENTER), hypotheses)
    turned = np.asarray(found.vectors)
    angle = np.degrees(np.arctan2(-turned[0, 0], turned[0, 1]))
    gap = (angle - turn + 30) % 60 - 30
    assert abs(gap) < 2.5
    assert found.score > 10


def test_fit_reaches_the_fisher_information(rng):
    """Errors of many fits, divided by the root of the information's inverse, have unit variance."""
    truth = np.asarray(deformation(0.01, -0.008, 0.004, 0.02))
    vectors = np.asarray(deform(jnp.asarray(HEXAGONAL), jnp.asarray(truth)))
    counts = rng.poisson(expected_pattern(vectors), (200, *SHAPE)).astype(np.float32)
    run = jax.jit(jax.vmap(fit.FitLattice(13), (0, None, None, None)))
    found = run(counts, jnp.asarray(CENTER + 0.3), jnp.eye(2), shared_model())
    gradient = np.linalg.inv(np.asarray(found.distortion, np.float64))
    error = np.swapaxes(np.asarray(found.distortion) - np.linalg.inv(truth), 1, 2).reshape(-1, 4)
    covariance = np.linalg.inv(np.asarray(found.information, np.float64))[:, 2:, 2:]
    squared = np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error)
    assert squared.mean() == pytest.approx(4, rel=0.2)
    np.testing.assert_allclose(gradient.mean(axis=0), truth, atol=4e-4)
    assert np.mean(np.asarray(found.dispersion)[:, 1:]) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(np.asarray(found.center).mean(axis=0), CENTER, atol=0.02)


@pytest.mark.parametrize("level", [0.3, 30.0])
def test_blurred_edges_do_not_overshoot(level):
    """A coarse step from a lattice 1 % too large comes close; under background it once went 60 % too far."""
    expected = jnp.asarray(expected_pattern(HEXAGONAL, level=level), float)
    shared = shared_model()._replace(spread=jnp.full(len(hexagonal_indices(4)), 5.0))
    start = fit._State(jnp.asarray(CENTER, float), 1.01 * jnp.eye(2), None)
    coarse = fitted(fit.FitLattice(13, coarse=1)._coarse_fit)
    after = coarse(expected, start, shared, jnp.asarray(1.0))
    assert abs(jnp.trace(after.distortion) / 2 - 1) < 0.25 * 0.01


def test_binned_coarse_iterations_reach_the_same_fit(rng):
    truth = np.asarray(deformation(0.01, -0.012, 0.006, 0.015))
    vectors = np.asarray(deform(jnp.asarray(HEXAGONAL), jnp.asarray(truth)))
    counts = jnp.asarray(rng.poisson(expected_pattern(vectors)), float)
    start = jnp.asarray(CENTER + 0.3), jnp.eye(2), shared_model()
    whole = fitted(fit.FitLattice(13))(counts, *start)
    binned = fitted(fit.FitLattice(13, binning=2))(counts, *start)
    error = np.sqrt(np.diag(np.linalg.inv(np.asarray(whole.information, np.float64))))[2:]
    gap = np.asarray(binned.distortion - whole.distortion).T.ravel()
    assert (abs(gap) < 0.1 * error).all()
    np.testing.assert_allclose(binned.intensities, whole.intensities, rtol=0.02, atol=2e-5)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_binned_positions_are_means_of_the_pixels_joined(factor):
    corner = jnp.array([2.0, 5.0])
    pixels = factor * corner[:, None] + jnp.arange(factor)
    np.testing.assert_allclose(binning.unbin_point(corner, factor), pixels.mean(axis=1))
    there = binning.bin_point(pixels.mean(axis=1), factor)
    np.testing.assert_allclose(there, corner, rtol=1e-6)


def test_binned_counts_lose_no_pixel_below_saturation():
    """Four pixels of 30 exceed a saturation of 100 together, and none of them is saturated."""
    pattern = jnp.full((4, 6), 30.0).at[0, 2].set(100.0).at[3, 5].set(jnp.inf).at[1, 5].set(jnp.nan)
    counts = np.asarray(binning.bin_counts(pattern, Detector(saturation=100.0), 2))
    np.testing.assert_array_equal(counts[:, 0], [120, 120])
    np.testing.assert_array_equal(counts[:, 1], [np.inf, 120])
    assert not (counts[:, 2] >= 0).any()
    shared = shared_model()._replace(detector=Detector(saturation=100.0).as_arrays())
    assert binning.bin_model(shared, 2).detector.saturation == 400


@pytest.mark.parametrize("factor", [1, 2])
def test_a_saturated_beam_and_masked_pixels_do_not_move_the_lattice(factor, rng):
    expected = expected_pattern(HEXAGONAL)
    counts = rng.poisson(expected).astype(np.float32)
    broken = np.minimum(counts, 100.0)
    broken[40:44, 60:75] = 1e6
    mask = np.ones(SHAPE, bool)
    mask[40:44, 60:75] = False
    shared = shared_model()._replace(
        detector=Detector(saturation=100.0, mask=jnp.asarray(mask)).as_arrays()
    )
    run = fitted(fit.FitLattice(13, binning=factor))
    whole = run(jnp.asarray(counts), jnp.asarray(CENTER), jnp.eye(2), shared_model())
    found = run(jnp.asarray(broken), jnp.asarray(CENTER), jnp.eye(2), shared)
    np.testing.assert_allclose(found.distortion, whole.distortion, atol=4e-3)
    assert np.isfinite(found.information).all()


def test_contrast_inside_disks_pulls_a_flat_model_and_not_a_textured_one():
    """Intensity that falls across every disk away from the center looks like compression."""
    indices = jnp.asarray(hexagonal_indices(4))
    positions = np.asarray(lattice_positions(jnp.asarray(CENTER), jnp.asarray(HEXAGONAL), indices))
    y, x = np.indices(SHAPE)
    expected = np.full(SHAPE, 0.2)
    for position in positions:
        distance = np.hypot(y - position[0], x - position[1])
        out = (position - CENTER) / max(np.linalg.norm(position - CENTER), 1e-9)
        inside = (y - position[0]) * out[0] + (x - position[1]) * out[1]
        expected += 20 / (1 + np.exp((distance - 3) / 0.3)) * (1 - 0.6 * inside / 3)
    shared = shared_model()._replace(
        background=jnp.ones(2), spread=jnp.full(len(indices), 1.0), texture=jnp.asarray(0.5)
    )
    start = jnp.asarray(CENTER), jnp.eye(2)
    expected = jnp.asarray(expected, float)
    flat = fitted(fit.FitLattice(13))(expected, *start, shared)
    textured = fitted(fit.FitLattice(13, modes=2))(expected, *start, shared)
    pull = [abs(np.trace(np.asarray(f.distortion)) / 2 - 1) for f in (flat, textured)]
    assert pull[0] > 3e-3
    assert pull[1] < 0.3 * pull[0]


def test_forward_model_has_gradients_of_everything():
    with jax.enable_x64(True):

        @jax.jit
        def total(*values):
            center, vectors, intensities, radius, edge = map(jnp.asarray, values)
            positions = lattice_positions(center, vectors, jnp.asarray(hexagonal_indices(1)))
            image = bragg_disks_of((48, 48), positions, intensities, radius, edge, 15)
            return jnp.sum(image**2)

        args = (
            jnp.array([23.3, 24.1]),
            jnp.array([[0.4, 14.0], [-12.0, 7.0]]),
            jnp.linspace(1.0, 2.0, 7),
            jnp.asarray(3.2),
            jnp.asarray(0.4),
        )
        check_grads(total, args, order=1, modes=("rev", "fwd"), eps=1e-6, rtol=1e-4, atol=1e-4)


CIF = """data_x
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
_space_group_name_H-M_alt '{group}'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{atoms}
"""


@pytest.fixture
def crystals(tmp_path):
    """Rock salt (face-centered: mixed indices forbidden) and a simple hexagonal crystal."""
    salt = CIF.format(
        a=4.2, c=4.2, gamma=90, group="F m -3 m", atoms="Mg Mg 0 0 0\nO O 0.5 0.5 0.5"
    )
    hexagonal = CIF.format(a=3.15, c=12.0, gamma=120, group="P 6/m m m", atoms="W W 0 0 0")
    for name, text in (("salt", salt), ("hexagonal", hexagonal)):
        (tmp_path / f"{name}.cif").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "zone", "spacings", "angle"),
    [
        ("salt", (0, 0, 1), (4.2 / 2, 4.2 / 2), 90),  # 200 and 020
        ("salt", (1, 1, 0), (4.2 / 3**0.5, 4.2 / 3**0.5), 70.529),  # 1-11 and 1-1-1
        ("salt", (1, 1, 1), (4.2 / 8**0.5, 4.2 / 8**0.5), 60),  # 220
        ("hexagonal", (0, 0, 1), (3.15 * 3**0.5 / 2,) * 2, 60),
    ],
)
def test_the_lattice_of_a_crystal_in_a_zone(crystals, name, zone, spacings, angle):
    g1, g2 = zone_lattice(crystals / f"{name}.cif", zone, 0.016)
    found = 1 / (0.016 * np.linalg.norm([g1, g2], axis=1))
    np.testing.assert_allclose(np.sort(found), np.sort(spacings), rtol=1e-6)
    cosine = g1 @ g2 / np.linalg.norm(g1) / np.linalg.norm(g2)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(angle, abs=0.01)


def test_the_rings_of_a_crystal(crystals):
    """Of rock salt: face-centered, so that 111, 200, 220, 311 and 222 come first; the even ones are strong."""
    rings = crystal_rings(crystals / "salt.cif")
    strong = np.argsort(-rings.strength)[:2]
    np.testing.assert_allclose(np.sort(rings.spacings[strong]), [4.2 / 8**0.5, 4.2 / 2])
    squares = (4.2 / rings.spacings) ** 2
    np.testing.assert_allclose(squares, squares.round(), atol=1e-9)
    assert set(squares.round()[:4]) <= {3, 4, 8, 11, 12}
    assert (rings.strength > 0.01).all()
    assert rings.strength.max() == 1
    assert rings.spacings.min() >= 0.6


def test_a_file_that_is_no_crystal_is_one_line(crystals, tmp_path):
    (tmp_path / "broken.cif").write_text("data_x\nloop_\n_a\n")
    for name, zone, message in (
        ("none.cif", (0, 0, 1), "no file"),
        ("broken.cif", (0, 0, 1), "CIF|atoms"),
        ("salt.cif", (0, 0, 0), "no direction"),
        ("salt.cif", (9, 11, 13), "no two-dimensional"),
    ):
        with pytest.raises(InputError, match=message):
            zone_lattice(tmp_path / name, zone, 0.016)
