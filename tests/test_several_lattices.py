"""Scans that show several lattices: which position shows which, and strain relative to each one's own reference."""

import numpy as np
import pytest
from second_renderer import render

from jax4dstem import Dataset, measure_strain
from jax4dstem.lattice.cold_start import _strained
from jax4dstem.lattice.scan_basis import related
from jax4dstem.strain import StrainReference, pool_strain
from jax4dstem.strain.lattices import choose_lattice, join

SQUARE = 19.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])
HEXAGONAL = 25.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])


@pytest.fixture(scope="module")
def two_phases():
    """A square lattice beside a hexagonal one; only the first is told."""
    parts = [
        render(g, (8, 8), (112, 112), dose=1e5, largest_strain=0.01, seed=4)
        for g in (SQUARE, HEXAGONAL)
    ]
    counts, center, strain = (
        np.concatenate([getattr(part, name) for part in parts], axis=1)
        for name in ("counts", "center", "strain")
    )
    reference = StrainReference.vectors(*SQUARE)
    return measure_strain(Dataset.from_array(counts), center, 4.2, reference=reference), strain


@pytest.mark.whole
def test_every_position_has_its_lattice(two_phases):
    found, _ = two_phases
    assert found.strain.ok.all()
    assert (found.lattice_id == (np.arange(16) >= 8)).all()
    assert (found.lattice_probability > 0.99).all()
    assert found.lattices.symmetry.tolist() == [4, 6]
    assert found.lattices.share.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(
        found.lattices.gamma, [90, 120], atol=4 * found.lattices.gamma_std.max()
    )


@pytest.mark.whole
def test_strain_of_each_is_within_its_bars(two_phases):
    found, strain = two_phases
    for number, part in enumerate(found.parts()):
        there = part.strain.ok
        assert (there == (found.lattice_id == number)).all()
        gap = part.strain.values[there] - strain[there]
        gap[:, 3] -= np.pi / (2, 3)[number] * np.round(gap[:, 3] * (2, 3)[number] / np.pi)
        if number:  # relative to its own median
            gap -= np.median(gap, axis=0)
        z = gap / np.sqrt(np.diagonal(part.strain.covariance[there], axis1=-2, axis2=-1))
        assert 0.85 < np.sqrt(np.mean(z**2)) < 1.15


@pytest.mark.whole
def test_another_reference_is_that_of_the_first_lattice_only(two_phases):
    found, _ = two_phases
    larger = found.relative_to(StrainReference.vectors(*(1.01 * SQUARE)))
    gap = larger.strain.e_xx - found.strain.e_xx
    np.testing.assert_allclose(gap[:, :8], 0.01, atol=1e-3)
    np.testing.assert_allclose(gap[:, 8:], 0, atol=1e-9)
    np.testing.assert_allclose(larger.lattices.reference[0], 1.01 * SQUARE)


@pytest.mark.whole
def test_lattices_are_not_pooled_with_each_other(two_phases):
    found, _ = two_phases
    pooled = join([pool_strain(part.strain) for part in found.parts()], found.lattice_id)
    assert pooled.strain.ok.all()


def test_cells_that_are_nearly_alike_are_told_apart_by_their_strain():
    """Both fit every position: strain of one is that of the other and 4 %, each within 0.5 %."""
    rng = np.random.default_rng(0)
    own = rng.normal(0, 5e-3, (6, 50, 3))
    second = np.arange(50) >= 30
    one = own + 0.04 * second[:, None] * [1, 1, 0]
    strain = np.array([one, one - 0.04 * np.array([1, 1, 0])])
    probability = choose_lattice(rng.normal(0, 1, (2, 6, 50)), strain)
    assert (probability.argmax(axis=0) == second).all()


def test_no_lattice_is_chosen_where_there_is_none():
    evidence = np.array([[[0.0, -np.inf]], [[-np.inf, -np.inf]]])
    probability = choose_lattice(evidence, np.zeros((2, 1, 2, 3)))
    np.testing.assert_array_equal(probability[:, 0, 0], [1, 0])
    assert np.isnan(probability[:, 0, 1]).all()


@pytest.mark.whole
def test_a_lattice_that_no_position_shows_is_no_error(monkeypatch):
    monkeypatch.setattr("jax4dstem.strain.decomposition.EVIDENCE", np.inf)
    scan = render(SQUARE, (8, 8), (112, 112), dose=1e5, largest_strain=0.01, seed=4)
    found = measure_strain(Dataset.from_array(scan.counts), scan.center, 4.2)
    assert not found.strain.ok.any()
    assert (found.lattice_id == -1).all()


@pytest.mark.parametrize(
    ("multiple", "same"), [(np.eye(2), True), ([[1, 1], [-1, 1]], True), ([[2, 0], [0, 1]], True), (1.2 * np.eye(2), False)]
)  # fmt: skip
def test_parts_of_a_lattice_are_no_further_lattice(multiple, same):
    turn = np.array([[np.cos(0.7), np.sin(0.7)], [-np.sin(0.7), np.cos(0.7)]])
    assert related(np.asarray(multiple) @ SQUARE @ turn, SQUARE) == same
    assert related(SQUARE, np.asarray(multiple) @ SQUARE @ turn) == same


def test_a_strained_crystal_is_that_of_its_reference():
    strained = SQUARE @ np.linalg.inv(np.diag([1.0, 1.09]))
    assert _strained(strained, SQUARE)
    assert not _strained(1.2 * SQUARE, SQUARE)
    assert not _strained(HEXAGONAL, SQUARE)


def test_of_several_references_each_is_a_lattice():
    with pytest.raises(ValueError, match="each must be a given lattice"):
        StrainReference.several([StrainReference.vectors(*SQUARE), StrainReference.median()])
