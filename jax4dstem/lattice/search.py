"""Rotation and scale of a known lattice in one pattern, with nothing to start from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import rotation_matrix
from jax4dstem.lattice.basis import symmetry_order
from jax4dstem.typing import Array, Float, FloatPattern, Int, Point, Scalar

STRONGEST = 8.0  # noise units a single disk can contribute, so that one bright spot decides nothing
STEP = 0.5  # disk radii that the outermost reflection moves from one rotation to the next
SCALES = (-0.03, 0.0, 0.03)  # relative lengths that are tried


class Hypotheses(NamedTuple):
    """Lattices that a pattern is compared with, and what to expect.

    Attributes:
        vectors: g1, g2 of every hypothesis, rows (y, x) in px.
        indices: Reflections whose contrast is summed; without the direct beam.
        weights: Their typical contrast.
    """

    vectors: Float[Array, "hypotheses 2 2"]
    indices: Int[Array, "n 2"]
    weights: Float[Array, " n"]


class LatticeSearch(NamedTuple):
    """The best hypothesis.

    Attributes:
        vectors: g1, g2 as rows (y, x) in px.
        score: In units of the noise.
    """

    vectors: Float[Array, "2 2"]
    score: Scalar


def rotated_lattices(
    vectors: np.ndarray, indices: np.ndarray, weights: np.ndarray, radius: float
) -> Hypotheses:
    """All rotations of a lattice within its symmetry, at three scales.

    The steps move the outermost reflection by half a disk radius.

    Args:
        vectors: g1, g2 as rows (y, x) in px.
        indices: Reflections to compare, ``(n, 2)``.
        weights: Their typical contrast, ``(n,)``.
        radius: Of the disks in px.

    Returns:
        What `search_lattice` compares a pattern with.

    Example:
        >>> reflections = np.array([[0, 1], [1, 0]])
        >>> rotated_lattices(np.diag([20.0, 20.0]), reflections, np.ones(2), 3.0).vectors.shape
        (63, 2, 2)
    """
    sector = 2 * np.pi / symmetry_order(vectors)
    reach = np.linalg.norm(indices @ vectors, axis=1).max()
    count = int(np.ceil(sector * reach / (STEP * radius)))
    angles = sector * (np.arange(count) / count - 0.5)
    rotations = np.asarray(jax.vmap(rotation_matrix)(jnp.asarray(angles, float)))
    turned = np.asarray(vectors) @ np.swapaxes(rotations, 1, 2)
    scaled = np.concatenate([(1 + scale) * turned for scale in SCALES])
    return Hypotheses(jnp.asarray(scaled, float), jnp.asarray(indices), jnp.asarray(weights, float))


def search_lattice(contrast: FloatPattern, center: Point, hypotheses: Hypotheses) -> LatticeSearch:
    r"""The hypothesis whose reflections coincide with disks.

    .. math:: Z(G) = \frac{\sum_j w_j \min(S(c + h_j G), 8)}{\sqrt{\sum_j w_j^2}}

    sums the contrast S of `disk_contrast` at the reflections; without a lattice it has unit variance.

    Args:
        contrast: S, ``(det_y, det_x)``.
        center: Of the direct beam, (y, x) in px.
        hypotheses: From `rotated_lattices`.

    Returns:
        The best hypothesis and its Z. A reflection beyond the detector counts as S = 0.

    Example:
        >>> square = np.diag([8.0, 8.0])
        >>> hypotheses = rotated_lattices(square, np.array([[0, 1], [1, 0]]), np.ones(2), 2.0)
        >>> contrast = jnp.zeros((32, 32)).at[16, 24].set(6.0).at[24, 16].set(6.0)
        >>> found = search_lattice(contrast, jnp.array([16.0, 16.0]), hypotheses)
        >>> found.vectors.diagonal().round().tolist(), round(float(found.score), 1)
        ([8.0, 8.0], 8.5)

    Reference: ours.
    """
    scores = score_lattice(contrast, center, hypotheses.vectors, hypotheses)
    best = jnp.argmax(scores)
    return LatticeSearch(hypotheses.vectors[best], scores[best])


def score_lattice(
    contrast: FloatPattern,
    center: Point,
    vectors: Float[Array, "*lattices 2 2"],
    hypotheses: Hypotheses,
) -> Float[Array, "*lattices"]:
    """Z of `search_lattice` for one or more lattices; their rows are g1, g2 in px."""
    values = values_at(contrast, center, vectors, hypotheses.indices, 0.0)
    weights = hypotheses.weights
    return jnp.minimum(values, STRONGEST) @ weights / jnp.sqrt(jnp.sum(weights**2))


def values_at(
    image: FloatPattern,
    center: Point,
    vectors: Float[Array, "*lattices 2 2"],
    indices: Int[Array, "n 2"],
    outside: float = float("nan"),
) -> Float[Array, "*lattices n"]:
    """Values of an image at the pixels of the reflections of one or more lattices; ``outside`` beyond the detector."""
    pixels = jnp.floor(center + indices @ vectors + 0.5).astype(int)
    return image.at[pixels[..., 0], pixels[..., 1]].get(
        mode="fill", fill_value=outside, wrap_negative_indices=False
    )
