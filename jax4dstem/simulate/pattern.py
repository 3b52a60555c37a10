"""Differentiable model of one nanobeam pattern: Bragg disks on a lattice, and a film's halos.

Everything is a pure function of arrays; gradients exist with respect to every floating argument.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jax4dstem.coordinates import radius_from
from jax4dstem.lattice.probe import SoftDisk
from jax4dstem.lattice.render import render_disks
from jax4dstem.typing import Array, Float, Int, Point, Scalar


class Background(NamedTuple):
    """Radial intensity between the disks; heights are relative, lengths in px.

    A Lorentzian tail around the direct beam, and Gaussian rings (the halos of an amorphous film).

    Attributes:
        tail_height: At the center.
        tail_width: Half width at half maximum, px.
        halo_heights: ``(halos,)``.
        halo_radii: ``(halos,)``, px.
        halo_widths: Standard deviations, ``(halos,)``, px.
    """

    tail_height: Scalar
    tail_width: Scalar
    halo_heights: Float[Array, " halos"]
    halo_radii: Float[Array, " halos"]
    halo_widths: Float[Array, " halos"]


class Optics(NamedTuple):
    """What all patterns of a scan share.

    Attributes:
        indices: Reflections (h, k) to draw; (0, 0) is the direct beam.
        radius: Of the disks, in px.
        edge_width: Of the disks' logistic edge, in px.
        background: Of the specimen between the disks.
    """

    indices: Int[Array, "reflections 2"]
    radius: Scalar
    edge_width: Scalar
    background: Background

    @property
    def probe(self) -> SoftDisk:
        """What one disk looks like."""
        return SoftDisk(self.radius, self.edge_width)


class PatternParameters(NamedTuple):
    """What differs from position to position.

    A probe that covers several lattices at once (a domain boundary) scatters from each incoherently.

    Attributes:
        center: Of the direct beam, (y, x) in px.
        vectors: g1 and g2 as rows (y, x) in px, of every lattice under the probe.
        intensities: Of every reflection of every lattice, relative, weighted by its share.
        background_fraction: Share of the electrons outside the disks, 0 to 1.
        dose: Expected electrons on the detector.
    """

    center: Float[Array, "2"]
    vectors: Float[Array, "lattices 2 2"]
    intensities: Float[Array, "lattices reflections"]
    background_fraction: Scalar
    dose: Scalar


def background(
    shape: tuple[int, int], center: Point, parameters: Background
) -> Float[Array, "det_y det_x"]:
    r"""Radial background of an amorphous film.

    .. math::
        B(r) = \frac{t}{1 + (r / w)^2} + \sum_m b_m \exp\left(-\frac{(r - r_m)^2}{2 w_m^2}\right)

    Args:
        shape: ``(det_y, det_x)``.
        center: (y, x) in px.
        parameters: t, w, and b, r, w of the halos.

    Returns:
        B in the units of the heights.

    Example:
        >>> import jax.numpy as jnp
        >>> tail = Background(1.0, 5.0, jnp.zeros(0), jnp.zeros(0), jnp.ones(0))
        >>> float(background((9, 9), jnp.array([4.0, 0.0]), tail)[4, 5])
        0.5

    Reference: ours.
    """
    distance = radius_from(center, shape)
    tail = parameters.tail_height / (1 + (distance / parameters.tail_width) ** 2)
    offset = distance[..., None] - parameters.halo_radii
    halos = jnp.exp(-0.5 * (offset / parameters.halo_widths) ** 2)
    return tail + halos @ jnp.asarray(parameters.halo_heights)


def simulate_pattern(
    parameters: PatternParameters, optics: Optics, shape: tuple[int, int], patch: int
) -> Float[Array, "det_y det_x"]:
    r"""Expected electrons per pixel.

    .. math:: \lambda = N \left[(1 - f) \frac{D}{\sum D} + f \frac{B}{\sum B}\right]

    with the Bragg disks D of all lattices under the probe, the background B and its share f. The
    sums run over the detector, so the expected electrons on it are exactly the dose N.

    Args:
        parameters: Of this position.
        optics: Of the scan.
        shape: ``(det_y, det_x)``.
        patch: Side in px of the squares that disks are drawn in, static; see `patch_side`.

    Returns:
        The mean of the counts; noise is added by `simulate_scan`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax4dstem.lattice.disks import hexagonal_indices
        >>> halos = Background(1.0, 4.0, jnp.array([0.1]), jnp.array([12.0]), jnp.array([4.0]))
        >>> optics = Optics(jnp.asarray(hexagonal_indices(1)), 2.0, 0.3, halos)
        >>> position = PatternParameters(
        ...     center=jnp.array([15.0, 16.5]),
        ...     vectors=jnp.array([[[0.0, 10.0], [-8.66, 5.0]]]),
        ...     intensities=jnp.ones((1, 7)),
        ...     background_fraction=0.1,
        ...     dose=1000.0,
        ... )
        >>> round(float(simulate_pattern(position, optics, (32, 32), 11).sum()))
        1000

    Reference: ours.
    """
    disks = render_disks(
        shape, parameters.center, parameters.vectors, parameters.intensities, optics, patch
    )
    film = background(shape, parameters.center, optics.background)
    fraction = parameters.background_fraction
    return parameters.dose * (
        (1 - fraction) * disks / jnp.sum(disks) + fraction * film / jnp.sum(film)
    )
