"""Intensities of the Bragg reflections of a transition-metal dichalcogenide monolayer."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import electron_wavelength, reciprocal_basis
from jax4dstem.typing import Array, Float, Int

# Gaussian amplitudes (Å) and widths (Å²) of neutral atoms for sin(θ)/λ up to 2 Å⁻¹: Peng, Ren,
# Dudarev and Whelan, Acta Cryst. A52, 257 (1996); Int. Tables for Crystallography C, 4.3.2.2.
_PENG = {
    "S": ((0.2497, 0.5628, 1.3899, 2.1865, 0.7715), (0.2681, 1.6711, 7.0267, 19.5377, 50.3888)),
    "Se": ((0.4477, 1.1678, 1.5843, 2.8087, 1.1956), (0.2405, 1.5442, 6.3231, 19.461, 52.0233)),
    "W": ((0.9853, 2.1167, 3.357, 3.7981, 2.2798), (0.2569, 1.6745, 7.0098, 26.9234, 81.391)),
}
_DEBYE_WALLER = 0.4  # Å², a round value for all atoms at room temperature
_CELL_SAMPLES = 16  # the potential of one cell, sampled every 0.2 Å


@dataclass(frozen=True)
class Monolayer:
    """A 2H monolayer MX₂: a layer of metal between two of chalcogen.

    Attributes:
        metal: Symbol.
        chalcogen: Symbol.
        lattice_constant: a in Å.
        layer_distance: From the metal to either chalcogen plane, in Å.
    """

    metal: str
    chalcogen: str
    lattice_constant: float
    layer_distance: float

    @property
    def basis(self) -> Float[Array, "2 2"]:
        """a1 (to the right) and a2 (120 degrees counter-clockwise from it) as rows (y, x), in Å."""
        return self.lattice_constant * jnp.array([[0.0, 1.0], [-np.sqrt(0.75), -0.5]])


WS2 = Monolayer("W", "S", 3.15, 1.57)
WSE2 = Monolayer("W", "Se", 3.28, 1.67)


def scattering_factor(element: str, k: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Electron scattering factor of a neutral atom at rest, in Å (first Born approximation).

    .. math:: f(k) = \sum_i a_i \exp\left(-b_i k^2 / 4\right)

    Args:
        element: "S", "Se" or "W".
        k: |g| in Å⁻¹, which is 2 sin(θ)/λ.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(scattering_factor("W", jnp.array(0.0))), 2)
        12.54
    """
    amplitudes, widths = (jnp.asarray(values) for values in _PENG[element])
    return jnp.exp(-0.25 * k[..., None] ** 2 * widths) @ amplitudes


def structure_factors(
    material: Monolayer,
    indices: Int[Array, "... 2"],
    basis: Float[Array, "2 2"],
    tilt: Float[Array, "2"],
    wavelength: float,
) -> Float[Array, "..."]:
    r"""Structure factors of a monolayer tilted against the beam, complex, in Å.

    .. math::
        F_{hk} = f_M + 2 f_X \, e^{-2 \pi i (h + 2 k) / 3} \cos(2 \pi z s), \qquad
        s = g \cdot \tau + \lambda g^2 / 2 .

    The chalcogen planes at ±z see the phase of the reciprocal-lattice rod where the Ewald sphere
    cuts it, at the height s. A tilt moves that cut up for g and down for -g.

    Args:
        material: Which monolayer.
        indices: (h, k).
        basis: Lattice as it lies in the scan, rows (y, x) in Å.
        tilt: Slope of the sheet along (y, x), in radians.
        wavelength: In Å.

    Returns:
        F, with the atoms' thermal motion.
    """
    g = indices @ reciprocal_basis(basis)
    k = jnp.linalg.norm(g, axis=-1)
    height = g @ tilt + 0.5 * wavelength * k**2
    phase = jnp.exp(-2j * jnp.pi * (indices[..., 0] + 2 * indices[..., 1]) / 3)
    planes = 2 * jnp.cos(2 * jnp.pi * material.layer_distance * height)
    chalcogen = scattering_factor(material.chalcogen, k) * phase * planes
    thermal = jnp.exp(-0.25 * _DEBYE_WALLER * k**2)
    return thermal * (scattering_factor(material.metal, k) + chalcogen)


def monolayer_intensities(
    material: Monolayer,
    indices: Int[Array, "n 2"],
    rotation: Float[Array, "2 2"],
    tilt: Float[Array, "2"],
    energy_kv: float,
) -> Float[Array, " n"]:
    r"""Shares of the incident electrons in the reflections of a monolayer.

    The sheet shifts the phase of the electron wave by

    .. math::
        \varphi(r) = \frac{\gamma \lambda}{A} \sum_{hk} F_{hk} e^{2 \pi i g_{hk} \cdot r} , \qquad
        I_{hk} = \left|\int_A e^{i \varphi(r)} e^{-2 \pi i g_{hk} \cdot r} \frac{dr}{A}\right|^2

    with the relativistic factor γ and the cell area A (Kirkland, Advanced Computing in Electron
    Microscopy, 2nd ed., 2010, ch. 5: the phase-object approximation). Unlike the kinematic :math:`|F|^2` this
    knows the polarity of the sheet: I(g) and I(-g) differ, in WS₂ much more than in WSe₂.

    Args:
        material: `WS2` or `WSE2`.
        indices: (h, k), each within -8..7.
        rotation: Of the lattice in the scan, from `rotation_matrix`.
        tilt: Slope of the sheet along (y, x), in radians.
        energy_kv: Beam energy in kV.

    Returns:
        I, of which (0, 0) is the direct beam.

    Example:
        >>> import jax.numpy as jnp
        >>> beams = jnp.array([[0, 0], [1, 0], [-1, 0]])
        >>> intensities = monolayer_intensities(WS2, beams, jnp.eye(2), jnp.zeros(2), 80.0)
        >>> [round(float(value), 4) for value in intensities]
        [0.9701, 0.0011, 0.0016]
    """
    wavelength = electron_wavelength(energy_kv)
    frequencies = np.fft.fftfreq(_CELL_SAMPLES, 1 / _CELL_SAMPLES).round().astype(int)
    grid = jnp.asarray(np.stack(np.meshgrid(frequencies, frequencies, indexing="ij"), axis=-1))
    basis = material.basis @ rotation.T
    factors = structure_factors(material, grid, basis, tilt, wavelength)
    gamma = 1 + energy_kv / 510.99895
    area = jnp.abs(jnp.linalg.det(basis))
    phase = jnp.fft.ifft2(factors, norm="forward") * (gamma * wavelength / area)
    waves = jnp.fft.fft2(jnp.exp(1j * phase), norm="forward")
    return jnp.abs(waves[indices[:, 0], indices[:, 1]]) ** 2
