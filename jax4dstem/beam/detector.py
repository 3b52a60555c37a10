"""The detector of a scan, as far as the scan itself tells: how counts become electrons, and which pixels count."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jax4dstem.beam.photon_transfer import MOST_PIXELS, PhotonTransfer, photon_transfer
from jax4dstem.beam.scaling import scaling_of
from jax4dstem.dataset import Dataset
from jax4dstem.detector import Detector, electrons_of
from jax4dstem.fields import DETECTOR, Result, entry
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.noise import ElectronNoise
from jax4dstem.stream import map_patterns
from jax4dstem.typing import FloatPattern, Pattern

COUNTING = 0.1  # a gain this near to 1 in whole numbers is that of counted electrons: photon transfer knows it to 5 %
NO_BLUR = 0.1  # misfit: that of blurs of 0.3 to 1.5 px is 0.05 at most, of a descan of a pixel per position 0.17 and more
PEDESTAL = 0.5  # counts: an offset in whole numbers is one at least
NOISE_FREE = 1e6  # electrons that a pattern without noise is taken for
LINEAR = 0.85  # counts of twenty simulated scans have 0.92 and more, their logarithms and roots 0.82 and less
LINE = 0.3  # share of the pixels that must lie on the line


@dataclass(frozen=True)
class DetectorOptions:
    """What is known of a detector; None is found from the scan.

    Attributes:
        gain: Counts per electron.
        offset: Counts without electrons.
        read_noise: Standard deviation of the read-out in counts.
        mask: Pixels that cannot be used, True, ``(det_y, det_x)``; added to those that are found.
    """

    gain: float | None = None
    offset: float | None = None
    read_noise: float | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class ScanDetector(Result):
    """The detector that a scan was taken with.

    Attributes:
        gain: Counts per electron.
        offset: Counts without electrons.
        read_noise: Standard deviation of the read-out in counts.
        blur: Standard deviation of the detector's blur in px.
        bad_pixels: Pixels that cannot be used, boolean ``(det_y, det_x)``.
        source: Where the numbers come from, in words.
        saturation: Electrons at which the direct beam is clipped; infinite where it is not.
        linearity: How much bright pixels scatter, 1 as counts do; see `PhotonTransfer`.
        scaling: Function of counts that the values are, such as ``"log(1 + n)"``; "" where they are counts.

    Example:
        >>> detector = ScanDetector(20.0, 100.0, 2.0, 0.0, np.zeros((4, 4), bool), "given")
        >>> scan = Dataset.from_array(np.full((1, 1, 4, 4), 140.0, np.float32))
        >>> from jax4dstem.stream import map_patterns
        >>> float(map_patterns(jnp.max, detector.electrons(scan)).item()), detector.counts_electrons
        (2.0, False)
    """

    gain: float = entry("", "counts/electron", "counts per electron")
    offset: float = entry("", "counts", "counts without electrons")
    read_noise: float = entry("", "counts", "standard deviation of the read-out")
    blur: float = entry("", "px", "standard deviation of the detector's blur")
    bad_pixels: np.ndarray = entry(DETECTOR, "", "pixels that cannot be used")
    source: str = entry("", "", "where gain, offset and read-out noise come from")
    saturation: float = entry(
        "", "electrons", "where the direct beam is clipped; inf: nowhere", default=np.inf
    )
    linearity: float = entry(
        "", "", "how much bright pixels scatter relative to what counts do", default=1.0
    )
    scaling: str = entry("", "", "function of counts that the values are", default="")

    @property
    def counts_electrons(self) -> bool:
        """Whether counts are electrons as they are."""
        return self.gain == 1 and self.offset == 0

    def electrons(self, scan: Dataset) -> Dataset:
        """The scan in electrons, (n - offset) / gain, computed when it is read."""
        if self.counts_electrons:
            return scan
        return scan.map(electrons_of, np.float32(self.offset), np.float32(self.gain))

    @property
    def of_electrons(self) -> Detector:
        """Noise, saturation and usable pixels of patterns in electrons, as fits take them."""
        mask = jnp.asarray(~self.bad_pixels) if self.bad_pixels.any() else None
        return Detector(ElectronNoise(1.0, self.read_noise / self.gain), self.saturation, mask)

    @property
    def scaled_in_words(self) -> str:
        """How values differ from counts; "" where they do not."""
        if self.scaling:
            return f"values are {self.scaling} of counts n"
        if self.linearity > LINEAR:
            return ""
        return (
            f"bright pixels scatter {self.linearity:.2g} times as much as counts would: "
            "a logarithm or root of counts, or thresholded, averaged or clipped ones?"
        )

    @property
    def clipped_in_words(self) -> str:
        """At how many counts the direct beam is clipped; "" where it is not."""
        counts = self.saturation * self.gain + self.offset
        return f"the direct beam is clipped at {counts:.4g} counts" if np.isfinite(counts) else ""


def find_noise(
    scan: Dataset, options: DetectorOptions, bad: np.ndarray, masked: np.ndarray | None = None
) -> ScanDetector:
    """Gain, offset and read-out noise of a scan, where they are not given.

    Args:
        scan: Raw patterns.
        options: What is known.
        bad: Pixels that are known to be unusable, ``(det_y, det_x)``.
        masked: Positions that are left out, ``(scan_y, scan_x)``.

    Returns:
        The detector; its source says what was found, what given, and what assumed.

    Example:
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(3.0, (2, 3, 8, 8)))
        >>> known = DetectorOptions(gain=1.0, offset=0.0, read_noise=0.0)
        >>> find_noise(scan, known, np.zeros((8, 8), bool)).source
        'given'
    """
    first, second = _neighbors(scan if masked is None else scan.without(masked))
    known = PhotonTransfer(np.nan, 0.0, 0.0, 0.0, 0.0)
    if len(first):
        known = photon_transfer(first, second, ~bad)
    found, source = _judged(known, scan, float(np.mean(first[:, ~bad])) if len(first) else np.nan)
    given = {
        name: value
        for name in ("gain", "offset", "read_noise")
        if (value := getattr(options, name)) is not None
    }
    if given:
        source = f"{', '.join(given)} given; {source}" if len(given) < 3 else "given"
    return ScanDetector(
        **{"gain": found.gain, "offset": found.offset, "read_noise": found.read_noise} | given,
        blur=found.blur,
        bad_pixels=bad,
        source=source,
        linearity=found.linearity,
        scaling=scaling_of(first[:, ~bad], _precision(scan.dtype)),
    )


def _precision(dtype: np.dtype) -> float:
    """Of values that were stored and passed through single precision."""
    stored = np.finfo(dtype).eps if dtype.kind == "f" else 0.0
    return max(float(stored), float(np.finfo(np.float32).eps))


def _judged(found: PhotonTransfer, scan: Dataset, mean: float) -> tuple[PhotonTransfer, str]:
    """What is believed of a photon transfer, and why."""
    pixels = float(np.prod(scan.detector_shape))
    smallest = (
        abs(mean) * pixels / NOISE_FREE
    )  # counts per electron of a pattern of so many electrons
    counted = found._replace(gain=1.0, offset=0.0, read_noise=0.0)
    if not np.isfinite(found.gain) or (found.share < LINE and found.gain > smallest):
        return counted, "assumed: counts are electrons; the scan does not tell"
    if found.gain <= smallest * 1e-2:
        noise_free = counted._replace(gain=smallest)
        return noise_free, f"assumed: {NOISE_FREE:g} electrons per pattern; the scan shows no noise"
    whole = scan.dtype.kind in "ui" or (found.offset == 0 and found.read_noise == 0)
    whole &= abs(found.offset) < PEDESTAL and found.read_noise < 0.1
    no_blur = found.blur == 0 or found.misfit > NO_BLUR
    if abs(found.of_pixels - 1) < COUNTING and whole and no_blur:
        return counted._replace(blur=0.0), "found: counts are electrons"
    return found, "found from how neighboring patterns differ"


def _neighbors(scan: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of patterns that are there at neighboring positions, from blocks all over the scan."""
    sample = sample_scan(scan)
    patterns = np.asarray(map_patterns(_as_floats, sample.dataset), np.float64)
    rows, cols = sample.block
    y, x = np.mgrid[: patterns.shape[0], : patterns.shape[1]]
    finite = np.nan_to_num(patterns, posinf=0.0, neginf=0.0)
    there = finite.any(axis=(2, 3))
    steps = ((0, 1), (1, 0))
    inside = [
        ((y % rows) + dy < rows)
        & ((x % cols) + dx < cols)
        & there
        & np.roll(there, (-dy, -dx), axis=(0, 1))
        for dy, dx in steps
    ]
    first = np.concatenate([np.argwhere(here) for here in inside])
    second = np.concatenate(
        [np.argwhere(here) + step for here, step in zip(inside, steps, strict=True)]
    )
    most = max(1, MOST_PIXELS // int(np.prod(patterns.shape[2:])))
    chosen = np.random.default_rng(0).permutation(len(first))[:most]
    return finite[tuple(first[chosen].T)], finite[tuple(second[chosen].T)]


def _as_floats(pattern: Pattern) -> FloatPattern:
    return pattern.astype(float)
