"""Intensities of the Bragg reflections of a thin, tilted crystal in the kinematic approximation."""

import jax.numpy as jnp

from jax4dstem.coordinates import electron_wavelength, reciprocal_basis
from jax4dstem.typing import Array, Float, Int, Scalar


def thin_crystal_intensities(
    basis: Float[Array, "2 2"],
    indices: Int[Array, "n 2"],
    strengths: Float[Array, " n"],
    tilt: Float[Array, "2"],
    thickness: Scalar,
    energy_kv: float,
) -> Float[Array, " n"]:
    r"""Shares of the incident electrons in the reflections of a slab tilted against its zone axis.

    .. math::
        I_g = q_g \left(\frac{\sin \pi t s_g}{\pi t s_g}\right)^2 , \qquad
        s_g = g \cdot \tau + \tfrac{1}{2} \lambda g^2 , \qquad I_0 = 1 - \sum_{g \ne 0} I_g ,

    with the excitation error s of a reflection and the slab's thickness t. A tilt τ moves the bright reflections to one side:
    what a bend of the specimen does to dark-field images, without any change of the lattice.

    Args:
        basis: Real-space lattice vectors as rows (y, x), in Å.
        indices: (h, k), (0, 0) among them.
        strengths: q, share of the electrons in each reflection at its Bragg condition; that of (0, 0) is not used.
        tilt: Of the zone axis along (y, x), in radians.
        thickness: t in Å.
        energy_kv: Beam energy in kV.

    Returns:
        I, of which (0, 0) is the direct beam; their sum is 1.

    Example:
        >>> beams = jnp.array([[0, 0], [0, 1], [0, -1]])
        >>> weights = jnp.array([0.0, 0.1, 0.1])
        >>> cell = 4.0 * jnp.eye(2)
        >>> tilt = jnp.array([0.0, -0.003])
        >>> left, right = thin_crystal_intensities(cell, beams, weights, tilt, 200.0, 200.0)[1:]
        >>> bool(left > right)
        True

    Reference: Hirsch et al., Electron Microscopy of Thin Crystals (1965), ch. 4.
    """
    g = indices @ reciprocal_basis(basis)
    length = jnp.linalg.norm(g, axis=-1)
    error = g @ tilt + 0.5 * electron_wavelength(energy_kv) * length**2
    direct = jnp.all(indices == 0, axis=-1)
    scattered = jnp.where(direct, 0.0, strengths * jnp.sinc(thickness * error) ** 2)
    return jnp.where(direct, 1 - jnp.sum(scattered), scattered)
