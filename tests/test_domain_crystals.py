"""The crystal of every domain, from the lattices fitted to its positions."""

import re

import numpy as np
import pytest

from jax4dstem.coordinates import deformation
from jax4dstem.domains import DomainMap, measure_crystals
from jax4dstem.errors import InputError
from jax4dstem.lattice.relation import CHANGES, mirror_lattice

HEXAGONAL = 20 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
RECTANGLE = 20 * np.array([[0.0, 1.0], [-1.06, 0.0]])
SQUARE = 20.0 * np.eye(2)
PIXEL = 0.0125  # 1/Å


def domains_of(labels: np.ndarray, second: np.ndarray | None = None) -> DomainMap:
    one, none = np.ones(labels.shape), np.full(labels.shape, -1)
    tried = np.array(["sums"]), np.array([labels.max() + 1]), np.array([0.9])
    return DomainMap(labels, one, none if second is None else second, one, "sums", *tried)


def lattices_of(labels, of_domains, rng, scatter=0.02):
    """Lattices with errors, each written in any of its bases."""
    clean = np.array(of_domains)[labels]
    changes = CHANGES[rng.integers(0, len(CHANGES), labels.shape)]
    return changes @ (clean + rng.normal(0, scatter, clean.shape))


def strained(lattice, *strain):
    return lattice @ np.linalg.inv(np.asarray(deformation(*strain)))


def test_errors_of_cells_and_strain_cover(rng):
    """Over many scans the values lie within their bars as often as they should."""
    truth = (0.01, -0.005, 0.003, np.radians(12))
    labels = np.repeat([[0, 1]], 20, axis=0).repeat(9, axis=1)
    of_cell, of_strain = [], []
    for _ in range(30):
        lattices = lattices_of(labels, (HEXAGONAL, strained(HEXAGONAL, *truth)), rng)
        found = measure_crystals(domains_of(labels), lattices, pixel=PIXEL)
        of_cell.append((found.a[0] - 1 / (20 * np.sqrt(0.75) * PIXEL)) / found.a_std[0])
        of_strain.append((found.strain[1] - truth) / found.strain_std[1])
    for z in (np.array(of_cell), np.ravel(of_strain)):
        assert 0.8 < np.sqrt(np.mean(z**2)) < 1.25
    assert found.unit == "Å"
    assert found.gamma[0] == pytest.approx(120, abs=5 * found.gamma_std[0])
    np.testing.assert_array_equal(found.strain[0], 0)
    turned = re.match(r"rotated by ([\d.]+) ± ([\d.]+)°", found.relation[1])
    assert float(turned[1]) == pytest.approx(12, abs=5 * float(turned[2]))


def test_only_what_is_significant_is_claimed(rng):
    labels = np.repeat([[0, 1]], 10, axis=0).repeat(6, axis=1)
    same = measure_crystals(domains_of(labels), lattices_of(labels, (SQUARE, SQUARE), rng))
    assert same.relation.tolist() == ["reference", "same lattice"]
    other = measure_crystals(domains_of(labels), lattices_of(labels, (HEXAGONAL, SQUARE), rng))
    assert other.relation[1] == "another lattice"
    assert np.isnan(other.strain[1]).all()


def test_twins_are_told(rng):
    labels = np.repeat([[0, 1]], 10, axis=0).repeat(6, axis=1)
    real = np.linalg.inv(RECTANGLE).T
    twin = np.linalg.inv(mirror_lattice(real, (1, 1))).T
    found = measure_crystals(domains_of(labels), lattices_of(labels, (RECTANGLE, twin), rng))
    assert found.relation[1].startswith("twin on [")


def test_what_few_positions_show_is_no_lattice_of_the_domain(rng):
    labels = np.repeat([[0, 1]], 10, axis=0).repeat(6, axis=1)
    lattices = lattices_of(labels, (SQUARE, SQUARE), rng)
    lattices[labels == 1] = np.where(rng.random((60, 1, 1)) < 0.7, np.nan, lattices[labels == 1])
    found = measure_crystals(domains_of(labels), lattices)
    assert found.relation.tolist() == ["reference", "no lattice"]
    assert found.members[1] == 0
    assert np.isnan(found.a[1])


def test_mixed_positions_and_wrong_fits_do_not_count(rng):
    labels = np.zeros((12, 12), int)
    second = np.full(labels.shape, -1)
    second[:, :4] = 1
    lattices = lattices_of(labels, (SQUARE,), rng, scatter=1e-3)
    lattices[:, :4] *= 1.05
    lattices[:, 10:] *= 1.4
    found = measure_crystals(domains_of(labels, second), lattices)
    assert found.members[0] == 72
    assert found.a[0] == pytest.approx(1 / 20, rel=1e-4)


def test_given_crystals_are_ranked(rng):
    labels = np.repeat([[0, 1, 2]], 10, axis=0).repeat(4, axis=1)
    turned = strained(SQUARE, 0, 0, 0, 0.3)
    lattices = lattices_of(labels, (HEXAGONAL, turned, 1.2 * SQUARE), rng)
    found = measure_crystals(
        domains_of(labels), lattices, candidates={"hexagonal": 1.005 * HEXAGONAL, "square": SQUARE}
    )
    assert found.candidate.tolist() == ["hexagonal", "square", "none of them"]
    np.testing.assert_allclose(found.probability.sum(axis=1), 1)


def test_lattices_of_another_scan_are_refused():
    with pytest.raises(InputError, match=r"the lattices have the shape \(3, 2, 2, 2\)"):
        measure_crystals(domains_of(np.zeros((2, 2), int)), np.ones((3, 2, 2, 2)))
