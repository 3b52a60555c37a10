"""Cold start: lattice, background, disks and typical intensities, learned from a sample of the scan."""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import interpolate, optimize

from jax4dstem.align import center_pattern, middle
from jax4dstem.coordinates import radius_from
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import Basis, find_basis, reduce_basis, rotations_of
from jax4dstem.lattice.binning import search_binning
from jax4dstem.lattice.detection import DiskKernels, disk_kernels, find_bragg_disks
from jax4dstem.lattice.fit import DiskIntensities, FitLattice, Intensities, pattern_dose
from jax4dstem.lattice.measure import LatticeSetup, MeasureLattice
from jax4dstem.lattice.model import LatticeFit, LatticeModel, starting_model
from jax4dstem.lattice.search import rotated_lattices
from jax4dstem.reducers import Mean
from jax4dstem.strain.sample import ScanSample
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Pattern

DETECTED = 5.0  # contrast of a disk in a block's mean, in units of the noise
CONVINCING = 6.0  # score of a pattern that takes part in learning
ENOUGH = 16  # such patterns: with fewer the clearest ones are used, and disks are not learned again
ALIKE = 0.06  # relative difference of lattices that count as the same
MARGIN = 2.0  # px of background around a disk's window, at least
PROFILE_STEP = 0.25  # px, of the measured disk profile
SIGNIFICANT = 4.0  # standard errors above zero that a reflection's mean intensity must have
ROUNDS = 4  # of learning, until the disks' radius has settled
SETTLED = 0.02  # relative change of it
FEWEST = 7  # reflections that are kept at least
MIN_KNOTS = 8  # rings that a background profile needs
SUSPICIOUS = (
    1.03  # dispersion around the strongest disks that makes us look for texture inside them
)
STRONGEST = 12  # disks that are looked at
MODES = 5  # polynomials inside textured disks
WIDE_TEXTURE = 0.5  # prior of their contrast while it is learned
TEXTURED = 0.04  # contrast inside the disks from which on they are modelled
MOST_REFLECTIONS = 200
NO_LATTICE = (
    "no lattice found: no block of the scan shows disks of {radius:.1f} px on a two-dimensional "
    "lattice; give g1 and g2"
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
    fits: Any


def learn_lattice(
    sample: ScanSample, center: np.ndarray, radius: float, vectors: np.ndarray | None = None
) -> Learned:
    """Learn everything that the patterns of a scan share.

    Args:
        sample: Patterns as raw counts.
        center: Of the direct beam at the sampled positions, ``(rows, cols, 2)`` in px.
        radius: Of the direct beam in px.
        vectors: g1, g2 as rows (y, x) in px; found when None.

    Returns:
        The model and the pattern function that uses it.

    Raises:
        InputError: No lattice is found, or the given one does not fit the detector.
    """
    shape = sample.dataset.pattern_shape
    explained, given = 1.0, vectors is not None
    if vectors is None:
        basis = find_scan_basis(sample, center, disk_kernels(shape, radius), radius)
        vectors, explained = basis.vectors, basis.explained
    reach = _reach(center, shape, radius)
    near, _ = rotations_of(vectors, reach)
    if len(near) < 4:
        if not given:
            raise InputError(NO_LATTICE.format(radius=radius))
        raise InputError(
            f"the lattice g1 = {vectors[0].round(1)}, g2 = {vectors[1].round(1)} px has fewer than "
            f"three reflections within {reach:.0f} px of the direct beam"
        )
    indices, _ = rotations_of(vectors, 1.2 * reach)
    model = starting_model(
        vectors, indices[:MOST_REFLECTIONS], radius, _saturation(sample, center, radius)
    )
    # As long as the learned profile will be: another length would compile the fit anew.
    model = model._replace(background=jnp.ones(_profile_length(shape)))
    searched = near[1 : MOST_REFLECTIONS // 2]
    binning = search_binning(radius)
    hypotheses = rotated_lattices(
        vectors / binning, searched, np.ones(len(searched)), radius / binning
    )
    setup = LatticeSetup(_search_kernels(shape, radius, binning), hypotheses, model)
    updates = [_learn_background, _learn_intensities, _learn_disks]
    for _ in range(ROUNDS):
        radius = float(setup.model.radius)
        setup = setup._replace(kernels=_search_kernels(shape, radius, binning))
        measure = MeasureLattice(FitLattice(window_side(radius, vectors), binning=binning))
        for update in updates:
            fits = map_patterns(measure, sample.dataset, setup, per_position=(center,))
            setup = setup._replace(model=update(setup.model, sample, fits))
            weights = _search_weights(setup)
            setup = setup._replace(hypotheses=setup.hypotheses._replace(weights=weights))
        settled = abs(float(setup.model.radius) / radius - 1) < SETTLED
        if settled or np.count_nonzero(fits.score >= CONVINCING) < ENOUGH:
            break
        updates = [_learn_background, _learn_disks]
    if _misfit(setup.model, fits) > SUSPICIOUS:
        setup, measure, fits = _learn_texture(setup, measure, sample, center, fits)
    return Learned(setup, measure, explained, fits)


def _search_kernels(shape: tuple[int, ...], radius: float, binning: int) -> DiskKernels:
    """Filters for the binned pattern."""
    return disk_kernels((shape[0] // binning, shape[1] // binning), radius / binning)


def _misfit(model: LatticeModel, fits: Any) -> float:
    """Mean Pearson dispersion around the strongest diffracted disks."""
    strongest = 1 + np.argsort(-np.asarray(model.intensity)[1:])[:STRONGEST]
    return float(np.nanmean(fits.dispersion[convincing(fits)][:, strongest]))


def _learn_texture(
    setup: LatticeSetup,
    measure: MeasureLattice,
    sample: ScanSample,
    center: np.ndarray,
    fits: Any,
) -> tuple[LatticeSetup, MeasureLattice, LatticeFit]:
    """Model the contrast inside the disks, if there is any beyond noise."""
    model = setup.model._replace(texture=jnp.asarray(WIDE_TEXTURE, jnp.float32))
    trial = MeasureLattice(replace(measure.fit, modes=MODES))
    found = map_patterns(trial, sample.dataset, setup._replace(model=model), per_position=(center,))
    texture = _typical_texture(model, sample, found)
    if texture < TEXTURED:
        return setup, measure, fits
    dispersion = _typical_dispersion(found)
    # Rarely less than half of the wide prior: what is shrunk by too narrow a prior pulls the disks.
    texture = max(texture, WIDE_TEXTURE / 2)
    model = model._replace(
        texture=jnp.asarray(texture, jnp.float32), dispersion=jnp.asarray(dispersion, jnp.float32)
    )
    return setup._replace(model=model), trial, found


def _typical_texture(model: LatticeModel, sample: ScanSample, fits: Any) -> float:
    """Root mean square contrast inside the disks after subtraction of the noise's, 0 if insignificant."""
    good = convincing(fits)
    intensity = np.asarray(model.intensity)[1:]
    lengths = np.linalg.norm(np.asarray(model.indices)[1:] @ np.asarray(model.vectors), axis=1)
    profile = np.asarray(model.background)
    under = np.interp(lengths, np.arange(len(profile)), profile) * np.pi * float(model.radius) ** 2
    doses = np.asarray(map_patterns(pattern_dose, sample.dataset))[good]
    noise = MODES * ((intensity + under) / intensity**2) / np.maximum(doses, 1)[:, None]
    signal = np.minimum(fits.texture[good][:, 1:], 10.0)
    weight = 1 / (noise + MODES * TEXTURED**2) ** 2
    excess = np.average(signal - noise, weights=weight) / MODES
    spread = np.sqrt(np.average((signal - noise) ** 2, weights=weight) / signal.size) / MODES
    return float(np.sqrt(excess)) if excess > SIGNIFICANT * spread else 0.0


def window_side(radius: float, vectors: np.ndarray) -> int:
    """Side in px of the windows around reflections: the disk and a margin, at most a cell."""
    cell = float(np.linalg.norm(vectors, axis=1).max())
    return (
        2 * int(np.ceil(min(radius + max(MARGIN, 0.5 * radius), max(0.6 * cell, radius + 1)))) + 1
    )


def find_scan_basis(
    sample: ScanSample, center: np.ndarray, kernels: DiskKernels, radius: float
) -> Basis:
    """The lattice that most blocks of the sample agree on, in the orientation of the clearest one.

    Where no block has enough counts, neighboring blocks are joined, up to the whole sample.

    Raises:
        InputError: No block shows a lattice.
    """
    centered = sample.dataset.map(center_pattern, per_position=(center,))
    patterns = map_patterns(_identity, centered)
    rows, cols = sample.block
    shape = patterns.shape
    blocks = patterns.reshape(shape[0] // rows, rows, shape[1] // cols, cols, *shape[2:])
    blocks = np.nan_to_num(blocks).sum(axis=(1, 3))
    bases, joined = _bases_of(blocks, kernels, radius), blocks
    while not bases and joined.shape[:2] != (1, 1):
        for axis in (0, 1):
            joined = np.add.reduceat(joined, np.arange(0, joined.shape[axis], 2), axis)
        # As many as before, the rest empty: another shape would compile the detection anew.
        filled = np.zeros_like(blocks)
        filled[: joined.shape[0], : joined.shape[1]] = joined
        bases = _bases_of(filled, kernels, radius)
    if not bases:
        raise InputError(NO_LATTICE.format(radius=radius))
    return _consensus(bases)


def _bases_of(blocks: np.ndarray, kernels: DiskKernels, radius: float) -> list[Basis]:
    """Lattices of summed patterns ``(rows, cols, det_y, det_x)``."""
    found = map_patterns(
        find_bragg_disks, _as_dataset(blocks), kernels, jnp.asarray(radius, float), DETECTED
    )
    origin = np.asarray(middle(blocks.shape[2:]))
    return [
        basis
        for positions, contrast, valid in zip(
            *(np.reshape(leaf, (-1, *leaf.shape[2:])) for leaf in found), strict=True
        )
        if (basis := _basis_of(positions[valid] - origin, contrast[valid], radius))
    ]


def _identity(pattern: Pattern) -> Pattern:
    return pattern


def _as_dataset(patterns: np.ndarray) -> Any:
    from jax4dstem.dataset import Dataset

    return Dataset.from_array(np.asarray(patterns, np.float32))


def _basis_of(points: np.ndarray, contrast: np.ndarray, radius: float) -> Basis | None:
    far = np.linalg.norm(points, axis=1) > 2.2 * radius
    if far.sum() < 3:
        return None
    tolerance = max(1.0, 0.4 * radius)
    basis = find_basis(points[far], np.minimum(contrast[far], 20.0), tolerance)
    if basis is None or basis.explained <= 0.5:
        return None
    return basis if _spans_a_plane(points[far], basis.vectors, tolerance) else None


def _spans_a_plane(points: np.ndarray, vectors: np.ndarray, tolerance: float) -> bool:
    """Whether at least two disks lie off every row: a row and one stray maximum make no lattice."""
    indices = np.round(points @ np.linalg.inv(vectors))
    on = np.linalg.norm(points - indices @ vectors, axis=1) < tolerance
    h, k = indices[on].T
    off_row = h[:, None] * k[None, :] != k[:, None] * h[None, :]
    return bool(on.any()) and int(off_row.sum(axis=1).min()) >= 2


def _consensus(bases: list[Basis]) -> Basis:
    """The basis with the most weight behind lattices of its shape, with their mean shape."""
    shapes = np.array([_shape(basis.vectors) for basis in bases])
    weights = np.array([basis.weight * basis.explained for basis in bases])
    apart = np.abs(shapes[:, None] - shapes[None])
    alike = np.all(apart < ALIKE * shapes[None, :, :1], axis=-1)
    chosen = np.asarray(alike)[:, int(np.argmax(alike @ weights))]
    mean = np.average(shapes[chosen], axis=0, weights=weights[chosen])
    clearest = bases[int(np.argmax(np.where(chosen, weights, 0)))]
    explained = float(np.average([b.explained for b in bases], weights=weights))
    return Basis(_with_shape(clearest.vectors, mean), explained, float(weights[chosen].sum()))


def _shape(vectors: np.ndarray) -> np.ndarray:
    """Both lengths, and the height of g2 above g1 in px: what does not change by rotation."""
    a, b = reduce_basis(vectors)
    lengths = np.sort([np.linalg.norm(a), np.linalg.norm(b)])
    return np.array([*lengths, abs(np.linalg.det([a, b])) / lengths[0]])


def _with_shape(vectors: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A basis of a given shape in the orientation of another."""
    a, b = reduce_basis(vectors)
    swapped = a @ a > b @ b
    short, long, height = shape
    first, second = (long, short) if swapped else (short, long)
    sine = np.clip(height / long, 0, 1)
    angle = np.arcsin(sine)
    direction = a / np.linalg.norm(a)
    turned = np.array(
        [
            np.cos(angle) * direction[0] - np.sin(angle) * direction[1],
            np.sin(angle) * direction[0] + np.cos(angle) * direction[1],
        ]
    )
    return np.stack([first * direction, second * turned])


def _reach(center: np.ndarray, shape: tuple[int, ...], radius: float) -> float:
    """Distance from the direct beam within which a disk lies on the detector in every direction."""
    mean = np.nanmean(np.reshape(center, (-1, 2)), axis=0)
    return float(min(*mean, *(np.array(shape) - 1 - mean)) - radius)


def _saturation(sample: ScanSample, center: np.ndarray, radius: float) -> float:
    """Counts at which the direct beam is clipped: its pixels share their largest value."""
    peaks = map_patterns(_peak, sample.dataset, per_position=(center,))
    peak, ties = np.asarray(peaks[0]), np.asarray(peaks[1])
    common = peak == peak.max()
    clipped = common.mean() > 0.1 and np.median(ties[common]) > max(4, 0.3 * np.pi * radius**2)
    return float(peak.max()) if clipped else np.inf


def _peak(pattern: Pattern, center: Any) -> Any:
    largest = jnp.max(pattern)
    return largest, jnp.sum(pattern == largest)


def _learn_background(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    radii = jnp.zeros(_profile_length(sample.dataset.pattern_shape))
    counts, pixels = _mean_over_fits(radial_background, sample, fits, model, radii)
    model = model._replace(
        background=jnp.asarray(
            _smooth_profile(counts, pixels, int(convincing(fits).sum())), jnp.float32
        )
    )
    intensity, _, _ = _typical(model, sample, fits)
    return model._replace(intensity=jnp.asarray(np.maximum(intensity, 1e-9), jnp.float32))


def _profile_length(shape: tuple[int, ...]) -> int:
    return int(np.hypot(shape[0], shape[1])) + 2


def _learn_intensities(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    """Typical intensities; reflections that are not there leave the model."""
    intensity, spread, error = _typical(model, sample, fits)
    there = np.asarray(intensity > np.maximum(SIGNIFICANT * error, 1e-3 * np.max(intensity[1:])))
    there[0] = True
    if there.sum() < FEWEST:
        there[np.argsort(-intensity)[:FEWEST]] = True
    dispersion = _typical_dispersion(fits)
    intensity = np.maximum(intensity, 1e-9)
    return model._replace(
        indices=model.indices[there],
        intensity=jnp.asarray(intensity[there], jnp.float32),
        spread=jnp.asarray(np.maximum(spread, 0.1 * intensity)[there], jnp.float32),
        dispersion=jnp.asarray(dispersion[there], jnp.float32),
    )


def _typical_dispersion(fits: Any) -> np.ndarray:
    """Median over the scan around each disk; 1 where Poisson noise explains it."""
    good = convincing(fits)
    dispersion = np.nanmedian(np.where(good[..., None], fits.dispersion, np.nan), axis=(0, 1))
    return np.where(dispersion > 1.1, dispersion, 1.0)


def _learn_disks(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    bins = jnp.zeros(int(np.ceil((1.5 * float(model.radius) + 3) / PROFILE_STEP)))
    counts, pixels = _mean_over_fits(disk_profile, sample, fits, model, bins)
    radius, edge = _fit_disk(counts, pixels, float(model.radius), float(model.edge_width))
    return model._replace(
        radius=jnp.asarray(radius, jnp.float32), edge_width=jnp.asarray(edge, jnp.float32)
    )


def _mean_over_fits(fn: Any, sample: ScanSample, fits: Any, model: LatticeModel, bins: Any) -> Any:
    """Mean of a pattern function of center and distortion over the convincing fits."""
    starts = (np.nan_to_num(fits.center), np.nan_to_num(fits.distortion))
    chain = sample.dataset.map(fn, model, bins, per_position=starts)
    return reduce_patterns(Mean(), chain, weights=convincing(fits))


def convincing(fits: Any) -> np.ndarray:
    """Fits that take part in learning: clear ones, or the clearest where few are."""
    score = np.where(np.isfinite(fits.information).all(axis=(-1, -2)), fits.score, -np.inf)
    enough = min(ENOUGH, score.size)
    return score >= min(CONVINCING, np.sort(score.ravel())[-enough])


def _typical(
    model: LatticeModel, sample: ScanSample, fits: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of every reflection's intensity, its spread over the scan, and the mean's error.

    Noise is what differs inside the sample's blocks, spread what differs between them (analysis of
    variance).
    """
    center, distortion = np.nan_to_num(fits.center), np.nan_to_num(fits.distortion)
    values = map_intensities(sample.dataset, center, distortion, model).share
    values = np.where(convincing(fits)[..., None], values, np.nan)
    shape, (rows, cols) = values.shape, sample.block
    blocks = values.reshape(shape[0] // rows, rows, shape[1] // cols, cols, -1)
    blocks = blocks.swapaxes(1, 2).reshape(-1, rows * cols, shape[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # reflections that no pattern shows
        mean, total = np.nanmean(values, axis=(0, 1)), np.nanvar(values, axis=(0, 1))
        count = np.isfinite(blocks).sum(axis=1, keepdims=True)
        within = (blocks - np.nanmean(blocks, axis=1, keepdims=True)) ** 2 * count / (count - 1)
        noise = np.nanmean(np.where(count > 1, within, np.nan), axis=(0, 1))
    seen = np.isfinite(values).sum(axis=(0, 1))
    error = np.sqrt(total / np.maximum(seen, 1))
    spread = np.sqrt(np.maximum(np.nan_to_num(total - np.nan_to_num(noise)), 0))
    return np.nan_to_num(mean), spread, np.nan_to_num(error, nan=np.inf)


def map_intensities(
    dataset: Dataset,
    center: np.ndarray,
    distortion: np.ndarray,
    model: LatticeModel,
    progress: str | None = None,
) -> Intensities:
    """`Intensities` of every pattern, shares ``(scan_y, scan_x, n)``, of lattices that are known."""
    of_disks = DiskIntensities(window_side(float(model.radius), np.asarray(model.vectors)))
    places = (center, distortion)
    return map_patterns(of_disks, dataset, model, per_position=places, progress=progress)


def background_under(model: LatticeModel, indices: np.ndarray) -> np.ndarray:
    """Share of the electrons that are background under the disk of each reflection."""
    lengths = np.linalg.norm(indices @ np.asarray(model.vectors), axis=1)
    profile = np.asarray(model.background)
    return np.interp(lengths, np.arange(len(profile)), profile) * np.pi * float(model.radius) ** 2


def _search_weights(setup: LatticeSetup) -> Any:
    """Typical contrast of the searched reflections: intensity over the noise of the background."""
    model = setup.model
    indices = np.asarray(setup.hypotheses.indices)
    order = {tuple(pair): n for n, pair in enumerate(np.asarray(model.indices).tolist())}
    which = [order.get(tuple(pair), -1) for pair in indices.tolist()]
    intensity = np.asarray(model.intensity)[which] * (np.array(which) >= 0)
    under = background_under(model, indices)
    return jnp.asarray(intensity / np.sqrt(under + intensity), jnp.float32)


def radial_background(
    pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, radii: Any
) -> tuple[Any, Any]:
    """Counts outside all disks, and the number of pixels they fell on, by whole px from the center.

    Both are divided by the pattern's dose, respectively 1, so that their means give a profile.
    """
    shape, size = pattern.shape, radii.shape[0]
    vectors = model.lattice(distortion)
    y, x = jnp.arange(shape[0], dtype=float)[:, None], jnp.arange(shape[1], dtype=float)[None, :]
    offset = jnp.stack(jnp.broadcast_arrays(y - center[0], x - center[1]), axis=-1)
    nearest = jnp.round(offset @ jnp.linalg.inv(vectors)) @ vectors
    apart = jnp.sqrt(jnp.sum((offset - nearest) ** 2, axis=-1))
    counted = (pattern >= 0) & (pattern < model.saturation)
    counted &= apart > model.radius + jnp.maximum(1.5, 4 * model.edge_width)
    counts = jnp.where(counted, pattern, 0).astype(float)
    ring = jnp.clip(jnp.round(radius_from(center, shape)), 0, size - 1).astype(int)
    dose = jnp.maximum(jnp.sum(jnp.maximum(pattern, 0).astype(float)), 1.0)
    return radii.at[ring].add(counts / dose), radii.at[ring].add(counted.astype(float))


def _smooth_profile(counts: np.ndarray, pixels: np.ndarray, n_patterns: int) -> np.ndarray:
    """Share of the electrons per pixel: a smoothing spline of its logarithm, weighted by the counts.

    Noise in a ring would push all reflections of that ring the same way; generalized cross-validation
    chooses the smoothness. Beyond what was seen the profile is constant.
    """
    radii = np.arange(len(counts), dtype=float)
    seen = (pixels * n_patterns > 1) & (counts > 0)
    if seen.sum() < MIN_KNOTS:
        return np.ones(len(counts))
    stretched = np.arcsinh(radii)
    weight = counts[seen] / counts[seen].max()
    logarithm = np.log(counts[seen] / pixels[seen])
    spline = interpolate.make_smoothing_spline(stretched[seen], logarithm, np.maximum(weight, 1e-6))
    span = stretched[seen][0], stretched[seen][-1]
    return np.exp(spline(np.clip(stretched, *span)))


def disk_profile(
    pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, bins: Any
) -> tuple[Any, Any]:
    """Counts and number of pixels by the distance from the nearest diffracted reflection."""
    shape, size = pattern.shape, bins.shape[0]
    vectors = model.lattice(distortion)
    y, x = jnp.arange(shape[0], dtype=float)[:, None], jnp.arange(shape[1], dtype=float)[None, :]
    offset = jnp.stack(jnp.broadcast_arrays(y - center[0], x - center[1]), axis=-1)
    nodes = jnp.round(offset @ jnp.linalg.inv(vectors))
    apart = jnp.sqrt(jnp.sum((offset - nodes @ vectors) ** 2, axis=-1))
    length = model.indices[-1] @ model.vectors
    counted = (pattern >= 0) & (pattern < model.saturation) & jnp.any(nodes != 0, axis=-1)
    counted &= jnp.sum((nodes @ model.vectors) ** 2, axis=-1) <= jnp.sum(length**2) + 1.0
    index = jnp.round(apart / PROFILE_STEP).astype(int)
    index = jnp.where(counted, index, size)
    dose = jnp.maximum(jnp.sum(jnp.maximum(pattern, 0).astype(float)), 1.0)
    counts = jnp.where(counted, pattern, 0).astype(float) / dose
    return bins.at[index].add(counts, mode="drop"), bins.at[index].add(
        counted.astype(float), mode="drop"
    )


def _fit_disk(
    counts: np.ndarray, pixels: np.ndarray, radius: float, edge: float
) -> tuple[float, float]:
    """Radius and edge width of the soft disk that fits the measured profile."""
    distance = np.arange(len(counts)) * PROFILE_STEP
    seen = pixels > 0
    profile = counts[seen] / pixels[seen]
    weight = np.sqrt(pixels[seen] / np.maximum(profile, 1e-3 * profile.max()))

    def misfit(p: np.ndarray) -> np.ndarray:
        disk = 1 / (1 + np.exp(np.clip((distance[seen] - p[0]) / p[1], -50, 50)))
        # Height, level and slope of the background follow by linear least squares.
        columns = np.stack([disk, np.ones_like(disk), distance[seen]], axis=1) * weight[:, None]
        target = profile * weight
        solution = np.linalg.lstsq(columns, target, rcond=None)[0]
        return columns @ solution - target

    bounds = ([0.6 * radius, 0.05], [1.5 * radius, 0.5 * radius])
    start = np.clip([radius, edge], np.array(bounds[0]) * 1.01, np.array(bounds[1]) * 0.99)
    found = optimize.least_squares(misfit, start, bounds=bounds, x_scale=[1.0, 0.3])
    return float(found.x[0]), float(found.x[1])
