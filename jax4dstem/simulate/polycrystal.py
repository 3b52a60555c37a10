"""A strained polycrystal under growing background: the specimen of the strain benchmark."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import deform, deformation
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.lattice.disks import hexagonal_indices
from jax4dstem.simulate.pattern import Background, Optics, PatternParameters
from jax4dstem.simulate.scan import check_detector, simulate_scan
from jax4dstem.simulate.specimen import probe_shares

FIRST_RING = 28.0  # px, on a detector of 200 px; smaller detectors scale it
DETECTOR = 200
DISK_RADIUS = 4.0  # px
EDGE_WIDTH = 0.3  # px
TAIL_WIDTH = 0.01  # cycles/px: half width of the Lorentzian
PROBE_SIGMA = 0.8  # scan positions
INTENSITY_SPREAD = 0.3  # of the logarithm, from grain to grain
# Share of the electrons in one disk, by h² + hk + k²; the direct beam has the rest.
SHELL_SHARES = {1: 8e-4, 3: 1.25e-3, 4: 5e-4, 7: 2.5e-4, 9: 1.5e-4, 12: 1e-4, 13: 5e-5}
MAX_LATTICES = 4  # grains under one probe that are drawn


@dataclass(frozen=True)
class PolycrystalTruth:
    """What a polycrystal was made from; strain arrays ``(scan_y, scan_x)`` of the largest grain share.

    Attributes:
        grain: Number of the grain with the largest share under the probe.
        purity: That share.
        e_xx: Strain along x; axes and signs as in `deformation`.
        e_yy: Strain along y.
        e_xy: Tensor shear strain.
        theta: Rotation in radians, 0 to 2π; only defined modulo 60 degrees.
        vectors: Unstrained, unrotated g1, g2 as rows (y, x) in px.
        parameters: Of every pattern, to compute bounds from.
        optics: Shared by all patterns.
    """

    grain: np.ndarray
    purity: np.ndarray
    e_xx: np.ndarray
    e_yy: np.ndarray
    e_xy: np.ndarray
    theta: np.ndarray
    vectors: np.ndarray
    parameters: PatternParameters
    optics: Optics

    @property
    def interior(self) -> np.ndarray:
        """Positions where one grain has more than 95 % of the probe."""
        return self.purity > 0.95


def polycrystal(
    scan_shape: tuple[int, int] = (64, 64),
    detector_shape: tuple[int, int] = (DETECTOR, DETECTOR),
    *,
    background: float = 0.0,
    dose: float = 1e5,
    n_grains: int = 25,
    gradient: float = 0.0,
    seed: int = 0,
    progress: str | None = None,
) -> tuple[Dataset, PolycrystalTruth]:
    r"""Simulate hexagonal grains of random rotation and strain, under a share of Lorentzian background.

    .. math:: n \sim \operatorname{Poisson}\left(N \left[(1 - w) D + w L\right]\right), \qquad
        L \propto \frac{1}{1 + (q / 0.01)^2}

    with Bragg disks D and background L of unit sum, q in cycles per px. Strains and shears lie within
    ±2 %, rotations within 0 to 360 degrees; intensities vary from grain to grain and reflection to
    reflection by exp(0.3 N(0, 1)).

    Args:
        scan_shape: ``(scan_y, scan_x)``.
        detector_shape: ``(det_y, det_x)``.
        background: w, the share of the background.
        dose: N, expected electrons per pattern.
        n_grains: Voronoi cells; 1 gives a single crystal.
        gradient: Largest change of a strain component per scan position inside a grain.
        seed: Of grains, strains and noise.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        The dataset, in memory, and its truth.

    Raises:
        InputError: The background is not in [0, 1), or the detector is too small.

    Example:
        >>> scan, truth = polycrystal((4, 4), (64, 64), n_grains=2, background=0.25)
        >>> scan.shape, truth.e_xx.shape
        ((4, 4, 64, 64), (4, 4))

    Reference: ours.
    """
    if not 0 <= background < 1:
        raise InputError(f"background {background} must lie in [0, 1): it is a share of the dose")
    check_detector(detector_shape)
    rng = np.random.default_rng(seed)
    grains = _voronoi(scan_shape, n_grains, rng)
    shares = probe_shares(grains, n_grains, PROBE_SIGMA)
    strain = rng.uniform(-0.02, 0.02, (3, n_grains))
    theta = rng.uniform(0, 2 * np.pi, n_grains)
    bends = _bends(scan_shape, n_grains, gradient, rng)
    fields = [strain[i][:, None, None] + bends[i] for i in range(3)]
    vectors = _vectors(detector_shape)
    indices, shell_shares = _reflections(vectors, detector_shape)
    spread = np.exp(INTENSITY_SPREAD * rng.standard_normal((n_grains, len(indices))))
    intensities = shell_shares * spread
    intensities[:, 0] = 1 - intensities[:, 1:].sum(axis=1)

    lattices = _lattices(vectors, fields, theta)
    order = np.argsort(-shares, axis=-1)[..., : min(MAX_LATTICES, n_grains)]
    weights = np.take_along_axis(shares, order, -1)
    weights /= weights.sum(axis=-1, keepdims=True)
    rows, cols = np.indices(scan_shape)
    arrays: dict[str, Any] = {
        "center": np.broadcast_to((np.array(detector_shape) - 1) / 2, (*scan_shape, 2)) + 0.5,
        "vectors": lattices[order, rows[..., None], cols[..., None]],
        "intensities": intensities[order] * weights[..., None],
        "background_fraction": np.full(scan_shape, background),
        "dose": np.full(scan_shape, dose),
    }
    parameters = PatternParameters(**arrays)
    tail = Background(1.0, TAIL_WIDTH * detector_shape[1], jnp.zeros(0), jnp.zeros(0), jnp.ones(0))
    optics = Optics(jnp.asarray(indices), DISK_RADIUS, EDGE_WIDTH, tail)
    counts = simulate_scan(parameters, optics, detector_shape, seed=seed, progress=progress)
    main = order[..., 0]
    e_xx, e_yy, e_xy = (field[main, rows, cols] for field in fields)
    truth = PolycrystalTruth(
        main, weights[..., 0], e_xx, e_yy, e_xy, theta[main], vectors, parameters, optics
    )
    return Dataset.from_array(counts), truth


def _voronoi(scan_shape: tuple[int, int], n_grains: int, rng: np.random.Generator) -> np.ndarray:
    seeds = rng.uniform(0, 1, (n_grains, 2)) * scan_shape
    points = np.moveaxis(np.indices(scan_shape), 0, -1)
    distance = ((points[:, :, None] - seeds) ** 2).sum(axis=-1)
    return distance.argmin(axis=-1)


def _bends(
    scan_shape: tuple[int, int], n_grains: int, gradient: float, rng: np.random.Generator
) -> np.ndarray:
    """A plane wave of strain in every grain and component, of the given largest slope."""
    y, x = np.indices(scan_shape)
    wavelength = max(scan_shape)
    angle = rng.uniform(0, 2 * np.pi, (3, n_grains, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (3, n_grains, 1, 1))
    along = np.cos(angle) * x + np.sin(angle) * y
    return gradient * wavelength / (2 * np.pi) * np.sin(2 * np.pi * along / wavelength + phase)


def _vectors(detector_shape: tuple[int, int]) -> np.ndarray:
    length = FIRST_RING * min(detector_shape) / DETECTOR
    return length * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])


def _reflections(
    vectors: np.ndarray, detector_shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    indices = hexagonal_indices(max(SHELL_SHARES))
    h, k = indices.T
    shares = np.array([SHELL_SHARES.get(shell, 0.0) for shell in h**2 + h * k + k**2])
    return indices, shares


def _lattices(vectors: np.ndarray, fields: list[np.ndarray], theta: np.ndarray) -> np.ndarray:
    """g1, g2 of every grain at every position, ``(grains, scan_y, scan_x, 2, 2)``."""
    rotations = np.broadcast_to(theta[:, None, None], fields[0].shape)
    flat = [np.ravel(part) for part in (*fields, rotations)]

    def one(*values: jax.Array) -> jax.Array:
        return deform(jnp.asarray(vectors, float), deformation(*values))

    return np.asarray(jax.jit(jax.vmap(one))(*flat)).reshape(*fields[0].shape, 2, 2)
