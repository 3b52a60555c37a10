"""Cold start: lattices, background, disks and typical intensities, learned from a sample of the scan."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.detector import IDEAL, Detector, pattern_dose
from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import Basis, rotations_of
from jax4dstem.lattice.binning import bin_detector, search_binning
from jax4dstem.lattice.detection import RIM, DiskKernels, disk_kernels
from jax4dstem.lattice.evidence import CONVINCING, ENOUGH
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.intensities import (
    UNEXPECTED,
    learn_fitted_intensities,
    learn_intensities,
    search_weights,
    typical_dispersion,
)
from jax4dstem.lattice.learn_joined import learn_shapes
from jax4dstem.lattice.learn_probe import FINE, learn_probe, learn_scatter
from jax4dstem.lattice.learn_seconds import BESIDE, learn_dispersion, often, without_seconds
from jax4dstem.lattice.measure import LatticeSetup, MeasureLattice
from jax4dstem.lattice.model import LatticeModel, overlapping, starting_model
from jax4dstem.lattice.patches import patch_side_around
from jax4dstem.lattice.probe import ProbeImage, image_of
from jax4dstem.lattice.profiles import learn_background, learn_disks, profile_length
from jax4dstem.lattice.relation import RELATED_STRAIN, smallest_strain, strain_size
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.lattice.saturation import find_saturation
from jax4dstem.lattice.scan_basis import NO_LATTICE, find_scan_bases, related
from jax4dstem.lattice.search import rotated_lattices
from jax4dstem.lattice.texture import (
    SUSPICIOUS,
    direct_misfit,
    learn_texture,
    misfit,
    with_texture,
)
from jax4dstem.stream import map_patterns

ROUNDS = 4  # of learning, until the disks' radius has settled
SETTLED = 0.02  # relative change of it
SECOND_ROUNDS = (
    2  # of learning without second crystals, which are found with what was learned with them
)
MOST_REFLECTIONS = 200  # of the model; half as many are searched
BEYOND = 1.2  # of the reach that any rotation keeps on the detector: outer reflections are fitted where they are
# Iterations of sums of sharp disks: of 256 patterns (radius 12.5 px, spacing 22 px) 134 have settled after four, all after eight.
FINE_OF_SUMS = 8
MOST = 0.5  # share of clear fits, below which disks that overlap are thought of
GIVEN_TOO_LARGE = (
    "the lattice g1 = {g1}, g2 = {g2} px has fewer than three reflections within {reach:.0f} px of "
    "the direct beam"
)
OVERLAPPING = (
    "disks of radius {radius:.1f} px at a spacing of {spacing:.1f} px overlap, and no pattern shows them on that lattice "
    "clearly enough to be told apart"
)


class Learned(NamedTuple):
    """What the main pass needs.

    Attributes:
        setup: Shared arrays.
        measure: The pattern function.
        explained: Share of the detected disks that lie on a lattice, over the sample's blocks.
        fits: Of the sample.
    """

    setup: LatticeSetup
    measure: MeasureLattice
    explained: float
    fits: Any  # LatticeFit of NumPy arrays (rows, cols, ...)


def learn_lattice(
    sample: ScanSample,
    center: np.ndarray,
    radius: float,
    lattice: np.ndarray | None = None,
    detector: Detector = IDEAL,
    to_detector: np.ndarray | None = None,
    probe: np.ndarray | None = None,
) -> Learned:
    """Learn everything that the patterns of a scan share.

    Args:
        sample: Patterns as raw counts.
        center: Of the direct beam at the sampled positions, ``(rows, cols, 2)`` in px.
        radius: Of the direct beam in px.
        lattice: g1, g2 as rows (y, x) in px, in scan axes; found when None.
        detector: What counted; a saturation is looked for when it has none.
        to_detector: From scan axes to the detector; see `Calibration`. None where they are the same.
        probe: Picture of the direct beam that all disks look like, ``(y, x)``; None for a soft disk, or what the disks
            themselves show where they contradict it.

    Returns:
        The model and the pattern function that uses it.

    Raises:
        InputError: No lattice is found, or the given one does not fit the detector.

    Example:
        >>> from jax4dstem.lattice import sample_scan
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
        >>> sample = sample_scan(scan)
        >>> center = sample.of(truth.parameters.center)
        >>> learned = learn_lattice(sample, center, 4.2, truth.vectors)
        >>> fits = map_patterns(learned.measure, sample.dataset, learned.setup, per_position=(center,))
        >>> fits.distortion.shape, bool(np.median(fits.score) > 10)
        ((12, 12, 2, 2), True)
    """
    seen = Seen.of(sample, center, radius, detector, to_detector, probe)
    if lattice is not None:
        return _learn(seen, lattice, GIVEN_TOO_LARGE)
    try:
        learned = _learn_cold(seen)
    except InputError as error:
        joined = _learn_overlapping(seen)
        if joined is None:
            raise error
        return joined
    explained = Explained.by(learned)
    try:
        joined = _learn_overlapping(seen) if explained.doubtful else None
    except InputError:
        if explained.clear == 0:
            raise
        joined = None
    if joined is not None and explained.gives_way_to(Explained.by(joined)):
        return joined
    return learned


def learn_lattices(
    sample: ScanSample,
    center: np.ndarray,
    radius: float,
    given: Sequence[np.ndarray] = (),
    detector: Detector = IDEAL,
    to_detector: np.ndarray | None = None,
    probe: np.ndarray | None = None,
) -> list[Learned]:
    """The same for every lattice that a scan shows: those that are given, and those that its blocks show beside them.

    Args:
        sample: Patterns as raw counts.
        center: Of the direct beam at the sampled positions, ``(rows, cols, 2)`` in px.
        radius: Of the direct beam in px.
        given: Known lattices, each g1, g2 as rows (y, x) in px, in scan axes.
        detector: What counted; a saturation is looked for when it has none.
        to_detector: From scan axes to the detector; see `Calibration`. None where they are the same.
        probe: Picture of the direct beam; see `learn_lattice`.

    Returns:
        Models of the given lattices in their order, or of the most frequent one where none is given; then of
        others that enough patterns of the sample fit. Where disks overlap no others are looked for.

    Raises:
        InputError: No lattice is found and none is given, or a given one does not fit the detector.

    Example:
        Every model is what `learn_lattice` returns; without a lattice there is none.

        >>> from jax4dstem.lattice import sample_scan
        >>> from jax4dstem.dataset import Dataset
        >>> sample = sample_scan(Dataset.from_array(np.random.default_rng(0).poisson(1.0, (4, 4, 48, 48))))
        >>> learn_lattices(sample, np.full((4, 4, 2), 23.5), 3.0)
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: no lattice found: no block of the scan shows disks of 3.0 px on a two-dimensional lattice; give g1 and g2
    """
    learned = [
        learn_lattice(sample, center, radius, each, detector, to_detector, probe)
        for each in (given or (None,))
    ]
    seen = Seen.of(sample, center, radius, detector, to_detector, probe)
    if any(one.measure.fit.joined for one in learned):
        return learned
    try:
        found = _bases_of(seen)
    except InputError:  # nothing but what is given
        return learned
    for basis in found:
        known = [np.asarray(one.setup.model.lattice) for one in learned]
        new = not any(related(basis.vectors, lattice) for lattice in known)
        # Strain is what a reference is given for: as much of it as one crystal can have.
        if new and not any(_strained(basis.vectors, lattice) for lattice in given):
            learned += _if_shown(seen, basis)
    return learned


def _strained(vectors: np.ndarray, lattice: np.ndarray) -> bool:
    """Whether a lattice is another one under strain."""
    cells = (np.linalg.inv(each).T for each in (vectors, np.asarray(lattice, np.float64)))
    return strain_size(smallest_strain(*cells)) < RELATED_STRAIN


def _if_shown(seen: "Seen", basis: Basis) -> list[Learned]:
    """The model of a further lattice; nothing where too few reflections or patterns show it."""
    try:
        learned = _learn_on(seen, basis)
    except InputError:
        return []
    return [learned] if np.count_nonzero(learned.fits.score >= CONVINCING) >= ENOUGH else []


class Seen(NamedTuple):
    """What a lattice is learned from; see `learn_lattice`."""

    sample: ScanSample
    center: np.ndarray
    radius: float
    detector: Detector
    to_detector: np.ndarray
    probe: ProbeImage | None

    @classmethod
    def of(
        cls,
        sample: ScanSample,
        center: np.ndarray,
        radius: float,
        detector: Detector,
        to_detector: np.ndarray | None,
        probe: np.ndarray | None,
    ) -> "Seen":
        """From the arguments of `learn_lattice`."""
        detector = find_saturation(sample, radius, detector).as_arrays()
        undistorted = np.eye(2) if to_detector is None else np.asarray(to_detector, np.float64)
        image = None if probe is None else image_of(probe)
        radius = radius if image is None else float(image.radius)
        return cls(sample, center, radius, detector, undistorted, image)


def _learn_cold(seen: Seen, rim: float | None = None) -> Learned:
    """With the lattice that most blocks of the sample show."""
    return _learn_on(seen, _bases_of(seen, rim)[0])


def _learn_overlapping(seen: Seen) -> Learned | None:
    """With the lattice of disks that are told by their rims; None where there is none, or they do not overlap on it."""
    try:
        basis = _bases_of(seen, RIM)[0]
    except InputError:
        return None
    tightest = basis.vectors * np.linalg.svd(seen.to_detector)[1].min()
    return _learn_on(seen, basis) if overlapping(tightest, seen.radius) else None


def _bases_of(seen: Seen, rim: float | None = None) -> list[Basis]:
    to_scan_axes = np.linalg.inv(seen.to_detector)
    return find_scan_bases(seen.sample, seen.center, seen.radius, seen.detector, to_scan_axes, rim)


def _learn_on(seen: Seen, basis: Basis) -> Learned:
    return _learn(seen, basis.vectors, NO_LATTICE)._replace(explained=basis.explained)


class Explained(NamedTuple):
    """What a lattice explains of a sample.

    Attributes:
        clear: Share of clear fits.
        rest: Whether counts around the disks scatter as if there were others: where disks overlap, a coarser lattice may lie on
            some of their rims.
    """

    clear: float
    rest: bool

    @classmethod
    def by(cls, learned: Learned) -> "Explained":
        """By what was learned."""
        clear = float(np.mean(learned.fits.score >= CONVINCING))
        return cls(clear, misfit(learned.setup.model, learned.fits) > UNEXPECTED)

    @property
    def doubtful(self) -> bool:
        """Whether disks may overlap."""
        return self.clear < MOST or self.rest

    def gives_way_to(self, sums: "Explained") -> bool:
        """Whether sums of disks explain more; disks that are not as modelled leave a rest to both."""
        as_clear = self.rest and not sums.rest and sums.clear >= self.clear
        return as_clear or (self.clear < MOST and sums.clear > self.clear)


def _learn(seen: Seen, lattice: np.ndarray, message: str) -> Learned:
    """Everything but the lattice."""
    sample, center, radius = seen.sample, seen.center, seen.radius
    reach = _reach(center, sample.dataset.pattern_shape, radius)
    model = _first_model(lattice, radius, reach, message, seen.detector, seen.to_detector)
    if seen.probe is not None:
        model = model._replace(image=seen.probe.heights)
    setup = _first_setup(model, sample.dataset.pattern_shape, reach)
    setup, measure, fits = _learn_shared(setup, sample, center)
    if measure.fit.joined:
        if not np.any(fits.score >= CONVINCING):
            spacing = np.linalg.norm(lattice, axis=1).min()
            raise InputError(OVERLAPPING.format(radius=radius, spacing=spacing))
        return Learned(setup, measure, 1.0, fits)
    if (
        _binning(setup.model) != measure.fit.binning
    ):  # a clipped direct beam looks larger than disks
        setup, measure, _, fits = learned_again(setup.model, sample, center)
    setup, measure, fits, sample = _without_seconds(setup, measure, fits, sample, center)
    # Counts less those of second lattices scatter as they do with these: any more is for a picture or a texture to explain.
    expected = SUSPICIOUS if sample is seen.sample else UNEXPECTED
    if seen.probe is not None:
        setup = setup._replace(model=learn_scatter(setup.model, sample, fits))
        fits = map_patterns(measure, sample.dataset, setup, per_position=(center,))
    if seen.probe is not None or max(misfit(setup.model, fits), direct_misfit(fits)) > expected:
        setup, measure, fits = learn_probe(setup, measure, sample, center, fits)
    if misfit(setup.model, fits) > expected:
        setup, measure, fits = learn_texture(setup, measure, sample, center, fits)
        if measure.fit.modes:
            model = learn_scatter(setup.model, sample, fits, measure.fit.modes)
            setup = setup._replace(model=model)
            fits = map_patterns(measure, sample.dataset, setup, per_position=(center,))
    return Learned(setup, measure, 1.0, fits)


def _without_seconds(
    setup: LatticeSetup,
    measure: MeasureLattice,
    fits: Any,
    sample: ScanSample,
    center: np.ndarray,
) -> tuple[LatticeSetup, MeasureLattice, Any, ScanSample]:
    """What was learned, learned again without the second lattices where many patterns show them, and the sample it is of."""
    if not often(fits.beside >= BESIDE):
        return setup, measure, fits, sample
    found, recorded = without_seconds(setup, measure, sample, fits), fits
    # What is wrong with disks asks for a second lattice too, but is none: what is shown decides.
    if not often(found.both):
        return setup, measure, fits, sample
    for _ in range(SECOND_ROUNDS):
        setup, measure, fits = _learn_shared(setup, found.sample, center)
        recorded = map_patterns(measure, sample.dataset, setup, per_position=(center,))
        found = without_seconds(setup, measure, sample, recorded)
    model, fits = learn_dispersion(setup.model, fits, found)
    return setup._replace(model=model), measure, fits, found.sample


def learned_again(model: LatticeModel, sample: ScanSample, center: np.ndarray) -> Learned:
    """What a model that was learned before needs to measure again: filters, rotations, and the sample's fits.

    Args:
        model: From `learn_lattice`, as results keep it.
        sample: Patterns as raw counts.
        center: Of the direct beam at the sampled positions, ``(rows, cols, 2)`` in px.

    Returns:
        The same model and the pattern function that uses it.
    """
    shape, radius = sample.dataset.pattern_shape, float(model.radius)
    setup = _first_setup(model, shape, _reach(center, shape, radius))._replace(model=model)
    setup = weighted(setup, typical_dose(sample, model.detector))
    measure = MeasureLattice(_fit_of(model))
    fits = map_patterns(measure, sample.dataset, setup, per_position=(center,))
    return Learned(setup, measure, 1.0, fits)


def typical_dose(sample: ScanSample, detector: Detector) -> float:
    """Median of the patterns' electrons."""
    return float(np.nanmedian(map_patterns(pattern_dose, sample.dataset, detector)))


def weighted(setup: LatticeSetup, dose: float) -> LatticeSetup:
    """The search with the weights of a typical dose."""
    weights = search_weights(setup, dose)
    return setup._replace(hypotheses=setup.hypotheses._replace(weights=weights))


def _first_model(
    lattice: np.ndarray,
    radius: float,
    reach: float,
    message: str,
    detector: Detector,
    to_detector: np.ndarray,
) -> LatticeModel:
    """What is known with the lattice and the size of the disks alone; an error where too few of them fit."""
    within = reach / np.linalg.svd(to_detector)[1].max()
    if len(rotations_of(lattice, within)[0]) < 4:
        g1, g2 = lattice.round(1)
        raise InputError(message.format(radius=radius, g1=g1, g2=g2, reach=reach))
    indices, _ = rotations_of(lattice, BEYOND * within)
    return starting_model(lattice, indices[:MOST_REFLECTIONS], radius, detector, to_detector)


def _first_setup(model: LatticeModel, shape: tuple[int, int], reach: float) -> LatticeSetup:
    """Filters and rotations to search with."""
    lattice, radius = np.asarray(model.lattice, np.float64), float(model.radius)
    to_detector = np.asarray(model.to_detector, np.float64)
    near, _ = rotations_of(lattice, reach / np.linalg.svd(to_detector)[1].max())
    # As long as the learned profile will be: another length would compile the fit anew.
    model = model._replace(background=jnp.ones(profile_length(shape)))
    searched = near[1 : MOST_REFLECTIONS // 2]
    binning = _binning(model)
    peak = RIM if model.overlapping else radius
    hypotheses = rotated_lattices(
        lattice / binning, searched, np.ones(len(searched)), peak / binning
    )
    hypotheses = hypotheses._replace(vectors=hypotheses.vectors @ model.to_detector)
    return LatticeSetup(_search_kernels(shape, model, binning), hypotheses, model)


def _learn_shared(
    setup: LatticeSetup, sample: ScanSample, center: np.ndarray
) -> tuple[LatticeSetup, MeasureLattice, Any]:
    """Background, typical intensities and disks, in turns with fits that use them."""
    shape, model = sample.dataset.pattern_shape, setup.model
    dose = typical_dose(sample, model.detector)
    binning, joined = _binning(model), model.overlapping
    updates = [learn_background, learn_intensities, learn_disks]
    if joined:
        updates = [learn_shapes, learn_shapes, learn_fitted_intensities]
    for _ in range(ROUNDS):
        radius = float(setup.model.radius)
        setup = setup._replace(kernels=_search_kernels(shape, setup.model, binning))
        measure = MeasureLattice(replace(_fit_of(setup.model), binning=binning, joined=joined))
        for update in updates:
            fits = map_patterns(measure, sample.dataset, setup, per_position=(center,))
            setup = setup._replace(model=update(setup.model, sample, fits))
            setup = weighted(setup, dose)
        settled = abs(float(setup.model.radius) / radius - 1) < SETTLED
        if (settled and not joined) or np.count_nonzero(fits.score >= CONVINCING) < ENOUGH:
            break
        updates = [updates[0], updates[-1]]
    if not joined:  # whose fits take minutes, and whose last update looks at the dispersion
        fits = map_patterns(measure, sample.dataset, setup, per_position=(center,))
        dispersion = jnp.asarray(typical_dispersion(fits), jnp.float32)
        setup = setup._replace(model=setup.model._replace(dispersion=dispersion))
    return setup, measure, fits


def _fit_of(model: LatticeModel) -> FitLattice:
    """The fit that suits a model."""
    side = patch_side_around(float(model.radius), model.tightest)
    fit = FitLattice(side, binning=_binning(model), joined=model.overlapping)
    if model.image is not None:
        fit = replace(fit, fine=FINE)
    if fit.joined:
        fit = replace(fit, fine=FINE_OF_SUMS)
    return with_texture(fit) if float(model.texture) > 0 else fit


def _binning(model: LatticeModel) -> int:
    """Pixels that are joined for the search: rims need all of them."""
    return 1 if model.overlapping else search_binning(float(model.radius))


def _search_kernels(shape: tuple[int, int], model: LatticeModel, binning: int) -> DiskKernels:
    """Filters for the binned pattern."""
    binned = shape[0] // binning, shape[1] // binning
    rim = RIM if model.overlapping else None
    detector = bin_detector(model.detector, binning)
    return disk_kernels(binned, float(model.radius) / binning, detector, rim)


def _reach(center: np.ndarray, shape: tuple[int, ...], radius: float) -> float:
    """Distance from the direct beam within which a disk lies on the detector in every direction."""
    mean = np.nanmean(np.reshape(center, (-1, 2)), axis=0)
    return float(min(*mean, *(np.array(shape) - 1 - mean)) - radius)
