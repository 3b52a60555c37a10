"""Basis vectors of a two-dimensional reciprocal lattice: found from points, reduced, their symmetry."""

from typing import NamedTuple

import numpy as np

from jax4dstem.lattice.nodes import nearest_node

SHORTEST = 14  # points that basis vectors are tried from
AS_GOOD = 0.9  # of the best explained share: among lattices as good the sparsest is taken
SPARSE = 4  # power of the explained share against the area of the cell: 16 % less explained count as half the area
DEGENERATE = 0.3  # sine of the angle of two points, below which they span no lattice: reduced ones enclose 60 degrees or more
MEDIAN = float(np.sqrt(np.pi / 2))  # error of a median over that of the mean, of Gaussian values
SAME = 0.04  # relative difference up to which two lengths, or sines, count as equal


class Basis(NamedTuple):
    """Basis vectors and how well they explain the points.

    Attributes:
        vectors: g1, g2 as rows (y, x), reduced.
        explained: Share of the points' weight that lies on the lattice.
        weight: The points' total weight.
    """

    vectors: np.ndarray
    explained: float
    weight: float


def find_basis(points: np.ndarray, weights: np.ndarray, tolerance: float) -> Basis | None:
    """The sparsest lattice through the origin on which nearly all weighted points lie.

    Every pair of the shortest points spans a lattice; a point is explained when it lies within the
    tolerance of a node. Of those that explain within 10 % as much as the best, the one with the largest
    cell is taken and fitted to its points.

    Args:
        points: (y, x) relative to the direct beam, ``(n, 2)`` in px.
        weights: Of the points, ``(n,)``.
        tolerance: In px.

    Returns:
        The basis, or None for fewer than two directions.

    Example:
        >>> h, k = np.mgrid[-2:3, -2:3].reshape(2, -1)
        >>> points = np.stack([h * 10.0 + k * 1.0, k * 8.0], axis=1)[(h != 0) | (k != 0)]
        >>> basis = find_basis(points, np.ones(len(points)), 1.0)
        >>> abs(np.linalg.det(basis.vectors)).round(6).item(), basis.explained
        (80.0, 1.0)
    """
    order = np.argsort((points**2).sum(axis=1))[:SHORTEST]
    pairs = [(i, j) for n, i in enumerate(order) for j in order[n + 1 :]]
    tried = [basis for i, j in pairs if (basis := _try(points[[i, j]], points, weights, tolerance))]
    if not tried:
        return None
    best = max(basis.explained for basis in tried)
    good = [basis for basis in tried if basis.explained >= AS_GOOD * best]
    return max(good, key=lambda basis: abs(np.linalg.det(basis.vectors)) * basis.explained**SPARSE)


def _try(
    vectors: np.ndarray, points: np.ndarray, weights: np.ndarray, tolerance: float
) -> Basis | None:
    lengths = np.linalg.norm(vectors, axis=1)
    if abs(np.linalg.det(vectors)) < DEGENERATE * lengths.prod() or lengths.min() < 3 * tolerance:
        return None
    vectors = reduce_basis(vectors)
    for _ in range(2):
        nearest = nearest_node(points[:, 0], points[:, 1], vectors)
        indices = np.stack([nearest.h, nearest.k], axis=1)
        near = nearest.distance_squared <= tolerance**2
        if np.linalg.matrix_rank(indices[near]) < 2:
            return None
        root = np.sqrt(weights[near])[:, None]
        vectors = np.linalg.lstsq(indices[near] * root, points[near] * root, rcond=None)[0]
    if abs(np.linalg.det(vectors)) < 0.1 * np.linalg.norm(vectors, axis=1).prod():
        return None
    total = float(weights.sum())
    return Basis(reduce_basis(vectors), float(weights[near].sum()) / total, total)


def reduce_basis(vectors: np.ndarray) -> np.ndarray:
    """The shortest basis of a lattice, at 60 to 90 degrees, turning counter-clockwise from g1 to g2.

    Lagrange's algorithm; the signs make g1 point right or up, g2 follow it.

    Example:
        >>> reduce_basis(np.array([[0.0, 10.0], [-10.0, 40.0]])).tolist()
        [[0.0, 10.0], [-10.0, 0.0]]
    """
    a, b = np.asarray(vectors, np.float64)
    shorter = True
    while shorter:  # at equal lengths rounding would pass the two back and forth for ever
        if a @ a > b @ b:
            a, b = b, a
        candidate = b - np.round((a @ b) / (a @ a)) * a
        shorter = candidate @ candidate < (1 - 1e-12) * (b @ b)
        b = candidate if shorter else b
    if a @ b < 0:
        b = -b
    if a[0] * b[1] - a[1] * b[0] < 0:  # clockwise on the screen, where y points down
        a, b = b, a
    if a[1] < -1e-9 * abs(a[0]) or (abs(a[1]) <= 1e-9 * abs(a[0]) and a[0] > 0):
        a, b = -a, -b
    return np.stack([a, b]) + 0.0


def cells_of(lattices: np.ndarray) -> np.ndarray:
    """Cells in real space: a and b, the lengths of the basis that is dual to g1 and g2, and the angle γ between them in degrees.

    Args:
        lattices: g1, g2 as rows, ``(n, 2, 2)``.

    Returns:
        ``(n, 3)``; lengths in the reciprocal unit of the lattices'.

    Example:
        >>> cells_of(20.0 * np.eye(2)[None]).round(3).tolist()
        [[0.05, 0.05, 90.0]]
    """
    a, b = np.moveaxis(np.linalg.inv(lattices), -1, 0)  # columns of G⁻¹ are rows of its transpose
    lengths = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(axis=-1) / (lengths[0] * lengths[1])
    return np.stack([*lengths, np.degrees(np.arccos(np.clip(cosine, -1, 1)))], axis=-1)


def symmetry_order(vectors: np.ndarray) -> int:
    """Rotational symmetry of a lattice: 6 (hexagonal), 4 (square) or 2.

    Example:
        >>> symmetry_order(np.array([[0.0, 10.0], [-8.66, 5.0]]))
        6
    """
    a, b = reduce_basis(vectors)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = (a @ b) / (lengths[0] * lengths[1])
    if abs(lengths[0] - lengths[1]) > SAME * max(lengths):
        return 2
    if abs(cosine - 0.5) < SAME:
        return 6
    return 4 if abs(cosine) < SAME else 2


def reflections(
    vectors: np.ndarray, center: np.ndarray, shape: tuple[int, int], margin: float
) -> np.ndarray:
    """Indices (h, k) of all reflections at least ``margin`` px inside the detector, by length.

    Args:
        vectors: g1, g2 as rows (y, x) in px.
        center: (y, x) in px.
        shape: ``(det_y, det_x)``.
        margin: In px.

    Returns:
        ``(n, 2)`` int, (0, 0) first.

    Example:
        >>> reflections(np.diag([10.0, 10.0]), np.array([15.0, 15.0]), (31, 31), 4.0).shape
        (9, 2)
    """
    reach = int(np.ceil(np.hypot(*shape) / np.linalg.svd(vectors)[1].min()))
    h, k = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    indices = np.stack([h.ravel(), k.ravel()], axis=1)
    offsets = indices @ vectors
    low, high = np.asarray(center) - margin, np.asarray(shape) - 1 - margin - np.asarray(center)
    inside = np.all((offsets >= -low) & (offsets <= high), axis=1)
    length = np.linalg.norm(offsets, axis=1)
    order = np.argsort(length.round(6), kind="stable")
    return indices[order[inside[order]]].astype(np.int32)


def rotations_of(vectors: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Reflections within a radius of the direct beam: any rotation keeps them on the detector.

    Args:
        vectors: g1, g2 as rows (y, x) in px.
        radius: In px.

    Returns:
        Indices ``(n, 2)``, (0, 0) first, and their lengths in px.
    """
    size = int(2 * np.ceil(radius)) + 1
    indices = reflections(vectors, np.full(2, size // 2), (size, size), 0.0)
    lengths = np.linalg.norm(indices @ vectors, axis=1)
    return indices[lengths <= radius], lengths[lengths <= radius]
