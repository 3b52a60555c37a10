"""The built-in demonstration data: a WS2/WSe2 lateral heterojunction on a carbon film.

After the specimen of Shi et al., npj Comput. Mater. 8, 114 (2022).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from math import isfinite, radians

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import (
    Calibration,
    deform,
    deformation,
    electron_wavelength,
    reciprocal_basis,
    rotation_matrix,
    strain_of,
)
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.lattice.disks import hexagonal_indices
from jax4dstem.simulate.monolayer import WS2, WSE2, Monolayer, monolayer_intensities
from jax4dstem.simulate.pattern import Background, Optics, PatternParameters
from jax4dstem.simulate.scan import check_detector, simulate_scan
from jax4dstem.simulate.specimen import (
    coherent_strain,
    probe_shares,
    ridge_slopes,
    scan_coordinates,
    triangle_distance,
)
from jax4dstem.typing import Array

ENERGY_KV = 80.0
SEMIANGLE = 1.5e-3  # rad
FIELD = 128 * 0.016  # Å⁻¹ across the shorter side of the detector
SCAN_STEP_NM = 8.0
PROBE_SIGMA = 0.8  # scan positions
ORIENTATION = radians(7.0)  # of the zigzag direction a1 and of the triangles' base
COHERENCY = 0.4  # share of the misfit that is strain; dislocations take the rest
POISSON_RATIO = 0.22  # of WS2, in plane
RIPPLE_SLOPE = radians(8.0)


MATERIALS = (WS2, WSE2)


@dataclass(frozen=True)
class HeterojunctionTruth:
    """What the demonstration data were made from; arrays ``(scan_y, scan_x, ...)``.

    Strain, rotation, tilt and lattice are those of the material with the larger share under the probe,
    relative to that material's own bulk lattice at the specimen's orientation; NaN on bare film.

    Attributes:
        label: 0 film, 1 WS2, 2 WSe2.
        e_xx: Strain along x; axes and signs as in `deformation`.
        e_yy: Strain along y.
        e_xy: Tensor shear strain.
        theta: Rotation in radians.
        tilt: Slope of the sheet along (y, x), in radians.
        center: Of the direct beam, (y, x) in px.
        lattice: Real-space basis vectors as rows (y, x), in Å.
        fraction_ws2: Share of WS2 under the probe.
        fraction_wse2: Share of WSe2 under the probe.
        interior: Where one of film, WS2 and WSe2 has more than 95 % of the probe.
    """

    label: np.ndarray
    e_xx: np.ndarray
    e_yy: np.ndarray
    e_xy: np.ndarray
    theta: np.ndarray
    tilt: np.ndarray
    center: np.ndarray
    lattice: np.ndarray
    fraction_ws2: np.ndarray
    fraction_wse2: np.ndarray
    interior: np.ndarray


def heterojunction(
    scan_shape: tuple[int, int] = (64, 64),
    detector_shape: tuple[int, int] = (128, 128),
    *,
    dose: float = 5e4,
    seed: int = 0,
    progress: str | None = None,
) -> tuple[Dataset, HeterojunctionTruth]:
    """Simulate a scan over a WS2 triangle in a WSe2 ring on a carbon film.

    The misfit of the lattices (3.15 and 3.28 Å) strains both, ridges of the sheet run from its middle
    to its corners and tilt it by up to 8 degrees, the lattice turns slowly by about a degree, the
    beam drifts by several px over the scan, and the probe mixes what lies under it. Intensities come
    from the phase-object approximation; the shortening of a tilted sheet in projection is left out.

    Args:
        scan_shape: ``(scan_y, scan_x)``, at 8 nm per step.
        detector_shape: ``(det_y, det_x)``; its shorter side always covers 2.05 Å⁻¹.
        dose: Expected electrons per pattern.
        seed: Of the noise; the specimen is always the same.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        The dataset, in memory and calibrated, and its truth.

    Raises:
        InputError: The dose is not positive, the scan is smaller than 4 x 4, the detector smaller
            than 32 x 32, or the seed negative.

    Example:
        >>> scan, truth = heterojunction((8, 8), (32, 32), dose=1000.0)
        >>> scan.shape, truth.center.shape
        ((8, 8, 32, 32), (8, 8, 2))
    """
    if len(scan_shape) != 2 or min(scan_shape) < 4:
        raise InputError(
            f"the scan has shape {tuple(scan_shape)}; give (scan_y, scan_x), at least 4 x 4"
        )
    if not (isfinite(dose) and dose > 0):
        raise InputError(
            f"the dose is {dose}; it must be a positive number of electrons per pattern"
        )
    check_detector(detector_shape)
    pixel = FIELD / min(detector_shape)
    shares = _shares(scan_shape)
    gradients = _deformation_gradients(shares[..., 2])
    tilt = _tilt(scan_shape)
    center = _descan(scan_shape, detector_shape)
    optics = _optics(pixel)
    parameters = PatternParameters(
        center=jnp.asarray(center),
        vectors=_vectors(gradients) / pixel,
        intensities=_intensities(shares, tilt, optics.indices),
        background_fraction=jnp.asarray(_background_fraction(shares)),
        dose=jnp.full(scan_shape, float(dose)),
    )
    counts = simulate_scan(parameters, optics, detector_shape, seed=seed, progress=progress)
    calibration = Calibration(pixel, SCAN_STEP_NM, ENERGY_KV)
    note = f"simulated WS2/WSe2 heterojunction, {dose:g} electrons per pattern, seed {seed}"
    dataset = replace(Dataset.from_array(counts, calibration), notes=(note,))
    return dataset, _truth(shares, gradients, tilt, center)


def _sheet_coordinates(scan_shape: tuple[int, int]) -> np.ndarray:
    """Positions in the axes of the flake, from its middle."""
    points = scan_coordinates(scan_shape) - np.array([0.1, -0.02])
    return points @ np.asarray(rotation_matrix(ORIENTATION))


def _shares(scan_shape: tuple[int, int]) -> np.ndarray:
    """Shares of film, WS2 and WSe2 under the probe."""
    points = _sheet_coordinates(scan_shape)
    flake = triangle_distance(points, 0.26) < 0
    core = triangle_distance(points, 0.13) < 0
    return probe_shares(np.where(core, 1, np.where(flake, 2, 0)), 3, PROBE_SIGMA)


def _deformation_gradients(share_wse2: np.ndarray) -> list[np.ndarray]:
    """F of WS2 and of WSe2, each relative to its own bulk lattice."""
    misfit = WSE2.lattice_constant / WS2.lattice_constant - 1
    total = coherent_strain(share_wse2, misfit, POISSON_RATIO)
    y, x = np.moveaxis(scan_coordinates(share_wse2.shape), -1, 0)
    theta = radians(0.7) * (y - x) + radians(0.3) * np.sin(2 * np.pi * (x + y))

    def gradient(strain: np.ndarray) -> np.ndarray:
        maps = strain[..., 1, 1], strain[..., 0, 0], strain[..., 0, 1], theta
        return np.asarray(_over_scan(deformation)(*maps))

    return [gradient(COHERENCY * total), gradient(COHERENCY * (total - misfit * np.eye(2)))]


def _bulk(material: Monolayer) -> Array:
    """Its bulk lattice at the orientation of the specimen, in Å."""
    return material.basis @ rotation_matrix(ORIENTATION).T


def _vectors(gradients: list[np.ndarray]) -> Array:
    """Reciprocal vectors of both lattices in Å⁻¹ over the scan."""

    def of(material: Monolayer, gradient: np.ndarray) -> Array:
        reference = jnp.broadcast_to(reciprocal_basis(_bulk(material)), gradient.shape)
        return _over_scan(deform)(reference, gradient)

    return jnp.stack([of(*pair) for pair in zip(MATERIALS, gradients, strict=True)], axis=2)


def _tilt(scan_shape: tuple[int, int]) -> np.ndarray:
    """Slope of the sheet over its ridges."""
    slopes = ridge_slopes(_sheet_coordinates(scan_shape), 0.04, RIPPLE_SLOPE)
    return slopes @ np.asarray(rotation_matrix(ORIENTATION)).T


def _intensities(shares: np.ndarray, tilt: np.ndarray, indices: Array) -> Array:
    """Of the reflections of both lattices; over bare film all is in the direct beam."""
    sheets = [_sheet_intensities(material, indices, jnp.asarray(tilt)) for material in MATERIALS]
    weighted = jnp.stack(sheets, axis=2) * shares[..., 1:, None]
    return weighted.at[:, :, 0, 0].add(shares[..., 0])


@partial(jax.jit, static_argnums=0)
def _sheet_intensities(material: Monolayer, indices: Array, tilt: Array) -> Array:
    rotation = rotation_matrix(ORIENTATION)
    here = partial(monolayer_intensities, material, indices, rotation, energy_kv=ENERGY_KV)
    return jax.vmap(jax.vmap(lambda slope: here(tilt=slope)))(tilt)


def _background_fraction(shares: np.ndarray) -> np.ndarray:
    """Share of the film and, a little, of the sheet; the film is 5 % thicker here and there."""
    y, x = np.moveaxis(scan_coordinates(shares.shape[:2]), -1, 0)
    thickness = 1 + 0.05 * np.sin(3 * x + 2 * y + 1)
    return 0.07 * thickness + 0.005 * (1 - shares[..., 0])


def _descan(scan_shape: tuple[int, int], detector_shape: tuple[int, int]) -> np.ndarray:
    """Drift of the direct beam, in proportion to the detector: a plane, a little curvature, a wobble.

    The wobble keeps a low-order fit of the drift from being exact.
    """
    y, x = np.moveaxis(scan_coordinates(scan_shape), -1, 0)
    drift = np.stack([-1 + 4.5 * y + x + 1.5 * y**2, 1.5 - 4 * x + 1.2 * y + 2 * x * y], axis=-1)
    wobble = 0.08 * np.stack([np.sin(14 * y), np.cos(11 * y + 3 * x)], axis=-1)
    middle = (np.array(detector_shape) - 1) / 2
    return middle + (drift + wobble) * (min(detector_shape) / 128)


def _optics(pixel: float) -> Optics:
    """The probe, and the halos of a carbon film: broad rings at 0.42 and 0.80 Å⁻¹."""
    halos = Background(
        tail_height=1.0,
        tail_width=0.074 / pixel,
        halo_heights=jnp.array([0.064, 0.0077]),
        halo_radii=jnp.array([0.422, 0.804]) / pixel,
        halo_widths=jnp.array([0.116, 0.083]) / pixel,
    )
    radius = SEMIANGLE / electron_wavelength(ENERGY_KV) / pixel
    return Optics(jnp.asarray(hexagonal_indices(13)), radius, 0.3, halos)


def _truth(
    shares: np.ndarray, gradients: list[np.ndarray], tilt: np.ndarray, center: np.ndarray
) -> HeterojunctionTruth:
    label = shares.argmax(axis=-1)
    own = np.where((label == 2)[..., None, None], gradients[1], gradients[0])
    strain = _over_scan(strain_of)(own)
    bulk = np.stack([_bulk(WS2), _bulk(WSE2)])[np.maximum(label - 1, 0)]
    lattice = bulk @ np.swapaxes(own, -1, -2)

    def on_crystal(values: Array | np.ndarray) -> np.ndarray:
        there = (label > 0).reshape(label.shape + (1,) * (np.ndim(values) - 2))
        return np.where(there, values, np.nan)

    return HeterojunctionTruth(
        label,
        **{name: on_crystal(values) for name, values in strain._asdict().items()},
        tilt=on_crystal(tilt),
        center=center,
        lattice=on_crystal(lattice),
        fraction_ws2=shares[..., 1],
        fraction_wse2=shares[..., 2],
        interior=shares.max(axis=-1) > 0.95,
    )


@cache
def _over_scan(fn: Callable) -> Callable:
    return jax.jit(jax.vmap(jax.vmap(fn)))
