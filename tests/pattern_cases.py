"""Every pattern function with arguments, for the tests and for experiments/gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import dataset, detector
from jax4dstem.domains import dose as domain_dose
from jax4dstem.lattice import (
    adjoint,
    binning,
    choice,
    detection,
    fit,
    intensities,
    learn_seconds,
    measure,
    mixture,
    model,
    pair,
    patches,
    profiles,
    search,
)
from jax4dstem.lattice import dose as lattice_dose
from jax4dstem.patterns import align, cepstrum, detectors, features, friedel, polar
from jax4dstem.strain import ccstae, neighbors

SIZE = 24
WEIGHTS = np.random.default_rng(3).normal(size=(2, SIZE, SIZE)).astype(np.float32)


class Case(NamedTuple):
    """A pattern function, its further arguments, and why it has no gradient, if so.

    Where ``eager``, it is also run primitive by primitive: of a long function each of them is a
    compilation, so one that it is made of stands for it.
    """

    fn: Callable
    args: tuple[Any, ...]
    flat: str = ""
    eager: bool = True


def beam(rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE))
    heights = [100, 20, 20, 20, 20, 20, 20]
    spots = [
        height * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / 8)
        for height, (spot_y, spot_x) in zip(heights, CENTER + INDICES @ VECTORS, strict=True)
    ]
    return np.sum(spots, 0) + rng.uniform(1, 2, (SIZE, SIZE))


CENTER = (11.3, 12.6)
OFF_TIES = np.array([11.31, 12.57])  # no pixel is half a pixel from a ring
VECTORS = np.array([[0.0, 7.0], [-6.06, 3.5]])
DISTORTION = np.array([[1.013, 0.004], [-0.006, 0.991]])  # no reflection a whole pixel away
INDICES = np.array([[0, 0], [1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]], np.int32)
DISTANCE = np.hypot(*(np.indices((SIZE, SIZE)) - np.reshape(CENTER, (2, 1, 1))))
BAD = np.zeros((SIZE, SIZE), bool)
BAD[3, 4] = BAD[0, 0] = True
CASES = {
    "virtual_image": Case(detectors.virtual_image, (np.eye(SIZE),)),
    "annular_dark_field": Case(detectors.annular_dark_field, (np.array(CENTER), 3.1, 8.2)),
    "bright_field": Case(detectors.bright_field, (np.array(CENTER), 8.2)),
    "center_of_mass": Case(detectors.center_of_mass, ()),
    "total_counts": Case(detectors.total_counts, ()),
    "count_invalid": Case(detectors.count_invalid, (), "a number of pixels"),
    "normalize_dose": Case(detectors.normalize_dose, (7.0,)),
    "normalize_peak": Case(detectors.normalize_peak, ()),
    "repair_pixels": Case(detector.repair_pixels, (BAD,)),
    "beam_candidate": Case(
        align.beam_candidate,
        (np.array([12.0, 12.0]), 2.0, 6.0),
        "the place of a maximum, in whole pixels",
        eager=False,
    ),
    "AlignDirectBeam": Case(align.AlignDirectBeam(3), (np.array([11.0, 12.0]), 5.3)),
    "align_direct_beam": Case(align.align_direct_beam, (np.array([12.0, 12.0]), 2.0, 6.0)),
    "LocateDirectBeam": Case(align.LocateDirectBeam(reach=8), (np.array([12.0, 12.0]), 2.0, 6.0)),
    "friedel_center": Case(
        friedel.friedel_center, (np.array([12.0, 12.0]), ~BAD, 6.0, 2.0), eager=False
    ),
    "shift_pattern": Case(align.shift_pattern, (np.array([0.3, -1.4]),)),
    "fourier_shift": Case(align.fourier_shift, (np.array([0.3, -1.4]),)),
    "center_pattern": Case(align.center_pattern, (np.array(CENTER),)),
    "ewpc": Case(cepstrum.ewpc, (np.array(CENTER), 6.0, 0.1)),
    "Cepstrum": Case(cepstrum.Cepstrum("hann", padding=2), (np.array(CENTER), 11.0, 0.1)),
    "Cepstrum.difference": Case(
        cepstrum.Cepstrum().difference,
        (1.0 + np.indices((SIZE, SIZE)).sum(0), np.array(CENTER), 6.0, 0.1),
        eager=False,
    ),
    "flatten_rings": Case(cepstrum.flatten_rings, (), eager=False),
    "cepstral_contrast": Case(
        cepstrum.cepstral_contrast, (np.ones((SIZE, SIZE), bool),), eager=False
    ),
    "AngularCorrelations": Case(
        polar.AngularCorrelations(3, 16, 4), (np.array(CENTER), 4.0, 10.0, 1.2), eager=False
    ),
    "root_counts": Case(features.root_counts, ()),
    "root_shares": Case(lambda pattern: features.root_shares(pattern.ravel()), ()),
    "log_counts": Case(features.log_counts, (0.1,)),
    "gather_features": Case(
        features.gather_features, (np.array([3, 9, 100], np.int32), np.array([1.0, 2.0, 0.5]))
    ),
    "SumOpposites": Case(features.SumOpposites((1, 2), (3, 5), 3), ()),
    "CropDetector": Case(dataset.CropDetector(2, 20, 3, 19), ()),
    "BinDetector": Case(dataset.BinDetector(5), ()),
}

DETECTOR = detector.Detector(saturation=1e4, mask=~BAD).as_arrays()
MODEL = model.starting_model(VECTORS, INDICES, 2.0)._replace(
    background=np.linspace(3, 1, 20), intensity=np.full(7, 0.1), spread=np.full(7, 0.1)
)
KERNELS = detection.disk_kernels((SIZE, SIZE), 2.0)
SETUP = measure.LatticeSetup(
    KERNELS, search.rotated_lattices(VECTORS, INDICES[1:], np.ones(6), 2.0), MODEL
)
CASES |= {
    "disk_contrast": Case(detection.disk_contrast, (KERNELS,)),
    "refine_cepstral_peaks": Case(
        lambda *args: cepstrum.refine_cepstral_peaks(*args, iterations=2).positions,
        (np.array(CENTER), 6.0, 0.1, np.array([[0.2, 3.3]])),
        eager=False,
    ),
    "total_deviance": Case(
        lambda *args: fit.total_deviance(*args, 7),
        (np.array(CENTER), DISTORTION, MODEL),
        eager=False,
    ),
    "lattice_deviance": Case(
        lambda pattern, center, distortion, shared: fit.lattice_deviance(
            pattern, center, distortion, shared, 7
        ),
        (np.array(CENTER), DISTORTION, MODEL),
        eager=False,
    ),
    "FitLattice": Case(
        lambda *args: fit.FitLattice(7, coarse=1, fine=1, adjoint=adjoint.Unrolled())(*args)[:2],
        (np.array(CENTER), DISTORTION, MODEL),
        eager=False,
    ),
    "MeasureLattice": Case(
        lambda *args: measure.MeasureLattice(fit.FitLattice(7, adjoint=adjoint.Unrolled()))(*args)[
            :2
        ],
        (np.array(CENTER), SETUP),
        eager=False,
    ),
}

KNOWN = mixture.KnownLattices(
    np.stack([np.eye(2), [[0.97, 0.26], [-0.26, 0.97]]]), np.full((2, 7), 0.01)
)
TURNED = DISTORTION @ np.array([[0.968, 0.251], [-0.25, 0.967]])
FOUND = choice.FoundLattice(np.array(CENTER), DISTORTION, np.full(7, 0.08))


def _pair_lattices(found: pair.PairFit) -> tuple:
    return found.first.center, found.first.distortion, found.second.distortion, found.amounts


CASES |= {
    "sample_pattern": Case(align.sample_pattern, (np.array([3.2, 11.7]), np.array([4.9, 12.1]))),
    "ring_mean": Case(cepstrum.ring_mean, (DISTANCE,)),
    "unfold_cepstrum": Case(
        lambda half: cepstrum.unfold_cepstrum(half.astype(float), 2 * SIZE - 2), ()
    ),
    "to_polar": Case(
        lambda *args: polar.to_polar(args[0].astype(float), *args[1:], (3, 8)),
        (np.array(CENTER), 4.0, 9.0),
    ),
    "smooth": Case(polar.smooth, (1.2,)),
    "bin_counts": Case(lambda *args: binning.bin_counts(*args, 2), (DETECTOR,)),
    "find_bragg_disks": Case(
        lambda *args: detection.find_bragg_disks(*args, n_max=3)[:2], (KERNELS, 2.0), eager=False
    ),
    "search_lattice": Case(
        lambda pattern, *args: search.search_lattice(pattern.astype(float), *args),
        (np.array(CENTER), SETUP.hypotheses),
        eager=False,
    ),
    "score_lattice": Case(
        lambda pattern, *args: search.score_lattice(pattern.astype(float), *args),
        (np.array(CENTER), VECTORS, SETUP.hypotheses),
    ),
    "explained_share": Case(
        lambda pattern, *args: measure.explained_share(pattern.astype(float), *args),
        (np.array(CENTER), VECTORS, 2.0),
        "a number of disks",
    ),
    "values_at": Case(
        lambda pattern, *args: search.values_at(pattern.astype(float), *args, 0.0),
        (np.array(CENTER), VECTORS, INDICES),
    ),
    "score_beside": Case(
        lambda pattern, *args: measure.score_beside(pattern.astype(float), *args),
        (np.array(CENTER), VECTORS, 0.9, SETUP.hypotheses),
        eager=False,
    ),
    "FitPair": Case(
        lambda pattern, center, first, second, of_both: _pair_lattices(
            pair.FitPair(7, coarse=1, fine=1)(pattern, center, first, second, (of_both, of_both))
        ),
        (np.array(CENTER), DISTORTION, TURNED, MODEL),
        eager=False,
    ),
    "MeasurePair": Case(
        lambda pattern, found, setup: _pair_lattices(
            pair.MeasurePair(pair.FitPair(7, coarse=1, fine=1), 1)(pattern, found, (setup, setup))
        ),
        (FOUND, SETUP),
        eager=False,
    ),
    "SubtractDisks": Case(learn_seconds.SubtractDisks(9), (FOUND, MODEL), eager=False),
    "electrons_of": Case(detector.electrons_of, (3.0, 20.0)),
    "scale_counts": Case(lattice_dose.scale_counts, (0.3,)),
    "weighted_sums": Case(domain_dose.weighted_sums, (WEIGHTS,)),
    "pattern_dose": Case(detector.pattern_dose, (DETECTOR,)),
    "DiskIntensities": Case(
        intensities.DiskIntensities(7), (np.array(CENTER), DISTORTION, MODEL), eager=False
    ),
    "FitAmounts": Case(
        lambda pattern, center, known, shared: mixture.FitAmounts(7, iterations=2)(
            pattern, center, jnp.arange(2), known, shared
        ),
        (np.array(CENTER), KNOWN, MODEL),
        eager=False,
    ),
    "LatticeEvidence": Case(
        lambda pattern, center, found, shared: choice.LatticeEvidence(9)(
            pattern, center, found, shared, 1.0, 16.0
        ),
        (np.array(CENTER), FOUND, MODEL),
        eager=False,
    ),
    "radial_background": Case(
        profiles.radial_background, (OFF_TIES, DISTORTION, MODEL, np.zeros(20)), eager=False
    ),
    "disk_profile": Case(
        profiles.disk_profile, (OFF_TIES, DISTORTION, MODEL, np.zeros(40)), eager=False
    ),
    "height_scale": Case(fit.height_scale, (MODEL,)),
    "gather_patches": Case(
        lambda pattern, *args: patches.gather_patches(pattern, *args, 7),
        (np.array(CENTER), DISTORTION, MODEL),
    ),
    "Detector.known": Case(lambda pattern, of: of.known(pattern), (DETECTOR,), "a yes or no"),
    "Detector.usable": Case(lambda pattern, of: of.usable(pattern), (DETECTOR,), "a yes or no"),
    "Detector.clip": Case(lambda pattern, of: of.clip(pattern), (DETECTOR,)),
    "ring_share": Case(ccstae.ring_share, (np.hypot(*np.indices((SIZE, SIZE))) < 20, 3.0)),
    "MoveCounts": Case(
        neighbors.MoveCounts(3), (np.array([0, 0], np.int32), detector.Detector().as_arrays())
    ),
}


def arguments(case: Case, rng: np.random.Generator) -> tuple[Any, ...]:
    def to_jax(value: Any) -> Any:
        array = np.asarray(value)
        return jnp.asarray(array, float) if array.dtype.kind == "f" else jnp.asarray(array)

    return tuple(jax.tree.map(to_jax, value) for value in (beam(rng), *case.args))


def derivatives(
    case: Case, given: list, tree: Any, step: float, rng: np.random.Generator
) -> dict[int, tuple[float, float]]:
    """Derivatives of the outputs, added with random weights, along a random direction of every argument.

    Returns:
        By number of the argument: by reverse-mode differentiation, and by central differences of twice the given step.
    """
    floats = [
        i for i, leaf in enumerate(given) if leaf.dtype.kind == "f" and np.isfinite(leaf).all()
    ]

    def outputs(values: list) -> jax.Array:
        full = list(given)
        for i, value in zip(floats, values, strict=True):
            full[i] = value
        leaves = jax.tree.leaves(case.fn(*jax.tree.unflatten(tree, full)))
        flat = [leaf.ravel() for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.concatenate(flat)

    start = [given[i] for i in floats]
    weights = rng.normal(size=jax.eval_shape(outputs, start).shape)
    total = jax.jit(jax.value_and_grad(lambda values: jnp.sum(weights * outputs(values))))
    _, gradients = total(start)
    found = {}
    for k, i in enumerate(floats):
        direction = rng.normal(size=start[k].shape)
        ahead, behind = (
            total([*start[:k], start[k] + sign * step * direction, *start[k + 1 :]])[0]
            for sign in (1, -1)
        )
        exact = float(jnp.sum(gradients[k] * direction))
        found[i] = exact, float((ahead - behind) / (2 * step))
    return found
