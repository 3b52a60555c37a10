"""The prepared dataset: what happens to every pattern before features and pictures are made of it.

Repair of bad pixels, centering, normalization and binning are a chain of pattern functions; nothing
is stored, the chain is compiled into whatever is lifted over it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jax4dstem.align import center_pattern, middle
from jax4dstem.cepstrum import Cepstrum, count_offset, flatten_rings
from jax4dstem.dataset import BinDetector, Dataset
from jax4dstem.detector import repair_pixels
from jax4dstem.detectors import normalize_dose, normalize_peak
from jax4dstem.pipeline.recipe import Recipe
from jax4dstem.typing import Tree

AUTO_BIN = 128  # px; a wider detector is summed down to about this before features are taken


def repaired(dataset: Dataset, done: Tree) -> Dataset:
    """The dataset without its bad pixels."""
    bad = done["detector"]["bad_pixels"].data.astype(bool)
    return dataset.map(repair_pixels, bad) if bad.any() else dataset


def prepare(dataset: Dataset, done: Tree, recipe: Recipe) -> Dataset:
    """Repair, normalize, center and bin: the chain that features and pictures are made from.

    The direct beam comes to lie at `beam_position` of the returned dataset's patterns. The pattern is
    normalized before it is moved, so no intensity is lost at the rim.
    """
    chain = repaired(dataset, done)
    if recipe.prepare.normalize == "dose":
        chain = chain.map(normalize_dose, typical_dose(done))
    elif recipe.prepare.normalize == "peak":
        chain = chain.map(normalize_peak)
    chain = chain.map(center_pattern, per_position=(done["center"].data.astype(np.float32),))
    factor = bin_factor(dataset, recipe)
    return chain.map(BinDetector(factor)) if factor > 1 else chain


def bin_factor(dataset: Dataset, recipe: Recipe) -> int:
    """Detector pixels that are summed to one prepared pixel, per axis."""
    height, width = dataset.pattern_shape
    return recipe.prepare.bin or max(1, round(min(height, width) / AUTO_BIN))


def beam_position(dataset: Dataset, recipe: Recipe) -> np.ndarray:
    """Where the direct beam lies in a prepared pattern, ``(y, x)`` in its (binned) pixels."""
    height, width = dataset.pattern_shape
    factor = bin_factor(dataset, recipe)
    target = np.asarray(middle((height, width)))
    return ((target - (factor - 1) / 2) / factor).astype(np.float32)


def typical_dose(done: Tree) -> float:
    """Median of the valid patterns' total counts."""
    return float(np.median(done["images"]["dose"].data[done["invalid"].data == 0]))


def cepstra(dataset: Dataset, done: Tree, recipe: Recipe) -> Dataset:
    """The prepared patterns' cepstra."""
    return prepare(dataset, done, recipe).map(
        _Cepstra.of(recipe), *_cepstrum_options(dataset, done, recipe)
    )


def with_cepstra(dataset: Dataset, done: Tree, recipe: Recipe) -> Dataset:
    """Pairs of prepared pattern and cepstrum."""
    options = _cepstrum_options(dataset, done, recipe)
    return prepare(dataset, done, recipe).map(_Both(_Cepstra.of(recipe)), *options)


@dataclass(frozen=True)
class _Cepstra:
    """The cepstrum that a recipe asks for, as a pattern function."""

    transform: Cepstrum
    flatten: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "_Cepstra":
        options = recipe.cepstrum
        return cls(Cepstrum(options.shape, options.padding), options.flatten)

    def __call__(self, pattern: Any, center: Any, width: Any, offset: Any) -> Any:
        half = self.transform(pattern, center, width, offset)
        return flatten_rings(half) if self.flatten else half


@dataclass(frozen=True)
class _Both:
    cepstra: _Cepstra

    def __call__(self, pattern: Any, center: Any, width: Any, offset: Any) -> Any:
        return pattern, self.cepstra(pattern, center, width, offset)


def relative_count(dataset: Dataset, done: Tree, recipe: Recipe) -> float:
    """The offset of logarithms of prepared patterns: one count, unless the recipe gives another."""
    if recipe.cepstrum.offset is not None:
        return recipe.cepstrum.offset
    return count_offset(prepare(dataset, done, recipe).pattern_shape, typical_dose(done))


def cepstrum_shape(shape: tuple[int, ...], recipe: Recipe) -> tuple[int, int]:
    """Of the whole transform of patterns of a shape."""
    return recipe.cepstrum.padding * shape[0], recipe.cepstrum.padding * shape[1]


def _cepstrum_options(
    dataset: Dataset, done: Tree, recipe: Recipe
) -> tuple[np.ndarray, np.float32, np.float32]:
    """Center and width of the window (prepared px), and the offset of the logarithm."""
    center = beam_position(dataset, recipe)
    height, width = prepare(dataset, done, recipe).pattern_shape
    covered = min(*center, height - 1 - center[0], width - 1 - center[1])
    share = 0.4 if recipe.cepstrum.shape == "gaussian" else 1.0
    window = recipe.cepstrum.window or share * covered
    return center, np.float32(window), np.float32(relative_count(dataset, done, recipe))
