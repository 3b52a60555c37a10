"""Maps of a specimen that decide a scan: domains under the probe, misfit strain, tilt."""

import numpy as np
from scipy.ndimage import gaussian_filter


def scan_coordinates(scan_shape: tuple[int, int]) -> np.ndarray:
    """Positions (y, x) ``(scan_y, scan_x, 2)`` from the middle of the scan, its shorter side being 1.

    Example:
        >>> scan_coordinates((3, 3))[0, 2].round(3).tolist()
        [-0.333, 0.333]
    """
    axes = [np.arange(n) - (n - 1) / 2 for n in scan_shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) / min(scan_shape)


def triangle_distance(points: np.ndarray, inradius: float) -> np.ndarray:
    """How far points (y, x) lie outside a triangle around the origin that points up; negative inside.

    Example:
        >>> import numpy as np
        >>> triangle_distance(np.array([[0.0, 0.0], [3.0, 0.0]]), 1.0).tolist()
        [-1.0, 2.0]
    """
    y, x = points[..., 0], points[..., 1]
    sides = np.stack([y, -0.5 * y + np.sqrt(0.75) * x, -0.5 * y - np.sqrt(0.75) * x])
    return sides.max(axis=0) - inradius


def probe_shares(domains: np.ndarray, n_domains: int, sigma: float) -> np.ndarray:
    """Share of every domain under a Gaussian probe.

    Args:
        domains: Domain number of every scan position, ``(scan_y, scan_x)``, 0 to ``n_domains`` - 1.
        n_domains: Length of the last axis of the result.
        sigma: Of the probe's intensity, in scan positions.

    Returns:
        ``(scan_y, scan_x, n_domains)``, summing to 1 at every position.

    Example:
        >>> import numpy as np
        >>> probe_shares(np.eye(5, dtype=int), 2, 0.8).shape
        (5, 5, 2)
    """
    is_domain = np.eye(n_domains)[domains]
    shares = gaussian_filter(is_domain, (sigma, sigma, 0), mode="nearest")
    return shares / shares.sum(axis=-1, keepdims=True)


def coherent_strain(inclusion: np.ndarray, misfit: float, poisson_ratio: float) -> np.ndarray:
    r"""Strain of a flat sheet of which a part would like to be larger by a misfit.

    For an isotropic sheet in plane stress the displacement has a potential, u = ∇Φ with
    ∇²Φ = (1 + ν) ε θ, hence

    .. math:: \hat e_{ij}(k) = (1 + \nu) \, \varepsilon \, \frac{k_i k_j}{k^2} \, \hat\theta(k)

    (Goodier, Phil. Mag. 23, 1017, 1937; Mura, Micromechanics of Defects in Solids, sec. 2-3). It is
    compatible: no rotation, no dislocation. The sheet goes on for half a scan around the scan.

    Args:
        inclusion: θ ``(scan_y, scan_x)``, the share of the larger material.
        misfit: ε, its free expansion.
        poisson_ratio: ν.

    Returns:
        Total strain ``(scan_y, scan_x, 2, 2)`` on (y, x) vectors, relative to the smaller material.

    Example:
        >>> import numpy as np
        >>> strip = np.zeros((8, 8)); strip[:, 2:6] = 1.0
        >>> coherent_strain(strip, 0.01, 0.2).shape
        (8, 8, 2, 2)
    """
    height, width = inclusion.shape
    pad = height // 2, width // 2
    padded = np.pad(inclusion, [(n, n) for n in pad])
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in padded.shape), indexing="ij"), axis=-1)
    squared = (k**2).sum(axis=-1)
    squared[0, 0] = 1  # the mean strain of the whole sheet is taken as zero
    projector = k[..., :, None] * k[..., None, :] / squared[..., None, None]
    spectrum = (1 + poisson_ratio) * misfit * np.fft.fft2(padded)
    strain = np.fft.ifft2(projector * spectrum[..., None, None], axes=(0, 1)).real
    return strain[pad[0] : pad[0] + height, pad[1] : pad[1] + width]


def smooth_slopes(
    scan_shape: tuple[int, int], width: float, slope: float, rng: np.random.Generator
) -> np.ndarray:
    """Slopes (y, x) of a sheet that bends at random, smooth over ``width`` positions.

    Args:
        scan_shape: ``(scan_y, scan_x)``.
        width: Standard deviation of the smoothing, in scan positions.
        slope: Largest slope of the result, in radians.
        rng: Draws the two fields.

    Returns:
        ``(scan_y, scan_x, 2)`` in radians, the largest of length ``slope``.

    Example:
        >>> slopes = smooth_slopes((8, 8), 2.0, 0.01, np.random.default_rng(0))
        >>> round(float(np.linalg.norm(slopes, axis=-1).max()), 6)
        0.01
    """
    fields = [gaussian_filter(rng.normal(size=scan_shape), width) for _ in range(2)]
    slopes = np.stack(fields, axis=-1)
    slopes *= slope / np.linalg.norm(slopes, axis=-1).max()
    return slopes


def ridge_slopes(points: np.ndarray, width: float, slope: float) -> np.ndarray:
    r"""Slope of a sheet with three ridges from the origin towards the corners of a triangle.

    Each ridge along the unit vector u has the height
    :math:`\exp(-(r \cdot u_\perp)^2 / 2 w^2) \, / \, (1 + \exp(-r \cdot u / w))`.

    Args:
        points: (y, x) on the grid of the scan, ``(scan_y, scan_x, 2)``.
        width: w, in the units of the points.
        slope: Largest slope of the result.

    Returns:
        Gradient (y, x) of the height, ``(scan_y, scan_x, 2)``, in radians.
    """
    angles = np.pi / 2 + 2 * np.pi / 3 * np.arange(3)
    gradient = np.zeros(points.shape)
    for angle in angles:
        along = np.array([-np.sin(angle), np.cos(angle)])
        across = np.array([-np.cos(angle), -np.sin(angle)])
        distance, reach = points @ across / width, points @ along / width
        profile, onset = np.exp(-0.5 * distance**2), 0.5 * (1 + np.tanh(0.5 * reach))
        rise = (profile * onset * (1 - onset))[..., None] * along
        gradient += rise - (distance * profile * onset)[..., None] * across
    return gradient * (slope / np.linalg.norm(gradient, axis=-1).max())
