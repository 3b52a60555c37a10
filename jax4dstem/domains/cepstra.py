"""Cepstra of prepared patterns, with windows and offsets that fit them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jax4dstem.beam import Prepared
from jax4dstem.dataset import Dataset
from jax4dstem.patterns.cepstrum import (
    GAUSSIAN_SHARE,
    Cepstrum,
    count_offset,
    covered_radius,
    flatten_rings,
)


@dataclass(frozen=True)
class CepstralTransform:
    """Which cepstrum is taken of prepared patterns.

    Attributes:
        shape: Of the window.
        width: Of the window in px: standard deviation of the Gaussian, radius of the Hann window; None takes 0.4 of, or the
            whole, radius that the detector covers.
        offset: Of the logarithm, relative to the mean intensity; None takes one count.
        padding: The transform is over so many times the pattern.
        flatten: Divide every ring of the cepstrum by its mean.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, _ = polycrystal((4, 4), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> cepstrum = CepstralTransform(padding=2)
        >>> cepstrum.size(prepared), cepstrum.of(prepared).sample.shape
        ((128, 128), (128, 65))
    """

    shape: Literal["gaussian", "hann"] = "gaussian"
    width: float | None = None
    offset: float | None = None
    padding: int = 1
    flatten: bool = False

    def size(self, prepared: Prepared) -> tuple[int, int]:
        """``(size_y, size_x)`` of the whole transform."""
        height, width = prepared.shape
        return self.padding * height, self.padding * width

    def count(self, prepared: Prepared) -> float:
        """The offset of logarithms of prepared patterns."""
        return self.offset or count_offset(prepared.shape, prepared.dose)

    def of(self, prepared: Prepared) -> Dataset:
        """Cepstra, right half planes."""
        return prepared.patterns.map(self._function, *self._arguments(prepared))

    def beside(self, prepared: Prepared) -> Dataset:
        """Pairs of prepared pattern and cepstrum."""
        return prepared.patterns.map(_Beside(self._function), *self._arguments(prepared))

    @property
    def _function(self) -> "_Transform":
        return _Transform(Cepstrum(self.shape, self.padding), self.flatten)

    def _arguments(self, prepared: Prepared) -> tuple[np.ndarray, np.float32, np.float32]:
        """Center and width of the window, and the offset of the logarithm."""
        center = prepared.center
        covered = covered_radius(center, prepared.shape)
        share = GAUSSIAN_SHARE if self.shape == "gaussian" else 1.0
        return center, np.float32(self.width or share * covered), np.float32(self.count(prepared))


@dataclass(frozen=True)
class _Transform:
    """The cepstrum as a pattern function."""

    cepstrum: Cepstrum
    flatten: bool

    def __call__(self, pattern: Any, center: Any, width: Any, offset: Any) -> Any:
        half = self.cepstrum(pattern, center, width, offset)
        return flatten_rings(half) if self.flatten else half


@dataclass(frozen=True)
class _Beside:
    transform: _Transform

    def __call__(self, pattern: Any, center: Any, width: Any, offset: Any) -> Any:
        return pattern, self.transform(pattern, center, width, offset)
