"""Kinds of feature vectors, by name: what of a pattern the clustering sees."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from jax4dstem.beam import Prepared
from jax4dstem.dataset import Dataset
from jax4dstem.domains.cepstra import CepstralTransform
from jax4dstem.errors import InputError
from jax4dstem.patterns.cepstrum import cepstral_ring, lattice_quefrencies, unfold_cepstrum
from jax4dstem.patterns.detectors import annular_mask, check_ring
from jax4dstem.patterns.features import (
    SumOpposites,
    gather_features,
    log_counts,
    mask_pixels,
    noise_scale,
    root_counts,
    root_shares,
    scattering_radius,
    top_fraction,
)
from jax4dstem.patterns.polar import AngularCorrelations
from jax4dstem.reducers import Moments, MomentsResult
from jax4dstem.stream import reduce_patterns

MOST_PIXELS = 2048  # features of kinds that take whole rings; the covariance has their square
CEPSTRAL_BLUR = 1.0  # px: peaks of a cepstrum are about two wide


class Chosen(NamedTuple):
    """What a kind makes features of: see `Features`."""

    mask: np.ndarray
    ring: tuple[float, float]
    scale: np.ndarray
    blur: float = 0.0


@runtime_checkable
class FeatureKind(Protocol):
    """Chooses what to make features of, and makes them."""

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """What to make features of, given mean and standard deviation of the prepared patterns."""
        ...

    def vectors(self, prepared: Prepared, chosen: Any) -> Dataset:
        """Feature vectors ``(features,)``; ``chosen`` has the attributes of `Chosen`."""
        ...


@dataclass(frozen=True)
class _Ring:
    """What all kinds share: between which radii of the pattern, or of the transform, they look.

    Attributes:
        inner: Inner radius; None is found.
        outer: Outer radius; None is found.
        units: "px" of the prepared pattern or the transform, or "calibrated": 1/Å or Å.
    """

    inner: float | None = None
    outer: float | None = None
    units: Literal["px", "calibrated"] = "px"

    def _given(self, step: tuple[float, str]) -> tuple[float | None, float | None]:
        """The radii in px, where given; ``step`` is a pixel in the calibrated unit."""
        size, unit = step
        if self.units == "px":
            return self.inner, self.outer
        if unit == "px":
            raise InputError(
                'features.units = "calibrated" needs a detector calibration: give --pixel in 1/Å'
            )
        return self.inner and self.inner / size, self.outer and self.outer / size

    def _pattern_ring(self, prepared: Prepared) -> tuple[float, float]:
        """Radii in px of the prepared pattern."""
        inner, outer = self._given(prepared.calibration.reciprocal_units)
        if inner is None or outer is None:
            found = prepared.ring
            inner = found[0] if inner is None else inner
            outer = found[1] if outer is None else outer
        y, x = prepared.center.tolist()
        check_ring(prepared.shape, (y, x), inner, outer)
        return float(inner), float(outer)

    def _cepstral_ring(
        self, prepared: Prepared, transform: CepstralTransform
    ) -> tuple[float, float]:
        """Radii in px of the transform."""
        size = transform.size(prepared)
        inner, outer = self._given(prepared.calibration.quefrency_step(min(size)))
        nearest, farthest = lattice_quefrencies(size, transform.padding)
        inner = nearest if inner is None else inner
        outer = farthest if outer is None else outer
        check_ring(size, (size[0] // 2, size[1] // 2), inner, outer)
        return inner, outer


@dataclass(frozen=True)
class RawPixels(_Ring):
    """The counts as they are.

    Example:
        >>> RawPixels(outer=30.0).outer  # as in choose_features(prepared, RawPixels(outer=30.0))
        30.0
    """

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """All pixels of the ring, or those that vary most where there are too many."""
        allowed, ring = self._allowed(prepared)
        whole = min(1.0, MOST_PIXELS / allowed.sum())
        mask = top_fraction(self._spread(prepared, moments), allowed, whole)
        return Chosen(mask, ring, np.ones(int(mask.sum()), np.float32))

    def vectors(self, prepared: Prepared, chosen: Any) -> Dataset:
        """Their values in the mask."""
        scale = np.asarray(chosen.scale, np.float32)
        return self._pixels(prepared).map(gather_features, mask_pixels(chosen.mask), scale)

    def _allowed(self, prepared: Prepared) -> tuple[np.ndarray, tuple[float, float]]:
        ring = self._pattern_ring(prepared)
        ringed = annular_mask(prepared.shape, jnp.asarray(prepared.center), *ring)
        return np.asarray(ringed) > 0.5, ring

    def _pixels(self, prepared: Prepared) -> Dataset:
        return prepared.patterns

    def _spread(self, prepared: Prepared, moments: MomentsResult) -> np.ndarray:
        return np.asarray(moments.std)


@dataclass(frozen=True)
class VaryingPixels(RawPixels):
    """The counts of those pixels that vary most over the scan.

    Attributes:
        fraction: Share of the ring's pixels that are taken.
        scale: "equalize" divides counts by the root of their mean, so that shot noise is equal in all.

    Example:
        >>> VaryingPixels(fraction=0.2).scale  # as in choose_features(prepared, VaryingPixels(fraction=0.2))
        'equalize'
    """

    fraction: float = 0.3
    scale: Literal["equalize", "none"] = "equalize"

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """The most varying pixels of the ring."""
        allowed, ring = self._allowed(prepared)
        mask = top_fraction(np.asarray(moments.std), allowed, self.fraction)
        if self.scale == "equalize":
            return Chosen(mask, ring, noise_scale(np.asarray(moments.mean), mask))
        return Chosen(mask, ring, np.ones(int(mask.sum()), np.float32))


@dataclass(frozen=True)
class RootPixels(RawPixels):
    """Roots of the counts: equal shot noise everywhere."""

    def _pixels(self, prepared: Prepared) -> Dataset:
        return prepared.patterns.map(root_counts)

    def _spread(self, prepared: Prepared, moments: MomentsResult) -> np.ndarray:
        return _std(self._pixels(prepared), prepared, "root STD map")


@dataclass(frozen=True)
class LogPixels(RawPixels):
    """Logarithms of the counts.

    Attributes:
        cepstrum: Its offset is that of the logarithm.
    """

    cepstrum: CepstralTransform = field(default_factory=CepstralTransform)

    def _pixels(self, prepared: Prepared) -> Dataset:
        return prepared.patterns.map(log_counts, np.float32(self.cepstrum.count(prepared)))

    def _spread(self, prepared: Prepared, moments: MomentsResult) -> np.ndarray:
        return _std(self._pixels(prepared), prepared, "log STD map")


@dataclass(frozen=True)
class CepstralPixels(_Ring):
    """The cepstrum where it varies most.

    Attributes:
        fraction: Share of the ring's pixels that are taken.
        scale: "equalize" takes the roots of the values' shares of their sum, which tilt and thickness change little.
        cepstrum: Which cepstrum.

    Example:
        >>> CepstralPixels(fraction=0.2).scale  # as in choose_features(prepared, CepstralPixels(fraction=0.2))
        'equalize'
    """

    fraction: float = 0.3
    scale: Literal["equalize", "none"] = "equalize"
    cepstrum: CepstralTransform = field(default_factory=CepstralTransform)

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """The most varying quefrencies of the ring."""
        ring = self._cepstral_ring(prepared, self.cepstrum)
        allowed = cepstral_ring(self.cepstrum.size(prepared), *ring)
        std = _std(self._values(prepared, allowed), prepared, "cepstral STD map")
        mask = np.zeros_like(allowed)
        mask[allowed] = top_fraction(std, np.ones(std.shape, bool), self.fraction)
        return Chosen(mask, ring, np.ones(int(mask.sum()), np.float32))

    def vectors(self, prepared: Prepared, chosen: Any) -> Dataset:
        """Their values in the mask."""
        allowed = cepstral_ring(self.cepstrum.size(prepared), *map(float, chosen.ring))
        pixels = mask_pixels(np.asarray(chosen.mask, bool)[allowed])
        scale = np.asarray(chosen.scale, np.float32)
        return self._values(prepared, allowed).map(gather_features, pixels, scale)

    def _values(self, prepared: Prepared, allowed: np.ndarray) -> Dataset:
        ones = np.ones(int(allowed.sum()), np.float32)
        values = self.cepstrum.of(prepared).map(gather_features, mask_pixels(allowed), ones)
        return values.map(root_shares) if self.scale == "equalize" else values


@dataclass(frozen=True)
class AngularPatterns(_Ring):
    """Rotation-invariant angular correlations of the pattern, for grains in any orientation.

    Example:
        >>> AngularPatterns(inner=10.0).inner  # as in choose_features(prepared, AngularPatterns(inner=10.0))
        10.0
    """

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """Rings as far out as most of what varies reaches: farther out a small tilt changes more."""
        ring, center = self._pattern_ring(prepared), prepared.center
        if self.outer is None:
            reach = scattering_radius(
                np.asarray(moments.mean), np.asarray(moments.std), center, *ring
            )
            ring = ring[0], max(reach, ring[0] + 2)
        ringed = annular_mask(prepared.shape, jnp.asarray(center), *ring)
        return _on_rings(np.asarray(ringed) > 0.5, ring, prepared.radius / 2)

    def vectors(self, prepared: Prepared, chosen: Any) -> Dataset:
        """The correlations of every pattern."""
        return _correlations(prepared.patterns, prepared.center, chosen)


@dataclass(frozen=True)
class AngularCepstra(_Ring):
    """Rotation-invariant angular correlations of the cepstrum.

    Attributes:
        cepstrum: Which cepstrum.

    Example:
        >>> from jax4dstem.domains import CepstralTransform
        >>> kind = AngularCepstra(cepstrum=CepstralTransform(padding=2))
        >>> kind.cepstrum.padding, kind.outer  # None: as far as there may be lattice vectors
        (2, None)
    """

    cepstrum: CepstralTransform = field(default_factory=CepstralTransform)

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """Rings of quefrencies between which lattice vectors lie."""
        ring = self._cepstral_ring(prepared, self.cepstrum)
        return _on_rings(cepstral_ring(self.cepstrum.size(prepared), *ring), ring, CEPSTRAL_BLUR)

    def vectors(self, prepared: Prepared, chosen: Any) -> Dataset:
        """The correlations of every cepstrum."""
        size = self.cepstrum.size(prepared)
        center = np.array([size[0] // 2, size[1] // 2], np.float32)
        return _correlations(self.cepstrum.of(prepared).map(_Unfold(size[1])), center, chosen)


@dataclass(frozen=True)
class DiskSums(_Ring):
    """Electrons in boxes as wide as a disk, opposite boxes together, over the root of their mean: all of them have equal shot noise.

    Example:
        >>> DiskSums(outer=40.0).outer  # as in choose_features(prepared, DiskSums(outer=40.0))
        40.0
    """

    def choose(self, prepared: Prepared, moments: MomentsResult) -> Chosen:
        """All boxes of one half plane whose middle lies on the ring."""
        ring = self._pattern_ring(prepared)
        sums = _opposites(prepared, ring)
        middle = np.array(sums.boxes) // 2
        y, x = np.indices(sums.boxes) - middle[:, None, None]
        distance = sums.side * np.hypot(y, x)
        half = (y > 0) | ((y == 0) & (x > 0))
        mask = half & (distance >= ring[0]) & (distance <= ring[1])
        if not mask.any():
            raise InputError(
                f"no box of {sums.side} px lies between {ring[0]:g} and {ring[1]:g} px"
            )
        mean = np.asarray(sums(jnp.asarray(moments.mean)))
        return Chosen(mask, ring, noise_scale(mean, mask))

    def vectors(self, prepared: Prepared, chosen: Any) -> Dataset:
        """The scaled sums."""
        pixels = mask_pixels(np.asarray(chosen.mask, bool))
        scale = np.asarray(chosen.scale, np.float32)
        sums = _opposites(prepared, tuple(map(float, chosen.ring)))
        return prepared.patterns.map(sums).map(gather_features, pixels, scale)


def _opposites(prepared: Prepared, ring: tuple[float, ...]) -> SumOpposites:
    """Boxes as wide as the disk's radius around the direct beam; wider where there would be too many, narrower in a narrow ring."""
    center = np.round(prepared.center).astype(int)
    reach = np.minimum(center, np.array(prepared.shape) - 1 - center)
    # Of boxes half as wide as the ring one lies on it; a beam that fills the detector leaves none of its own width.
    width = min(prepared.radius, (ring[1] - ring[0]) / 2)
    side = 2 * int(width / 2) + 1
    while (2 * reach // side + 1).prod() > 2 * MOST_PIXELS:
        side += 2
    # As many whole boxes on each side of the one in the middle as fit.
    beside = (reach - side // 2) // side
    corner = center - side // 2 - beside * side
    rows, columns = (2 * beside + 1).tolist()
    return SumOpposites((int(corner[0]), int(corner[1])), (rows, columns), side)


FEATURE_KINDS: dict[str, type[FeatureKind]] = {
    "std": VaryingPixels,
    "raw": RawPixels,
    "sqrt": RootPixels,
    "log": LogPixels,
    "cepstrum": CepstralPixels,
    "sums": DiskSums,
    "angular": AngularPatterns,
    "angular_cepstrum": AngularCepstra,
}


def _on_rings(mask: np.ndarray, ring: tuple[float, float], blur: float) -> Chosen:
    """Correlations on rings; they are blurred by half of their spacing at least, so that no reflection falls between."""
    describe = AngularCorrelations()
    spacing = (ring[1] - ring[0]) / (describe.rings - 1)
    return Chosen(mask, ring, np.ones(describe.size, np.float32), max(blur, spacing / 2))


def _correlations(images: Dataset, center: np.ndarray, chosen: Any) -> Dataset:
    inner, outer = map(np.float32, chosen.ring)
    return images.map(AngularCorrelations(), center, inner, outer, np.float32(chosen.blur))


def _std(values: Dataset, prepared: Prepared, progress: str) -> np.ndarray:
    return reduce_patterns(Moments(), values, weights=prepared.valid, progress=progress).std


class _Unfold(NamedTuple):
    """Pattern function: the whole cepstrum from its half plane."""

    width: int

    def __call__(self, half: Any) -> Any:
        return unfold_cepstrum(half, self.width)
