r"""Where a pattern is its own inverse: the center without a direct beam.

A diffraction pattern has an inversion center, the direct beam (Friedel's law), whether the beam is seen or not: positions of
reflections and background obey it, intensities roughly. About the center s/2 every pixel r has a partner s - r; their
correlation over the pairs of known pixels,

.. math:: \rho(s) = \frac{\sum m\,m'\,(a - \bar a)(a' - \bar a)}{\sum m\,m'\,(a - \bar a)^2} , \qquad a' = a(s - r) ,

with a the logarithm of the counts, so that no single reflection decides, is a ratio of autoconvolutions. Fisher's
:math:`z = \mathrm{artanh}\,\rho`, whose error is one over the root of the pairs, compares centers with many and with few pairs.

Reference: Padfield, IEEE Trans. Image Process. 21, 2706 (2012), for correlations of masked images.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jax4dstem.typing import Array, Bool, Float, Pattern, Point, Scalar

FEWEST_PAIRS = 0.2  # share of the known pixels: with fewer partners a few pixels make a correlation


class FriedelCenter(NamedTuple):
    """The inversion center of a pattern.

    Attributes:
        center: (y, x) in px.
        symmetry: Fisher's z of the correlation there, times the root of the share of pixels with a partner.
        rival: The largest one farther away.
        expected: The largest one near the expected center.
    """

    center: Float[Array, "2"]
    symmetry: Float[Array, ""]
    rival: Float[Array, ""]
    expected: Float[Array, ""]


def friedel_center(
    pattern: Pattern,
    expected: Point,
    mask: Bool[Array, "det_y det_x"],
    search: Scalar,
    apart: Scalar,
) -> FriedelCenter:
    """The inversion center of a pattern within ``search`` of an expected one.

    Args:
        pattern: Electrons ``(det_y, det_x)``; what masked pixels hold has no influence.
        expected: (y, x) in px.
        mask: Usable pixels.
        search: How far from there the center may be, px.
        apart: Distance within which two centers are the same, px; the radius of the direct beam.

    Returns:
        The center to a fraction of a pixel, and how clear it is.

    Example:
        >>> y, x = jnp.indices((32, 32))
        >>> spots = sum(jnp.exp(-((y - a) ** 2 + (x - b) ** 2) / 4) for a, b in [(8, 9), (23, 22), (9, 20), (22, 11)])
        >>> hidden = jnp.hypot(y - 15.5, x - 15.5) > 4
        >>> found = friedel_center(100 * spots, jnp.array([14.0, 17.0]), hidden, 6.0, 2.0)
        >>> bool(abs(found.center - 15.5).max() < 0.05)
        True
    """
    correlation, pairs = _self_correlation(jnp.log1p(jnp.maximum(pattern, 0.0)), mask)
    share = pairs / jnp.maximum(jnp.sum(mask), 1)
    z = jnp.arctanh(jnp.clip(correlation, 0.0, 0.9999)) * jnp.sqrt(share)
    y, x = (0.5 * jnp.arange(n, dtype=float) for n in z.shape)
    distance = jnp.hypot(y[:, None] - expected[0], x - expected[1])
    z = jnp.where((share > FEWEST_PAIRS) & (distance <= search), z, 0.0)
    row, column = jnp.unravel_index(jnp.argmax(z), z.shape)
    rows, columns = (
        jnp.clip(at + jnp.arange(-1, 2), 0, n - 1)
        for at, n in zip((row, column), z.shape, strict=True)
    )
    center = jnp.stack([
        y[row] + 0.5 * _peak(correlation[rows, column]),
        x[column] + 0.5 * _peak(correlation[row, columns]),
    ])  # fmt: skip
    far = jnp.hypot(y[:, None] - center[0], x - center[1]) > apart
    return FriedelCenter(
        center,
        z[row, column],
        jnp.max(jnp.where(far, z, 0.0)),
        jnp.max(jnp.where(distance <= apart, z, 0.0)),
    )


def _self_correlation(values: Array, mask: Array) -> tuple[Array, Array]:
    """Correlation of the values with their inverse about half of every index, and the number of pairs."""
    height, width = values.shape
    size = (2 * height, 2 * width)
    known = mask.astype(values.dtype)
    mean = jnp.sum(values * known) / jnp.maximum(jnp.sum(known), 1)
    centered = (values - mean) * known
    masks, first, second = (jnp.fft.rfft2(image, size) for image in (known, centered, centered**2))
    pairs, products, sums, squares = (
        jnp.fft.irfft2(image, size)[:-1, :-1]
        for image in (masks**2, first**2, first * masks, second * masks)
    )
    number = jnp.maximum(pairs, 1.0)
    variance = squares - sums**2 / number
    covariance = products - sums**2 / number
    least = 1e-5 * jnp.max(squares)
    return jnp.where(variance > least, covariance / jnp.maximum(variance, least), 0.0), pairs


def _peak(three: Float[Array, "3"]) -> Float[Array, ""]:
    """Where the parabola through three neighbors has its maximum, relative to the middle one."""
    before, middle, after = three
    bend = before - 2 * middle + after
    return jnp.where(bend < 0, 0.5 * (before - after) / jnp.where(bend < 0, bend, -1.0), 0.0)
