"""Two crystals on top of each other: both lattices with error bars, their amounts, and no second where there is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from second_renderer import deform, render

from jax4dstem import Dataset, measure_strain
from jax4dstem.coordinates import deformation
from jax4dstem.detector import IDEAL
from jax4dstem.lattice import sample_scan
from jax4dstem.lattice.basis import cells_of
from jax4dstem.lattice.choice import FoundLattice
from jax4dstem.lattice.learn_seconds import SubtractDisks
from jax4dstem.lattice.model import starting_model
from jax4dstem.lattice.pair import FitPair
from jax4dstem.lattice.render import render as draw
from jax4dstem.lattice.scan_basis import find_scan_bases
from jax4dstem.strain import StrainMeasurement, StrainReference, strain_examples

SQUARE = 19.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])
HEXAGONAL = 22.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
SHAPE = (10, 12)  # of the scan
TURN = np.radians(25)

# Of these patterns, with a hundredth of their electrons in diffracted disks; a tenth of it does not tell all second crystals, as the oracle shows.
BRIGHT = 1e6


NOT_SEEN = pytest.mark.xfail(
    reason="not seen to pass: bars of a second crystal at some six errors of its amount",
    strict=False,
)


def on_top(lattice, share, seed, bright=BRIGHT, turn=TURN):
    """Counts of a crystal and, in most of the scan, of a turned one with other strain and intensities; strain of both."""
    first = render(
        lattice, SHAPE, (112, 112), dose=(1 - share) * bright, largest_strain=0.01, seed=seed
    )
    turned = deform(lattice, np.array([0.0, 0.0, 0.0, turn]))
    second = render(
        turned,
        SHAPE,
        (112, 112),
        dose=share * bright,
        largest_strain=0.01,
        center=first.center,
        seed=seed + 100,
    )
    strain = second.strain + np.array([0, 0, 0, turn])
    return first, second, strain


def misses(found, strain, order):
    """Errors over error bars of all positions with a strain."""
    ok = found.ok
    gap = found.values[ok] - strain[ok]
    gap[:, 3] -= 2 * np.pi / order * np.round(gap[:, 3] * order / (2 * np.pi))
    return gap / np.sqrt(np.diagonal(found.covariance[ok], axis1=-2, axis2=-1))


def measured(counts, center, lattice):
    reference = StrainReference.vectors(*lattice)
    return measure_strain(Dataset.from_array(counts), center, 4.2, reference=reference)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("lattice", "order", "share", "often"),
    [
        (SQUARE, 4, 0.4, 0.98),
        pytest.param(SQUARE, 4, 0.15, 0.8, marks=NOT_SEEN),
        (HEXAGONAL, 6, 0.3, 0.98),
    ],
    ids=["40 %", "15 %", "hexagonal"],
)
def test_both_lattices_have_strain_within_their_bars(lattice, order, share, often):
    first, second, strain = on_top(lattice, share, seed=7)
    found = measured(first.counts + second.counts, first.center, lattice)
    assert found.strain.ok.mean() >= 0.98
    assert found.second is not None
    there = found.second.there
    assert there.mean() >= often
    assert np.mean(found.second.strain.ok[there]) >= 0.98
    # A crystal that is not there has an amount below five of its errors.
    assert np.mean(~there & ~(found.second.amount < 5 * found.second.amount_std)) <= 0.05
    for each, truth in ((found.strain, first.strain), (found.second.strain, strain)):
        z = misses(each, truth, order)
        assert 0.85 < np.sqrt(np.mean(z**2)) < 1.15
        assert 0.92 < np.mean(abs(z) < 1.96) < 0.985
    examples = strain_examples(Dataset.from_array(first.counts + second.counts), found)
    shown = examples.kind.tolist().index("two crystals")
    place = tuple(examples.position[shown])
    indices = np.indices((13, 13)).reshape(2, -1).T - 6
    nodes = first.center[place] + indices @ deform(lattice, strain[place])
    disks = examples.second_disks[shown]
    disks = disks[np.isfinite(disks).all(axis=1)]
    assert np.linalg.norm(disks[:, None] - nodes, axis=-1).min(axis=1).max() < 0.5
    again = StrainMeasurement.from_fields(found.fields())
    np.testing.assert_array_equal(again.second.amount, found.second.amount)
    moved = found.relative_to(StrainReference.vectors(*(1.01 * lattice)))
    np.testing.assert_allclose(
        np.nanmedian(moved.second.strain.e_xx - found.second.strain.e_xx), 0.01, atol=5e-4
    )


def lattice_found(counts, center):
    """Cells (a, b, angle) that `find_scan_bases` finds."""
    sample = sample_scan(Dataset.from_array(counts))
    found = find_scan_bases(sample, sample.of(center), 4.0, IDEAL.as_arrays(), np.eye(2))
    return cells_of(np.array([basis.vectors for basis in found]))


def test_lattice_of_two_crystals_smaller_than_a_block_is_found():
    lattice = 24.0 / 19.0 * SQUARE  # at 35 degrees neither explains half of the disks of a block
    first, second, _ = on_top(lattice, 0.4, seed=7, turn=np.radians(35))
    cells = lattice_found(first.counts + second.counts, first.center)
    np.testing.assert_allclose(cells, [[1 / 24, 1 / 24, 90]], rtol=0.02)


@pytest.mark.whole
def test_the_edge_of_a_second_crystal_is_seen_and_nothing_beyond_it():
    first, second, _ = on_top(SQUARE, 0.3, seed=8)
    counts = first.counts.copy()
    counts[:, :4] += second.counts[:, :4]
    found = measured(counts, first.center, SQUARE)
    assert found.second.there[:, :4].mean() >= 0.98
    assert not found.second.there[:, 4:].any()
    assert (found.second.lattice_id >= 0).sum() == found.second.there.sum()


def oracle(share, bright, seed):
    """The pairs of one who is told both lattices and the model, and the truth of these."""
    first, second, strain = on_top(SQUARE, share, seed, bright)
    indices = np.indices((5, 5)).reshape(2, 25).T - 2
    indices = indices[np.argsort(np.abs(indices).sum(1), kind="stable")][:21]
    length, radii = np.linalg.norm(indices @ SQUARE, axis=1), np.arange(160.0)
    typical = 0.7 * 2e-3 * np.exp(-length / 33.6)
    typical[0] = 0.7 - typical[1:].sum()
    film = (
        0.3 * np.exp(-radii / 22.4) / np.exp(-np.hypot(*np.indices((112, 112)) - 55.5) / 22.4).sum()
    )
    model = starting_model(SQUARE, indices, 4.0)._replace(
        edge_width=jnp.asarray(0.2),
        background=jnp.asarray(film, jnp.float32),
        intensity=jnp.asarray(typical, jnp.float32),
        spread=jnp.asarray(0.3 * typical, jnp.float32),
    )
    truths = [
        np.linalg.inv(SQUARE) @ np.array([deform(SQUARE, each) for each in of.reshape(-1, 4)])
        for of in (first.strain, strain)
    ]
    counts = (first.counts.astype(np.float32) + second.counts).reshape(-1, 112, 112)
    given = counts, first.center.reshape(-1, 2).astype(np.float32), *truths
    return FITTED(*given, (model, model)), truths


FITTED = jax.jit(jax.vmap(FitPair(13), (0, 0, 0, 0, None)))


@pytest.mark.whole
@pytest.mark.parametrize(
    ("share", "bright", "errors"),
    [(0.4, 1e5, (5, 9)), (0.15, 1e5, (0, 5)), (0.4, 1e6, (15, 25)), (0.15, 1e6, (5, 10))],
)
def test_what_counts_tell_of_a_second_crystal_at_best(share, bright, errors):
    fits, truths = oracle(share, bright, seed=9)
    amount = fits.amounts[:, 1] / np.sqrt(fits.covariance[:, 1, 1])
    assert errors[0] < np.median(amount) < errors[1]
    assert np.mean(fits.first.converged) >= 0.98
    for fit, truth in zip((fits.first, fits.second), truths, strict=True):
        covariance = np.linalg.inv(np.asarray(fit.information, np.float64))[:, 2:, 2:]
        gap = np.swapaxes(fit.distortion - truth, 1, 2).reshape(-1, 4)
        z = gap / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        # Edges as steep as the model's would give 1.4 to 1.7 where an amount is told to eight errors or less.
        clear = np.asarray(amount) >= 5
        assert not clear.any() or np.sqrt(np.mean(z[clear] ** 2)) < 1.4


def test_pair_finds_lattices_and_amounts_of_expected_counts():
    indices = np.indices((5, 5)).reshape(2, 25).T - 2
    indices = indices[np.argsort(np.abs(indices).sum(1), kind="stable")]
    model = starting_model(np.diag([13.0, 13.0]), indices, 2.5)
    model = model._replace(background=jnp.full(2, 1e-4))
    truths = deformation(0.01, -0.01, 0.005, 0.02), deformation(0.0, 0.0, 0.0, 0.42)
    at, shares = jnp.array([31.6, 32.1]), jnp.full(25, 0.03).at[0].set(0.2)
    picture = jax.jit(draw, static_argnums=(0, 5))
    shape = (64, 64)
    both = [picture(shape, at, jnp.linalg.inv(F), shares, model, 13) for F in truths]
    starts = [jnp.linalg.inv(F) @ deformation(0.01, 0.01, 0.0, 0.02) for F in truths]
    counts = 1e6 * (0.8 * both[0] + 0.2 * both[1])
    fit = jax.jit(FitPair(9))(counts, at + 0.4, *starts, (model, model))
    assert fit.first.converged
    np.testing.assert_allclose(fit.first.center, at, atol=2e-3)
    for each, F in zip((fit.first, fit.second), truths, strict=True):
        np.testing.assert_allclose(each.distortion @ F, np.eye(2), atol=2e-4)
    np.testing.assert_allclose(fit.amounts / fit.amounts.sum(), [0.8, 0.2], atol=2e-3)


def test_subtracted_disks_leave_the_background():
    model = starting_model(np.diag([13.0, 13.0]), np.array([[0, 0], [0, 1], [1, 0]]), 2.5)
    dark = model._replace(background=jnp.zeros(2))
    found = (jnp.array([20.0, 21.0]), jnp.eye(2), jnp.array([0.5, 0.2, 0.3]))
    counts = 100 * draw((48, 48), *found, dark, 13)
    rest = SubtractDisks(13)(counts, FoundLattice(*found), dark)
    assert float(abs(rest).max()) < 0.01 * float(counts.max())
