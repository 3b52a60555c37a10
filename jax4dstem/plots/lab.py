"""How different two colors look: CIE L*a*b* and the color difference CIEDE2000.

Of arrays: thousands of colors against each taken one. Packages do it a pair at a time, or bring a library of image processing.
"""

import numpy as np

Values = np.ndarray | float  # arrays; of single colors numbers
# From linear sRGB to CIE XYZ over the white point D65: IEC 61966-2-1.
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = TO_XYZ.sum(axis=1)
DARK, SLOPE = (6 / 29) ** 3, (29 / 6) ** 2 / 3  # where the cube root of L*a*b* gives way to a line


def linear(color: np.ndarray) -> np.ndarray:
    """Light of red, green and blue, from sRGB between 0 and 1, ``(..., 3)``."""
    color = np.asarray(color, float)
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def lab(color: np.ndarray) -> np.ndarray:
    """L*, a*, b* of sRGB colors between 0 and 1, ``(..., 3)``."""
    share = linear(color) @ TO_XYZ.T / WHITE
    f = np.where(share > DARK, np.cbrt(share), SLOPE * share + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def color_difference(first: np.ndarray, second: np.ndarray) -> Values:
    r"""CIEDE2000 between sRGB colors; 1 is about what is just seen side by side.

    Args:
        first: Red, green and blue between 0 and 1, ``(..., 3)``.
        second: The same; the shapes are broadcast.

    Returns:
        The differences, ``(...)``.

    Example:
        >>> round(float(color_difference(np.array([1, 0, 0]), np.array([0, 1, 0]))), 1)
        86.6

    Reference: Sharma, Wu and Dalal, Color Research and Application 30 (2005) 21, whose table the tests go through.
    """
    return lab_difference(lab(first), lab(second))


def lab_difference(first: np.ndarray, second: np.ndarray) -> Values:
    """CIEDE2000 between colors in L*a*b*, ``(..., 3)``."""
    l1, a1, b1 = np.moveaxis(np.asarray(first, float), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(second, float), -1, 0)
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * _beyond_25(chroma)
    first_hue, second_hue = a1 * stretch + 1j * b1, a2 * stretch + 1j * b2
    c1, c2 = np.abs(first_hue), np.abs(second_hue)
    h1 = np.degrees(np.angle(first_hue)) % 360
    turn = (np.degrees(np.angle(second_hue)) % 360 - h1 + 180) % 360 - 180
    hue = np.where(c1 * c2 == 0, h1 + np.degrees(np.angle(second_hue)) % 360, (h1 + turn / 2) % 360)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    by_hue = (
        1
        - 0.17 * _cos(hue - 30)
        + 0.24 * _cos(2 * hue)
        + 0.32 * _cos(3 * hue + 6)
        - 0.20 * _cos(4 * hue - 63)
    )
    d_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    d_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2) / (1 + 0.015 * chroma * by_hue)
    blue = 30 * np.exp(-(((hue - 275) / 25) ** 2))
    crossed = -2 * _beyond_25(chroma) * np.sin(2 * np.radians(blue)) * d_chroma * d_hue
    return np.sqrt(d_light**2 + d_chroma**2 + d_hue**2 + crossed)


def _beyond_25(chroma: Values) -> Values:
    return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))


def _cos(degrees: Values) -> Values:
    return np.cos(np.radians(degrees))


def contrast(first: np.ndarray, second: np.ndarray) -> Values:
    """Contrast of two sRGB colors between 0 and 1, ``(..., 3)``, from 1 to 21: Web Content Accessibility Guidelines 2.2."""
    light = np.stack(np.broadcast_arrays(linear(first) @ TO_XYZ[1], linear(second) @ TO_XYZ[1]))
    return (light.max(axis=0) + 0.05) / (light.min(axis=0) + 0.05)
