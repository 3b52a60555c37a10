"""Conventions: strain, rotation and reciprocal lattices, on cases worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jax4dstem.coordinates import (
    Strain,
    deform,
    deformation,
    electron_wavelength,
    reciprocal_basis,
    rotation_matrix,
    strain_of,
)

SQUARE = jnp.array([[0.0, 4.0], [4.0, 0.0]])  # a1 to the right, a2 down
strains = st.floats(-0.2, 0.2)
angles = st.floats(-3.1, 3.1)


@pytest.mark.parametrize(("kv", "angstrom"), [(80, 0.041757), (200, 0.025079), (300, 0.019687)])
def test_wavelength(kv, angstrom):
    assert electron_wavelength(kv) == pytest.approx(angstrom, rel=1e-4)


def test_rotation_is_counter_clockwise_on_the_screen():
    right, up = jnp.array([0.0, 1.0]), jnp.array([-1.0, 0.0])
    np.testing.assert_allclose(rotation_matrix(np.pi / 2) @ right, up, atol=1e-6)
    turned = rotation_matrix(0.1) @ right
    assert float(turned[0]) < 0  # above the horizontal: y points down


def test_tension_along_x_lengthens_the_lattice_there_and_shortens_its_reciprocal():
    stretch = deformation(0.02, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(SQUARE @ stretch.T, [[0.0, 4.08], [4.0, 0.0]], rtol=1e-6)
    g = deform(reciprocal_basis(SQUARE), stretch)
    np.testing.assert_allclose(g, [[0.0, 1 / 4.08], [0.25, 0.0]], rtol=1e-6)


def test_shear_is_half_the_change_of_the_right_angle():
    sheared = SQUARE @ deformation(0.0, 0.0, 0.01, 0.0).T
    np.testing.assert_allclose(sheared, [[0.04, 4.0], [4.0, 0.04]], rtol=1e-6)


def test_rotation_comes_first_and_strain_has_the_axes_of_the_scan():
    quarter = deformation(0.03, 0.0, 0.0, np.pi / 2)
    np.testing.assert_allclose(quarter @ jnp.array([0.0, 4.0]), [-4.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(quarter @ jnp.array([4.0, 0.0]), [0.0, 4.12], atol=1e-6)


def test_reciprocal_vectors_turn_with_the_lattice():
    g = reciprocal_basis(SQUARE)
    turned = deform(g, deformation(0.0, 0.0, 0.0, 0.3))
    np.testing.assert_allclose(turned, g @ rotation_matrix(0.3).T, atol=1e-6)


def test_strain_of_pure_rotation_and_of_pure_strain():
    np.testing.assert_allclose(strain_of(rotation_matrix(-0.4)), (0, 0, 0, -0.4), atol=1e-6)
    pure = jnp.array([[0.99, 0.004], [0.004, 1.02]])
    np.testing.assert_allclose(strain_of(pure), (0.02, -0.01, 0.004, 0.0), atol=1e-6)


@given(strains, strains, strains, angles)
def test_strain_and_deformation_are_inverse(e_xx, e_yy, e_xy, theta):
    strain = Strain(*map(jnp.asarray, (e_xx, e_yy, e_xy, theta)))
    again = strain_of(deformation(*strain))
    np.testing.assert_allclose(again, strain, atol=2e-6)


@settings(deadline=None)  # the first example compiles
@given(strains, strains, strains, angles)
def test_deformed_bases_stay_reciprocal(e_xx, e_yy, e_xy, theta):
    gradient = deformation(e_xx, e_yy, e_xy, theta)
    basis = jnp.array([[0.3, 3.1], [-2.7, -1.4]])
    product = (basis @ gradient.T) @ deform(reciprocal_basis(basis), gradient).T
    np.testing.assert_allclose(product, np.eye(2), atol=5e-6)


def test_strain_has_gradients():
    with jax.enable_x64(True):
        gradient = deformation(0.01, -0.02, 0.005, 0.7)
        for fn, args in (
            (strain_of, (gradient,)),
            (deform, (jnp.eye(2), gradient)),
            (rotation_matrix, (0.3,)),
            (deformation, (0.01, -0.02, 0.005, 0.7)),
        ):
            check_grads(jax.jit(fn), args, order=1, rtol=1e-6)
