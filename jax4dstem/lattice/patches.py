"""Patches: the pixels around the reflections, where a lattice fit looks."""

from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.disks import lattice_positions
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.nodes import node_coordinates
from jax4dstem.lattice.render import interpolate_profile
from jax4dstem.typing import Array, Float, Point

MARGIN = 2.0  # px of background around a disk, at least


class Patches(NamedTuple):
    """Pixels around the reflections, flattened: ``(n, p)``.

    Attributes:
        counts: 0 where not used.
        used: 1 for usable pixels that are nearest to the reflection, 0 for others.
        rows: y of the pixels in px, ``(n, side)``.
        columns: x of the pixels in px, ``(n, side)``.
        background: Radial background relative to its value at the reflection.
    """

    counts: Float[Array, "n p"]
    used: Float[Array, "n p"]
    rows: Float[Array, "n side"]
    columns: Float[Array, "n side"]
    background: Float[Array, "n p"]

    def apart(self, positions: Float[Array, "n 2"]) -> tuple[Array, Array]:
        """Distances of the rows and of the columns from positions (y, x), in px."""
        return self.rows - positions[:, :1], self.columns - positions[:, 1:]


def patch_side_around(radius: float, lattice: np.ndarray) -> int:
    """Side in px of the patches around reflections: the disk and a margin, at most a cell."""
    cell = float(np.linalg.norm(lattice, axis=1).max())
    return 2 * ceil(min(radius + max(MARGIN, 0.5 * radius), max(0.6 * cell, radius + 1))) + 1


def reflection_positions(
    center: Point, distortion: Float[Array, "2 2"], model: LatticeModel
) -> Float[Array, "n 2"]:
    """Where the model's reflections lie on the detector, (y, x) in px."""
    return lattice_positions(center, model.distorted(distortion), model.indices)


def gather_patches(
    pattern: Array, center: Point, distortion: Float[Array, "2 2"], model: LatticeModel, side: int
) -> Patches:
    """The counts around the reflections, which of them belong to each, and the background there.

    Args:
        pattern: Counts ``(det_y, det_x)``.
        center: (y, x) in px.
        distortion: A of the lattice.
        model: Shared by the scan.
        side: Of the patches in px, odd.
    """
    positions = reflection_positions(center, distortion, model)
    side = min(side, *pattern.shape)
    # At the rim the patch moves inward, where it still holds every pixel around the reflection.
    corner = jnp.floor(positions + 0.5).astype(int) - side // 2
    corner = jnp.clip(corner, 0, jnp.asarray(pattern.shape) - side)

    def cut(image: Array) -> Array:  # slices are copied faster than pixels
        return jax.vmap(lambda at: jax.lax.dynamic_slice(image, at, (side, side)))(corner)

    detector, counts = model.detector, cut(pattern).astype(float)
    if detector.mask is not None:
        detector = detector._replace(mask=cut(detector.mask))
    offsets = jnp.arange(side)
    rows = (corner[:, :1] + offsets).astype(float)
    columns = (corner[:, 1:] + offsets).astype(float)
    y = jnp.broadcast_to(rows[:, :, None], counts.shape)
    x = jnp.broadcast_to(columns[:, None, :], counts.shape)
    h, k = node_coordinates(
        y - positions[:, :1, None], x - positions[:, 1:, None], model.distorted(distortion)
    )
    used = detector.usable(counts) & (jnp.abs(h) <= 0.5) & (jnp.abs(k) <= 0.5)
    distance = jnp.sqrt((y - center[0]) ** 2 + (x - center[1]) ** 2 + 1e-6)
    background = _local_background(model.background, distance, positions - center)

    def flat(values: Array) -> Array:
        return values.reshape(len(positions), -1)

    used = flat(used.astype(float))
    counts = jnp.where(used > 0, flat(counts), 0.0)
    return Patches(counts, used, rows, columns, flat(background))


def _local_background(profile: Array, distance: Array, offsets: Array) -> Array:
    """The profile around each reflection, relative to its value there.

    Its logarithm to second order in the logarithm of the radius: exact for every power law.
    """
    radius = jnp.sqrt(jnp.sum(offsets**2, axis=1) + 1e-6)
    radii = jnp.arange(profile.shape[0], dtype=float)
    logarithm = jnp.log(jnp.maximum(profile, 1e-30))
    slope = jnp.asarray(jnp.gradient(logarithm)) * radii
    bend = jnp.asarray(jnp.gradient(slope)) * radii
    slope = jnp.clip(interpolate_profile(slope, radius), -10.0, 10.0)[:, None, None]
    bend = jnp.clip(interpolate_profile(bend, radius), -10.0, 10.0)[:, None, None]
    origin = jnp.maximum(radius, 1.0)[:, None, None]
    step = jnp.log(jnp.maximum(distance, 0.3 * origin) / origin)
    return jnp.exp(jnp.clip(step * (slope + 0.5 * bend * step), -8.0, 8.0))


class Heights(NamedTuple):
    """What a patch shows at first sight.

    Attributes:
        disk: Mean counts inside the disk above the background.
        background: Mean counts around it, at the reflection.
        seen: Share of where the disk is bright that is usable.
    """

    disk: Float[Array, " n"]
    background: Float[Array, " n"]
    seen: Float[Array, " n"]


def mean_heights(patches: Patches, positions: Array, model: LatticeModel) -> Heights:
    """Heights of disk and background from the means where the disk is bright, and outside a slightly larger one."""
    y, x = patches.apart(positions)
    middle = model.probe.middle(y, x)
    distance = jnp.hypot(y[:, :, None], x[:, None, :]).reshape(patches.counts.shape)
    inside = patches.used * middle.weight.reshape(patches.counts.shape)
    outside = patches.used * (distance > model.radius + 1)

    def ratio(where: Array, values: Array, by: Array) -> Array:
        return jnp.sum(where * values, axis=1) / jnp.maximum(jnp.sum(where * by, axis=1), 1e-6)

    background = ratio(outside, patches.counts, patches.background)
    excess = patches.counts - background[:, None] * patches.background
    height = jnp.broadcast_to(middle.height, middle.weight.shape).reshape(patches.counts.shape)
    disk = ratio(inside, excess, height)
    return Heights(disk, background, jnp.sum(inside, axis=1) / middle.whole)
