"""All ways to strain, chained: lattice fits, pooling, base lattices and their sums, cepstrum, derived maps."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import IDEAL, Detector, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.fields import Result, entry, group
from jax4dstem.strain.bases import MOST_BASES, BaseStrain, strain_by_bases
from jax4dstem.strain.cepstral import strain_from_cepstrum
from jax4dstem.strain.derived import Derived, derive
from jax4dstem.strain.lattices import join
from jax4dstem.strain.maps import StrainMap
from jax4dstem.strain.measure import StrainMeasurement, measure_strain
from jax4dstem.strain.mixing import mix_bases
from jax4dstem.strain.neighbors import spread_over, sum_neighbors
from jax4dstem.strain.pooling import PooledStrain, pool_strain
from jax4dstem.strain.presence import base_of_positions
from jax4dstem.strain.reference import StrainReference

# Ways that start from the fits, each ``way(scan, measured, reference=..., progress=...)``, by their attribute of
# `StrainAnswers`; recipes name them.
FURTHER_WAYS: dict[str, Callable[..., StrainMap]] = {"cepstrum": strain_from_cepstrum}


@dataclass(frozen=True)
class StrainWays:
    """Which ways to strain are gone besides the lattice fit and its pooled map.

    Attributes:
        bases: Largest number of base lattices; 0 for none.
        mixing: Positions near boundaries are fitted as sums of bases.
        further: Names of `FURTHER_WAYS`.
        seed: Of the bases' training.
    """

    bases: int = MOST_BASES
    mixing: bool = True
    further: tuple[str, ...] = ("cepstrum",)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for a way that there is not."""
        for name in self.further:
            if name not in FURTHER_WAYS:
                known = ", ".join(FURTHER_WAYS)
                raise InputError(f"there is no further way to strain {name!r}; known: {known}")


@dataclass(frozen=True)
class StrainAnswers(StrainMeasurement):
    """Strain in all ways that were asked for.

    Of several lattices each is pooled and derived on its own; base lattices and cepstrum are of the first.

    Attributes:
        pooled: Averaged over neighbors that agree.
        derived: What follows from the pooled map.
        bases: By base lattices; None when not asked for, or for the reason in ``no_bases``.
        cepstrum: From the cepstrum, or None.
        no_bases: Why there are no base lattices although they were asked for.
    """

    pooled: PooledStrain = group("strain/pooled")
    derived: Derived = group("strain/derived")
    bases: BaseStrain | None = group("strain/bases", default=None)
    cepstrum: StrainMap | None = group("strain/cepstrum", default=None)
    no_bases: str | None = entry(
        "", "", "why there are no base lattices", "strain/no_bases", default=None
    )


@dataclass(frozen=True)
class NoStrain(Result):
    """There is no strain.

    Attributes:
        reason: Why not.
    """

    reason: str = entry("", "", "why there is no strain", "strain/reason")


def find_strain(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    *,
    reference: StrainReference | None = None,
    ways: StrainWays | None = None,
    detector: Detector | None = None,
    probe: np.ndarray | None = None,
) -> StrainAnswers:
    """Strain of every position in all ways: `measure_strain`, and what follows from its fits.

    Args:
        scan: Raw counts; pixels that are not finite are left out.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.
        radius: Of the direct beam in px.
        reference: What strain is relative to; the median of the scan by default.
        ways: What to do besides fitting and pooling; everything by default.
        detector: Noise, saturation and usable pixels; None for counted electrons in every pixel.
        probe: Picture of the direct beam; see `measure_strain`.

    Returns:
        The answers. A scan with too few patterns for base lattices is no error.

    Raises:
        InputError: No lattice is found, or the given one or the reference region does not fit.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
        >>> found = find_strain(scan, truth.parameters.center, 4.2, ways=StrainWays(bases=0, further=()))
        >>> sorted(found.fields()["strain"])
        ['derived', 'lattice', 'lattice_id', 'lattice_probability', 'lattices', 'model', 'pooled', 'second']
    """
    ways = ways or StrainWays()
    measured = measure_strain(
        scan,
        beam_center,
        radius,
        reference=reference,
        detector=detector,
        probe=probe,
        progress="fitting lattices",
    )
    parts, number = measured.parts(), measured.lattice_id
    pooled = [pool_strain(part.strain) for part in parts]
    bases, no_bases = _bases(scan, parts[0], ways)
    repaired = _repaired(scan, detector or IDEAL)
    further = {
        name: FURTHER_WAYS[name](
            repaired, parts[0], reference=reference, progress=f"strain by {name}"
        )
        for name in ways.further
    }
    return StrainAnswers(
        lattice=measured.lattice,
        learned=measured.learned,
        lattice_id=number,
        lattice_probability=measured.lattice_probability,
        lattices=measured.lattices,
        further=measured.further,
        second=measured.second,
        pooled=join(pooled, number),
        derived=join([derive(each.strain, scan.calibration) for each in pooled], number),
        bases=bases,
        **further,
        no_bases=no_bases,
    )


def _repaired(scan: Dataset, detector: Detector) -> Dataset:
    """The scan with masked pixels filled in from their neighbors, for transforms that need every pixel."""
    if detector.mask is None:
        return scan
    return scan.map(repair_pixels, np.logical_not(detector.mask))


def _bases(
    scan: Dataset, measured: StrainMeasurement, ways: StrainWays
) -> tuple[BaseStrain | None, str | None]:
    """Strain by base lattices, or why there is none: a few patterns are no error of the scan."""
    if not ways.bases:
        return None, None
    try:
        found = strain_by_bases(
            measured.strain,
            measured.lattice.amount,
            n_bases=ways.bases,
            seed=ways.seed,
            progress="learning bases",
        )
    except InputError as error:
        return None, str(error)
    if ways.mixing:
        found = mix_bases(scan, measured, found, progress="mixing bases")
    return found, None


def strain_in_blocks(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    size: int,
    *,
    reference: StrainReference | None = None,
    ways: StrainWays | None = None,
    detector: Detector | None = None,
    probe: np.ndarray | None = None,
) -> StrainAnswers:
    """`find_strain` of sums of neighboring patterns, for scans of so few electrons that one shows no lattice.

    Maps keep the size of the scan, with one value per block of positions, but for ``bases.base``: whether there is
    a lattice at all is told position by position (`base_of_positions`).

    Args:
        scan: As for `find_strain`.
        beam_center: The same.
        radius: The same.
        size: Positions along each side of a block; 1 is `find_strain`.
        reference: A region is that of the blocks whose middle position is in it.
        ways: As for `find_strain`.
        detector: As for `find_strain`.
        probe: As for `find_strain`.

    Returns:
        The answers. ``pooled.reach`` counts in blocks, and where the step of the scan is not known ``derived`` too.

    Raises:
        InputError: As of `find_strain`, or the scan is smaller than a block.

    Example:
        >>> scan, center = Dataset.from_array(np.ones((2, 3, 64, 64))), np.full((2, 3, 2), 32.0)
        >>> strain_in_blocks(scan, center, 4.2, 4)
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: the (2, 3) scan is smaller than blocks of 4 positions
    """
    if size == 1:
        return find_strain(
            scan,
            beam_center,
            radius,
            reference=reference,
            ways=ways,
            detector=detector,
            probe=probe,
        )
    one = detector or IDEAL
    sums, centers = sum_neighbors(scan, beam_center, size, one, progress="summing neighbors")
    summed = Detector(one.noise.summed(size**2))  # unknown pixels of the sums are NaN
    if reference is not None:
        reference = reference.in_blocks(size, sums.scan_shape)
    found = find_strain(
        sums, centers, radius, reference=reference, ways=ways, detector=summed, probe=probe
    )
    wide = spread_over(found, sums.scan_shape, scan.scan_shape, size)
    if found.bases is None or wide.bases is None:
        return wide
    lattices = found.lattice.distortion
    model = found.model._replace(detector=one.as_arrays())
    base = base_of_positions(scan, beam_center, found.bases.base, lattices, model, size)
    return replace(wide, bases=replace(wide.bases, base=base))
