"""Debye-Scherrer rings: which there are, and what counts they are expected to give."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.typing import Array, Float, Scalar

CHORDS = 9  # points across a disk, of Gauss-Chebyshev's second kind
STEP = 0.2  # px: largest one of the radii at which the profile is computed, between which it is interpolated
GRID_BLOCK = 128  # radii
PIXEL_VARIANCE = 1 / 12  # px²: no ring is narrower than a pixel
SPREAD = 1.0  # e-folds by which a ring may differ from its kinematical height: texture, dynamical scattering


@dataclass(frozen=True)
class Rings:
    r"""The rings of a powder.

    Attributes:
        spacings: d of every ring in Å, falling, ``(n,)``.
        strength: Relative intensity along the ring, ``(n,)``.

    Raises:
        InputError: There are fewer than two rings, or a spacing is not positive.

    Example:
        >>> Rings.of_spacings((2.04, 2.36)).q.round(3).tolist()
        [0.424, 0.49]

    Reference: for rings of powders, Debye and Scherrer, Phys. Z. 17, 277 (1916).
    """

    spacings: np.ndarray
    strength: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what tells no pixel."""
        if len(self.spacings) < 2 or not (np.isfinite(self.spacings) & (self.spacings > 0)).all():
            told = ",".join(f"{d:g}" for d in self.spacings)
            raise InputError(f"rings need two or more positive spacings in Å; got {told or 'none'}")

    @classmethod
    def of_spacings(cls, spacings: tuple[float, ...]) -> "Rings":
        """Rings of given spacings in Å, in any order, of intensities that fall as d²."""
        falling = np.sort(np.unique(np.asarray(spacings, np.float64)))[::-1]
        return cls(falling, (falling / falling.max(initial=1.0)) ** 2)

    @property
    def q(self) -> np.ndarray:
        """1/d in 1/Å, ``(n,)``."""
        return 1 / self.spacings


class RingUnknowns(NamedTuple):
    """What is fitted to rings, or how far it may lie from where it is expected."""

    log_pixel: Float[Any, ""]  # of the width in 1/Å
    ellipse: Float[Any, "2"]  # (a, b)
    center: Float[Any, "2"]  # (y, x) in px
    log_widths: Float[Any, "3"]  # px, of the ring's radius, and of the direct beam's
    envelope: Float[Any, "2"]  # of the logarithm of intensities: level, and fall by q² in Å²
    departures: Float[Any, "rings"]  # noqa: F821  # of rings from it, in units of SPREAD
    background: Float[Any, "terms"]  # noqa: F821  # of its logarithm


class RingModel(NamedTuple):
    r"""Expected counts of the rings of a powder on a smooth background.

    A pixel at v from the center lies at the radius r of the undistorted pattern, and rings of radius :math:`\rho_k = q_k / p` give

    .. math::
        \lambda(r) = \exp\Big(\sum_j c_j T_j(u)\Big) + \sum_k A_k \sqrt{\rho_k / r} \; P_k(r - \rho_k), \qquad
        r = \lVert v L^{-1} \rVert , \quad
        A_k = s_k \exp(e_0 - e_1 q_k^2 + \varepsilon_k)

    with Chebyshev polynomials of the scaled logarithm u of the radius, the ring's strength s and the projection P of a disk
    of :math:`w_2` times the direct beam's radius, blurred to the variance :math:`1/12 + w_0^2 + (w_1 \rho_k)^2` (grains are small, and
    strained). The root is there as a disk's arc is the shorter in angle the farther out. Reflections are smaller than a direct beam that blooms,
    or that grains or a film scatter to small angles.

    Attributes:
        q: Of the rings in 1/Å, ``(rings,)``.
        strength: Their relative intensities, ``(rings,)``.
        radius: Of the direct beam in px.
        aspect: Height of a pixel over its width.
        inner: Of the annulus that is fitted, px.
        outer: Of the same.
    """

    q: Float[Any, "rings"]  # noqa: F821
    strength: Float[Any, "rings"]  # noqa: F821
    radius: Scalar
    aspect: Scalar
    inner: Scalar
    outer: Scalar

    def radii(self, at: RingUnknowns, y: Any, x: Any) -> Array:
        """Radius of pixels in the undistorted pattern, in px."""
        a, b = at.ellipse
        # The inverse of `coordinates.ellipse_matrix`, as a series: its slope at no ellipse is finite.
        square = a**2 + b**2
        cosh, slope = 1 + square / 2 + square**2 / 24, 1 + square / 6 + square**2 / 120
        inverse = cosh * jnp.eye(2) - slope * jnp.array([[-a, b], [b, a]])
        v = jnp.stack([(y - at.center[0]) * self.aspect, x - at.center[1]], axis=-1)
        return jnp.sqrt(jnp.sum((v @ inverse) ** 2, axis=-1) + 1e-12)

    def background(self, at: RingUnknowns, radii: Any) -> Array:
        """Counts beside the rings."""
        span = jnp.log(self.outer / self.inner)
        u = jnp.clip(2 * jnp.log(jnp.maximum(radii, 1e-3) / self.inner) / span - 1, -1.1, 1.1)
        order = jnp.arange(len(at.background))
        angle = jnp.arccos(jnp.clip(u, -1 + 1e-6, 1 - 1e-6))
        return jnp.exp(jnp.cos(angle[..., None] * order) @ at.background)

    def profile(self, at: RingUnknowns, radii: Any) -> Array:
        """Expected counts at radii, ``(radii,)``."""
        rho = self.q * jnp.exp(-at.log_pixel)
        blur, strain, size = jnp.exp(at.log_widths)
        sigma = jnp.sqrt(PIXEL_VARIANCE + blur**2 + (strain * rho) ** 2)
        logarithm = at.envelope[0] - at.envelope[1] * self.q**2 + SPREAD * at.departures
        height = self.strength * jnp.exp(logarithm)
        angle = jnp.pi * jnp.arange(1, CHORDS + 1) / (CHORDS + 1)
        chord = 2 / (CHORDS + 1) * jnp.sin(angle) ** 2
        gap = radii[:, None, None] - rho[:, None] - size * self.radius * jnp.cos(angle)
        bells = jnp.exp(-(gap**2) / (2 * sigma[:, None] ** 2)) @ chord
        bells = bells / (jnp.sqrt(2 * jnp.pi) * sigma) * jnp.sqrt(rho / radii[:, None])
        return self.background(at, radii) + bells @ height

    def expected(self, at: RingUnknowns, y: Any, x: Any, grid: Any) -> Array:
        """Counts of pixels, interpolated between the radii of a grid."""
        return jnp.interp(self.radii(at, y, x), grid, self.profile(at, grid))

    def grid(self) -> np.ndarray:
        """Radii from the annulus' inner to its outer rim, with room for a distortion."""
        begin, end = max(0.7 * float(self.inner), 0.5), 1.2 * float(self.outer)
        # A multiple, so that few shapes are compiled.
        size = GRID_BLOCK * int(np.ceil((end - begin) / STEP / GRID_BLOCK))
        return np.linspace(begin, end, size, dtype=np.float32)


__all__ = ["Rings"]
