"""Where are disks: contrast with the surroundings in units of the noise, and its maxima."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.detector import IDEAL, Detector
from jax4dstem.maxima import parabola_vertex
from jax4dstem.typing import Array, Bool, Float, Pattern, Point, Scalar

SPACING = 1.5  # disk radii between two detected disks
RIM = 2.0  # px on both sides of an edge that tell a disk where disks overlap: two thirds of the noise of half as much
RIM_SPACING = 1.2  # disk radii between two disks that overlap: beside a rim its own contrast has maxima half as far away
OUTSIDE = 2.2  # disk radii from the direct beam, from which on a maximum is a disk of its own


class DiskKernels(NamedTuple):
    """Fourier transforms of the matched filter and of its window, and their sums over usable pixels.

    Attributes:
        difference: Of the disk minus its ring, which sums to zero.
        window: Of disk plus ring.
        area: Sum of the window; around every pixel where a mask makes it differ.
        offset: Sum of the difference; 0 without a mask.
        squares: Sum of squares of the difference less its offset.
        detector: Its mask and noise.
    """

    difference: Array
    window: Array
    area: Array
    offset: Array
    squares: Array
    detector: Detector


class BraggDisks(NamedTuple):
    """Detected disks, strongest first, padded to a fixed number.

    Attributes:
        positions: (y, x) in px.
        contrast: Height above the surroundings in units of its noise.
        valid: False for padding.
    """

    positions: Float[Array, "n 2"]
    contrast: Float[Array, " n"]
    valid: Bool[Array, " n"]


def disk_kernels(
    shape: tuple[int, int], radius: float, detector: Detector = IDEAL, rim: float | None = None
) -> DiskKernels:
    """Filters for disks of a radius: a disk, and around it a ring of the same area.

    Args:
        shape: ``(det_y, det_x)``.
        radius: Of the disks in px.
        detector: What counted.
        rim: Width in px of what is compared on both sides of the disk's edge, where other disks overlap its inside and its
            surroundings; None for all of the disk.

    Returns:
        The filters, for `disk_contrast` and `find_bragg_disks`.

    Example:
        >>> disk_kernels((32, 32), 3.0).difference.shape
        (32, 17)
    """
    y, x = np.indices(shape)
    distance = np.hypot(y - shape[0] // 2, x - shape[1] // 2)
    inner, outer = radius + 1.0, np.hypot(radius + 1.0, radius) + 0.5

    def soft(edge: float) -> np.ndarray:
        return np.clip(edge - distance + 0.5, 0, 1)

    disk = soft(radius)
    if rim is not None:
        inner, outer, disk = radius, radius + rim, disk - soft(radius - rim)
    ring = soft(outer) - soft(inner)
    difference = disk - ring * disk.sum() / ring.sum()
    origin = (-(shape[0] // 2), -(shape[1] // 2))

    def spectrum(kernel: np.ndarray) -> Array:
        return jnp.asarray(np.conj(np.fft.rfft2(np.roll(kernel, origin, (0, 1)))), complex)

    window = disk + ring
    sums = _sums_over_mask(difference, window, detector.mask)
    area, offset, squares = (jnp.asarray(values, float) for values in sums)
    return DiskKernels(
        spectrum(difference), spectrum(window), area, offset, squares, detector.as_arrays()
    )


def _sums_over_mask(difference: np.ndarray, window: np.ndarray, mask: Any) -> tuple[Any, Any, Any]:
    """Area, offset and squares of `DiskKernels`."""
    if mask is None:
        return window.sum(), 0.0, (difference**2).sum()
    usable = np.fft.rfft2(np.asarray(mask, float))

    def around(kernel: np.ndarray) -> np.ndarray:
        centered = np.fft.ifftshift(kernel)
        return np.fft.irfft2(np.conj(np.fft.rfft2(centered)) * usable, mask.shape)

    area, offset = np.maximum(around(window), 1.0), around(difference)
    share = offset / area
    squares = around(difference**2) - 2 * share * around(difference * window)
    return area, offset, np.maximum(squares + share**2 * around(window**2), 0.0)


def disk_contrast(
    pattern: Pattern, kernels: DiskKernels, known: Float[Array, "det_y det_x"] | None = None
) -> Float[Array, "det_y det_x"]:
    r"""Contrast of a disk around every pixel, in units of its noise.

    .. math:: S = \frac{K \star n}{\sqrt{1 + \sum K^2 \operatorname{var} \bar n}}, \qquad
        \bar n = \frac{W \star n}{\sum W}

    with the zero-sum matched filter K (disk minus ring), its window W, the mean count n̄ in it and the variance of such
    counts. Without a disk, S has unit variance and zero mean wherever the background is linear, whatever its
    slope. Masked pixels count as the mean n̄ of those around them.

    Args:
        pattern: Counts ``(det_y, det_x)``; pixels that are not finite count as 0.
        kernels: From `disk_kernels`.
        known: Expected counts of what is not looked for, whose contrast is subtracted; its noise stays.

    Returns:
        S; at the rim of the detector the pattern is taken as periodic.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax4dstem.patterns.detectors import disk_mask
        >>> pattern = 1.0 + 9.0 * disk_mask((32, 32), jnp.array([12.0, 20.0]), 3.0)
        >>> contrast = jax.jit(disk_contrast)(pattern, disk_kernels((32, 32), 3.0))
        >>> divmod(int(contrast.argmax()), 32)
        (12, 20)

    Reference: ours.
    """
    spectrum = jnp.fft.rfft2(kernels.detector.clip(pattern))
    signal = jnp.fft.irfft2(spectrum * kernels.difference, pattern.shape)
    mean = jnp.fft.irfft2(spectrum * kernels.window, pattern.shape) / kernels.area
    signal = signal - kernels.offset * mean
    variance = kernels.detector.noise.variance(jnp.maximum(mean, 0.0))
    if known is not None:
        spectrum = jnp.fft.rfft2(known)
        signal = signal - jnp.fft.irfft2(spectrum * kernels.difference, pattern.shape)
        around = jnp.fft.irfft2(spectrum * kernels.window, pattern.shape) / kernels.area
        signal = signal + kernels.offset * around
    return signal / jnp.sqrt(1.0 + variance * kernels.squares)


def find_bragg_disks(
    pattern: Pattern, kernels: DiskKernels, radius: Scalar, threshold: Scalar = 5.0, n_max: int = 64
) -> BraggDisks:
    """Detect disks as separate maxima of the contrast, to sub-pixel precision.

    The strongest maximum is taken, its neighborhood of 1.5 disk radii left out, and so on; a parabola
    through the contrast around the maximum refines it.

    Args:
        pattern: Counts ``(det_y, det_x)``.
        kernels: From `disk_kernels`.
        radius: Of the disks in px.
        threshold: Smallest contrast of a disk, in units of the noise.
        n_max: Length of the result.

    Returns:
        The disks, strongest first; those whose ring leaves the detector are not found.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax4dstem.patterns.detectors import disk_mask
        >>> pattern = 1.0 + 9.0 * disk_mask((32, 32), jnp.array([12.3, 20.0]), 3.0)
        >>> find = jax.jit(find_bragg_disks, static_argnames="n_max")
        >>> found = find(pattern, disk_kernels((32, 32), 3.0), 3.0, n_max=4)
        >>> int(found.valid.sum()), found.positions[0].round(1).tolist()
        (1, [12.300000190734863, 20.0])
    """
    contrast = disk_contrast(pattern, kernels)
    height, width = pattern.shape
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inside = (jnp.minimum(y, height - 1 - y) >= radius) & (jnp.minimum(x, width - 1 - x) >= radius)

    def pick(remaining: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        row, column = jnp.divmod(jnp.argmax(remaining), width)
        far = (y - row) ** 2 + (x - column) ** 2 > (SPACING * radius) ** 2
        found = jnp.stack([row, column])
        return jnp.where(far, remaining, -jnp.inf), (found, remaining[row, column])

    start = jnp.where(inside, contrast, -jnp.inf)
    _, (pixels, heights) = jax.lax.scan(pick, start, None, length=n_max)
    positions = jax.vmap(_vertex, (None, 0))(contrast, pixels)
    return BraggDisks(positions, heights, heights >= threshold)


def _vertex(image: Array, pixel: Array) -> Point:
    """Maximum of the parabolas along y and x through a pixel and its neighbors."""
    around = jax.lax.dynamic_slice(image, pixel - 1, (3, 3))
    shift = jnp.stack([parabola_vertex(*around[:, 1]), parabola_vertex(*around[1])])
    # Beside a stronger disk, whose neighborhood is left out, a maximum need not be one of its neighbors.
    return pixel.astype(float) + shift.clip(-0.5, 0.5)
