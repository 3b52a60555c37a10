"""Strain maps: conventions, error bars, pooling, cold start, and data that have no strain."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jax4dstem import Dataset, InputError
from jax4dstem.coordinates import Calibration, deformation, strain_in_scan_axes, wrap_angle
from jax4dstem.detector import Detector
from jax4dstem.lattice.model import starting_model
from jax4dstem.strain import (
    Derived,
    LatticeStrain,
    LearnedModel,
    MeasuredLattices,
    Status,
    StrainMap,
    StrainMeasurement,
    StrainReference,
    derive,
    measure_strain,
    pool_strain,
    reference_difference,
    strain_map,
    to_py4dstem,
    to_pyxem,
)
from jax4dstem.strain.maps import COMPONENTS
from jax4dstem.strain.neighbors import sum_neighbors

HEXAGONAL = 28.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
SHAPE = (128, 128)  # one shape, as every other one is compiled anew
CENTER = 63.5


def given(vectors):
    return StrainReference.vectors(*vectors)


def fits_of(gradients, score=20.0):
    """Lattices of exactly known deformations, with a 1e-3 error."""
    shape = gradients.shape[:2]
    covariance = np.broadcast_to(1e-6 * np.eye(4), (*shape, 4, 4))
    distortion = np.linalg.inv(gradients).astype(np.float32)
    return MeasuredLattices(HEXAGONAL, distortion, covariance, np.full(shape, score, np.float32))


def deformations(e_xx, e_yy, e_xy, theta):
    maps = np.broadcast_arrays(*(np.asarray(v, float) for v in (e_xx, e_yy, e_xy, theta)))
    flat = [np.asarray(deformation(*values)) for values in zip(*map(np.ravel, maps), strict=True)]
    return np.reshape(flat, (*maps[0].shape, 2, 2))


def noisy_map(values, rng, sigma=1e-3):
    covariance = np.broadcast_to(sigma**2 * np.eye(4), (*values.shape[:2], 4, 4)).copy()
    noise = sigma * rng.standard_normal(values.shape)
    parts = dict(zip(COMPONENTS, np.moveaxis(values + noise, -1, 0), strict=True))
    status = np.zeros(values.shape[:2], np.int8)
    return StrainMap(
        **parts, covariance=covariance, status=status, reference=HEXAGONAL, reference_source=""
    )


def test_strain_of_known_deformations(rng, precision):
    known = rng.uniform(-0.02, 0.02, (4, 3, 5))
    theta = rng.uniform(-0.4, 0.4, (3, 5))
    strain = strain_map(fits_of(deformations(*known[:3], theta)), given(HEXAGONAL))
    np.testing.assert_allclose(strain.e_xx, known[0], atol=2e-6)
    np.testing.assert_allclose(strain.e_yy, known[1], atol=2e-6)
    np.testing.assert_allclose(strain.e_xy, known[2], atol=2e-6)
    np.testing.assert_allclose(strain.theta, theta, atol=2e-6)
    assert strain.ok.all()
    assert strain.std("e_xx").mean() == pytest.approx(1e-3, rel=0.05)


def test_rotation_is_modulo_the_symmetry():
    gradients = deformations(0.0, 0.0, 0.0, np.radians([[10.0, 70.0, 130.0, -50.0]]))
    strain = strain_map(fits_of(gradients), given(HEXAGONAL))
    np.testing.assert_allclose(np.degrees(strain.theta), 10, atol=1e-3)
    assert wrap_angle(np.array([np.pi / 6, -np.pi / 6]), np.pi / 3) == pytest.approx(np.pi / 6)


def test_reference_is_the_median_of_all_or_of_a_region():
    e_xx = np.where(np.arange(9) < 6, 0.01, 0.03)[None]
    fits = fits_of(deformations(e_xx, 0.0, 0.0, 0.1))
    everything = strain_map(fits)
    assert everything.e_xx[0, 0] == pytest.approx(0, abs=1e-5)
    assert everything.theta[0, 0] == pytest.approx(0, abs=1e-5)
    region = strain_map(fits, StrainReference.region(np.arange(9)[None] >= 6))
    assert region.e_xx[0, 8] == pytest.approx(0, abs=1e-5)
    assert region.e_xx[0, 0] == pytest.approx(-0.0194, abs=2e-4)
    assert "region" in region.reference_source
    with pytest.raises(InputError, match="region"):
        strain_map(fits, StrainReference.region(np.zeros((1, 9), bool)))
    with pytest.raises(InputError, match="span no lattice"):
        given([[1.0, 0], [2, 0]])


@pytest.mark.parametrize("change", [[[0, 1], [-1, 0]], [[1, 1], [0, 1]], [[1, 0], [0, -1]]])
def test_a_reference_is_the_same_lattice_in_any_basis(change):
    lattice = np.array([[0.0, 20.0], [-26.0, 0.0]])
    fits = fits_of(deformations(0.01, [[-0.005, 0.005]], 0.004, 0.1))._replace(lattice=lattice)
    strain = strain_map(fits, given(np.array(change) @ lattice))
    expected = [[0.01, -0.005, 0.004, 0.1], [0.01, 0.005, 0.004, 0.1]]
    np.testing.assert_allclose(strain.values[0], expected, atol=1e-5)
    np.testing.assert_allclose(strain.reference, lattice, atol=1e-9)


def test_difference_of_two_references_is_within_its_error(rng):
    truth = np.array([0.01, -0.006, 0.003, 0.05])
    halves = np.repeat([[np.zeros(4), truth]], 20, axis=1)  # one row of twice twenty positions
    left = np.arange(40)[None] < 20
    regions = StrainReference.region(left), StrainReference.region(~left)
    model = LearnedModel(starting_model(HEXAGONAL, np.array([[0, 0], [0, 1]]), 3.0), 0.0)
    misses = []
    for _ in range(40):
        fits = fits_of(
            deformations(*np.moveaxis(halves + 1e-3 * rng.standard_normal((1, 40, 4)), -1, 0))
        )
        strain, zero, twice = (
            strain_map(fits, given(HEXAGONAL)),
            np.zeros((1, 40)),
            np.zeros((1, 40, 2)),
        )
        lattice = LatticeStrain(
            strain, twice, fits.distortion, fits.score, zero, zero, twice, zero, zero == 0
        )
        measured = StrainMeasurement(lattice, model)
        found = reference_difference(measured, regions[1], regions[0])
        misses.append((np.array(found.strain) - truth) / np.array(found.std))
    assert 0.8 < np.sqrt(np.mean(np.square(misses))) < 1.1  # S takes the larger of two errors
    back = reference_difference(measured, regions[0], regions[1])
    np.testing.assert_allclose(
        deformation(*back.strain) @ deformation(*found.strain), np.eye(2), atol=1e-5
    )
    exact = reference_difference(measured, given(0.99 * HEXAGONAL), given(HEXAGONAL))
    np.testing.assert_allclose(exact.strain, [1 / 99, 1 / 99, 0, 0], atol=1e-6)
    assert not np.any(exact.std)


def test_strain_of_patterns_is_turned_into_scan_axes():
    strain = np.array([0.02, -0.01, 0.004, 0.05])
    quarter = strain_in_scan_axes(strain, Calibration(scan_rotation=np.pi / 2))
    np.testing.assert_allclose(quarter, [-0.01, 0.02, -0.004, 0.05], atol=1e-6)
    flipped = strain_in_scan_axes(strain, Calibration(scan_flip=True))
    np.testing.assert_allclose(flipped, [0.02, -0.01, -0.004, -0.05], atol=1e-6)


def test_what_is_no_fit_has_a_status_and_no_number():
    fits = fits_of(deformations(np.zeros((1, 5)), 0.0, 0.0, 0.0))
    score = fits.score.copy()
    score[0, 1] = 1.0
    distortion = fits.distortion.copy()
    distortion[0, 2] *= 1.4
    distortion[0, 3] = np.nan
    information = np.tile(1e6 * np.eye(6, dtype=np.float32), (1, 5, 1, 1))
    information[0, 4, 2:4] = information[0, 4, :, 2:4] = 0.0  # nothing is known along one direction
    converged = np.ones(score.shape, bool)
    found = SimpleNamespace(
        score=score, distortion=distortion, information=information, converged=converged
    )
    broken = MeasuredLattices.of_fits(found, HEXAGONAL)
    strain = strain_map(broken, given(HEXAGONAL))
    assert strain.status.tolist() == [
        [
            Status.OK,
            Status.NO_LATTICE,
            Status.NOT_CONVERGED,
            Status.EMPTY,
            Status.UNDETERMINED,
        ]
    ]
    for name in COMPONENTS:
        assert np.isnan(getattr(strain, name)[0, 1:]).all()
        assert np.isnan(strain.std(name)[0, 1:]).all()


def test_converters_follow_the_other_packages():
    fits = fits_of(deformations(0.02, -0.01, 0.004, 0.05)[None, None])
    strain = strain_map(fits, given(HEXAGONAL))
    theirs = to_py4dstem(strain)
    assert theirs["e_xx"] == pytest.approx(strain.e_yy)
    assert theirs["theta"] == pytest.approx(-0.05, abs=1e-5)
    assert to_pyxem(strain)["e12"] == pytest.approx(-0.004, abs=1e-5)


def test_pooling_averages_inside_grains_and_keeps_their_boundary(rng):
    truth = np.zeros((32, 32, 4))
    truth[:, 16:, 0] = 0.008
    strain = noisy_map(truth, rng)
    pooled = pool_strain(strain)
    error = np.abs(pooled.strain.e_xx - truth[..., 0])
    assert error.mean() < 0.2 * np.abs(strain.e_xx - truth[..., 0]).mean()
    assert np.quantile(error[:, 14:18], 0.95) < 2e-3  # not smeared: the step is 8e-3
    z = (pooled.strain.values - truth) / np.stack(
        [pooled.strain.std(name) for name in COMPONENTS], -1
    )
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98
    assert np.median(pooled.n_pooled) > 50


def test_pooling_follows_a_gradient(rng):
    truth = np.zeros((32, 32, 4))
    truth[..., 0] = 1e-3 * np.arange(32)
    pooled = pool_strain(noisy_map(truth, rng)).strain
    assert np.abs(pooled.e_xx - truth[..., 0]).mean() < 4e-4
    slope = np.polyfit(truth[..., 0].ravel(), pooled.e_xx.ravel(), 1)[0]
    assert slope == pytest.approx(1, abs=0.02)


def test_pooled_error_bars_hold_where_curvature_hardly_shows():
    # A wave whose curvature biases the mean of 200 patterns by as much as their noise.
    y, x = np.indices((32, 32))
    truth = np.stack([5e-4 * np.sin(2 * np.pi * phase / 32) for phase in (x, y, x + 8, y + 8)], -1)
    covered = []
    for seed in range(2):
        strain = noisy_map(truth, np.random.default_rng(seed), sigma=4e-3)
        pooled = pool_strain(strain).strain
        std = np.stack([pooled.std(name) for name in COMPONENTS], axis=-1)
        covered.append(np.mean(np.abs(pooled.values - truth) < 1.96 * std))
    assert 0.92 < np.mean(covered) < 0.98


def test_pooling_keeps_what_is_significant_on_its_own(rng):
    truth = np.zeros((32, 32, 4))
    truth[8:10, 8:10, 0] = truth[:, 24, 0] = 0.02  # a precipitate and a well, 20 errors
    truth[20, 12, 0] = 0.01
    strain = noisy_map(truth, rng)
    pooled = pool_strain(strain)
    error = np.abs(pooled.strain.e_xx - truth[..., 0])
    assert (error < 4 * pooled.strain.std("e_xx")).all()
    assert (pooled.strain.std("e_xx") <= strain.std("e_xx") * (1 + 1e-6)).all()
    assert pooled.n_pooled.min() >= 1


def test_pooling_is_never_worse_than_single_patterns(rng):
    y, x = np.indices((32, 32))
    for size, period in ((0.03, 16), (0.01, 16), (0.005, 32)):  # 30, 10 and 5 errors
        truth = size * np.sin(2 * np.pi * np.stack([x, y, x + y, x - y], -1) / period)
        strain = noisy_map(truth, rng)
        pooled = pool_strain(strain).strain
        single, ours = (np.abs(each.values - truth) for each in (strain, pooled))
        assert ours.mean() < 1.02 * single.mean()
        std = np.stack([pooled.std(name) for name in COMPONENTS], axis=-1)
        assert 0.9 < np.mean(ours < 1.96 * std) < 0.98


def test_pooled_error_bars_hold_beside_steps_that_are_hardly_seen(rng):
    truth = np.zeros((32, 32, 4))
    truth[:, 16:, 0] = 0.003  # 3 errors of one pattern
    pooled = pool_strain(noisy_map(truth, rng)).strain
    std = np.stack([pooled.std(name) for name in COMPONENTS], axis=-1)
    beside = (np.abs(pooled.values - truth) < 1.96 * std)[:, 15:17]
    assert beside.mean() > 0.9


@pytest.mark.parametrize("reaches", [(), (0, 1), (4, 2)])
def test_pooling_refuses_radii_that_do_not_grow(rng, reaches):
    with pytest.raises(InputError, match="grow"):
        pool_strain(noisy_map(np.zeros((4, 4, 4)), rng), reaches)


def test_pooling_leaves_missing_positions_missing(rng):
    strain = noisy_map(np.zeros((32, 32, 4)), rng)
    status = strain.status.copy()
    status[2, 3] = Status.NO_LATTICE
    strain = replace(strain, status=status)
    pooled = pool_strain(strain)
    assert np.isnan(pooled.strain.e_xx[2, 3])
    assert pooled.strain.ok.sum() == 32 * 32 - 1
    status[:, 4:] = Status.NO_LATTICE  # film: positions that have no neighbor with strain
    half = pool_strain(replace(strain, status=status)).strain
    assert np.isfinite(half.e_xx[half.ok]).all()
    assert np.isfinite(half.std("e_xx")[half.ok]).all()
    assert half.std("e_xx")[half.ok].max() < 1e-3  # pooled: the error of one is 1e-3
    nothing = replace(strain, status=np.full((32, 32), Status.NO_LATTICE, np.int8))
    assert np.isnan(pool_strain(nothing).n_pooled).all()


def test_compatible_strain_has_no_burgers_density():
    y, x = np.indices((12, 14)).astype(float)
    # Displacement u_y = a y², u_x = b x y.
    a, b = 2e-4, 3e-4
    values = np.zeros((12, 14, 4))
    values[..., 0] = b * y  # e_xx = ∂x u_x
    values[..., 1] = 2 * a * y  # e_yy
    values[..., 2] = b * x / 2  # e_xy = (∂y u_x + ∂x u_y) / 2
    values[..., 3] = b * x / 2  # theta: R_10 = θ = (∂y u_x - ∂x u_y) / 2
    maps = derive(noisy_map(values, np.random.default_rng(0), sigma=1e-9))
    assert np.nanmax(np.abs(maps.burgers)) < 1e-7
    np.testing.assert_allclose(maps.dilatation, values[..., 0] + values[..., 1], atol=1e-7)
    np.testing.assert_allclose(maps.curvature[5, 5], b / 2, atol=1e-7)
    assert maps.dilatation_std.mean() == pytest.approx(np.sqrt(2) * 1e-9, rel=1e-3)


def test_gradients_are_nowhere_where_there_is_no_strain(rng):
    """A masked position alone among others: what its neighbors say is not shown as its own."""
    strain = noisy_map(np.zeros((5, 6, 4)), rng, sigma=1e-6)
    status = np.zeros((5, 6), np.int8)
    status[2, 3] = Status.NO_LATTICE
    maps = derive(strain.with_values(strain.values, strain.covariance, status == 0))
    gone = [maps.curvature, maps.curvature_std, maps.burgers, maps.burgers_std, maps.dilatation]
    assert all(np.isnan(values[2, 3]).all() for values in gone)
    assert np.isfinite(maps.burgers[1, 1]).all()


def test_gradients_of_strain_are_per_nm_where_the_step_is_known(rng):
    """Rows 2 nm and columns 5 nm apart, theta rising along both, e_yy along x: as numbers and in every unit."""
    y, x = 2.0 * np.arange(9)[:, None], 5.0 * np.arange(8)
    values = np.zeros((9, 8, 4))
    values[..., 1], values[..., 3] = 1e-4 * x, 3e-4 * y + 4e-4 * x
    strain = noisy_map(values, rng, sigma=1e-9)
    maps = derive(strain, Calibration(scan_step_nm=5.0, scan_step_y_nm=2.0))
    inner = np.s_[1:-1, 1:-1]
    np.testing.assert_allclose(maps.curvature[inner], 5e-4, atol=1e-8)
    np.testing.assert_allclose(maps.burgers[inner], np.full((7, 6, 2), [-4e-4, -4e-4]), atol=1e-8)
    np.testing.assert_allclose(
        maps.curvature_std[inner], 1e-9 * np.hypot(0.6 / 2, 0.8 / 5) / 2**0.5, rtol=1e-3
    )
    np.testing.assert_allclose(
        maps.burgers_std[inner][..., 1], 1e-9 * np.hypot(2**0.5 / 5, 1 / 2) / 2**0.5, rtol=1e-3
    )
    units = {name: field.units for name, field in maps.fields().items()}
    assert units["curvature"] == units["curvature_std"] == "rad/nm"
    assert units["burgers"] == units["burgers_std"] == "1/nm"
    assert Derived.from_fields(maps.fields()).curvature_unit == "rad/nm"
    assert derive(strain).fields()["curvature"].units == "rad/position"
    alike = derive(strain, Calibration(scan_step_nm=4.0))
    np.testing.assert_allclose(alike.curvature, derive(strain).curvature / 4)


def test_a_grain_boundary_is_no_curvature():
    """Grains of a hexagonal lattice turned by 30 degrees, which bend by half a degree per position."""
    bend = np.radians(0.5) * np.arange(12.0)
    theta = np.tile(np.where(np.arange(12) < 6, bend, bend + np.radians(30)), (5, 1))
    values = np.stack([np.zeros_like(theta)] * 3 + [theta], -1)
    maps = derive(noisy_map(values, np.random.default_rng(0), sigma=1e-9))
    inside = np.isfinite(maps.curvature)
    assert inside[1:-1].any(axis=0).tolist() == [False] + [True] * 4 + [False, False] + [True] * 4 + [False]  # fmt: skip
    np.testing.assert_allclose(maps.curvature[inside], np.radians(0.5), rtol=1e-5)
    assert (np.isfinite(maps.burgers[..., 0]) == inside).all()
    assert (np.isfinite(maps.burgers_std[..., 1]) == inside).all()


@pytest.mark.whole
def test_cold_start_finds_rotation_and_strain(two_grains):
    _, truth, found = two_grains
    strain, inside = found.strain, truth.interior
    assert strain.ok[inside].all()
    turn = wrap_angle(strain.theta - truth.theta, np.pi / 3)
    assert np.abs(turn[inside]).max() < np.radians(2)
    z = np.stack(
        [
            (getattr(strain, n) - getattr(truth, n))[inside] / strain.std(n)[inside]
            for n in COMPONENTS[:3]
        ]
    )
    assert np.sqrt(np.mean(z**2)) < 1.3
    assert np.sqrt(np.mean(z**2)) > 0.75
    assert float(found.model.radius) == pytest.approx(4.0, abs=0.2)


@pytest.mark.whole
def test_the_lattice_is_found_when_none_is_given(two_grains):
    scan, truth, _ = two_grains
    found = measure_strain(scan, truth.parameters.center, 4.2)
    lengths = np.linalg.norm(found.strain.reference, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(truth.vectors, axis=1), rtol=0.03)
    assert found.strain.ok[truth.interior].all()


@pytest.mark.whole
def test_a_given_lattice_that_is_nowhere_has_no_position_and_the_true_one_is_found(two_grains):
    scan, truth, alone = two_grains
    found = measure_strain(
        scan, truth.parameters.center, 4.2, reference=given(1.37 * truth.vectors)
    )
    wrong, right = found.parts()
    assert not wrong.strain.ok.any()
    assert right.strain.ok.all()
    cells = (np.linalg.det(each.fitted_lattices) for each in (right, alone))
    np.testing.assert_allclose(*cells, rtol=0.02)
    with pytest.raises(InputError, match="fewer than"):
        measure_strain(scan, truth.parameters.center, 4.2, reference=given(5 * truth.vectors))


@pytest.mark.whole
def test_vacuum_is_an_error_when_the_lattice_is_to_be_found(rng):
    y, x = np.indices(SHAPE)
    q = np.hypot(y - CENTER, x - CENTER)
    scan = Dataset.from_array(
        rng.poisson(2000.0 * (q < 4) + 20 / (1 + q), (12, 12, *SHAPE)).astype(np.uint16)
    )
    center = np.full((12, 12, 2), CENTER)
    with pytest.raises(InputError, match="no lattice found"):
        measure_strain(scan, center, 4.2)
    found = measure_strain(scan, center, 4.2, reference=given(HEXAGONAL))
    assert (found.strain.status == Status.NO_LATTICE).mean() > 0.95


@pytest.mark.whole
def test_vacuum_and_empty_patterns_inside_a_crystal(two_grains):
    scan, truth, _ = two_grains
    counts = np.array(scan.source.read(slice(0, 12), slice(0, 12)))
    rng = np.random.default_rng(1)
    counts[0, :6] = 0
    y, x = np.indices(SHAPE)
    counts[1, :6] = rng.poisson(3 / (1 + np.hypot(y - 64, x - 64) / 20), (6, *SHAPE))
    found = measure_strain(
        Dataset.from_array(counts), truth.parameters.center, 4.2, reference=given(truth.vectors)
    )
    assert (found.strain.status[0, :6] != Status.OK).all()
    assert (found.strain.status[1, :6] != Status.OK).all()
    assert found.strain.ok[3:].all()


@pytest.mark.whole
def test_a_single_row_of_reflections_does_not_fix_a_lattice(rng):
    from jax4dstem.lattice.disks import bragg_disks

    positions = jnp.array([[CENTER, CENTER + 28 * n] for n in range(-2, 3)])
    disks = bragg_disks(SHAPE, positions, jnp.full(5, 400.0).at[2].set(2e4), 4.0, 0.3, 17)
    counts = rng.poisson(np.asarray(disks) + 0.2, (12, 12, *SHAPE)).astype(np.uint16)
    scan, center = Dataset.from_array(counts), np.full((12, 12, 2), CENTER)
    with pytest.raises(InputError):
        measure_strain(scan, center, 4.2)
    found = measure_strain(scan, center, 4.2, reference=given(HEXAGONAL))
    assert (found.strain.status != Status.OK).all()


def test_neighbors_are_summed_with_their_beams_on_each_other(rng):
    """Counts are kept, whole-pixel drift is undone, excluded pixels stay excluded."""
    scan = np.zeros((5, 6, 24, 24), np.int16)
    center = np.zeros((5, 6, 2))
    for y, x in np.ndindex(5, 6):
        center[y, x] = 11 + y % 2, 12 - x % 3
        scan[y, x, 11 + y % 2 - 1 : 11 + y % 2 + 2, 12 - x % 3] = rng.poisson(50, 3)
    mask = np.ones((24, 24), bool)
    mask[3, 4] = False
    stuck = scan.copy()
    stuck[:, :, 3, 4] = 500
    detector = Detector(mask=jnp.asarray(mask))
    sums, left = sum_neighbors(Dataset.from_array(stuck), center, 2, detector)
    assert sums.scan_shape == (2, 3)
    total = np.asarray(sums.source.read(slice(0, 2), slice(0, 3)))
    blocks = scan[:4].astype(float).reshape(2, 2, 3, 2, 24, 24).clip(0)
    np.testing.assert_allclose(np.nansum(total, axis=(2, 3)), blocks.sum(axis=(1, 3, 4, 5)))
    for y, x in np.ndindex(2, 3):
        lit = np.argwhere(np.nan_to_num(total[y, x]) > 0)
        np.testing.assert_allclose(lit.mean(axis=0), left[y, x], atol=1e-6)
    assert np.isnan(total[0, 0]).any()
    with pytest.raises(InputError, match="smaller than blocks"):
        sum_neighbors(Dataset.from_array(scan), center, 7)
