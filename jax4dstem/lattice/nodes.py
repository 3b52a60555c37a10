"""Which node of a lattice is nearest: coordinates of points in units of its basis vectors."""

from typing import Any, NamedTuple


class NearestNode(NamedTuple):
    """The node of a lattice nearest to each point, and the way from it to the point.

    Attributes:
        h: Index along g1, whole numbers in floating point.
        k: Index along g2.
        gap_y: Point minus node along y, in px.
        gap_x: Along x.
    """

    h: Any
    k: Any
    gap_y: Any
    gap_x: Any

    @property
    def distance_squared(self) -> Any:
        """Squared length of the gap, in px²."""
        return self.gap_y**2 + self.gap_x**2


def node_coordinates(y: Any, x: Any, vectors: Any) -> tuple[Any, Any]:
    """Coordinates (h, k) of points y g_y + x g_x in the basis, fractional; NumPy or JAX.

    Written out per component: XLA makes one loop over the points of it, and a slow one of 2 x 2 products.

    Args:
        y: Of the points, relative to the lattice's origin, in px.
        x: The same.
        vectors: g1, g2 as rows (y, x) in px, ``(..., 2, 2)``; further axes broadcast against the points.
    """
    g1_y, g1_x = vectors[..., 0, 0], vectors[..., 0, 1]
    g2_y, g2_x = vectors[..., 1, 0], vectors[..., 1, 1]
    area = g1_y * g2_x - g1_x * g2_y
    return y * (g2_x / area) - x * (g2_y / area), x * (g1_y / area) - y * (g1_x / area)


def nearest_node(y: Any, x: Any, vectors: Any) -> NearestNode:
    """The node of whole coordinates nearest to each point: arguments as for `node_coordinates`.

    Nearest in units of the basis vectors, which for a reduced basis and points near a node is nearest in px.

    Example:
        >>> import numpy as np
        >>> near = nearest_node(np.array([9.0]), np.array([-21.0]), np.diag([10.0, 20.0]))
        >>> [value.item() for value in near]
        [1.0, -1.0, -1.0, -1.0]
    """
    h, k = (coordinate.round() for coordinate in node_coordinates(y, x, vectors))
    gap_y = y - h * vectors[..., 0, 0] - k * vectors[..., 1, 0]
    gap_x = x - h * vectors[..., 0, 1] - k * vectors[..., 1, 1]
    return NearestNode(h, k, gap_y, gap_x)
