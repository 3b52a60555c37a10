"""Every pattern function, by the same rules: jit = no jit = vmap, gradients = finite differences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jax4dstem import align, cepstrum, dataset, detector, detectors, embed, features, polar
from jax4dstem.lattice import detection, fit, measure, model, search

SIZE = 24


class Case(NamedTuple):
    """A pattern function, its further arguments, and whether it is smooth in them.

    ``eager`` has the precisions in which it is also run primitive by primitive: of a long function
    each of them is a compilation, so one that it is made of stands for it.
    """

    fn: Callable
    args: tuple[Any, ...]
    smooth: bool = True
    eager: tuple[str, ...] = ("float32", "float64")

    def plain(self, precision: str = "float32") -> Callable:
        return self.fn if precision in self.eager else jax.jit(self.fn)


def beam(rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE))
    heights = [100, 20, 20, 20, 20, 20, 20]
    spots = [
        height * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / 8)
        for height, (spot_y, spot_x) in zip(heights, CENTER + INDICES @ VECTORS, strict=True)
    ]
    return np.sum(spots, 0) + rng.uniform(1, 2, (SIZE, SIZE))


CENTER = (11.3, 12.6)
VECTORS = np.array([[0.0, 7.0], [-6.06, 3.5]])
INDICES = np.array([[0, 0], [1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]], np.int32)
BAD = np.zeros((SIZE, SIZE), bool)
BAD[3, 4] = BAD[0, 0] = True
CASES = {
    "virtual_image": Case(detectors.virtual_image, (np.eye(SIZE),)),
    "annular_dark_field": Case(detectors.annular_dark_field, (np.array(CENTER), 3.1, 8.2)),
    "bright_field": Case(detectors.bright_field, (np.array(CENTER), 8.2)),
    "center_of_mass": Case(detectors.center_of_mass, ()),
    "total_counts": Case(detectors.total_counts, ()),
    "count_invalid": Case(detectors.count_invalid, (), smooth=False),
    "normalize_dose": Case(detectors.normalize_dose, (7.0,)),
    "normalize_peak": Case(detectors.normalize_peak, ()),
    "repair_pixels": Case(detector.repair_pixels, (BAD,)),
    "beam_candidate": Case(align.beam_candidate, (np.array([12.0, 12.0]), 2.0, 6.0), smooth=False),
    "AlignDirectBeam": Case(align.AlignDirectBeam(3), (np.array([11.0, 12.0]), 5.3)),
    "align_direct_beam": Case(align.align_direct_beam, (np.array([12.0, 12.0]), 2.0, 6.0), False),
    "shift_pattern": Case(align.shift_pattern, (np.array([0.3, -1.4]),)),
    "fourier_shift": Case(align.fourier_shift, (np.array([0.3, -1.4]),)),
    "center_pattern": Case(align.center_pattern, (np.array(CENTER),)),
    "ewpc": Case(cepstrum.ewpc, (np.array(CENTER), 6.0, 0.1)),
    "Cepstrum": Case(
        cepstrum.Cepstrum("hann", padding=2), (np.array(CENTER), 11.0, 0.1), eager=("float64",)
    ),
    "difference": Case(
        cepstrum.Cepstrum().difference,
        (1.0 + np.indices((SIZE, SIZE)).sum(0), np.array(CENTER), 6.0, 0.1),
        eager=(),
    ),
    "flatten_rings": Case(cepstrum.flatten_rings, (), eager=("float64",)),
    "cepstral_contrast": Case(
        cepstrum.cepstral_contrast, (np.ones((SIZE, SIZE), bool),), smooth=False, eager=()
    ),
    "AngularCorrelations": Case(
        polar.AngularCorrelations(3, 16, 4), (np.array(CENTER), 4.0, 10.0, 1.2), eager=()
    ),
    "root_counts": Case(features.root_counts, ()),
    "root_shares": Case(lambda pattern: features.root_shares(pattern.ravel()), ()),
    "log_counts": Case(features.log_counts, (0.1,)),
    "gather_features": Case(
        features.gather_features, (np.array([3, 9, 100], np.int32), np.array([1.0, 2.0, 0.5]))
    ),
    "CropDetector": Case(dataset.CropDetector(2, 20, 3, 19), ()),
    "BinDetector": Case(dataset.BinDetector(5), ()),
}

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
        smooth=False,
        eager=(),
    ),
    "lattice_deviance": Case(
        lambda pattern, center, distortion, shared: fit.lattice_deviance(
            pattern, center, distortion, shared, 7
        ),
        (np.array(CENTER), np.eye(2), MODEL),
        smooth=False,
        eager=("float64",),
    ),
    "FitLattice": Case(
        lambda *args: fit.FitLattice(7, coarse=1, fine=1)(*args).center,
        (np.array(CENTER), np.eye(2), MODEL),
        smooth=False,
        eager=(),
    ),
    "MeasureLattice": Case(
        lambda *args: measure.MeasureLattice(fit.FitLattice(7))(*args).score,
        (np.array(CENTER), SETUP),
        smooth=False,
        eager=(),
    ),
}


def arguments(case: Case, rng: np.random.Generator) -> tuple[Any, ...]:
    def to_jax(value: Any) -> Any:
        array = np.asarray(value)
        return jnp.asarray(array, float) if array.dtype.kind == "f" else jnp.asarray(array)

    return tuple(jax.tree.map(to_jax, value) for value in (beam(rng), *case.args))


@pytest.mark.parametrize("name", CASES)
def test_jit_and_vmap_change_nothing(name, rng, precision):
    case = CASES[name]
    pattern, *rest = arguments(case, rng)
    fn = case.plain(precision)
    plain = fn(pattern, *rest)
    tolerance = (
        {"rtol": 2e-4, "atol": 2e-4} if precision == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    )
    chex.assert_trees_all_close(jax.jit(case.fn)(pattern, *rest), plain, **tolerance)
    batch = jnp.stack([pattern, 2 * pattern + 1, pattern[::-1]])
    lifted = jax.jit(jax.vmap(case.fn, (0, *(None for _ in rest))))(batch, *rest)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], lifted)
        chex.assert_trees_all_close(one, fn(batch[i], *rest), **tolerance)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(plain) if leaf.dtype.kind == "f"}
    assert dtypes <= {np.dtype(precision)}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.smooth])
def test_gradients_are_finite_differences(name, rng):
    case = CASES[name]
    with jax.enable_x64(True):
        given, tree = jax.tree.flatten(arguments(case, rng))
        floats = [i for i, value in enumerate(given) if value.dtype.kind == "f"]

        def of_floats(*values):
            full = list(given)
            for i, value in zip(floats, values, strict=True):
                full[i] = jnp.asarray(value)
            return case.fn(*jax.tree.unflatten(tree, full))

        check_grads(
            of_floats,
            [given[i] for i in floats],
            order=1,
            modes=("rev",),
            eps=1e-6,
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("name", CASES)
def test_integer_counts_are_accepted(name, rng):
    case = CASES[name]
    pattern, *rest = arguments(case, rng)
    counts = jnp.round(pattern).astype(jnp.uint16)
    fn = case.plain()
    floats = fn(counts.astype(float), *rest)
    chex.assert_trees_all_close(fn(counts, *rest), floats, rtol=1e-5, atol=1e-5)


def test_project_is_the_inverse_of_a_basis():
    components = jnp.eye(4)[:2]
    assert embed.project(jnp.arange(4.0), jnp.ones(4), components).tolist() == [-1.0, 0.0]
