"""Counts of a whole simulated scan."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from jax4dstem.errors import InputError
from jax4dstem.lattice.disks import patch_side
from jax4dstem.noise import COUNTED, Noise
from jax4dstem.simulate.pattern import Optics, PatternParameters, simulate_pattern

CACHE_BATCH = 16  # patterns drawn at once, so that they stay in a CPU's cache
UINT16_DOSE = 60_000  # no pixel can overflow 16 bits: the whole dose would have to fall on it


def simulate_scan(
    parameters: PatternParameters,
    optics: Optics,
    detector_shape: tuple[int, int],
    *,
    noise: Noise = COUNTED,
    seed: int = 0,
    tile: int = 256,
    progress: str | None = None,
) -> np.ndarray:
    """Counts of a scan whose parameters are given position by position.

    The expected patterns are drawn on the device; electrons are counted on the host with a generator
    per position, keyed by the seed and the position: the counts do not depend on the tiles.

    Args:
        parameters: Arrays with leading axes ``(scan_y, scan_x)``.
        optics: Shared by all positions.
        detector_shape: ``(det_y, det_x)``.
        noise: How counts scatter around the expected electrons.
        seed: Of the noise; not negative.
        tile: Positions in memory as floating-point patterns at once.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        Counts ``(scan_y, scan_x, det_y, det_x)``: uint16, or uint32 where a dose exceeds 60,000; float32
        where the noise is not that of counted electrons.

    Raises:
        InputError: A parameter is negative, not finite or not of the scan's shape, the disks have
            no extent, or the detector is smaller than 32 px.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax4dstem.simulate import Background, hexagonal_indices
        >>> halos = Background(1.0, 4.0, jnp.array([0.1]), jnp.array([12.0]), jnp.array([4.0]))
        >>> optics = Optics(jnp.asarray(hexagonal_indices(1)), 2.0, 0.3, halos)
        >>> positions = PatternParameters(
        ...     center=jnp.full((2, 3, 2), 16.0),
        ...     vectors=jnp.tile(jnp.array([[0.0, 10.0], [-8.66, 5.0]]), (2, 3, 1, 1, 1)),
        ...     intensities=jnp.ones((2, 3, 1, 7)),
        ...     background_fraction=jnp.full((2, 3), 0.1),
        ...     dose=jnp.full((2, 3), 1000.0),
        ... )
        >>> simulate_scan(positions, optics, (32, 32)).shape
        (2, 3, 32, 32)
    """
    scan_shape = np.shape(parameters.dose)
    _check(parameters, optics, detector_shape, seed, tile)
    flat = jax.tree.map(lambda leaf: _flatten_scan(np.asarray(leaf, np.float32)), parameters)
    n_positions = len(flat.dose)
    tile = min(tile, n_positions)
    counts = np.empty((n_positions, *detector_shape), _dtype(noise, flat.dose.max()))
    patch = patch_side(float(optics.radius), float(optics.edge_width))
    bar = tqdm(
        total=n_positions,
        desc=progress,
        unit="pattern",
        unit_scale=True,
        disable=True if progress is None else None,  # None: in terminals and notebooks only
    )

    with bar, ThreadPoolExecutor() as counters:
        for start in range(0, n_positions, tile):
            begin = min(start, n_positions - tile)  # the last tile overlaps: one compiled shape
            part = jax.tree.map(lambda leaf, b=begin: leaf[b : b + tile], flat)
            expected = np.asarray(_expected(part, optics, detector_shape, patch))
            positions = range(start, begin + tile)
            drawn = counters.map(
                functools.partial(_count, noise, seed), positions, expected[start - begin :]
            )
            for position, pattern in zip(positions, drawn, strict=True):
                counts[position] = pattern
            bar.update(len(positions))
    return counts.reshape(*scan_shape, *detector_shape)


def _count(noise: Noise, seed: int, position: int, expected: np.ndarray) -> np.ndarray:
    generator = np.random.Philox(key=np.array([seed, position], np.uint64))
    return noise.count(np.random.Generator(generator), expected)


def _dtype(noise: Noise, largest: float) -> type[np.generic]:
    """Of counts: whole numbers where the noise gives them."""
    drawn = noise.count(np.random.default_rng(0), np.ones(1))
    if drawn.dtype.kind == "f":
        return np.float32
    return np.uint16 if largest <= UINT16_DOSE else np.uint32


@functools.partial(jax.jit, static_argnums=(2, 3))
def _expected(
    parameters: PatternParameters, optics: Optics, shape: tuple[int, int], patch: int
) -> jax.Array:
    return jax.lax.map(
        lambda position: simulate_pattern(position, optics, shape, patch),
        parameters,
        batch_size=CACHE_BATCH,
    )


def _flatten_scan(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])


def _check(
    parameters: PatternParameters, optics: Optics, shape: tuple[int, int], seed: int, tile: int
) -> None:
    check_detector(shape)
    scan_shape = np.shape(parameters.dose)
    lattices, reflections = np.shape(parameters.vectors)[2:3], np.shape(optics.indices)[:1]
    tails = {
        "center": (2,),
        "vectors": (*lattices, 2, 2),
        "intensities": (*lattices, *reflections),
        "background_fraction": (),
        "dose": (),
    }
    if len(scan_shape) != 2 or 0 in scan_shape:
        raise InputError(
            f"the dose has shape {scan_shape}; give it for a non-empty (scan_y, scan_x)"
        )
    for name, tail in tails.items():
        _check_leaf(name, np.asarray(getattr(parameters, name)), (*scan_shape, *tail))
    for name in ("intensities", "background_fraction", "dose"):
        if np.min(getattr(parameters, name)) < 0:
            raise InputError(f"{name} has negative values; counts have a mean of zero or more")
    if np.max(parameters.background_fraction) > 1:
        raise InputError("background_fraction exceeds 1; it is a share of the electrons")
    if not (optics.radius > 0 and optics.edge_width > 0):
        raise InputError(
            f"disks have radius {optics.radius} px and edge width {optics.edge_width} px; "
            "both must be positive"
        )
    if seed < 0 or tile < 1:
        raise InputError(f"seed {seed} and tile {tile} must be at least 0 and 1")


def _check_leaf(name: str, leaf: Any, shape: tuple[int, ...]) -> None:
    if leaf.shape != shape:
        raise InputError(f"{name} has shape {leaf.shape}; the scan and its optics need {shape}")
    if not np.isfinite(leaf).all():
        raise InputError(f"{name} has NaN or infinite values; every position needs numbers")


def check_detector(shape: tuple[int, int]) -> None:
    """Raise InputError unless patterns of that shape can hold a lattice of disks."""
    if len(shape) != 2 or min(shape) < 32:
        raise InputError(
            f"the detector has shape {tuple(shape)}; a simulated pattern needs (det_y, det_x) of "
            "32 px or more"
        )
