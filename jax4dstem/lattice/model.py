"""What the lattice fit assumes of all patterns of a scan, and what it finds in one."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.detector import IDEAL, Detector
from jax4dstem.lattice.probe import ProbeImage, SoftDisk
from jax4dstem.typing import Array, Bool, Float, Int, Scalar

FLOOR = 1e-4  # counts per pixel expected everywhere: stray electrons, and no division by zero
TOUCHING = 1.0  # px between the edges of a disk and of its cell, below which disks are fitted together: what a blurred edge reaches


class LatticeModel(NamedTuple):
    """Shared by all positions of a scan; a pytree, so that it can be refined by gradients.

    Attributes:
        lattice: g1, g2 as rows (y, x), that distortions refer to: in scan axes, undistorted, in px (widths of a pixel).
        indices: Reflections (h, k) of the model, the direct beam (0, 0) first.
        radius: Of the disks, in px.
        edge_width: Of the disks' logistic edge, in px.
        background: Radial profile of what lies between the disks, at 0, 1, 2... px from the direct
            beam; its height is free at every reflection, only its slope counts.
        intensity: Typical share of the pattern's electrons in each disk.
        spread: Standard deviation of that share over the scan.
        dispersion: Variance of the counts around each disk over that of the noise.
        texture: Typical contrast inside a disk, relative to its height.
        detector: Noise, saturation and mask of what counted.
        to_detector: What the microscope makes of such row vectors on the detector; see `Calibration`.
        image: Of the probe, as of `ProbeImage`, where a soft disk is not what the disks look like; otherwise None.
        scatter: Of the disks of an image: variance of their positions (y, x) about the lattice over what the counts explain.

    Example:
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> model.distorted(0.5 * jnp.eye(2)).tolist()
        [[6.0, 0.0], [0.0, 6.0]]
    """

    lattice: Float[Array, "2 2"]
    indices: Int[Array, "n 2"]
    radius: Scalar
    edge_width: Scalar
    background: Float[Array, " radii"]
    intensity: Float[Array, " n"]
    spread: Float[Array, " n"]
    dispersion: Float[Array, " n"]
    texture: Scalar
    detector: Detector
    to_detector: Float[Array, "2 2"]
    image: Float[Array, "m m"] | None = None
    scatter: Float[Array, "n 2"] | None = None

    @property
    def probe(self) -> SoftDisk | ProbeImage:
        """What one disk looks like."""
        if self.image is None:
            return SoftDisk(self.radius, self.edge_width)
        return ProbeImage(self.radius, self.edge_width, self.image)

    def distorted(self, distortion: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
        """g1, g2 on the detector, rows (y, x) in px, of a lattice with distortion A."""
        return self.lattice @ distortion @ self.to_detector

    @property
    def tightest(self) -> np.ndarray:
        """The lattice as small as it can be on the detector, in whatever orientation: for what must not overlap."""
        return np.asarray(self.lattice) * np.linalg.svd(np.asarray(self.to_detector))[1].min()

    @property
    def overlapping(self) -> bool:
        """Whether disks reach into one another's cells, in whatever orientation."""
        return overlapping(self.tightest, float(self.radius))


def lattice_moves(model: LatticeModel) -> Array:
    """Derivative of the reflections' positions by (c_y, c_x, A_00, A_10, A_01, A_11)."""
    nodes = model.indices @ model.lattice
    by_center = jnp.broadcast_to(jnp.eye(2), (len(nodes), 2, 2))
    by_distortion = jnp.einsum("ni,jk->nkji", nodes, model.to_detector)
    return jnp.concatenate([by_center, by_distortion.reshape(-1, 2, 4)], axis=2)


def overlapping(lattice: np.ndarray, radius: float) -> bool:
    """Whether disks of a radius in px reach into one another's cells; g1, g2 as rows in px."""
    a, b = np.asarray(lattice, np.float64)
    spacing = min(np.linalg.norm(v) for v in (a, b, a + b, a - b))
    return bool(spacing < 2 * (radius + TOUCHING))


class LatticeFit(NamedTuple):
    """The lattice of one pattern.

    The lattice is G = G_ref A with A = F⁻¹, in scan axes; reflections lie at c + (h, k) G_ref A T with
    the model's T, ``to_detector``.

    Attributes:
        center: c, of the direct beam, (y, x) in px.
        distortion: A, ``(2, 2)``, on row vectors (y, x).
        information: Fisher information of (c_y, c_x, A_00, A_10, A_01, A_11), everything else
            eliminated, ``(6, 6)``.
        intensities: Fitted share of the pattern's electrons in each disk.
        dispersion: Pearson's χ² per degree of freedom around each disk.
        texture: Mean square of the fitted contrast inside each disk, relative to its height.
        score: Evidence for the lattice in units of the noise.
        step: Largest move of a reflection in the last iteration, in px.
        converged: Whether that iteration moved the lattice by less than its standard error: the root of the mean
            of δᵀ I δ over the six parameters, with the information I and the step δ, is below 1.
        beside: Evidence for the same lattice in another rotation beside this one, in units of the noise; see `score_beside`.
    """

    center: Float[Array, "2"]
    distortion: Float[Array, "2 2"]
    information: Float[Array, "6 6"]
    intensities: Float[Array, " n"]
    dispersion: Float[Array, " n"]
    texture: Float[Array, " n"]
    score: Scalar
    step: Scalar
    converged: Bool[Array, ""]
    beside: Scalar


def starting_model(
    lattice: np.ndarray,
    indices: np.ndarray,
    radius: float,
    detector: Detector = IDEAL,
    to_detector: np.ndarray | None = None,
) -> LatticeModel:
    """A model that knows nothing but the lattice and the size of the disks.

    Args:
        lattice: g1, g2 as rows (y, x) in px, in scan axes, ``(2, 2)``.
        indices: Reflections (h, k), ``(n, 2)``, the direct beam (0, 0) first.
        radius: Of the disks, in px.
        detector: Noise, saturation and mask of what counted.
        to_detector: Of the scan's calibration; None for a detector in scan axes.

    Returns:
        The model; its background is flat.

    Example:
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> model.intensity.shape
        (2,)
    """
    count = len(indices)
    return LatticeModel(
        jnp.asarray(lattice, float),
        jnp.asarray(indices),
        jnp.asarray(radius, float),
        jnp.asarray(0.1 * radius, float),
        jnp.ones(2),
        jnp.full(count, 1e-3, float),
        jnp.ones(count),
        jnp.ones(count),
        jnp.asarray(0.0, float),
        detector.as_arrays(),
        jnp.eye(2) if to_detector is None else jnp.asarray(to_detector, float),
    )
