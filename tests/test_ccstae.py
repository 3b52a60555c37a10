"""Affine warp, base lattices and their mixtures, and the published cycle-consistent autoencoder."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem import Dataset, InputError
from jax4dstem.coordinates import deformation, wrap_angle
from jax4dstem.lattice.disks import bragg_disks, hexagonal_indices, lattice_positions
from jax4dstem.lattice.mixture import FitAmounts, KnownLattices
from jax4dstem.lattice.model import starting_model
from jax4dstem.models import (
    Convolutional,
    CycleConsistency,
    CycleConsistentSpec,
    affine_warp,
    inverse_warp,
)
from jax4dstem.strain import (
    COMPONENTS,
    BaseTable,
    CCSTAEStrain,
    Status,
    StrainMap,
    base_of_positions,
    lattice_amount,
    mix_bases,
    strain_by_bases,
    train_ccstae,
)
from jax4dstem.train import ArrayFeed, Training, train

SHAPE, CENTER = (20, 26), (9.3, 12.6)  # not square, center between pixels
SQUARE = 20.0 * np.eye(2)


def smooth_image(offset=0.0):
    y, x = np.indices(SHAPE, dtype=np.float32)
    y, x = y - CENTER[0] - offset, x - CENTER[1]
    return jnp.asarray(
        np.exp(-((y - 2) ** 2 + (x + 3) ** 2) / 18) + 0.5 * np.exp(-(y**2 + (x - 4) ** 2) / 12)
    )


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(*[st.floats(-0.05, 0.05)] * 3), st.floats(-3, 3), st.tuples(*[st.floats(-1, 1)] * 2)
)
def test_the_inverse_warp_undoes_the_warp(strain, angle, shift):
    matrix = deformation(*strain, angle)
    there = affine_warp(smooth_image(), matrix, jnp.array(CENTER), jnp.array(shift), order=3)
    back = inverse_warp(there, matrix, jnp.array(CENTER), jnp.array(shift), order=3)
    inside = np.hypot(np.indices(SHAPE)[0] - CENTER[0], np.indices(SHAPE)[1] - CENTER[1]) < 6
    np.testing.assert_allclose(
        np.asarray(back)[inside], np.asarray(smooth_image())[inside], atol=0.01
    )


def test_a_warp_moves_a_disk_where_its_matrix_says():
    at = jnp.array([[13.0, 17.0]])
    disk = bragg_disks(SHAPE, at, jnp.ones(1), 2.0, 0.4, 11)
    matrix, shift = deformation(0.04, -0.03, 0.02, 0.4), jnp.array([0.6, -0.3])
    moved = affine_warp(disk, matrix, jnp.array(CENTER), shift, order=3)
    y, x = np.indices(SHAPE)
    found = np.array([(y * moved).sum(), (x * moved).sum()]) / moved.sum()
    expected = np.array(CENTER) + np.asarray(matrix) @ (np.asarray(at[0]) - CENTER) + shift
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_bicubic_is_exact_for_quadratics_and_sharper_than_bilinear():
    y, x = np.indices(SHAPE, dtype=np.float32)
    quadratic = jnp.asarray(0.1 * y**2 - 0.05 * y * x + x)
    shift = jnp.array([0.37, -0.21])
    moved = affine_warp(quadratic, jnp.eye(2), jnp.array(CENTER), shift, order=3)
    exact = 0.1 * (y - shift[0]) ** 2 - 0.05 * (y - shift[0]) * (x - shift[1]) + (x - shift[1])
    np.testing.assert_allclose(moved[3:-3, 3:-3], exact[3:-3, 3:-3], atol=1e-4)


@pytest.mark.parametrize("order", [1, 3])
def test_gradients_of_the_warp_by_matrix_and_image(order):
    target = smooth_image(1.0)

    def loss(image, matrix, shift):
        return jnp.sum((affine_warp(image, matrix, jnp.array(CENTER), shift, order) - target) ** 2)

    at = (smooth_image(), deformation(0.013, -0.021, 0.017, 0.31), jnp.array([0.23, -0.41]))
    gradients = jax.grad(loss, (0, 1, 2))(*at)
    rng = np.random.default_rng(0)
    for which, gradient in enumerate(gradients):
        direction = jnp.asarray(rng.standard_normal(gradient.shape), jnp.float32)
        step = 2e-3 / (1.0 if which == 0 else float(jnp.abs(direction).max()) * 10)
        ends = [
            loss(
                *(
                    leaf + sign * step * direction if i == which else leaf
                    for i, leaf in enumerate(at)
                )
            )
            for sign in (1, -1)
        ]
        numeric = float(ends[0] - ends[1]) / 2 / step
        assert numeric == pytest.approx(float(jnp.sum(gradient * direction)), rel=0.05, abs=5e-3)


def grains(seed=0, size=24, noise=2e-3, count=4):
    """A strain map of square grains, some far apart and alike, and its truth."""
    rng = np.random.default_rng(seed)
    own = np.c_[rng.uniform(-0.02, 0.02, (count, 3)), rng.uniform(-0.7, 0.7, count)]
    tiles = rng.integers(0, count, (4, 4))
    truth = own[np.kron(tiles, np.ones((size // 4, size // 4), int))]
    sigma = noise * np.array([1, 1, 0.7, 0.7])
    return observed(truth, sigma, rng), truth


def observed(truth, sigma, rng):
    values = truth + sigma * rng.standard_normal(truth.shape)
    values[..., 3] = (values[..., 3] + np.pi / 4) % (np.pi / 2) - np.pi / 4
    return StrainMap(
        **dict(zip(COMPONENTS, np.moveaxis(values, -1, 0), strict=True)),
        covariance=np.broadcast_to(np.diag(sigma**2), (*truth.shape[:2], 4, 4)),
        status=np.zeros(truth.shape[:2], np.int8),
        reference=SQUARE,
        reference_source="simulated",
    )


def errors(strain, truth):
    gap = strain.values - truth
    gap[..., 3] -= np.pi / 2 * np.round(gap[..., 3] / (np.pi / 2))
    return gap


@pytest.mark.whole
def test_bases_join_what_one_grain_says_and_know_how_sure_they_are():
    strain, truth = grains()
    found = strain_by_bases(strain)
    before = np.sqrt(np.mean(errors(strain, truth) ** 2, axis=(0, 1)))
    gap = errors(found.strain, truth)
    after = np.sqrt(np.mean(gap**2, axis=(0, 1)))
    assert (after < 0.45 * before).all()
    std = np.stack([found.strain.std(name) for name in COMPONENTS], axis=-1)
    # Cautious, as they hold that the grain may have been divided otherwise: too long by less than a factor of 3.
    rms_z = np.sqrt(np.mean((gap / std) ** 2, axis=(0, 1)))
    assert (rms_z > 1 / 3).all()
    assert (rms_z < 1.1).all()
    # Positions of one base are positions of one grain.
    for base in range(len(found.table)):
        rotations = truth[..., 3][found.base == base]
        assert rotations.size == 0 or np.ptp(rotations) < 1e-9
    assert found.note == ""


@pytest.mark.whole
def test_bases_leave_a_smooth_field_no_worse_than_it_was():
    rng = np.random.default_rng(1)
    y, x = np.indices((24, 24))
    truth = np.stack([1e-3 * x, 5e-4 * y, 3e-4 * (x - y), 1e-3 * y], axis=-1)
    strain = observed(truth, 1e-3 * np.array([1, 1, 0.7, 0.7]), rng)
    found = strain_by_bases(strain)
    before, after = (np.mean(errors(s, truth) ** 2) for s in (strain, found.strain))
    assert after < before
    gap, std = errors(found.strain, truth), found.strain.std("e_xx")
    # What the bases leave of a smooth field is no noise: 0.87 to 0.90 over four seeds.
    assert 0.85 < np.mean(np.abs(gap[..., 0]) < 1.96 * std) < 0.95


@pytest.mark.whole
def test_positions_without_a_lattice_have_no_base():
    strain, _ = grains()
    ok = np.ones((24, 24), bool)
    ok[:5] = False
    partly = strain.with_values(strain.values, strain.covariance, ok)
    found = strain_by_bases(partly)
    assert (found.base[:5] == -2).all()
    assert (found.base[5:] >= -1).all()
    assert (np.isfinite(found.strain.e_xx) == ok).all()
    with pytest.raises(InputError, match="positions have a lattice"):
        strain_by_bases(strain.with_values(strain.values, strain.covariance, ok & ~ok))


HEXAGON = np.array([[0.0, 13.0], [-13.0 * 3**0.5 / 2, 6.5]])
MIDDLE = np.array([24.3, 23.8], np.float32)


def two_lattices():
    """A model, and two of its lattices turned against each other, with their intensities."""
    indices = hexagonal_indices(3)
    model = starting_model(HEXAGON, indices, 2.5)
    model = model._replace(background=jnp.full(80, 2e-5), edge_width=jnp.asarray(0.3))
    turned = jnp.stack([deformation(0.0, 0.01, 0.0, angle) for angle in (0.1, 0.5)])
    shares = np.random.default_rng(0).uniform(2e-3, 6e-3, (2, len(indices)))
    shares[:, 0] = 0  # the direct beam has what is left, whatever the lattices
    return model, KnownLattices(turned, jnp.asarray(shares, float))


def mixed_pattern(amounts, dose=1e5):
    model, known = two_lattices()
    pattern = jnp.full((48, 48), 2e-5 * dose)
    for number, amount in enumerate(amounts):
        at = lattice_positions(
            jnp.asarray(MIDDLE), model.distorted(known.distortions[number]), model.indices
        )
        heights = amount * dose * known.intensities[number]
        pattern = pattern + bragg_disks((48, 48), at, heights, 2.5, 0.3, 13)
    left = (dose - pattern.sum())[None]
    return pattern + bragg_disks((48, 48), jnp.asarray(MIDDLE)[None], left, 2.5, 0.3, 13)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_amounts_of_two_lattices_are_those_of_the_simulation_with_their_error_bars(share):
    model, known = two_lattices()
    expected = np.asarray(mixed_pattern((share, 1 - share)))
    counts = np.random.default_rng(1).poisson(expected, (100, *expected.shape)).astype(np.float32)
    fit = jax.jit(jax.vmap(FitAmounts(13), (0, None, None, None, None)))
    found = fit(counts, MIDDLE, np.array([0, 1]), known, model)
    part = np.asarray(found.amount) / found.amount.sum(axis=1, keepdims=True)
    assert part[:, 0].mean() == pytest.approx(share, abs=0.01)
    if 0 < share < 1:
        std = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
        scatter = np.std(found.amount, axis=0)
        np.testing.assert_allclose(scatter, std.mean(axis=0), rtol=0.3)


def test_a_lattice_that_is_not_offered_has_no_amount_and_twins_are_not_told_apart():
    model, known = two_lattices()
    pattern = mixed_pattern((1.0, 0.0))
    fit = jax.jit(FitAmounts(13))
    alone = fit(pattern, jnp.asarray(MIDDLE), jnp.array([0, -1]), known, model)
    assert alone.amount[1] == 0
    assert jnp.isfinite(alone.covariance).all()
    same = KnownLattices(known.distortions[:1].repeat(2, 0), known.intensities[:1].repeat(2, 0))
    twice = fit(pattern, jnp.asarray(MIDDLE), jnp.array([0, 1]), same, model)
    std = jnp.sqrt(jnp.diagonal(twice.covariance))
    assert not (std < 0.15).any()


@pytest.mark.parametrize("dose", [400.0, 1e5])
def test_patterns_too_dark_to_show_a_lattice_still_tell_where_it_ends(dose, rng):
    model, known = two_lattices()
    model = model._replace(intensity=known.intensities[0])
    expected = np.zeros((12, 16, 48, 48))
    crystal = np.zeros((12, 16), bool)
    crystal[:, :7] = True
    expected[crystal] = mixed_pattern((1.0, 0.0), dose)
    expected[~crystal] = mixed_pattern((0.0, 0.0), dose)
    scan = Dataset.from_array(rng.poisson(expected).astype(np.uint16))
    places = np.tile(MIDDLE, (12, 16, 1)), np.tile(known.distortions[0], (12, 16, 1, 1))
    amount = lattice_amount(scan, *places, model)
    assert np.median(amount[crystal]) == pytest.approx(1, abs=0.2)
    assert np.median(amount[~crystal]) == pytest.approx(0, abs=0.1)
    wrong = (amount > 0.5) != crystal
    assert wrong.mean() < 0.02
    # Bright patterns are not smoothed: every position speaks for itself.
    assert dose < 1e4 or not wrong.any()


def test_positions_get_the_base_of_their_block_or_of_the_nearest_that_has_one(rng):
    model, known = two_lattices()
    model = model._replace(intensity=known.intensities[0])
    expected = np.stack([mixed_pattern((1.0, 0.0)), mixed_pattern((0.0, 0.0))])
    scan = Dataset.from_array(rng.poisson(expected[[0, 0, 0, 1, 1]][None].repeat(4, 0)))
    distortion = np.tile(known.distortions[0], (2, 2, 1, 1))
    base = np.array([[3, -2], [3, -2]])
    found = base_of_positions(scan, np.tile(MIDDLE, (4, 5, 1)), base, distortion, model, 2)
    np.testing.assert_array_equal(found, [[3, 3, 3, -2, -2]] * 4)
    nothing = base_of_positions(
        scan, np.tile(MIDDLE, (4, 5, 1)), base * 0 - 2, distortion, model, 2
    )
    assert (nothing == -2).all()


@pytest.mark.whole
def test_shares_at_a_boundary_are_those_of_the_probe(two_grains):
    scan, truth, measured = two_grains
    bases = strain_by_bases(measured.strain)
    found = mix_bases(scan, measured, bases)
    two = (found.second >= 0) & (truth.purity < 0.98)
    assert two.sum() > 0.8 * (truth.purity < 0.95).sum()
    gap = (found.share - truth.purity)[two]
    assert np.abs(gap).mean() < 0.04
    assert np.sqrt(np.mean((gap / found.share_std[two]) ** 2)) < 2
    before, after = (
        np.abs(s.e_xx - truth.e_xx)[~truth.interior] for s in (bases.strain, found.strain)
    )
    assert np.nanmean(after) < np.nanmean(before)
    # Inside of a grain nothing is made up, nor where there is one base only.
    assert (found.share[truth.purity > 0.9999] > 0.9).all()
    one = replace(
        bases,
        base=np.zeros_like(bases.base),
        table=BaseTable(*(part[:1] for part in vars(bases.table).values())),
    )
    alone = mix_bases(scan, measured, one)
    assert (alone.second == -1).all()
    assert (alone.share == 1).all()


def spots(angle):
    """A pattern of four spots of different height."""
    directions = angle + np.arange(4) * np.pi / 2
    at = np.array([15.5, 15.5]) + 10 * np.stack([-np.sin(directions), np.cos(directions)], axis=1)
    return bragg_disks(
        (32, 32), jnp.asarray(at, float), jnp.array([40.0, 30, 20, 10]), 2.0, 0.5, 13
    )


@pytest.mark.whole
def test_the_published_model_learns_a_base_and_its_rotations():
    angles = np.random.default_rng(0).uniform(-0.3, 0.3, 64)
    x = np.stack([np.asarray(spots(a)) for a in angles])
    spec = CycleConsistentSpec(
        (32, 32),
        (15.5, 15.5),
        limits=(0.05, 0.05, 0.5, 1.0),
        backbone=Convolutional((8, 8), "relu"),
    )
    options = Training(epochs=60, batch_size=32, learning_rate=3e-3)
    trained = train(spec, CycleConsistency(4.0, 15.0), ArrayFeed(x), options)
    history = trained.history["forward"]
    assert history[-1] < 0.5 * history[0]
    codes = trained.encode(x)
    assert np.abs(codes[:, 1:3]).max() <= 0.05
    turned = codes[:, 4]
    assert np.corrcoef(turned, angles)[0, 1] > 0.9


def test_bases_of_the_published_model_are_rendered_once_per_step():
    spec = CycleConsistentSpec((32, 32), (15.5, 15.5), n_bases=3, backbone=Convolutional((8,)))
    model, x = spec.build(0), jnp.ones((16, 32, 32))

    def flops(n):
        def loss(batch):
            terms = jax.vmap(lambda one: model.decode(jnp.concatenate(model.read(one))))(batch)
            return terms.sum()

        return jax.jit(loss).lower(x[:n]).compile().cost_analysis()["flops"]

    decoder = jax.jit(model.bases).lower().compile().cost_analysis()["flops"]
    assert flops(16) < 16 * flops(1) - 10 * decoder


def test_the_choice_of_a_base_is_hard_and_its_gradient_soft():
    model = CycleConsistentSpec(
        (16, 16), (7.5, 7.5), n_bases=3, backbone=Convolutional((4,))
    ).build(0)
    logits = jnp.array([0.1, 0.3, -0.2])
    np.testing.assert_allclose(model.chosen(logits), model.bases()[1], rtol=1e-5)
    assert jnp.abs(jax.grad(lambda z: jnp.sum(model.chosen(z, 1.0) ** 2))(logits)).max() > 0


@pytest.mark.whole
def test_the_published_model_is_trained_on_a_scan_and_read_back(rng):
    """Turned spots on a scan: the rotation is found up to that of the base, an empty pattern has a status."""
    angles = np.linspace(-0.25, 0.25, 64).reshape(8, 8)
    expected = np.stack([np.asarray(spots(a)) for a in angles.ravel()]).reshape(8, 8, 32, 32)
    expected[..., 15:17, 15:17] += 20  # the direct beam
    counts = rng.poisson(100 * expected).astype(np.uint16)
    counts[0, 0] = 0
    center = np.full((8, 8, 2), 15.5)
    options = Training(epochs=80, batch_size=32, learning_rate=3e-3)
    found = train_ccstae(Dataset.from_array(counts), center, 1.5, training=options)
    assert found.status[0, 0] == Status.EMPTY
    assert np.isnan(found.theta[0, 0])
    ok = found.status == Status.OK
    assert (
        ok.sum() == 63
    )  # no strain runs to the network's limit, though the base may be strained as a whole
    turned = found.theta[ok] - angles[ok]
    turned = wrap_angle(turned - np.median(turned), 2 * np.pi)
    assert np.abs(turned).mean() < 0.05
    read = CCSTAEStrain.from_fields(found.fields())
    np.testing.assert_array_equal(read.theta, found.theta)
    np.testing.assert_array_equal(read.trained.model.bases(), found.base_patterns)
    assert set(found.fields()["strain"]) == {"ccstae"}
    found.to_xarray()
