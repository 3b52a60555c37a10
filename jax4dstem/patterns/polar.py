"""Patterns in polar coordinates, and what of them no rotation changes."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from jax4dstem.smoothing import smooth
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar


def to_polar(
    pattern: Float[Array, "det_y det_x"],
    center: Point,
    inner: Scalar,
    outer: Scalar,
    shape: tuple[int, int],
) -> Float[Array, "radii angles"]:
    """A pattern on rings: bilinear, angles counter-clockwise on the screen from the x axis.

    Args:
        pattern: One pattern.
        center: (y, x) in px.
        inner: Radius of the first ring, px.
        outer: Radius of the last ring, px.
        shape: Number of rings and of angles, static.

    Returns:
        The pattern on the rings; zero outside the detector.

    Example:
        >>> to_polar(jnp.ones((16, 16)), jnp.array([7.5, 7.5]), 2.0, 6.0, (4, 12)).shape
        (4, 12)
    """
    radius = inner + (outer - inner) * jnp.arange(shape[0]) / max(shape[0] - 1, 1)
    angle = 2 * jnp.pi * jnp.arange(shape[1]) / shape[1]
    y = center[0] - radius[:, None] * jnp.sin(angle)
    x = center[1] + radius[:, None] * jnp.cos(angle)
    return map_coordinates(pattern, [y, x], order=1)


@dataclass(frozen=True)
class AngularCorrelations:
    r"""Rotation-invariant description of a pattern (or of a cepstrum): how its rings correlate in angle.

    Of the blurred pattern on rings, :math:`s_i(φ) = \sqrt{r_i \, I(r_i, φ)}`, it gives the Fourier coefficients of the
    correlations of all pairs of rings,

    .. math:: c_{ij}(Δ) = \int s_i(φ) \, s_j(φ + Δ) \, dφ , \qquad
              C_{ij,m} = \overline{a_{i,m}} \, a_{j,m} , \quad a_{i,m} = \int s_i(φ) \, e^{-imφ} \, dφ ,

    divided by their root of the sum of squares. A rotation multiplies :math:`a_{i,m}` by a phase that cancels; unlike the
    moduli :math:`|a_{i,m}|` alone, the products of two rings keep the angles between their reflections. The distance of two
    patterns' descriptions is an average over all rotations, in closed form:
    :math:`\sum_{ijm} \overline{C_{ij,m}} C'_{ij,m} = \int \langle s, R_α s' \rangle^2 dα`. The square root
    makes shot noise alike in weak and strong reflections, and keeps a strong one from being all that counts.

    Attributes:
        rings: Number of rings.
        angles: Samples along each.
        orders: Largest order m.

    Example:
        >>> pattern = jnp.asarray(np.random.default_rng(0).random((33, 33)))
        >>> center = jnp.array([16.0, 16.0])
        >>> describe = AngularCorrelations(rings=3, orders=4)
        >>> turned = describe(jnp.rot90(pattern), center, 4.0, 14.0, 1.0)
        >>> bool(jnp.allclose(describe(pattern, center, 4.0, 14.0, 1.0), turned, atol=1e-5))
        True

    Reference: for angular correlations of scattering patterns, Wochner et al., PNAS 106, 11511 (2009), eq. 1.
    """

    rings: int = 12
    angles: int = 64
    orders: int = 12

    @property
    def size(self) -> int:
        """Length of the description."""
        return (self.orders + 1) * self.rings**2

    def __call__(
        self, pattern: Pattern, center: Point, inner: Scalar, outer: Scalar, blur: Scalar
    ) -> Float[Array, " features"]:
        """Describe one pattern.

        Args:
            pattern: ``(det_y, det_x)``, not negative.
            center: (y, x) of the direct beam, px.
            inner: Radius of the first ring, px.
            outer: Radius of the last ring, px.
            blur: Standard deviation of the blur, px; about half a disk's radius.

        Returns:
            ``((orders + 1) * rings²,)``, of norm 1; NaN for a pattern without intensity on the rings.
        """
        ring = (
            to_polar(smooth(pattern, blur), center, inner, outer, (self.rings, self.angles))
            * jnp.linspace(inner, outer, self.rings)[:, None]
        )
        floor = 1e-9 * jnp.mean(ring)  # the root has no slope at zero
        spectrum = jnp.fft.rfft(jnp.sqrt(jnp.maximum(ring, 0) + floor))[:, : self.orders + 1]
        products = jnp.conj(spectrum)[:, None] * spectrum[None]
        # Each pair of rings and each pair of orders ±m once, with the weight of both.
        products = products * jnp.sqrt(jnp.where(jnp.arange(self.orders + 1) == 0, 1.0, 2.0))
        low, high = np.triu_indices(self.rings, 1)
        diagonal = np.arange(self.rings)
        crossed = jnp.sqrt(2.0) * products[low, high]
        parts = (products[diagonal, diagonal].real, crossed.real, crossed.imag)
        description = jnp.concatenate([part.ravel() for part in parts])
        return description / jnp.linalg.norm(description)
