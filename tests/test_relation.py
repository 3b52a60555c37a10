import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem.coordinates import deformation
from jax4dstem.lattice.relation import relate_lattices, smallest_strain

OBLIQUE = np.array([[0.3, 5.1], [-4.0, 1.3]])
CHANGES = [np.eye(2), np.array([[1, 1], [0, 1]]), np.array([[0, -1], [1, 1]]), -np.eye(2)]


def deformed(basis, e_xx, e_yy, e_xy, theta):
    return basis @ np.asarray(deformation(e_xx, e_yy, e_xy, theta)).T


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.floats(-0.02, 0.02)] * 3), st.floats(-1.5, 1.5), st.sampled_from(range(4)))
def test_strain_and_rotation_are_found_in_any_basis(strain, theta, change):
    moved = CHANGES[change] @ deformed(OBLIQUE, *strain, theta)
    found = smallest_strain(moved, OBLIQUE)
    np.testing.assert_allclose(found[:3], strain, atol=1e-5)
    assert found.theta == pytest.approx(theta, abs=1e-5)


def test_an_orthorhombic_twin_shares_its_diagonal():
    reference = np.array([[0.0, 4.4], [-4.15, 0.0]])
    row = np.array([-4.15, 4.4]) / np.hypot(4.15, 4.4)
    mirrored = reference @ (2 * np.outer(row, row) - np.eye(2))
    relation = relate_lattices(mirrored, reference)
    assert relation.twin == (1, 1)
    assert relation.name.startswith("twin on [1 1]")


@pytest.mark.parametrize(
    ("basis", "name"),
    [
        (OBLIQUE, "same lattice"),
        (deformed(OBLIQUE, 0, 0, 0, np.radians(20)), "rotated by 20.0°"),
        (deformed(OBLIQUE, 0.05, 0.05, 0, 0), "strained by 5.0 %"),
        (1.6 * OBLIQUE, "another lattice"),
    ],
)
def test_relations_are_named(basis, name):
    assert relate_lattices(np.asarray(basis), OBLIQUE).name == name


def test_a_hexagonal_lattice_is_not_turned_by_its_own_symmetry():
    hexagonal = 3.2 * np.array([[0.0, 1.0], [-np.sqrt(3) / 2, 0.5]])
    turned = deformed(hexagonal, 0.002, -0.003, 0.001, np.radians(60))
    assert relate_lattices(turned, hexagonal).name == "same lattice"
