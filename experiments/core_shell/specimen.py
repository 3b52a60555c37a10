"""An oxidized aluminium nanoparticle: twinned core along [110], and a shell of four kinds of oxide."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import Calibration, Dataset
from jax4dstem.coordinates import electron_wavelength, reciprocal_basis, rotation_matrix
from jax4dstem.lattice import mirror_lattice
from jax4dstem.simulate import (
    Background,
    Optics,
    PatternParameters,
    probe_shares,
    simulate_scan,
    smooth_slopes,
    thin_crystal_intensities,
)

ENERGY_KV, SEMIANGLE = 200.0, 1.5e-3
PIXEL, DETECTOR = 0.0175, 128  # 1/Å
STEP_NM, PROBE_SIGMA = 1.0, 0.8  # nm, positions
TILT = 0.02  # radians
ALUMINIUM = np.array([[0.0, 2.864], [-2.025, 1.432]])  # fcc along [110], Å
OXIDE = np.array([[0.0, 4.57], [-2.80, 0.0]])  # a rectangular net of γ-Al2O3, Å
CLASSES = ("core", "core, twin", "oxide 1", "oxide 2", "polycrystalline oxide", "amorphous oxide")
GRAINS = 4  # under the probe in the polycrystal


class Particle(NamedTuple):
    """The truth: class of every position, and where one class has more than 95 % of the probe."""

    label: np.ndarray
    interior: np.ndarray
    thickness: np.ndarray


def turned(basis: np.ndarray, degrees: float) -> np.ndarray:
    return basis @ np.asarray(rotation_matrix(np.radians(degrees))).T


def class_map(scan_shape: tuple[int, int], seed: int) -> np.ndarray:
    """A core of two twins in a shell of four quarters; around it amorphous oxide."""
    rng = np.random.default_rng(seed)
    y, x = (np.indices(scan_shape).T / (min(scan_shape) - 1) - 0.5).T
    angle = np.arctan2(-y, x)
    wobble = 0.02 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.015 * np.sin(5 * angle)
    radius = np.hypot(y, x) + wobble
    label = np.full(scan_shape, 5)
    quarter = ((angle + np.pi / 4 + rng.uniform(-0.2, 0.2)) // (np.pi / 2)).astype(int) % 4
    shell = radius < 0.46
    label[shell] = np.array([2, 3, 4, 5])[quarter[shell]]
    core = radius < 0.26
    label[core] = np.where(x + 0.3 * y > 0.02, 0, 1)[core]
    return label


def strengths(indices: np.ndarray, basis: np.ndarray, share: float) -> jnp.ndarray:
    length = np.linalg.norm(indices @ np.asarray(reciprocal_basis(jnp.asarray(basis))), axis=1)
    power = np.exp(-3.0 * length**2) * (length < 1.1)
    power[(indices == 0).all(axis=1)] = 0
    return jnp.asarray(share * power / power.sum())


def particle(
    scan_shape: tuple[int, int] = (72, 72), dose: float = 3e4, seed: int = 0
) -> tuple[Dataset, Particle]:
    """Simulated scan and its truth."""
    label = class_map(scan_shape, seed)
    shares = probe_shares(label, len(CLASSES), PROBE_SIGMA)
    rng = np.random.default_rng(seed + 100)
    y, x = (np.indices(scan_shape).T / (min(scan_shape) - 1) - 0.5).T
    thickness = 60 + 160 * np.sqrt(np.maximum(0, 1 - (np.hypot(y, x) / 0.5) ** 2))  # Å
    tilt = smooth_slopes(scan_shape, 8, TILT, rng)
    first = turned(ALUMINIUM, 8.0)
    twin = mirror_lattice(first, (0, 1))  # on the trace of a {111} plane
    bases = np.array([first, twin, turned(OXIDE, 31.0), turned(OXIDE, 74.0)])
    angles = rng.uniform(0, 360, (*scan_shape, GRAINS))
    grains = np.vectorize(lambda a: turned(OXIDE, a), signature="()->(i,j)")(angles)
    h, k = np.mgrid[-6:7, -6:7].reshape(2, -1)
    indices = jnp.asarray(np.stack([h, k], axis=1))
    metal = strengths(np.asarray(indices), ALUMINIUM, 0.4)
    oxide = strengths(np.asarray(indices), OXIDE, 0.3)

    def of_position(slope, share, depth, grain_bases):
        def intensities(basis, weights):
            return thin_crystal_intensities(basis, indices, weights, slope, depth, ENERGY_KV)

        fixed = [
            share[i] * intensities(jnp.asarray(bases[i]), metal if i < 2 else oxide)
            for i in range(4)
        ]
        small = jax.vmap(lambda basis: intensities(basis, oxide))(grain_bases) * share[4] / GRAINS
        nothing = jnp.where(jnp.all(indices == 0, axis=1), share[5], 0.0)
        return jnp.concatenate([jnp.stack(fixed).at[0].add(nothing), small])

    flat = jax.jit(jax.vmap(of_position))(
        *(jnp.asarray(a.reshape(-1, *a.shape[2:])) for a in (tilt, shares, thickness, grains))
    )
    fixed = np.broadcast_to(bases, (*scan_shape, 4, 2, 2))
    every = np.concatenate([fixed, grains], axis=2)
    vectors = np.asarray(jax.vmap(reciprocal_basis)(jnp.asarray(every.reshape(-1, 2, 2)))) / PIXEL
    halos = Background(
        1.0,
        5.0,
        jnp.array([0.25, 0.1]),
        jnp.array([0.37, 0.72]) / PIXEL,
        jnp.array([0.06, 0.09]) / PIXEL,
    )
    radius = SEMIANGLE / electron_wavelength(ENERGY_KV) / PIXEL
    parameters = PatternParameters(
        center=jnp.asarray(DETECTOR / 2 + 0.3 * rng.normal(size=(*scan_shape, 2))),
        vectors=jnp.asarray(vectors.reshape(every.shape)),
        intensities=flat.reshape(*scan_shape, 4 + GRAINS, len(indices)),
        background_fraction=jnp.asarray(0.12 + 0.25 * shares[..., 5] * thickness / thickness.max()),
        dose=jnp.full(scan_shape, dose),
    )
    optics = Optics(indices, radius, 0.3, halos)
    counts = simulate_scan(parameters, optics, (DETECTOR, DETECTOR), seed=seed)
    truth = Particle(label, shares.max(axis=-1) > 0.95, thickness)
    return Dataset.from_array(counts, Calibration(PIXEL, STEP_NM, ENERGY_KV)), truth


GOLD = np.array([[0.0, 2.039], [-2.039, 0.0]])  # fcc along [100]: the primitive square net, Å
PALLADIUM_MISFIT = 3.89 / 4.078 - 1


class Cube(NamedTuple):
    """The truth: strain of every position relative to gold, and which positions are on the cube."""

    strain: np.ndarray
    inside: np.ndarray


def cube(
    scan_shape: tuple[int, int] = (48, 48), dose: float = 5e4, seed: int = 0
) -> tuple[Dataset, Cube]:
    """A gold core in a palladium shell: the lattice shrinks towards the faces over a few nanometers."""
    rng = np.random.default_rng(seed)
    y, x = (np.indices(scan_shape).T / (min(scan_shape) - 1) - 0.5).T
    depth = np.maximum(np.abs(y), np.abs(x))
    strain = PALLADIUM_MISFIT / (1 + np.exp(-(depth - 0.25) / 0.03))
    inside = depth < 0.45
    h, k = np.mgrid[-4:5, -4:5].reshape(2, -1)
    indices = jnp.asarray(np.stack([h, k], axis=1))
    tilt = smooth_slopes(scan_shape, 8, 0.01, rng)
    first = turned(GOLD, 17.0)
    weights = strengths(np.asarray(indices), GOLD, 0.4)

    def of_position(slope, e, on):
        basis = jnp.asarray(first) * (1 + e)
        shares = thin_crystal_intensities(basis, indices, weights, slope, 150.0, ENERGY_KV)
        return jnp.where(on, shares, jnp.where(jnp.all(indices == 0, axis=1), 1.0, 0.0))

    flat = jax.jit(jax.vmap(of_position))(
        *(jnp.asarray(a.reshape(-1, *a.shape[2:])) for a in (tilt, strain, inside))
    )
    vectors = (
        np.asarray(reciprocal_basis(jnp.asarray(first))) / PIXEL / (1 + strain)[..., None, None]
    )
    optics = Optics(
        indices, SEMIANGLE / electron_wavelength(ENERGY_KV) / PIXEL, 0.3,
        Background(1.0, 5.0, jnp.zeros(0), jnp.zeros(0), jnp.ones(0)),
    )  # fmt: skip
    parameters = PatternParameters(
        center=jnp.asarray(DETECTOR / 2 + 0.3 * rng.normal(size=(*scan_shape, 2))),
        vectors=jnp.asarray(vectors[:, :, None]),
        intensities=flat.reshape(*scan_shape, 1, len(indices)),
        background_fraction=jnp.full(scan_shape, 0.1),
        dose=jnp.full(scan_shape, dose),
    )
    counts = simulate_scan(parameters, optics, (DETECTOR, DETECTOR), seed=seed)
    return Dataset.from_array(counts, Calibration(PIXEL, STEP_NM, ENERGY_KV)), Cube(strain, inside)
