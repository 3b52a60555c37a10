"""Strain of a whole scan, from raw counts and the centers of the direct beam."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset, check_centers, check_dataset
from jax4dstem.detector import IDEAL, Detector
from jax4dstem.fields import DETECTOR, SCAN, Entry, Field, Result, Tree, entry, group
from jax4dstem.lattice.bootstrap import error_inflation
from jax4dstem.lattice.choice import FoundLattice, LatticeEvidence
from jax4dstem.lattice.cold_start import Learned, learn_lattices
from jax4dstem.lattice.evidence import ENOUGH
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.noise import NOISES, Noise
from jax4dstem.strain.decomposition import MeasuredLattices, remeasured, strain_map
from jax4dstem.strain.derived import friedel_asymmetry
from jax4dstem.strain.lattices import LatticeTable, choose_lattice, join, lattice_table
from jax4dstem.strain.maps import OnStrain, Status, StrainMap
from jax4dstem.strain.reference import StrainReference
from jax4dstem.strain.second import SecondCrystal, find_seconds, second_crystal
from jax4dstem.stream import map_patterns


def _entries(table: dict[str, tuple[str, str, str, str]]) -> dict[str, Entry]:
    return {
        key: Entry(tuple(dims.split()), units, about, name)
        for key, (name, dims, units, about) in table.items()
    }


# What the model is written as: by attribute of `LatticeModel` the name in the file, axes, units and meaning.
MODEL = _entries({
    "lattice": ("lattice", "vector yx", "px", "lattice the fits refer to: g1, g2 (y, x), in scan axes, undistorted"),
    "indices": ("indices", "reflection hk", "", "reflections (h, k), the direct beam first"),
    "radius": ("disk_radius", "", "px", "radius of the Bragg disks"),
    "edge_width": ("edge_width", "", "px", "of the disks' logistic edge"),
    "background": ("background", "radius", "1/px", "share of the dose by whole px from the center"),
    "intensity": ("intensity", "reflection", "1", "typical share of the dose in each disk"),
    "spread": ("spread", "reflection", "1", "standard deviation of that share over the scan"),
    "dispersion": ("dispersion", "reflection", "1", "variance of counts over the expected noise's"),
    "texture": ("texture", "", "1", "typical contrast inside a disk"),
    "to_detector": ("to_detector", "from_yx yx", "1", "what the microscope makes of row vectors (y, x) in scan axes: flip, rotation, ellipse, pixels"),
})  # fmt: skip
# The same where the probe is an image.
IMAGE = _entries({
    "image": ("probe", "node_y node_x", "1", "image of the probe, from -1.5 to 1.5 disk radii: heights of Gaussians on a grid"),
    "scatter": ("scatter", "reflection yx", "1", "variance of the disks' positions about the lattice over what the counts explain"),
})  # fmt: skip
# Of the detector, and of the error bars.
OTHERS = _entries({
    "saturation": ("saturation", "", "counts", "pixels from here on are not used"),
    "mask": ("mask", DETECTOR, "", "usable pixels"),
    "excess": ("error_excess", "", "", "k of the error bars' factor sqrt(1 + k / score^2)"),
})  # fmt: skip
CERTAIN = 0.95  # probability of a lattice, from which on a position is evidence that there is one
NOISE_KIND = Entry((), "", "noise model of the detector", "")


def _noise_fields(noise: Noise) -> Tree:
    """Kind and parameters of a noise model."""
    kind = next(name for name, known in NOISES.items() if isinstance(noise, known))
    about = "parameter of the noise model"
    return {
        "kind": Field(kind, "", NOISE_KIND.description),
        **{
            name: Field(float(getattr(noise, name)), unit, about)
            for name, unit in noise.units().items()
        },
    }


@dataclass(frozen=True)
class LearnedModel(Result):
    """What the fits assume of all patterns, learned from a sample of the scan.

    Attributes:
        shared: As the pattern functions take it.
        excess: k of the errors' inflation, σ² (1 + k / score²).

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> fields = LearnedModel(model, 0.0).fields()
        >>> LearnedModel.from_fields(fields).shared.lattice.tolist()
        [[12.0, 0.0], [0.0, 12.0]]
    """

    shared: LatticeModel
    excess: float

    def fields(self) -> Tree:
        """All fields of the model, and ``error_excess``."""
        detector = self.shared.detector
        model = {key: getattr(self.shared, key) for key in MODEL | IMAGE}
        values = {k: v if v is None else np.asarray(v) for k, v in model.items()} | {
            "saturation": float(detector.saturation),
            "mask": None if detector.mask is None else np.asarray(detector.mask),
            "excess": self.excess,
        }
        own: Tree = {
            about.path: about.field(values[key], self)
            for key, about in (MODEL | IMAGE | OTHERS).items()
            if values[key] is not None
        }
        return own | {"noise": _noise_fields(detector.noise)}

    @classmethod
    def layout(cls) -> dict[str, Entry]:
        """What `fields` can give, by path."""
        own = {about.path: about for about in (MODEL | IMAGE | OTHERS).values()}
        parameter = Entry((), "its own", "parameter of the noise model, such as gain", "")
        return own | {"noise/kind": NOISE_KIND, "noise/<name>": parameter}

    @classmethod
    def from_fields(cls, tree: Tree) -> "LearnedModel":
        """The model whose fields these are."""
        arrays = {
            key: jnp.asarray(tree[about.path].data)
            for key, about in (MODEL | IMAGE).items()
            if key in MODEL or about.path in tree
        }
        noise = dict(tree["noise"])
        kind = NOISES[str(noise.pop("kind").data)]
        noise = kind(**{name: jnp.asarray(field.data) for name, field in noise.items()})
        mask = jnp.asarray(tree["mask"].data) if "mask" in tree else None
        detector = Detector(noise, jnp.asarray(tree["saturation"].data), mask)
        model = LatticeModel(**arrays, detector=detector)
        return cls(model, float(tree["error_excess"].data))


@dataclass(frozen=True)
class LatticeStrain(OnStrain):
    """Strain of every pattern on its own, and the fitted lattices that it comes from.

    Attributes:
        strain: Per position.
        center: Fitted center of the direct beam, ``(scan_y, scan_x, 2)``.
        distortion: A of the lattice G = G_0 A, G_0 the model's, ``(scan_y, scan_x, 2, 2)``, in scan axes.
        score: Evidence for the lattice in units of the noise, ``(scan_y, scan_x)``.
        dispersion: Pearson's χ² per pixel around the diffracted disks, the same shape.
        amount: Share of the pattern's electrons in the diffracted disks, the same shape.
        asymmetry: Of opposite reflections, ``(scan_y, scan_x, 2)``; see `friedel_asymmetry`.
        step: Largest move of a reflection in the last iteration of the fit, in px, the same shape.
        converged: Whether that is small enough, boolean, the same shape.
    """

    strain: StrainMap
    center: np.ndarray = entry(f"{SCAN} yx", "px", "fitted center (y, x)")
    distortion: np.ndarray = entry(
        f"{SCAN} from_yx yx", "1", "A of the lattice G = G_model A, in scan axes"
    )
    score: np.ndarray = entry(
        SCAN, "noise units", "evidence for the lattice, typically < 3.5 without one"
    )
    dispersion: np.ndarray = entry(
        SCAN,
        "1",
        "Pearson chi-squared per pixel around the diffracted disks; 1 for the expected noise",
    )
    amount: np.ndarray = entry(SCAN, "1", "share of the electrons in the diffracted disks")
    asymmetry: np.ndarray = entry(
        f"{SCAN} yx", "1", "intensity of opposite reflections (y, x): tilt of the lattice"
    )
    step: np.ndarray = entry(SCAN, "px", "largest move of a reflection in the last iteration")
    converged: np.ndarray = entry(SCAN, "", "the fit had settled")


@dataclass(frozen=True)
class StrainMeasurement(Result):
    """Strain, the fits it comes from, and what they assume.

    Where a scan shows several lattices, every position has the one that it shows, and strain relative to that lattice's
    own reference; what is not said otherwise is of the first.

    Attributes:
        lattice: Strain and lattice of every position.
        learned: What the fits assume.
        lattice_id: Number of each position's lattice in the table, -1 for none, ``(scan_y, scan_x)``.
        lattice_probability: Of that lattice against the others, the same shape; NaN where there is none.
        lattices: What each lattice is.
        further: What the fits of the second and further lattices assume, by number.
        second: The weaker of two crystals on top of each other; None where no position shows two.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> zero, twice = np.zeros((1, 1)), np.zeros((1, 1, 2))
        >>> unstrained = StrainMap(zero, zero, zero, zero, np.zeros((1, 1, 4, 4)), zero.astype(int), 12 * np.eye(2), "given")
        >>> fits = LatticeStrain(unstrained, twice, np.eye(2)[None, None], zero + 20, zero, zero, twice, zero, zero == 0)
        >>> measured = StrainMeasurement(fits, LearnedModel(model, 0.0))
        >>> measured.relative_to(StrainReference.vectors((12, 0), (0, 11))).strain.e_xx.round(3).item()
        -0.083
    """

    lattice: LatticeStrain = group("strain/lattice")
    learned: LearnedModel = group("strain/model")
    lattice_id: np.ndarray | None = entry(
        SCAN,
        "",
        "lattice of the position; -1 none",
        "strain/lattice_id",
        default=None,
        kw_only=True,
    )
    lattice_probability: np.ndarray | None = entry(
        SCAN,
        "1",
        "of that lattice against the others",
        "strain/lattice_probability",
        default=None,
        kw_only=True,
    )
    lattices: LatticeTable | None = group("strain/lattices", default=None, kw_only=True)
    further: dict[str, LearnedModel] = group(
        "strain/lattices/models", default_factory=dict, kw_only=True
    )
    second: SecondCrystal | None = group("strain/second", default=None, kw_only=True)

    @property
    def strain(self) -> StrainMap:
        """Strain of every position."""
        return self.lattice.strain

    @property
    def model(self) -> LatticeModel:
        """As the pattern functions take it."""
        return self.learned.shared

    @property
    def fitted_lattices(self) -> np.ndarray:
        """g1, g2 of every position as rows (y, x) in px, in scan axes, ``(scan_y, scan_x, 2, 2)``, of the first lattice."""
        return np.asarray(self.model.lattice, np.float64) @ self.lattice.distortion

    @property
    def lattices_on_detector(self) -> np.ndarray:
        """The same as they lie on the detector, distorted and turned as it is."""
        return self.fitted_lattices @ np.asarray(self.model.to_detector, np.float64)

    @property
    def shown_lattices(self) -> np.ndarray:
        """`fitted_lattices` of whichever lattice a position shows; NaN where there is none."""
        shown = np.full_like(self.fitted_lattices, np.nan)
        for part in self.parts():
            ok = part.strain.ok
            shown[ok] = part.fitted_lattices[ok]
        return shown

    def parts(self) -> list["StrainMeasurement"]:
        """One measurement per lattice, which knows nothing of the others' positions."""
        if self.lattices is None or self.lattice_id is None or not self.further:
            return [self]
        models = [self.learned, *(self.further[key] for key in sorted(self.further, key=int))]
        return [
            StrainMeasurement(_only(self.lattice, self.lattice_id == k, reference), model)
            for k, (model, reference) in enumerate(
                zip(models, self.lattices.reference, strict=True)
            )
        ]

    def relative_to(self, reference: StrainReference) -> "StrainMeasurement":
        """The same fits with strain relative to another reference.

        Args:
            reference: What strain shall be relative to; of several lattices a given one is the first's.
        """
        moved = [
            part._relative_to(_within(reference.of(k), part.strain.ok))
            for k, part in enumerate(self.parts())
        ]
        lattice = _joined(moved, self.lattice_id)
        second = self.second
        if second is not None:
            new = [_fixed(part.strain) for part in moved]
            second = second.relative_to([np.asarray(part.model.lattice) for part in moved], new)
        if self.lattices is None:
            return replace(self, lattice=lattice, second=second)
        references = np.array([part.strain.reference for part in moved])
        lattices = replace(self.lattices, reference=references)
        return replace(self, lattice=lattice, lattices=lattices, second=second)

    def _relative_to(self, reference: StrainReference) -> "StrainMeasurement":
        measured = MeasuredLattices(
            np.asarray(self.model.lattice, np.float64),
            self.lattice.distortion,
            np.empty(0),
            self.lattice.score,
        )
        to_scan_axes = np.linalg.inv(np.asarray(self.model.to_detector, np.float64))
        strain = remeasured(measured, self.strain, reference.seen_through(to_scan_axes))
        return replace(self, lattice=replace(self.lattice, strain=strain))


def _fixed(strain: StrainMap) -> StrainReference:
    """The reference of a strain map as a given lattice, in scan axes."""
    return StrainReference(strain.reference, None, strain.reference_source)


def _within(reference: StrainReference, ok: np.ndarray) -> StrainReference:
    """The reference, or the median of all positions where its own region holds no position of the lattice."""
    if reference.among is None or (reference.among & ok).any():
        return reference
    return StrainReference.median()


def _joined(parts: Sequence[StrainMeasurement], number: np.ndarray | None) -> "LatticeStrain":
    return join([part.lattice for part in parts], number)


def _only(lattice: LatticeStrain, there: np.ndarray, reference: np.ndarray) -> LatticeStrain:
    """The positions of one lattice."""
    strain = lattice.strain
    strain = strain.with_values(strain.values, strain.covariance, strain.ok & there)
    status = np.where(there | ~lattice.strain.ok, lattice.strain.status, Status.NO_LATTICE)
    strain = replace(strain, status=status.astype(np.int8), reference=reference)
    distortion = np.where(there[..., None, None], lattice.distortion, np.nan)
    return replace(lattice, strain=strain, distortion=distortion)


def measure_strain(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    *,
    reference: StrainReference | None = None,
    detector: Detector | None = None,
    probe: np.ndarray | None = None,
    progress: str | None = "fitting lattices",
) -> StrainMeasurement:
    """Fit a lattice to the counts of every position, with nothing but the direct beam to start from.

    Lattices are measured in scan axes, undistorted, as far as the scan's calibration tells rotation, flip, ellipse and pixel
    sizes. A sample of the scan gives the lattice, the radial background, disk size and edge, and typical
    intensities; then every pattern is searched for the lattice's rotation and fitted by maximum likelihood.

    Args:
        scan: Raw counts; pixels that are not finite are left out.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.
        radius: Of the direct beam in px.
        reference: What strain is relative to; the median of the scan by default. A given lattice is also the one that
            is looked for; it gives no rotation away: every pattern is searched over all of them.
        detector: Noise, saturation and usable pixels; None for counted electrons in every pixel.
        probe: Picture of the direct beam that all disks look like, such as the mean of a scan of vacuum; None for a soft
            disk, or an image that is learned from the scan where its disks contradict that.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        Strain with error bars, and the fits.

    Raises:
        InputError: No lattice is found, or the given one leaves fewer than three reflections; or there is not a center
            for every position.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
        >>> unstrained = StrainReference.vectors(*truth.vectors)
        >>> found = measure_strain(scan, truth.parameters.center, 4.2, reference=unstrained)
        >>> bool(np.nanmedian(abs(found.strain.e_xx - truth.e_xx)) < 3e-3)
        True
    """
    check_dataset(scan, "measure_strain")
    check_centers(beam_center, scan.scan_shape, "measure_strain")
    calibration = scan.calibration
    reference = (reference or StrainReference.median()).seen_through(calibration.to_scan_axes)
    center = np.asarray(beam_center, np.float32)
    sample = sample_scan(scan)
    at_sample = sample.of(center)
    learned = learn_lattices(
        sample,
        at_sample,
        radius,
        reference.lattices,
        detector or IDEAL,
        calibration.to_detector,
        probe,
    )
    fitted = [
        _fit_all(scan, center, each, error_inflation(each, sample, at_sample), progress)
        for each in learned
    ]
    fitted, number, probability = _chosen(scan, center, fitted, reference)
    seconds = [
        find_seconds(scan, each.learned, each.fits, _free_for(k, number, fitted), progress)
        for k, each in enumerate(fitted)
    ]
    for k, found in enumerate(seconds):
        if found is not None:
            fitted[k] = _measured(fitted[k].learned, fitted[k].excess, found.fits)
            probability = np.where(found.known & (number < 0), 1.0, probability)
            number = np.where(found.known, k, number)
    parts = [_part(each, reference.of(k), number == k) for k, each in enumerate(fitted)]
    own = [
        np.where((number == k)[..., None, None], part.fitted_lattices, np.nan)
        for k, part in enumerate(parts)
    ]
    references = [part.strain.reference for part in parts]
    second = second_crystal(
        seconds,
        [each.learned for each in fitted],
        [_fixed(part.strain) for part in parts],
    )
    there = int((~scan.missing).sum())
    return StrainMeasurement(
        _joined(parts, number),
        parts[0].learned,
        lattice_id=number.astype(np.int16),
        lattice_probability=probability.astype(np.float32),
        lattices=lattice_table(own, references, calibration.pixel_inv_angstrom, there),
        further={str(k): part.learned for k, part in enumerate(parts) if k},
        second=second,
    )


class _Fitted(NamedTuple):
    """One lattice fitted to every position, whether it is there or not."""

    learned: Learned
    excess: float
    fits: Any
    measured: MeasuredLattices


def _fit_all(
    scan: Dataset, center: np.ndarray, learned: Learned, excess: float, progress: str | None
) -> _Fitted:
    fits = map_patterns(
        learned.measure, scan, learned.setup, per_position=(center,), progress=progress
    )
    return _measured(learned, excess, fits)


def _measured(learned: Learned, excess: float, fits: Any) -> _Fitted:
    lattice = np.asarray(learned.setup.model.lattice)
    return _Fitted(learned, excess, fits, MeasuredLattices.of_fits(fits, lattice, excess))


def _free_for(k: int, number: np.ndarray, fitted: list[_Fitted]) -> np.ndarray:
    """Positions of a lattice, and those without any where it fits best."""
    scores = np.nan_to_num([each.fits.beside for each in fitted])
    return (number == k) | ((number < 0) & (scores.argmax(axis=0) == k))


def _chosen(
    scan: Dataset, center: np.ndarray, fitted: list[_Fitted], reference: StrainReference
) -> tuple[list[_Fitted], np.ndarray, np.ndarray]:
    """The lattices that are there, the number of every position's, -1 for none, and its probability."""
    strains = [
        strain_map(each.measured, replace(reference.of(k), among=None))
        for k, each in enumerate(fitted)
    ]
    ok = np.array([strain.ok for strain in strains])
    reference.check_fits(ok[0].shape)
    if len(fitted) == 1:
        return fitted, np.where(ok[0], 0, -1), np.where(ok[0], 1.0, np.nan)
    evidence = np.where(ok, _evidence(scan, center, fitted), -np.inf)
    components = np.array([strain.values[..., :3] for strain in strains])
    probability = choose_lattice(evidence, components)
    shown = (probability > CERTAIN).sum(axis=(1, 2)) >= ENOUGH
    shown[: max(1, len(reference.lattices))] = True
    if not shown.all():
        probability = choose_lattice(evidence[shown], components[shown])
    number = np.where(np.isnan(probability[0]), -1, np.nan_to_num(probability).argmax(axis=0))
    there = [each for each, shows in zip(fitted, shown, strict=True) if shows]
    return there, number, probability.max(axis=0)


def _evidence(scan: Dataset, center: np.ndarray, fitted: list[_Fitted]) -> np.ndarray:
    """Logarithm of the evidence for each lattice at every position, ``(n, scan_y, scan_x)``."""
    models = [each.learned.setup.model for each in fitted]
    # Where all models have reflections, and with the noise of the one that explains most.
    reach = min(float(np.linalg.norm(m.indices[-1] @ m.lattice) + m.radius) for m in models)
    dispersion = min(float(np.mean(model.dispersion[1:])) for model in models)
    return np.array(
        [
            map_patterns(
                LatticeEvidence(model.probe.side()),
                scan,
                model,
                dispersion,
                reach,
                per_position=(center, _drawable(each.fits)),
            )
            for model, each in zip(models, fitted, strict=True)
        ]
    )


def _drawable(fits: Any) -> FoundLattice:
    parts = (fits.center, fits.distortion, fits.intensities)
    return FoundLattice(*(np.nan_to_num(part) for part in parts))


def _part(fitted: _Fitted, reference: StrainReference, there: np.ndarray) -> StrainMeasurement:
    """The measurement of one lattice, relative to a given lattice or its median where it is there, if anywhere."""
    if reference.lattice is None:
        among = there if reference.among is None else there & reference.among
        among = among if among.any() else there
        reference = replace(reference, among=among if there.any() else None)
    strain = strain_map(fitted.measured, reference)
    model = fitted.learned.setup.model
    learned = LearnedModel(model, fitted.excess)
    return StrainMeasurement(_lattice_strain(strain, fitted.fits, model), learned)


def _lattice_strain(strain: StrainMap, fits: Any, model: LatticeModel) -> LatticeStrain:
    around = fits.dispersion[..., 1:] / np.asarray(model.dispersion)[1:]
    known = np.isfinite(around)
    with np.errstate(invalid="ignore"):  # NaN where no reflection is known
        dispersion = np.where(known, around, 0).sum(axis=-1) / known.sum(axis=-1)
    return LatticeStrain(
        strain,
        fits.center,
        fits.distortion,
        fits.score,
        dispersion.astype(np.float32),
        fits.intensities[..., 1:].sum(axis=-1),
        friedel_asymmetry(fits, model),
        fits.step,
        fits.converged,
    )
