"""What the patterns of a scan share where many of them show two crystals on top of each other."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.dataset import Dataset
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.choice import FoundLattice
from jax4dstem.lattice.intensities import typical_dispersion
from jax4dstem.lattice.measure import LatticeSetup, MeasureLattice
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.pair import FitPair, MeasurePair, PairFit
from jax4dstem.lattice.render import render_disks
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Float, Pattern

BESIDE = 3.5  # evidence beside a lattice, from which on a second is looked for: noise in some 30 rotations gets there in 1 % of all patterns
AROUND = 3.0  # the same of the median of 3 x 3 positions: a crystal is seldom under a single one
HINT = 1.5  # what a position must have itself then
OFTEN = 0.1  # share of patterns with a second lattice, below which what is learned hardly feels it
EVIDENCE = (
    4.5  # score that the first of two lattices must have without the other, as if it were alone
)
CERTAIN = 5.0  # errors of its amount, below which a lattice is not there


class SampleWithout(NamedTuple):
    """A sample whose patterns show one lattice each.

    Attributes:
        sample: Without what a second lattice leads one to expect.
        pairs: Of the sample as it was recorded.
        both: Where it shows two lattices.
    """

    sample: ScanSample
    pairs: PairFit
    both: np.ndarray


def pair_of(measure: MeasureLattice) -> MeasurePair:
    """The pattern function for two lattices that goes with one for one lattice."""
    return MeasurePair(FitPair(measure.fit.patch), measure.fit.binning)


def often(where: np.ndarray) -> bool:
    """Whether enough patterns show a second lattice beside the first for what is learned to feel it."""
    return bool(np.mean(where) > OFTEN)


def asking(beside: np.ndarray) -> np.ndarray:
    """Positions where a second lattice is looked for, by the evidence beside the first, ``(scan_y, scan_x)``.

    Example:
        >>> asking(np.array([[0.2, 5.0, 0.1, 3.5, 3.2, 3.6]])).tolist()
        [[False, True, False, True, True, True]]
    """
    around = ndimage.median_filter(beside, 3)
    return (beside >= BESIDE) | ((around >= AROUND) & (beside >= HINT))


def drawable(fits: Any) -> FoundLattice:
    """What the fits found, as far as patterns are drawn from it."""
    parts = (fits.center, fits.distortion, fits.intensities)
    return FoundLattice(*(np.nan_to_num(part).astype(np.float32) for part in parts))


def without_seconds(
    setup: LatticeSetup, measure: MeasureLattice, sample: ScanSample, fits: Any
) -> SampleWithout:
    """Find the second lattices of a sample, and subtract what they lead one to expect.

    Args:
        setup: As learned so far.
        measure: For one lattice.
        sample: Patterns as recorded.
        fits: Of one lattice each.
    """
    shared = setup, setup
    pairs = map_patterns(pair_of(measure), sample.dataset, shared, per_position=(drawable(fits),))
    both = shown(pairs) & (fits.beside >= HINT)
    found = drawable(pairs.second)
    shares = np.where(both[..., None], found.intensities, 0).astype(np.float32)
    shares[..., 0] = 0
    found = found._replace(intensities=shares)
    subtract = SubtractDisks(setup.model.probe.side())
    counts = map_patterns(subtract, sample.dataset, setup.model, per_position=(found,))
    dataset = Dataset.from_array(counts, calibration=sample.dataset.calibration)
    return SampleWithout(sample._replace(dataset=dataset), pairs, both)


def shown(pairs: PairFit) -> np.ndarray:
    """Where both lattices of a pair are there: amounts of five errors, and evidence for each without the other.

    The evidence for the second is that for which it is looked for: what is wrong with the first gives amounts, but not these disks.
    """
    amounts, errors = np.nan_to_num(pairs.amounts), np.nan_to_num(amount_errors(pairs))
    certain = (errors > 0) & (amounts >= CERTAIN * errors)
    evident = clear_first(pairs) & (np.asarray(pairs.second.score) >= BESIDE)
    return certain.all(axis=-1) & evident


def clear_first(pairs: PairFit) -> np.ndarray:
    """Where the first lattice of a pair is there, whatever the second."""
    first = pairs.first
    known = np.isfinite(first.information).all(axis=(-1, -2))
    return known & np.asarray(first.converged) & (np.asarray(first.score) >= EVIDENCE)


def amount_errors(pairs: PairFit) -> np.ndarray:
    """Standard deviations of both amounts."""
    variances = np.diagonal(np.asarray(pairs.covariance), axis1=-2, axis2=-1)
    return np.sqrt(np.maximum(variances, 0))


def learn_dispersion(
    model: LatticeModel, fits: Any, found: SampleWithout
) -> tuple[LatticeModel, Any]:
    """Dispersion around the disks where both lattices are expected, and the fits with it."""
    dispersion = np.where(found.both[..., None], found.pairs.first.dispersion, fits.dispersion)
    fits = fits._replace(dispersion=dispersion)
    return model._replace(dispersion=jnp.asarray(typical_dispersion(fits), jnp.float32)), fits


@dataclass(frozen=True)
class SubtractDisks:
    """Pattern function: the counts of a pattern less those expected in the disks of a lattice.

    Attributes:
        patch: Side in px of the square that a disk is drawn in; see `patch_side`.
    """

    patch: int

    def __call__(
        self, pattern: Pattern, found: FoundLattice, model: LatticeModel
    ) -> Float[Array, "det_y det_x"]:
        """Return the difference; counts that the detector cannot use, such as saturated ones, stay as they are.

        Args:
            pattern: Counts ``(det_y, det_x)``.
            found: The lattice.
            model: Shared by the scan.
        """
        shape = pattern.shape[0], pattern.shape[1]
        vectors = model.distorted(found.distortion)
        shares = render_disks(shape, found.center, vectors, found.intensities, model, self.patch)
        counts = pattern - pattern_dose(pattern, model.detector) * shares
        return jnp.where(model.detector.usable(pattern), counts, pattern)
