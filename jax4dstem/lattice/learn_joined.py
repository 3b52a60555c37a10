"""Size of the disks, background and intensities of a scan whose disks overlap, from fits of sums of disks."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.elimination import solve_scaled
from jax4dstem.lattice.evidence import mean_over_fits
from jax4dstem.lattice.fit import first_heights, height_scale, typical_heights
from jax4dstem.lattice.joined import SHAPES, JoinedEquations, joined_equations, slopes_of
from jax4dstem.lattice.model import FLOOR, LatticeModel
from jax4dstem.lattice.patches import gather_patches, patch_side_around, reflection_positions
from jax4dstem.lattice.render import interpolate_profile
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.typing import Array, Pattern

LONGEST = 0.4  # change of a logarithm in one step: from the first guess of an edge to that of a sharp disk are three
FEW = 4  # iterations of the heights at a fitted lattice
RIDGE = 1e-4  # of a scaled information: of slopes that gaps between the disks are too few for


class ShapeEquations(NamedTuple):
    """What a pattern says about what all share, its own lattice eliminated.

    Attributes:
        information: Of the `SHAPES`.
        gradient: The same.
        under: Heights of the backgrounds over the model's, at the reflections where there is some.
    """

    information: Array
    gradient: Array
    under: Array


def learn_shapes(model: LatticeModel, sample: ScanSample, fits: Any) -> LatticeModel:
    """One Newton step of radius, edge width and the background's slopes on the joint likelihood; the background's level."""
    of_shapes = FindShapes(patch_side_around(float(model.radius), model.tightest))
    found = mean_over_fits(of_shapes, sample, fits, model, None)
    information = np.asarray(found.information, np.float64)
    width = np.sqrt(np.maximum(np.diagonal(information), 1e-12))
    scaled = information / width[:, None] / width + RIDGE * np.eye(SHAPES)
    change = np.linalg.solve(scaled, np.asarray(found.gradient, np.float64) / width) / width
    change = jnp.asarray(np.clip(change, -LONGEST, LONGEST), float)
    radius, edge = jnp.exp(change[:2]) * jnp.stack([model.radius, model.edge_width])
    radii = jnp.arange(model.background.shape[0], dtype=float)
    slopes = change[2:] @ slopes_of(radii, model.radius)
    background = model.background * found.under * jnp.exp(jnp.clip(slopes, -5, 5))
    return model._replace(radius=radius, edge_width=edge, background=background)


@dataclass(frozen=True)
class FindShapes:
    """Pattern function: `ShapeEquations` of a fitted lattice.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
    """

    patch: int

    def __call__(
        self, pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, nothing: None
    ) -> ShapeEquations:
        """With the heights at their optimum."""
        place, scale = (center, distortion), height_scale(pattern, model)
        patches = gather_patches(pattern, center, distortion, model, self.patch)
        positions = reflection_positions(center, distortion, model)
        heights = first_heights(patches, positions, model, scale, 0)
        prior, edge = typical_heights(model, scale), model.edge_width

        def equations(heights: Array, shapes: bool = False) -> JoinedEquations:
            return joined_equations(place, heights, patches, model, edge, prior, shapes)

        for _ in range(FEW):
            heights = jnp.maximum(heights + equations(heights).change, FLOOR)
        found = equations(heights, True)
        own, across = found.information[:6, :6], found.information[:6, 6:]
        solved = solve_scaled(own, jnp.concatenate([across, found.gradient[:6, None]], axis=1))
        distance = jnp.hypot(*(positions - center).T)
        expected = interpolate_profile(model.background, distance) * scale
        expected = expected * jnp.pi * model.radius**2
        return ShapeEquations(
            found.information[6:, 6:] - across.T @ solved[:, :-1],
            found.gradient[6:] - across.T @ solved[:, -1],
            jnp.median(heights[1:, 1]) / jnp.maximum(jnp.median(expected[1:]), 1e-30),
        )
