"""The probe: what one Bragg disk looks like, a soft disk or an image of any kind."""

from math import ceil
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.errors import InputError
from jax4dstem.patterns.align import find_direct_beam
from jax4dstem.typing import Array, Float, Scalar

MIDDLE = 0.8  # of a disk's radius, within which its edge is not felt
EXTENT = 1.5  # radii that an image reaches from its center: as far as a fit's patches do
STEP = 0.5  # px between the nodes of an image: blurs it by 0.3 px, as much as square pixels do
LOGISTIC = np.pi**2 / 3  # variance of a logistic edge of width 1
Width = Scalar | Float[Array, "n 1 1"]  # of an edge: of all disks, or of each


class Drawn(NamedTuple):
    """Disks in squares of pixels, 1 on average inside, and how they change when they move.

    Attributes:
        height: ``(n, rows, cols)``.
        by_y: Derivative by the position of the disk.
        by_x: The same.
    """

    height: Float[Array, "n rows cols"]
    by_y: Float[Array, "n rows cols"]
    by_x: Float[Array, "n rows cols"]


class Middle(NamedTuple):
    """Where a disk is bright, to tell its height from.

    Attributes:
        weight: Of pixels in a sum.
        height: Of the disk there.
        whole: The sum of the weights of a disk that is seen whole.
    """

    weight: Array
    height: Array
    whole: Scalar


@runtime_checkable
class Probe(Protocol):
    """The kinds of probe: `SoftDisk` and `ProbeImage`; all lengths in px."""

    @property
    def radius(self) -> Scalar:
        """Of the disk, or of the one that is most like the image."""
        ...

    @property
    def area(self) -> Scalar:
        """Integral of the heights, in px²."""
        ...

    def draw(self, y: Array, x: Array, edge: Width | None = None) -> Drawn:
        """Disks at distances ``y (n, rows)`` and ``x (n, cols)`` of pixels from them, blurred to a width of the edge, one or ``(n, 1, 1)``."""
        ...

    def middle(self, y: Array, x: Array) -> Middle:
        """Where it is bright; arguments as of `draw`, results ``(n, rows, cols)``."""
        ...

    def side(self) -> int:
        """Side in px of a square that holds it."""
        ...


class SoftDisk(NamedTuple):
    r"""A disk with a logistic edge.

    .. math:: d(r) = \frac{1}{1 + \exp\left((|r| - R) / w\right)}, \qquad
        A = -2 \pi w^2 \operatorname{Li}_2\left(-e^{R/w}\right)

    Attributes:
        radius: R in px.
        edge_width: w in px; 0.3 is about the blur of a sharp disk by square pixels.

    Example:
        >>> SoftDisk(4.0, 0.3).draw(jnp.zeros((1, 1)), jnp.array([[0.0, 4.0, 9.0]])).height.round(2).tolist()
        [[[1.0, 0.5, 0.0]]]
    """

    radius: Scalar
    edge_width: Scalar

    @property
    def area(self) -> Scalar:
        """A."""
        # Inversion turns the dilogarithm into this series, good to 2e-4 for radius > edge_width.
        n, ratio = jnp.arange(1, 5), self.radius / self.edge_width
        series = jnp.sum(-((-jnp.exp(-ratio)) ** n) / n**2)
        return jnp.pi * self.radius**2 + self.edge_width**2 * (jnp.pi**3 / 3 - 2 * jnp.pi * series)

    def draw(self, y: Array, x: Array, edge: Width | None = None) -> Drawn:
        """The disk, and its slope from the logistic function's own derivative."""
        edge = self.edge_width if edge is None else edge
        y, x = y[:, :, None], x[:, None, :]
        distance = jnp.sqrt(y**2 + x**2 + 1e-6)
        disk = soft_disk(distance, self.radius, edge)
        slope = disk * (1 - disk) / (edge * distance)
        return Drawn(disk, slope * y, slope * x)

    def middle(self, y: Array, x: Array) -> Middle:
        """Inside of its edge."""
        inside = jnp.hypot(y[:, :, None], x[:, None, :]) < MIDDLE * self.radius
        return Middle(inside.astype(float), jnp.ones(()), jnp.pi * (MIDDLE * self.radius) ** 2)

    def side(self) -> int:
        """Down to 5e-5 of its height; edges that are wider than a fifth of the radius are those of no disk."""
        radius = float(self.radius)
        return 2 * ceil(radius + 10 * min(float(self.edge_width), radius / 5)) + 1


class ProbeImage(NamedTuple):
    r"""A probe of any shape: Gaussians on a grid of nodes.

    .. math:: d(r) = \sum_m c_m \frac{h^2}{2 \pi s^2} \exp\left(-\frac{|r - r_m|^2}{2 s^2}\right), \qquad s^2 = \frac{h^2}{3} + b^2

    with the distance h of the nodes r_m; :math:`h^2 / 3` is the variance of a cubic B-spline, whose shape the Gaussian has to 1 %.
    A further blur b costs nothing, derivatives are exact, and since Gaussians separate, disks in squares of pixels are two
    products of small matrices. The grid is in units of the radius, so that the image scales with it.

    Attributes:
        radius: R in px, of the soft disk that is most like it.
        edge_width: Of the edges as they are, in px: ``draw`` with another blurs them to it.
        heights: c ``(m, m)``, from -1.5 to 1.5 radii along y and x; their integral is π R².

    Example:
        >>> flat = ProbeImage(2.0, 0.3, jnp.zeros((13, 13)).at[5:8, 5:8].set(1.0))
        >>> drawn = flat.draw(jnp.zeros((1, 1)), jnp.array([[-3.0, 0.0, 3.0]]))
        >>> drawn.height.round(2).tolist(), round(float(flat.area), 2)
        ([[[0.0, 1.0, 0.0]]], 2.25)
    """

    radius: Scalar
    edge_width: Scalar
    heights: Float[Array, "m m"]

    @property
    def step(self) -> Scalar:
        """h in px."""
        return 2 * EXTENT * self.radius / (self.heights.shape[0] - 1)

    @property
    def area(self) -> Scalar:
        """Integral in px²."""
        return jnp.sum(self.heights) * self.step**2

    def draw(self, y: Array, x: Array, edge: Width | None = None) -> Drawn:
        """Interpolated, with the derivatives of the Gaussians."""
        edge = self.edge_width if edge is None else edge
        blur = LOGISTIC * jnp.maximum(edge**2 - self.edge_width**2, 0)
        along_y, slope_y = self._weights(y, blur)
        along_x, slope_x = self._weights(x, blur)
        across = jnp.stack([along_x, slope_x])
        exact = jax.lax.Precision.HIGHEST
        columns = jnp.einsum("mk,dnjk->dnmj", self.heights, across, precision=exact)
        height, by_x = jnp.einsum("nim,dnmj->dnij", along_y, columns, precision=exact)
        by_y = jnp.einsum("nim,nmj->nij", slope_y, columns[0], precision=exact)
        return Drawn(height, by_y, by_x)

    def _weights(self, offsets: Array, blur: Width) -> tuple[Array, Array]:
        """Of the nodes along an axis ``(n, pixels, m)``, and their derivative by the disk's position."""
        count = self.heights.shape[0]
        nodes = self.step * (jnp.arange(count) - 0.5 * (count - 1))
        variance = self.step**2 / 3 + blur
        apart = offsets[..., None] - nodes
        weights = jnp.exp(-0.5 * apart**2 / variance) * self.step / jnp.sqrt(2 * jnp.pi * variance)
        return weights, weights * apart / variance

    def middle(self, y: Array, x: Array) -> Middle:
        """All of it, by its height: a matched filter."""
        height = self.draw(y, x).height
        return Middle(jnp.maximum(height, 0.0), height, self.area)

    def side(self) -> int:
        """The grid and the width of its outermost Gaussians."""
        return 2 * ceil(EXTENT * float(self.radius) + STEP) + 1


def soft_disk(distance: Array, radius: Scalar, edge_width: Width) -> Array:
    """Height of a disk with a logistic edge, 1 inside, at a distance from its center."""
    return jax.nn.sigmoid((radius - distance) / edge_width)


def as_image(radius: float, edge_width: float) -> np.ndarray:
    """Heights of a `ProbeImage` of a soft disk."""
    count = 2 * ceil(EXTENT * radius / STEP) + 1
    nodes = EXTENT * radius * np.linspace(-1, 1, count)
    distance = jnp.asarray(np.hypot(nodes[:, None], nodes))
    return normalized(np.asarray(soft_disk(distance, radius, edge_width), np.float64))


def image_of(picture: np.ndarray) -> ProbeImage:
    r"""The probe of a picture of the direct beam, such as the mean of a scan of vacuum.

    What lies around the beam is taken as background. Interpolated at the nodes, the picture would be blurred by their Gaussians; what
    that takes away is added again, four times.

    Args:
        picture: ``(det_y, det_x)``, in any unit.

    Returns:
        The image about the center of mass of the beam.

    Raises:
        InputError: There is no direct beam, or it leaves the picture.

    Example:
        >>> y, x = np.indices((40, 40))
        >>> ring = np.hypot(y - 20, x - 19) < 8
        >>> probe = image_of(1.0 * ring - 0.8 * (np.hypot(y - 20, x - 19) < 4))
        >>> drawn = probe.draw(jnp.zeros((1, 1)), jnp.array([[0.0, 6.0]]))
        >>> round(probe.radius), [round(float(height), 1) for height in drawn.height[0, 0]]
        (8, [0.2, 1.2])
    """
    picture = np.asarray(picture, np.float64)
    center, radius = find_direct_beam(picture)
    reach = EXTENT * radius
    if not np.all((center > reach) & (center < np.array(picture.shape) - 1 - reach)):
        raise InputError(
            f"the probe's picture shows a beam of radius {radius:.1f} px at {center.round(1).tolist()}; expected it at "
            f"least {reach:.0f} px inside of the {picture.shape[0]} x {picture.shape[1]} pixels"
        )
    y, x = np.arange(picture.shape[0]) - center[0], np.arange(picture.shape[1]) - center[1]
    distance = np.hypot(y[:, None], x)
    around = (distance > radius + 1) & (distance <= reach)
    picture = np.where(distance <= reach, picture - np.median(picture[around]), 0.0)
    nodes = reach * np.linspace(-1, 1, 2 * ceil(reach / STEP) + 1)
    at = np.meshgrid(nodes + center[0], nodes + center[1], indexing="ij")
    heights, missing = np.zeros((len(nodes), len(nodes))), picture
    for _ in range(5):
        heights = heights + ndimage.map_coordinates(missing, at, order=3)
        probe = ProbeImage(radius, 0.1 * radius, jnp.asarray(heights, jnp.float32))
        drawn = probe.draw(jnp.asarray(y[None]), jnp.asarray(x[None])).height[0]
        missing = picture - np.asarray(drawn, np.float64)
    return probe._replace(heights=jnp.asarray(normalized(heights)))


def normalized(heights: np.ndarray) -> np.ndarray:
    """Heights of a `ProbeImage` whose integral is that of a disk of height 1; an intensity is nowhere negative."""
    step = 2 * EXTENT / (len(heights) - 1)  # in radii
    heights = np.maximum(heights, 0)
    return (heights * (np.pi / step**2 / heights.sum())).astype(np.float32)
