"""The lattices of a scan: what sums of neighboring patterns agree on."""

from itertools import product

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import Detector, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import Basis, find_basis, reduce_basis
from jax4dstem.lattice.detection import (
    OUTSIDE,
    RIM_SPACING,
    SPACING,
    disk_kernels,
    find_bragg_disks,
)
from jax4dstem.lattice.evidence import ENOUGH
from jax4dstem.lattice.nodes import nearest_node
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.patterns.align import center_pattern, middle
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Float, Pattern, Point

# A cliff: at twice as much a wrong lattice is found in a faint scan, and accepted (experiments/sensitivity).
DETECTED = 5.0  # contrast of a disk in a block's mean, in units of the noise
BRIGHTEST = 20.0  # contrast that a disk counts with at most: a lattice is many disks
ON_NODE = 0.4  # disk radii from a node within which a disk lies on it; a pixel at least
EXPLAINED = 0.5  # share of the contrast that must lie on the lattice of a block
TWICE = 0.8  # the same of a lattice and a turned one of its shape: two crystals on top of each other, each of which explains half at most
SAME_SHAPE = 0.06  # relative difference of lattices that count as the same
# What a further lattice must show, so that blocks across a boundary make none.
PURE = 0.8  # share of the contrast of its blocks that lies on it, on average
BLOCKS = 2  # that show it
# Bases of the parts of a lattice: small multiples of its reflections.
MULTIPLES = np.array(list(product(range(-3, 4), repeat=4))).reshape(-1, 2, 2)
MULTIPLES = MULTIPLES[np.abs(np.linalg.det(MULTIPLES)).round() >= 1]
NO_LATTICE = (
    "no lattice found: no block of the scan shows disks of {radius:.1f} px on a two-dimensional "
    "lattice; give g1 and g2"
)


def find_scan_bases(
    sample: ScanSample,
    center: np.ndarray,
    radius: float,
    detector: Detector,
    to_scan_axes: np.ndarray,
    rim: float | None = None,
) -> list[Basis]:
    """The lattices that blocks of the sample agree on, the most frequent first, each as its clearest block has it turned.

    Where no block shows any, crystals may be smaller than blocks: what most single patterns agree on is taken. Else a block has not enough
    counts, and neighboring ones are joined, up to the whole sample. Lattices whose lengths
    differ by less than 6 % are one that is strained. Behind the first there are only lattices that explain nearly
    all that their blocks show, and whose cells are no multiples or parts of that of a more frequent one.

    Args:
        sample: Patterns as raw counts.
        center: Of the direct beam at the sampled positions, ``(rows, cols, 2)`` in px.
        radius: Of the direct beam in px.
        detector: What counted.
        to_scan_axes: From the detector; see `Calibration`. The lattice is given there, undistorted.
        rim: Width in px of the edges that tell disks which overlap; None for whole disks.

    Raises:
        InputError: No block shows a lattice.
    """
    centered = sample.dataset.map(_centered, detector, per_position=(center,))
    patterns = map_patterns(_identity, centered)
    rows, cols = sample.block
    shape, count = patterns.shape, rows * cols
    blocks = patterns.reshape(shape[0] // rows, rows, shape[1] // cols, cols, *shape[2:])
    blocks = np.nan_to_num(blocks).sum(axis=(1, 3))
    bases, joined = _bases_of(blocks, count, radius, detector, to_scan_axes, rim), blocks
    if not bases and count > 1:
        bases = _agreed(_bases_of(np.nan_to_num(patterns), 1, radius, detector, to_scan_axes, rim))
    while not bases and joined.shape[:2] != (1, 1):
        for axis in (0, 1):
            joined = np.add.reduceat(joined, np.arange(0, joined.shape[axis], 2), axis)
        # As many as before, the rest empty: another shape would compile the detection anew.
        filled = np.zeros_like(blocks)
        filled[: joined.shape[0], : joined.shape[1]] = joined
        count = 4 * count
        bases = _bases_of(filled, count, radius, detector, to_scan_axes, rim)
    if not bases:
        raise InputError(NO_LATTICE.format(radius=radius))
    return _kinds(bases)


def _kinds(bases: list[Basis]) -> list[Basis]:
    """The bases of all blocks joined to one per lattice."""
    found: list[Basis] = []
    while bases:
        basis, alike = _consensus(bases)
        members = [each for each, same in zip(bases, alike, strict=True) if same]
        pure = np.mean([member.explained for member in members]) >= PURE
        if not found or (pure and len(members) >= BLOCKS and not _known(basis, found)):
            found.append(basis)
        bases = [each for each, same in zip(bases, alike, strict=True) if not same]
    return found


def _agreed(bases: list[Basis]) -> list[Basis]:
    """The bases of single patterns; none where they do not agree, as what noise shows in a few of them."""
    if len(bases) < ENOUGH:
        return []
    alike = np.count_nonzero(_consensus(bases)[1])
    return bases if alike >= max(ENOUGH, len(bases) / 2) else []


def _known(basis: Basis, found: list[Basis]) -> bool:
    return any(related(basis.vectors, other.vectors) for other in found)


def related(vectors: np.ndarray, other: np.ndarray) -> bool:
    """Whether one of two lattices, turned somehow, has all reflections of the other, within what counts as the same shape.

    Args:
        vectors: g1, g2 of the one as rows (y, x) in px.
        other: Of the other.

    Example:
        >>> square, half = np.diag([20.0, 20.0]), np.array([[20.0, 20.0], [-20.0, 20.0]])
        >>> related(square, half), related(half, square), related(square, 1.1 * square)
        (True, True, False)
    """
    return _part_of(vectors, other) or _part_of(other, vectors)


def _part_of(vectors: np.ndarray, finer: np.ndarray) -> bool:
    shape = _shape(vectors)
    tried = MULTIPLES @ finer
    shapes = np.concatenate(
        [
            np.sort(np.linalg.norm(tried, axis=2), axis=1),
            np.abs(np.linalg.det(tried))[:, None] / shape[0],
        ],
        axis=1,
    )
    return bool(np.any(np.all(np.abs(shapes - shape) < SAME_SHAPE * shape[0], axis=1)))


def _bases_of(
    blocks: np.ndarray,
    count: int,
    radius: float,
    detector: Detector,
    to_scan_axes: np.ndarray,
    rim: float | None,
) -> list[Basis]:
    """Lattices of patterns ``(rows, cols, det_y, det_x)``, each the sum of so many."""
    summed = Detector(detector.noise.summed(count))
    spacing, outside = (SPACING, OUTSIDE) if rim is None else (RIM_SPACING, RIM_SPACING)
    found = map_patterns(
        find_bragg_disks,
        Dataset.from_array(blocks.astype(np.float32)),
        disk_kernels(blocks.shape[2:], radius, summed, rim),
        jnp.asarray(spacing / SPACING * radius, float),
        DETECTED,
    )
    origin = np.asarray(middle(blocks.shape[2:]))
    return [
        basis
        for positions, contrast, valid in zip(
            *(np.reshape(leaf, (-1, *leaf.shape[2:])) for leaf in found), strict=True
        )
        if (
            basis := basis_of_disks(
                (positions[valid] - origin) @ to_scan_axes,
                contrast[valid],
                radius,
                outside * radius,
            )
        )
    ]


def _centered(pattern: Pattern, center: Point, detector: Detector) -> Float[Array, "det_y det_x"]:
    """The pattern moved to its center, unusable pixels taken from their neighbors."""
    return center_pattern(repair_pixels(pattern, ~detector.known(pattern)), center)


def _identity(pattern: Pattern) -> Pattern:
    return pattern


def basis_of_disks(
    points: np.ndarray, contrast: np.ndarray, radius: float, outside: float
) -> Basis | None:
    """The lattice that explains more than half of the disks of a block; or, with a turned one like it, 80 %.

    Args:
        points: (y, x) of the disks relative to the direct beam, ``(n, 2)`` in px.
        contrast: Of the disks in units of the noise, ``(n,)``.
        radius: Of the disks in px.
        outside: Distance in px from the direct beam, from which on a disk is one.

    Returns:
        The basis; None where there is none.

    Example:
        >>> h, k = np.mgrid[-2:3, -2:3].reshape(2, -1)
        >>> one = 20.0 * np.stack([h, k], axis=1)
        >>> turned = one @ np.array([[0.8, -0.6], [0.6, 0.8]])
        >>> for second in (turned, 0.75 * turned):
        ...     found = basis_of_disks(np.concatenate([one, second]), np.full(50, 6.0), 4.0, 10.0)
        ...     print(found and np.linalg.norm(found.vectors, axis=1).round(6).tolist())
        [20.0, 20.0]
        None
    """
    far = np.linalg.norm(points, axis=1) > outside
    if far.sum() < 3:
        return None
    tolerance = max(1.0, ON_NODE * radius)
    points, weights = points[far], np.minimum(contrast[far], BRIGHTEST)
    basis = find_basis(points, weights, tolerance)
    if basis is None or not _spans_a_plane(points, basis.vectors, tolerance):
        return None
    if basis.explained > EXPLAINED:
        return basis
    basis = _with_turned(basis, points, weights, tolerance)
    return basis if basis.explained >= TWICE else None


def _with_turned(basis: Basis, points: np.ndarray, weights: np.ndarray, tolerance: float) -> Basis:
    """The basis with what it explains together with a turned one of the same shape, if the other points lie on one."""
    nearest = nearest_node(points[:, 0], points[:, 1], basis.vectors)
    off = nearest.distance_squared > tolerance**2
    turned = find_basis(points[off], weights[off], tolerance)
    if turned is None or not _same_shape(turned.vectors, basis.vectors):
        return basis
    return basis._replace(explained=basis.explained + (1 - basis.explained) * turned.explained)


def _same_shape(vectors: np.ndarray, other: np.ndarray) -> bool:
    shape = _shape(other)
    return bool(np.all(np.abs(_shape(vectors) - shape) < SAME_SHAPE * shape[0]))


def _spans_a_plane(points: np.ndarray, vectors: np.ndarray, tolerance: float) -> bool:
    """Whether at least two disks lie off every row: a row and one stray maximum make no lattice."""
    nearest = nearest_node(points[:, 0], points[:, 1], vectors)
    on = nearest.distance_squared < tolerance**2
    h, k = nearest.h[on], nearest.k[on]
    off_row = h[:, None] * k[None, :] != k[:, None] * h[None, :]
    return bool(on.any()) and int(off_row.sum(axis=1).min()) >= 2


def _consensus(bases: list[Basis]) -> tuple[Basis, np.ndarray]:
    """The basis with the most weight behind lattices of its shape, with their mean shape; and which these are."""
    shapes = np.array([_shape(basis.vectors) for basis in bases])
    weights = np.array([basis.weight * basis.explained for basis in bases])
    apart = np.abs(shapes[:, None] - shapes[None])
    alike = np.all(apart < SAME_SHAPE * shapes[None, :, :1], axis=-1)
    chosen = np.asarray(alike)[:, int(np.argmax(alike @ weights))]
    mean = np.average(shapes[chosen], axis=0, weights=weights[chosen])
    clearest = bases[int(np.argmax(np.where(chosen, weights, 0)))]
    explained = float(np.average([b.explained for b in bases], weights=weights))
    joined = Basis(_with_shape(clearest.vectors, mean), explained, float(weights[chosen].sum()))
    return joined, chosen


def _shape(vectors: np.ndarray) -> np.ndarray:
    """Both lengths, and the height of g2 above g1 in px: what does not change by rotation."""
    a, b = reduce_basis(vectors)
    lengths = np.sort([np.linalg.norm(a), np.linalg.norm(b)])
    return np.array([*lengths, abs(np.linalg.det([a, b])) / lengths[0]])


def _with_shape(vectors: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A basis of a given shape in the orientation of another."""
    a, b = reduce_basis(vectors)
    swapped = a @ a > b @ b
    short, long, height = shape
    first, second = (long, short) if swapped else (short, long)
    sine = np.clip(height / long, 0, 1)
    angle = np.arcsin(sine)
    direction = a / np.linalg.norm(a)
    turned = np.array(
        [
            np.cos(angle) * direction[0] - np.sin(angle) * direction[1],
            np.sin(angle) * direction[0] + np.cos(angle) * direction[1],
        ]
    )
    return np.stack([first * direction, second * turned])
