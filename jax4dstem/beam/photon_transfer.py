r"""How counts scatter, from the scan itself: gain, offset and read-out noise by the photon transfer of neighbors.

Two neighboring positions show nearly the same pattern. Their difference d, high-passed in the detector plane by

.. math:: K = \frac16 \begin{pmatrix} 1 & -2 & 1 \\ -2 & 4 & -2 \\ 1 & -2 & 1 \end{pmatrix} , \qquad \sum K^2 = 1 ,

has lost everything that is smooth, such as a change of dose or a slope of strain, and keeps the noise. With the sum s of the two
patterns,

.. math:: \langle (K \star d)^2 \rangle = g \, (K^2 \star s) + 2 \sigma^2 - 2 g \, o

is a straight line with the gain g as slope, whatever the specimen; what the specimen still adds (edges of disks that move) lies
above the line, pixel by pixel, and is left out by a robust fit. Its constant is that of read-out noise or of an offset; as no pixel
has less than no electrons, means below zero are those of an offset. A blurring detector has correlated noise, of which the high pass
sees too little; how the slope grows when pixels are summed gives the blur, and the gain for sums of many pixels.

Reference: Janesick, Photon Transfer (SPIE, 2007), for the line; neighbors and high pass are ours.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]) / 6
BINS = (1, 2, 3, 4)  # px that are summed along an axis, to see correlated noise
QUIET = 2.0  # standard deviations above the median from which on a pair differs by more than noise
GROUPS = 40  # of pixels of like sums, for the first line
BRIGHTEST = 4  # groups that the first line leaves out: the direct beam, whose edge moves and which may be clipped
BRIGHT = (
    0.9,
    0.975,
)  # quantiles of the pixels that tell whether values are counts: disks, not the direct beam
LOWEST = 0.3  # quantile of the squares in a group: what the specimen adds is positive
ROUNDS = 40  # of the robust fit, which has then long settled
FAR = 3.0  # standard deviations from the line at which a pixel is left out
FEWEST = 50  # pixels that a line needs
CONTRAST = 1.5  # in variance, between bright and typical pixels, below which they tell nothing
MOST_PIXELS = 2**22  # in all pairs together
DARK = (
    0.05  # share of the pixels, the darkest, that see no electrons where even they are below zero
)
SURELY = 6.0  # standard errors below zero: the darkest of many pixels are two below by chance, each pattern is in four pairs
SIGMAS = np.linspace(0.0, 2.5, 51)  # px: blurs that are tried
BLURRED = 0.85  # slope of single pixels over that of 2 x 2 sums, below which noise is correlated


class PhotonTransfer(NamedTuple):
    """How counts n scatter around their mean μ: variance g (μ - o) + σ².

    Attributes:
        gain: g, counts per electron; 0 where nothing scatters, NaN where it cannot be told.
        offset: o, counts without electrons; 0 where the read-out noise hides it.
        read_noise: σ in counts; 0 where an offset hides it: from noise alone only their balance is known.
        blur: Standard deviation of the detector's blur in px.
        share: Of the pixels that lie on the line.
        of_pixels: g without a blur, from single pixels.
        linearity: Scatter of bright pixels over that on the line, both above that of typical pixels: 1 for counts, less for their
            logarithm or root, and where they were clipped or smoothed.
        misfit: Root mean square by which the logarithms of the slopes of sums of pixels miss those of a blur; a beam that
            moves between neighbors makes slopes that no blur has.
    """

    gain: float
    offset: float
    read_noise: float
    blur: float
    share: float
    of_pixels: float = np.nan
    misfit: float = 0.0
    linearity: float = 1.0


def photon_transfer(
    first: np.ndarray, second: np.ndarray, mask: np.ndarray | None = None
) -> PhotonTransfer:
    """Gain, offset and read-out noise from pairs of patterns that are nearly alike.

    Args:
        first: Patterns ``(n, det_y, det_x)``.
        second: Their neighbors, of the same shape.
        mask: Usable pixels; all by default.

    Returns:
        The noise.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mean = 2.0 + 30.0 * np.exp(-((np.indices((64, 64)) - 32) ** 2).sum(axis=0) / 200)
        >>> a, b = 20.0 * rng.poisson(mean, (2, 40, 64, 64))
        >>> round(photon_transfer(a, b).gain)
        20
    """
    transfers = [_transfer(first, second, mask, bins) for bins in BINS]
    lines = [_line(*transfer) for transfer in transfers]
    slopes = np.array([line.slope for line in lines])
    if not np.isfinite(slopes[:2]).all():
        return PhotonTransfer(np.nan, 0.0, 0.0, 0.0, 0.0)
    if slopes[0] <= 0:
        return PhotonTransfer(0.0, 0.0, 0.0, 0.0, lines[0].share)
    of_pixels = float(slopes[0])
    gain, blur, misfit = of_pixels, 0.0, 0.0
    if slopes[0] < BLURRED * slopes[1] and np.isfinite(slopes).all():
        gain, blur, misfit = _without_blur(slopes)
    darkest = _below_zero(*transfers[0])
    constant = lines[0].constant + 2 * gain * darkest
    significant = abs(constant) > 3 * lines[0].constant_std
    offset = -constant / (2 * gain) if significant and constant < 0 else 0.0
    read_noise = np.sqrt(constant / 2) if significant and constant > 0 else 0.0
    return PhotonTransfer(
        gain,
        float(darkest + offset),
        float(read_noise),
        blur,
        lines[0].share,
        of_pixels,
        misfit,
        _linearity(*transfers[0][:2], lines[0]),
    )


def _linearity(squares: np.ndarray, sums: np.ndarray, line: "_Line") -> float:
    expected = line.slope * sums + line.constant
    order = np.argsort(sums)[slice(*(int(share * len(sums)) for share in BRIGHT))]
    if not np.median(expected[order]) > CONTRAST * np.median(expected) > 0:
        return 1.0  # all pixels are alike
    ratio = np.divide(squares, expected, where=expected > 0, out=np.ones(len(sums)))
    return float(np.quantile(ratio[order], LOWEST) / np.quantile(ratio, LOWEST))


def _below_zero(squares: np.ndarray, sums: np.ndarray, pairs: int) -> float:
    """Mean counts of the darkest pixels where they are surely below zero, else 0."""
    dark = sums <= np.quantile(sums, DARK)
    of_one = float(np.median(squares[dark]) / 2)  # variance of a pixel's counts
    mean = float(sums[dark].mean() / 2)
    return min(mean, 0.0) if mean < -SURELY * np.sqrt(of_one / (2 * pairs)) else 0.0


class _Line(NamedTuple):
    slope: float
    constant: float
    constant_std: float
    share: float


_NO_LINE = _Line(np.nan, 0.0, np.inf, 0.0)


def _transfer(
    first: np.ndarray, second: np.ndarray, mask: np.ndarray | None, bins: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean square and mean sum of every pixel over the quietest pairs, and their number."""
    used = np.ones(first.shape[1:], bool) if mask is None else mask
    whole = _binned(used.astype(float)[None], bins)[0] == bins**2
    known = ndimage.binary_erosion(whole, np.ones((3, 3)), border_value=0)
    a, b = (_binned(np.where(used, pattern, 0.0), bins) for pattern in (first, second))
    squares = _filtered(a - b, HIGH_PASS)[:, known] ** 2
    sums = _filtered(a + b, HIGH_PASS**2)[:, known]
    if squares.shape[1] < FEWEST:
        return np.zeros(0), np.zeros(0), 0
    restless = squares.mean(axis=1) / np.maximum(np.abs(sums.mean(axis=1)), 1e-300)
    # The specimen only adds: the lower side of the distribution is that of noise.
    median, low = np.quantile(restless, [0.5, 0.1587])
    quiet = restless <= median + QUIET * (median - low)
    return squares[quiet].mean(axis=0), sums[quiet].mean(axis=0), int(quiet.sum())


def _binned(patterns: np.ndarray, bins: int) -> np.ndarray:
    height, width = (size // bins * bins for size in patterns.shape[1:])
    parts = patterns[:, :height, :width].astype(np.float64)
    return parts.reshape(len(parts), height // bins, bins, width // bins, bins).sum(axis=(2, 4))


def _filtered(patterns: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.convolve(patterns, kernel[None], mode="nearest")


def _line(squares: np.ndarray, sums: np.ndarray, pairs: int) -> _Line:
    """The straight line below what the specimen adds: slope and constant, by reweighted least squares."""
    if len(squares) < GROUPS * 2:
        return _NO_LINE
    groups = np.array_split(np.argsort(sums), GROUPS)[:-BRIGHTEST]
    x = np.array([sums[group].mean() for group in groups])
    y = np.array([np.quantile(squares[group], LOWEST) for group in groups])
    low, high = np.triu_indices(len(x), len(x) // 6)
    apart = x[high] > x[low]
    if not apart.any() or not np.any(y > 0):
        return _NO_LINE if np.any(squares > 0) else _Line(0.0, 0.0, 0.0, 1.0)
    slope = float(np.median(((y[high] - y[low])[apart]) / (x[high] - x[low])[apart]))
    constant = float(np.median(y - slope * x))
    # A square of Gaussian noise has the variance 2 (its mean)²; overlapping filters make few more of it.
    relative = np.sqrt(2 / pairs)
    used, inverse = np.zeros(len(squares), bool), np.zeros((2, 2))
    for _ in range(ROUNDS):
        least = max(0.2 * float(np.quantile(squares, 0.1)), 1e-12 * float(squares.max()))
        expected = np.maximum(slope * sums + constant, least)
        error = relative * expected
        used = np.abs(squares - expected) < FAR * np.sqrt(2) * error
        if used.sum() < FEWEST:
            return _NO_LINE
        columns = np.stack([sums[used], np.ones(int(used.sum()))], axis=1) / error[used, None]
        scale = np.linalg.norm(columns, axis=0)
        inverse = np.linalg.pinv((columns / scale).T @ (columns / scale)) / np.outer(scale, scale)
        slope, constant = (inverse @ (columns.T @ (squares[used] / error[used]))).tolist()
    # Nine neighbors share their noise in the filter.
    return _Line(slope, constant, 3 * float(np.sqrt(inverse[1, 1])), float(used.mean()))


def _without_blur(slopes: np.ndarray) -> tuple[float, float, float]:
    """Gain for sums of many pixels, and the blur, whose attenuation fits the slopes of all sums of pixels best, and how well."""
    table = np.array([[_attenuation(sigma, bins) for bins in BINS] for sigma in SIGMAS])
    table /= table[0]
    ratio = np.log(np.maximum(slopes, 1e-300)) - np.log(table)
    weights = np.clip(table, 0.02, 1.0)
    gains = np.average(ratio, axis=1, weights=weights)
    misfit = np.sqrt(np.average((ratio - gains[:, None]) ** 2, axis=1, weights=weights))
    best = int(np.argmin(misfit))
    return float(np.exp(gains[best])), float(SIGMAS[best]), float(misfit[best])


def _attenuation(sigma: float, bins: int, size: int = 64) -> float:
    """Variance that the high pass leaves of white noise, blurred by a Gaussian and summed over squares of pixels."""
    frequency = np.fft.fftfreq(size * bins)
    blur = np.exp(-4 * np.pi**2 * sigma**2 * frequency**2)
    box = (np.sinc(bins * frequency) / np.sinc(frequency)) ** 2
    high = (2 - 2 * np.cos(2 * np.pi * bins * frequency)) ** 2 / 6
    return float(np.mean(blur * box * high) ** 2)
