"""A two-dimensional ferroelectric like SnSe: four orthorhombic domains, two twin pairs, under a sheet that is not flat."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import distance_transform_edt

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

A, B = 4.44, 4.15  # Å, polar axis and the axis across it
ENERGY_KV, SEMIANGLE = 200.0, 1.5e-3
PIXEL, DETECTOR = 0.0155, 128  # 1/Å
STEP_NM, PROBE_NM = 1.0, 2.5  # scan step; full width of the probe at half maximum
THICKNESS = 100.0  # Å
TILT = 0.03  # largest slope of the sheet, radians
ORIENTATION = np.radians(11.0)


class Twins(NamedTuple):
    """The truth: domain of every position, distance to the nearest boundary (positions), where one domain has > 95 %."""

    label: np.ndarray
    distance: np.ndarray
    interior: np.ndarray
    tilt: np.ndarray


def domain_bases() -> np.ndarray:
    """Lattices of the four domains: a twin pair mirrored on its diagonal, and the same turned by 90 degrees."""
    first = np.array([[0.0, A], [-B, 0.0]])
    twin = mirror_lattice(first, (1, 1))
    quarter = np.asarray(rotation_matrix(np.pi / 2))
    turned = [basis @ quarter.T for basis in (first, twin)]
    return np.array([first, twin, *turned]) @ np.asarray(rotation_matrix(ORIENTATION)).T


def domain_map(scan_shape: tuple[int, int], seed: int) -> np.ndarray:
    """Lamellae of one pair left of a wavy wall, of the other pair, across, right of it."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(scan_shape)
    size = min(scan_shape)
    phases = rng.uniform(0, 2 * np.pi, 3)
    wall = 0.5 * scan_shape[1] + 0.06 * size * np.sin(2 * np.pi * y / size + phases[0])
    left = (np.floor((x + y) / (0.28 * size) + 0.1 * np.sin(y / 9 + phases[1])) % 2).astype(int)
    right = (np.floor((x - y) / (0.28 * size) + 0.1 * np.sin(x / 9 + phases[2])) % 2).astype(int)
    return np.where(x < wall, left, 2 + right)


def strengths(indices: np.ndarray) -> np.ndarray:
    """Share of the electrons in each reflection at its Bragg condition: Sn on a centered lattice, Se displaced along a."""
    h, k = indices.T
    length = np.hypot(h / A, k / B)
    falloff = np.exp(-1.2 * length**2)
    tin, selenium = 50**0.75 * falloff, 34**0.75 * falloff
    factor = tin * (1 + np.exp(1j * np.pi * (h + k)))
    factor = factor + selenium * np.exp(2j * np.pi * 0.06 * h) * (
        np.exp(1j * np.pi * h) + np.exp(1j * np.pi * k)
    )
    power = np.abs(factor) ** 2
    power[(h == 0) & (k == 0)] = 0
    return 0.35 * power / power.sum()


def twin_domains(
    scan_shape: tuple[int, int] = (80, 80), dose: float = 2e4, seed: int = 0
) -> tuple[Dataset, Twins]:
    """Simulated scan and its truth."""
    label = domain_map(scan_shape, seed)
    sigma = PROBE_NM / 2.355 / STEP_NM
    shares = probe_shares(label, 4, sigma)
    rng = np.random.default_rng(seed + 1)
    tilt = smooth_slopes(scan_shape, min(scan_shape) / 8, TILT, rng)
    limit = int(np.ceil(DETECTOR / 2 * PIXEL * max(A, B)))
    h, k = np.mgrid[-limit : limit + 1, -limit : limit + 1].reshape(2, -1)
    indices = np.stack([h, k], axis=1)
    weights = strengths(indices)
    used = (weights > 1e-5 * weights.max()) | ((h == 0) & (k == 0))
    indices, weights = indices[used], jnp.asarray(weights[used])
    bases = jnp.asarray(domain_bases())

    def of_position(slope, share):
        each = jax.vmap(
            lambda basis: thin_crystal_intensities(
                basis, jnp.asarray(indices), weights, slope, THICKNESS, ENERGY_KV
            )
        )
        return share[:, None] * each(bases)

    flat = jax.jit(jax.vmap(of_position))(
        jnp.asarray(tilt.reshape(-1, 2)), jnp.asarray(shares.reshape(-1, 4))
    )
    vectors = np.asarray(jax.vmap(reciprocal_basis)(bases)) / PIXEL
    optics = Optics(
        jnp.asarray(indices),
        SEMIANGLE / electron_wavelength(ENERGY_KV) / PIXEL,
        0.3,
        Background(1.0, 5.0, jnp.zeros(0), jnp.zeros(0), jnp.ones(0)),
    )
    parameters = PatternParameters(
        center=jnp.asarray(DETECTOR / 2 + 0.3 * rng.normal(size=(*scan_shape, 2))),
        vectors=jnp.broadcast_to(jnp.asarray(vectors), (*scan_shape, 4, 2, 2)),
        intensities=flat.reshape(*scan_shape, 4, len(indices)),
        background_fraction=jnp.full(scan_shape, 0.1),
        dose=jnp.full(scan_shape, dose),
    )
    counts = simulate_scan(parameters, optics, (DETECTOR, DETECTOR), seed=seed)
    inside = [distance_transform_edt(label == i) for i in range(4)]
    truth = Twins(label, np.max(inside, axis=0) - 0.5, shares.max(axis=-1) > 0.95, tilt)
    return Dataset.from_array(counts, Calibration(PIXEL, STEP_NM, ENERGY_KV)), truth
