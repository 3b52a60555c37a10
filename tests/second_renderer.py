"""Diffraction patterns of strained lattices in NumPy alone: an oracle that shares nothing with jax4dstem.

Hard-edged disks, integrated over pixels by counting subpixels, on an exponential background, with Poisson
counts. Neither the edge, nor the background, nor the arithmetic is that of the library's own simulator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SUBPIXELS = 8  # along a pixel's side: the center of a drawn disk is right to some 0.01 px


@dataclass(frozen=True)
class Scan:
    """Counts ``(scan_y, scan_x, det_y, det_x)`` and what they were made from.

    ``strain`` holds (e_xx, e_yy, e_xy, theta), ``(scan_y, scan_x, 4)``; ``center`` is (y, x) in px.
    """

    counts: np.ndarray
    strain: np.ndarray
    center: np.ndarray


def deform(reciprocal: np.ndarray, strain: np.ndarray) -> np.ndarray:
    """Rows g1, g2 (y, x) of a crystal that is first turned by theta, then strained: g' = F^-T g, F = (1 + E) R.

    y points down and theta counter-clockwise on the screen, so a turn by 90 degrees takes x (0, 1) to (-1, 0).
    """
    e_xx, e_yy, e_xy, theta = strain
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    gradient = np.array([[1 + e_yy, e_xy], [e_xy, 1 + e_xx]]) @ turn
    return reciprocal @ np.linalg.inv(gradient)


def disk(
    shape: tuple[int, int], center: np.ndarray, radius: float, aperture: Callable | None = None
) -> tuple[tuple, np.ndarray]:
    """Where in the detector a disk lies, as slices, and which share of each pixel there it covers.

    An aperture is what is seen at points (y, x) of the disk; all of it by default.
    """
    low = np.maximum(np.floor(center - radius - 1).astype(int), 0)
    high = np.minimum(np.ceil(center + radius + 2).astype(int), shape)
    if (high <= low).any():
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0))
    fine = (np.arange(SUBPIXELS) + 0.5) / SUBPIXELS - 0.5
    y, x = (
        (np.arange(a, b)[:, None] + fine).ravel() - c
        for a, b, c in zip(low, high, center, strict=True)
    )
    inside = (y[:, None] ** 2 + x**2 <= radius**2).astype(float)
    if aperture is not None:
        inside = inside * aperture(y[:, None], x)
    size = high - low
    shares = inside.reshape(size[0], SUBPIXELS, size[1], SUBPIXELS).mean(axis=(1, 3))
    return (slice(low[0], high[0]), slice(low[1], high[1])), shares


def render(
    reciprocal: np.ndarray,
    scan_shape: tuple[int, int],
    shape: tuple[int, int],
    *,
    radius: float = 4.0,
    dose: float = 1e5,
    background: float = 0.3,
    largest_strain: float = 0.03,
    to_detector: np.ndarray | None = None,
    aperture: Callable | None = None,
    center: np.ndarray | None = None,
    seed: int = 0,
) -> Scan:
    """A crystal whose strain (within 3 %) and rotation (within 10 degrees) differ at random in every position.

    Centers (y, x) are given or lie within half a pixel of the middle. What the microscope does to vectors (y, x) between specimen and detector is a matrix on their right.
    """
    optics = np.eye(2) if to_detector is None else to_detector
    rng = np.random.default_rng(seed)
    strain = rng.uniform(-1, 1, (*scan_shape, 4)) * [*3 * [largest_strain], np.radians(10)]
    middle = (np.array(shape) - 1) / 2
    if center is None:
        center = middle + rng.uniform(-0.5, 0.5, (*scan_shape, 2))
    h, k = (grid.ravel() for grid in np.meshgrid(*2 * [np.arange(-6, 7)], indexing="ij"))
    length = np.hypot(*(np.stack([h, k], 1) @ reciprocal).T)
    near = (length > 0) & (length < min(shape) / 2)
    h, k, length = h[near], k[near], length[near]
    shares = 2e-3 * np.exp(-length / (0.3 * min(shape))) * np.exp(0.3 * rng.standard_normal(len(h)))
    y, x = np.indices(shape)
    expected = np.zeros((*scan_shape, *shape))
    for where in np.ndindex(*scan_shape):
        film = np.exp(-np.hypot(y - center[where][0], x - center[where][1]) / (0.2 * min(shape)))
        pattern = background * dose * film / film.sum()
        basis = deform(reciprocal, strain[where]) @ optics
        spots = [(center[where], 1 - shares.sum())]
        spots += [
            (center[where] + a * basis[0] + b * basis[1], share)
            for a, b, share in zip(h, k, shares, strict=True)
        ]
        for position, share in spots:
            window, covered = disk(shape, position, radius, aperture)
            pattern[window] += (1 - background) * dose * share * covered / (np.pi * radius**2)
        expected[where] = pattern
    return Scan(rng.poisson(expected).astype(np.uint16), strain, center)


def powder(
    q: np.ndarray,
    intensity: np.ndarray,
    scan_shape: tuple[int, int],
    shape: tuple[int, int],
    *,
    pixel: float,
    spots: int = 400,
    radius: float = 2.5,
    dose: float = 1e5,
    background: float = 0.5,
    strain: float = 0.0,
    to_detector: np.ndarray | None = None,
    center: tuple[float, float] = (2.0, -3.0),
    seed: int = 0,
) -> Scan:
    """Rings of a polycrystal: disks at random angles on circles of q / pixel, as many on each ring of all patterns.

    Half of the electrons are in the direct beam. The center (y, x) is relative to the middle; descan adds up to a pixel. The
    lengths of reflections scatter by the strain, intensities by a factor of e.
    """
    optics = np.eye(2) if to_detector is None else to_detector
    rng = np.random.default_rng(seed)
    middle = (np.array(shape) - 1) / 2 + center
    centers = middle + rng.uniform(-1, 1, (*scan_shape, 2))
    y, x = np.indices(shape)
    expected = np.zeros((*scan_shape, *shape))
    for where in np.ndindex(*scan_shape):
        away = np.stack([y, x], -1) - centers[where]
        r = np.linalg.norm(away @ np.linalg.inv(optics), axis=-1)
        film = np.exp(-r / (0.15 * min(shape))) + 0.3 / (1 + (r / 8) ** 2)
        expected[where] = 0.5 * background * dose * film / film.sum()
        window, covered = disk(shape, centers[where], radius)
        expected[where][window] += 0.5 * dose * covered / (np.pi * radius**2)
    positions = list(np.ndindex(*scan_shape))
    for length, total in zip(q / pixel, intensity / np.sum(intensity), strict=True):
        weights = rng.exponential(size=spots)
        weights *= 0.5 * (1 - background) * dose * len(positions) * total / weights.sum()
        for n, weight in enumerate(weights):
            where = positions[n % len(positions)]
            angle = rng.uniform(0, 2 * np.pi)
            spot = (
                length
                * (1 + strain * rng.standard_normal())
                * np.array([np.sin(angle), np.cos(angle)])
            )
            window, covered = disk(shape, centers[where] + spot @ optics, radius)
            expected[where][window] += weight * covered / (np.pi * radius**2)
    return Scan(rng.poisson(expected).astype(np.uint16), np.zeros((*scan_shape, 4)), centers)
