"""Stage `align`: the direct beam of every pattern, the descan, and the virtual images."""

from typing import Any

import numpy as np

from jax4dstem.align import (
    DirectBeam,
    align_direct_beam,
    center_pattern,
    find_direct_beam,
    fit_descan,
)
from jax4dstem.dataset import Dataset
from jax4dstem.detectors import annular_dark_field, bright_field, center_of_mass, check_ring
from jax4dstem.features import ring_radii
from jax4dstem.io.results import Field
from jax4dstem.pipeline.prepared import repaired
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Tree

MANY_OUTLIERS = 0.01  # share of positions whose direct beam was lost


def align(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Center of the direct beam in every pattern, the descan surface, and virtual images."""
    clean = repaired(dataset, done)
    valid = done["invalid"].data == 0
    expected, radius = done["beam"]["center"].data, float(done["beam"]["radius"].data)
    search = recipe.prepare.search or min(dataset.pattern_shape) / 4
    # The mean beam is smeared by the descan; one centered pattern gives the beam's own radius.
    first = _measure(clean, expected, radius, search, valid)
    centered = clean.map(center_pattern, per_position=(np.nan_to_num(first),))
    own = reduce_patterns(Mean(), centered, weights=valid, progress="direct beam")
    beam = find_direct_beam(own, blur=0.5)
    measured = _measure(clean, expected, beam.radius, search, valid)
    inside = np.nan_to_num(done["images"]["dose"].data) * 0.5
    noise = beam.radius / 2 / np.sqrt(np.maximum(inside, 1))
    order = recipe.prepare.descan_order
    descan = fit_descan(measured, order=order, noise=noise)
    if descan.outlier.mean() > MANY_OUTLIERS:
        # In many patterns a reflection outshines the direct beam: look again near where it must be.
        residual = np.linalg.norm(measured - descan.surface, axis=-1)[~descan.outlier]
        near = 2 * beam.radius + 3 * 1.4826 * float(np.median(residual))
        measured = _measure(clean, descan.surface, beam.radius, min(near, search), valid)
        descan = fit_descan(measured, order=order, noise=noise)
    center = descan.center.astype(np.float32)
    return {
        "center": Field(center, "px", "center of the direct beam (y, x)"),
        "descan": {
            "measured": Field(measured, "px", "measured center of the direct beam (y, x)"),
            "surface": Field(
                descan.surface.astype(np.float32), "px", "fitted descan surface (y, x)"
            ),
            "outlier": Field(
                descan.outlier, "", "positions whose center is taken from their neighborhood"
            ),
        },
        "beam": {
            "center": done["beam"]["center"],
            "radius": Field(
                np.array(beam.radius), "px", "radius of the direct beam at half maximum"
            ),
        },
        "images": _virtual_images(clean, center, beam, recipe, valid),
    }


def _measure(
    dataset: Dataset, expected: np.ndarray, radius: float, search: float, valid: np.ndarray
) -> np.ndarray:
    place = np.broadcast_to(expected, (*dataset.scan_shape, 2)).astype(np.float32)
    found = map_patterns(
        align_direct_beam,
        dataset,
        radius,
        search,
        per_position=(place,),
        progress="aligning",
    )
    return np.where(valid[..., None], found, np.nan).astype(np.float32)


def _virtual_images(
    dataset: Dataset, center: np.ndarray, beam: DirectBeam, recipe: Recipe, valid: np.ndarray
) -> Tree:
    bright, inner, outer = detector_radii(dataset.pattern_shape, center, beam, recipe)
    images = map_patterns(
        _image_signals, dataset, bright, inner, outer, per_position=(center,), progress="images"
    )
    for image in images.values():
        image[~valid] = np.nan
    return {
        "bright_field": Field(images["bright_field"], "counts", f"disk of {bright:.1f} px"),
        "annular_dark_field": Field(
            images["annular_dark_field"], "counts", f"ring from {inner:.1f} to {outer:.1f} px"
        ),
        "center_of_mass": Field(
            images["center_of_mass"], "px", "center of mass relative to the direct beam (y, x)"
        ),
        "radii": Field(
            np.array([bright, inner, outer]),
            "px",
            "bright field; dark field inner and outer radius",
        ),
    }


def _image_signals(pattern: Any, center: Any, bright: Any, inner: Any, outer: Any) -> Any:
    return {
        "bright_field": bright_field(pattern, center, bright),
        "annular_dark_field": annular_dark_field(pattern, center, inner, outer),
        "center_of_mass": center_of_mass(pattern) - center,
    }


def detector_radii(
    shape: tuple[int, int], center: np.ndarray, beam: DirectBeam, recipe: Recipe
) -> tuple[float, float, float]:
    """Bright-field radius, dark-field inner and outer radius in px."""
    options = recipe.detectors
    bright, inner = options.bright_field * beam.radius, options.dark_field_inner * beam.radius
    if options.dark_field_outer is None:
        return bright, inner, max(ring_radii(beam, center, shape)[1], inner + 1)
    outer = options.dark_field_outer * beam.radius
    mean = center.reshape(-1, 2).mean(axis=0)
    check_ring(shape, (float(mean[0]), float(mean[1])), inner, outer)
    return bright, inner, outer
