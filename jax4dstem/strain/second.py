"""A second crystal under the probe: where there is one, how much of it, and its own strain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import pattern_dose
from jax4dstem.fields import SCAN, entry
from jax4dstem.lattice.bootstrap_pairs import second_inflation
from jax4dstem.lattice.cold_start import Learned
from jax4dstem.lattice.learn_seconds import (
    EVIDENCE,
    amount_errors,
    asking,
    clear_first,
    drawable,
    pair_of,
    shown,
)
from jax4dstem.lattice.pair import PairFit
from jax4dstem.strain.decomposition import EVIDENCE as LATTICE_EVIDENCE
from jax4dstem.strain.decomposition import MeasuredLattices, remeasured, strain_map
from jax4dstem.strain.lattices import join
from jax4dstem.strain.maps import OnStrain, Status, StrainMap
from jax4dstem.strain.reference import StrainReference
from jax4dstem.stream import map_patterns


@dataclass(frozen=True)
class SecondCrystal(OnStrain):
    """The weaker of two crystals on top of each other, where there are two.

    Both lattices are fitted at once (`lattice.pair.FitPair`), so that each one's error bars contain what the other leaves
    open. The stronger one is in the maps of `LatticeStrain`.

    Attributes:
        strain: Of the second crystal, relative to the reference of its lattice; no lattice where there is none, or where
            its amount is below five of its errors.
        amount: Share of the pattern's electrons in the diffracted disks of the second crystal, ``(scan_y, scan_x)``; NaN where
            none was looked for, as the residual shows none.
        amount_std: Its standard deviation, the same shape.
        first_amount: The share of the first crystal, the same shape.
        first_amount_std: Its standard deviation, the same shape.
        distortion: A of the lattice G = G_0 A, G_0 the model's, ``(scan_y, scan_x, 2, 2)``, in scan axes.
        score: Evidence for the second lattice without the first, in units of the noise, ``(scan_y, scan_x)``.
        lattice_id: Number of the second crystal's lattice in the table, ``(scan_y, scan_x)``; -1 for none.

    Example:
        >>> zero, number = np.zeros((1, 2)), np.array([[0, -1]])
        >>> strain = StrainMap(zero, zero, zero, zero, np.zeros((1, 2, 4, 4)), zero.astype(int), np.eye(2), "given")
        >>> amount, distortion = zero + 0.05, np.broadcast_to(np.eye(2), (1, 2, 2, 2))
        >>> second = SecondCrystal(strain, amount, zero, amount, zero, distortion, zero + 12, number)
        >>> second.there.tolist()
        [[True, False]]
    """

    strain: StrainMap
    amount: np.ndarray = entry(
        SCAN, "1", "share of the electrons in the diffracted disks of the second crystal"
    )
    amount_std: np.ndarray = entry(SCAN, "1", "standard deviation of amount")
    first_amount: np.ndarray = entry(SCAN, "1", "the same share of the first crystal")
    first_amount_std: np.ndarray = entry(SCAN, "1", "standard deviation of first_amount")
    distortion: np.ndarray = entry(
        f"{SCAN} from_yx yx", "1", "A of the second lattice G = G_model A, in scan axes"
    )
    score: np.ndarray = entry(SCAN, "noise units", "evidence for the second lattice")
    lattice_id: np.ndarray = entry(SCAN, "", "lattice of the second crystal; -1 none")

    @property
    def there(self) -> np.ndarray:
        """Positions that show two crystals."""
        return self.lattice_id >= 0

    def relative_to(
        self, lattices: Sequence[np.ndarray], references: Sequence[StrainReference]
    ) -> SecondCrystal:
        """The same with strain relative to other references.

        Args:
            lattices: G_0 of each lattice's model.
            references: Of each lattice, in scan axes.
        """
        maps = []
        for k, (lattice, reference) in enumerate(zip(lattices, references, strict=True)):
            own = self.strain.with_values(
                self.strain.values, self.strain.covariance, self.strain.ok & (self.lattice_id == k)
            )
            measured = MeasuredLattices(
                np.asarray(lattice, np.float64), self.distortion, np.empty(0), self.score
            )
            maps.append(remeasured(measured, own, reference))
        strain = replace(join(maps, self.lattice_id), status=self.strain.status)
        return replace(self, strain=strain)


class FoundSeconds(NamedTuple):
    """What the pairs of a scan are.

    Attributes:
        fits: Of one lattice at every position, or of the stronger of two; where a second was looked for and is not certain, of
            the first beside it, so that the error bars hold what a second would change.
        second: `LatticeFit` of the weaker one; NaN where there is none.
        amounts: Of both, the stronger first, ``(scan_y, scan_x, 2)``; NaN where only one was looked for.
        errors: Standard deviations of the amounts.
        there: Where there are two.
        known: Where the first lattice is: besides, where a fit of it alone saw it and did not converge.
        excess: k of the second one's error bars; see `second_inflation`.
    """

    fits: Any
    second: Any
    amounts: np.ndarray
    errors: np.ndarray
    there: np.ndarray
    known: np.ndarray
    excess: float


def find_seconds(
    scan: Dataset, learned: Learned, fits: Any, among: np.ndarray, progress: str | None = None
) -> FoundSeconds | None:
    """Fit a second lattice where the contrast beside the first asks for it.

    Args:
        scan: Raw counts.
        learned: Of the lattice, which both crystals have.
        fits: Of one lattice at every position.
        among: Positions that may be looked at.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        What was found; None where no position asks. The patterns of other positions are not read again.
    """
    asked = among & asking(np.nan_to_num(fits.beside))
    asked &= np.isfinite(fits.distortion).all(axis=(-1, -2))
    if not asked.any() or learned.measure.fit.joined:
        return None
    column = jax.tree.map(lambda leaf: np.asarray(leaf)[asked][:, None], drawable(fits))
    pairs = map_patterns(
        pair_of(learned.measure),
        scan.at(asked),
        (learned.setup, learned.setup),
        per_position=(column,),
        progress=progress,
    )
    pairs = _scattered(learned, jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], pairs))
    there, amounts, errors = shown(pairs), np.asarray(pairs.amounts), amount_errors(pairs)
    stronger = ~there | (amounts[:, 0] >= amounts[:, 1])
    first, second = (
        jax.tree.map(lambda a, b: np.where(_like(stronger, a), a, b), *order)
        for order in ((pairs.first, pairs.second), (pairs.second, pairs.first))
    )
    order = np.where(stronger[:, None], [0, 1], [1, 0])
    # Disks of a pair are flat: a fit of one lattice with contrast inside them knows more.
    fitted = there if learned.measure.fit.modes else clear_first(pairs)
    both, either = np.zeros((2, *asked.shape), bool)
    both[asked], either[asked] = there, fitted
    nothing = np.full((*asked.shape, 2), np.nan)
    return FoundSeconds(
        jax.tree.map(lambda old, new: _put(old, either, new[fitted]), fits, first),
        jax.tree.map(lambda old, new: _put(_nothing(old), both, new[there]), fits, second),
        _put(nothing, asked, np.take_along_axis(amounts, order, 1)),
        _put(nothing, asked, np.take_along_axis(errors, order, 1)),
        both,
        both | (either & (np.nan_to_num(fits.score) >= EVIDENCE)),
        _excess(scan, learned, both, jax.tree.map(lambda leaf: np.asarray(leaf)[there], pairs)),
    )


def _excess(scan: Dataset, learned: Learned, there: np.ndarray, pairs: PairFit) -> float:
    if not there.any():
        return 0.0
    dose = np.asarray(map_patterns(pattern_dose, scan.at(there), learned.setup.model.detector))
    return second_inflation(learned, pairs, dose[:, 0], scan.pattern_shape)


def _scattered(learned: Learned, pairs: PairFit) -> PairFit:
    """Information and errors with the scatter of the counts that neither noise nor model explain."""
    typical = np.asarray(learned.setup.model.dispersion)[1:]
    each = [fit.dispersion[..., 1:] / typical for fit in (pairs.first, pairs.second)]
    each = np.concatenate(each, axis=-1)
    known = np.maximum(np.isfinite(each).sum(axis=-1), 1)  # none where a fit failed
    excess = np.maximum(np.nansum(each, axis=-1) / known, 1.0)[..., None, None]
    first, second = (
        fit._replace(information=fit.information / excess) for fit in (pairs.first, pairs.second)
    )
    return PairFit(first, second, pairs.amounts, pairs.covariance * excess)


def _like(condition: np.ndarray, values: np.ndarray) -> np.ndarray:
    return condition.reshape(condition.shape + (1,) * (np.ndim(values) - 1))


def _put(values: np.ndarray, where: np.ndarray, new: np.ndarray) -> np.ndarray:
    values = np.array(values)
    values[where] = new
    return values


def _nothing(values: np.ndarray) -> np.ndarray:
    kind = np.asarray(values).dtype.kind
    return np.full_like(values, np.nan if kind == "f" else 0)


def second_crystal(
    found: Sequence[FoundSeconds | None],
    learned: Sequence[Learned],
    references: Sequence[StrainReference],
) -> SecondCrystal | None:
    """The second crystals of a scan from those of every lattice; None where there are none.

    Args:
        found: Of every lattice.
        learned: What their fits assume.
        references: What strain is relative to, in scan axes.
    """
    maps = [
        _map_of(each, number, one, reference)
        for number, (each, one, reference) in enumerate(
            zip(found, learned, references, strict=True)
        )
        if each is not None and each.there.any()
    ]
    if not maps:
        return None
    chosen = np.full(maps[0].lattice_id.shape, -1)
    for k, part in enumerate(maps):
        chosen[part.there] = k
    # Where a second was looked for and not found, its amount says how much there can be.
    return join(maps, chosen)


def _map_of(
    found: FoundSeconds,
    number: int,
    learned: Learned,
    reference: StrainReference,
) -> SecondCrystal:
    fits = found.second
    measured = MeasuredLattices.of_fits(fits, np.asarray(learned.setup.model.lattice), found.excess)
    # That it is there is told by its amount too; see `shown`.
    evident = np.where(found.there, np.maximum(measured.score, LATTICE_EVIDENCE), measured.score)
    strain = strain_map(measured._replace(score=evident), reference)
    status = np.where(found.there, strain.status, Status.NO_LATTICE).astype(np.int8)
    return SecondCrystal(
        replace(strain, status=status),
        found.amounts[..., 1].astype(np.float32),
        found.errors[..., 1].astype(np.float32),
        found.amounts[..., 0].astype(np.float32),
        found.errors[..., 0].astype(np.float32),
        fits.distortion,
        fits.score,
        np.where(found.there, number, -1).astype(np.int16),
    )
