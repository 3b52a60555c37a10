"""Stage `strain`: lattice fit, pooled map, base lattices, cepstral strain, and where they disagree."""

from dataclasses import replace
from typing import Any

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import IDEAL, Detector, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.io.results import Field
from jax4dstem.lattice.cell import zone_lattice
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.pipeline.recipe import Recipe
from jax4dstem.strain.bases import strain_by_bases
from jax4dstem.strain.cepstral import strain_from_cepstrum
from jax4dstem.strain.derived import derive, friedel_asymmetry
from jax4dstem.strain.maps import COMPONENTS, Status, StrainMap
from jax4dstem.strain.measure import StrainMeasurement, measure_strain
from jax4dstem.strain.mixing import Mixing, mix_bases
from jax4dstem.strain.neighbors import spread_over, sum_neighbors
from jax4dstem.strain.pooling import pool_strain
from jax4dstem.strain.presence import base_of_positions
from jax4dstem.train import model_fields
from jax4dstem.typing import Tree

DESCRIPTIONS = {
    "e_xx": "strain along x (to the right), tension positive",
    "e_yy": "strain along y (down)",
    "e_xy": "tensor shear strain",
    "theta": "rotation, counter-clockwise, modulo the lattice's symmetry",
}
STATUS = ", ".join(f"{status.value} {status.name.lower()}" for status in Status)


def strain(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Strain of every position relative to a reference, in several ways.

    Raises:
        InputError: No lattice is found, or the given one or the reference region does not fit.
    """
    region = reference_region(dataset, done, recipe)
    vectors = reference_vectors(dataset, recipe)
    bad = done["detector"]["bad_pixels"].data.astype(bool)
    one = Detector(mask=~bad) if bad.any() else IDEAL
    counts, detector, center, size = dataset, one, done["center"].data, recipe.strain.bin
    if size > 1:
        counts, center = sum_neighbors(counts, center, size, one, progress="summing neighbors")
        detector = Detector(one.noise.summed(size**2))  # unknown pixels of the sums are NaN
        if region is not None:
            region = region[size // 2 :: size, size // 2 :: size][
                : center.shape[0], : center.shape[1]
            ]
    found = measure_strain(
        counts,
        center,
        float(done["beam"]["radius"].data),
        vectors=vectors,
        region=region,
        detector=detector,
        progress="fitting lattices",
    )
    groups = _groups(found, counts, recipe)
    if recipe.strain.cepstrum:
        repaired = counts if detector.mask is None else counts.map(repair_pixels, bad)
        cepstral = strain_from_cepstrum(
            repaired,
            found.fits.center,
            found.fits.distortion,
            np.asarray(found.model.lattice),
            reference=vectors,
            region=region,
            progress="cepstral strain",
        )
        groups["cepstrum"] = strain_fields(cepstral)
    if size > 1:
        blocks = groups.get("ccstae", {}).get("base")
        groups = spread_over(groups, counts.scan_shape, dataset.scan_shape, size)
        if blocks is not None:
            model = found.model._replace(detector=one.as_arrays())
            labels = base_of_positions(
                dataset, done["center"].data, blocks.data, found.fits, model, size
            )
            groups["ccstae"]["base"] = replace(blocks, data=labels)
    return {"strain": groups}


def _groups(found: StrainMeasurement, counts: Dataset, recipe: Recipe) -> Tree:
    """What follows from the lattice fits."""
    pooled = pool_strain(found.strain)
    groups: Tree = {
        "lattice": strain_fields(found.strain) | _fit_fields(found.fits, found.model),
        "pooled": strain_fields(pooled.strain)
        | {
            "n_pooled": Field(
                pooled.n_pooled.astype(np.float32), "patterns", "effective number pooled"
            ),
            "reach": Field(
                pooled.reach.astype(np.int16), "positions", "radius of the neighborhood"
            ),
        },
        "derived": _derived_fields(pooled.strain),
        "model": _model_fields(found, counts),
    }
    if recipe.strain.bases:
        groups["ccstae"] = _base_fields(found, counts, recipe)
    return groups


def strain_if_crystalline(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """The stage in `analyze`: data without a lattice are no error, the reason is kept."""
    if not recipe.strain.enabled:
        return {}
    try:
        return strain(dataset, done, recipe)
    except InputError as error:
        if recipe.strain.references:
            raise
        return {"strain": {"reason": Field(str(error), "", "why there is no strain")}}


def reference_vectors(dataset: Dataset, recipe: Recipe) -> np.ndarray | None:
    """g1, g2 in px, given or of the given crystal; None if neither is.

    Raises:
        InputError: The crystal's file cannot be used, or the detector is not calibrated.
    """
    options = recipe.strain
    if options.g1 is not None:
        return np.array([options.g1, options.g2], float)
    if options.cif is None:
        return None
    pixel = dataset.calibration.pixel_inv_angstrom
    if pixel is None:
        raise InputError("strain.cif needs the detector's calibration: --pixel in 1/Å")
    return zone_lattice(options.cif, options.zone, pixel)


def reference_region(dataset: Dataset, done: Tree, recipe: Recipe) -> np.ndarray | None:
    """Positions whose median lattice is the reference, or None for all.

    Raises:
        InputError: The rectangle leaves the scan, or there is no such cluster.
    """
    options = recipe.strain
    if options.region is not None:
        y0, y1, x0, x1 = options.region
        height, width = dataset.scan_shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"strain.region rows {y0}:{y1}, columns {x0}:{x1} is empty or outside the "
                f"{height} x {width} scan"
            )
        region = np.zeros((height, width), bool)
        region[y0:y1, x0:x1] = True
        return region
    if options.cluster is not None:
        labels = done.get("labels", {}).get("level_1")
        if labels is None or options.cluster not in labels.data:
            raise InputError(
                f"strain.cluster {options.cluster} is no cluster of level 1; "
                "clusters are found by `jax4dstem analyze`"
            )
        return labels.data == options.cluster
    return None


def strain_fields(strain: StrainMap) -> Tree:
    """Fields of a strain map, as `read_strain` of the results file expects them."""
    fields: Tree = {}
    for name in COMPONENTS:
        units = "rad" if name == "theta" else "1"
        fields[name] = Field(getattr(strain, name).astype(np.float32), units, DESCRIPTIONS[name])
        fields[f"{name}_std"] = Field(
            strain.std(name).astype(np.float32), units, f"standard deviation of {name}"
        )
    fields["status"] = Field(strain.status.astype(np.int8), "", STATUS)
    fields["reference"] = Field(strain.vectors, "px", f"{strain.reference}: g1, g2 (y, x)")
    fields["covariance"] = Field(
        strain.covariance.astype(np.float32), "1", "of (e_xx, e_yy, e_xy, theta)"
    )
    return fields


def _base_fields(measured: StrainMeasurement, counts: Dataset, recipe: Recipe) -> Tree:
    """Strain by base lattices, or why there is none: a few patterns are no error of the scan."""
    try:
        found = strain_by_bases(
            measured.strain,
            measured.fits.intensities[..., 1:].sum(axis=-1),
            n_bases=recipe.strain.bases,
            seed=recipe.seed,
            progress="learning bases",
        )
    except InputError as error:
        return {"reason": Field(str(error), "", "why there are no bases")}
    base, maps = found.base, strain_fields(found.strain)
    if recipe.strain.mixing:
        mixing = mix_bases(counts, measured, found, progress="mixing bases")
        base, maps = mixing.base, strain_fields(mixing.strain) | _mixing_fields(mixing)
    return {
        **maps,
        "base": Field(base, "", "base lattice; -1 fits none, -2 background"),
        "bases": Field(
            found.bases.astype(np.float32), "1, rad", "e_xx, e_yy, e_xy, theta of every base"
        ),
        "sharpness": Field(
            found.sharpness.astype(np.float32), "1", "scatter within a base over one fit's noise"
        ),
        "note": Field(found.note, "", "what is unusual about the bases"),
        "trained": model_fields(found.trained),
    }


def _mixing_fields(mixing: Mixing) -> Tree:
    return {
        "second": Field(
            mixing.second.astype(np.int32), "", "base with the second largest share; -1 none"
        ),
        "share": Field(
            mixing.share.astype(np.float32), "1", "of the base in the diffraction of all bases"
        ),
        "share_std": Field(mixing.share_std.astype(np.float32), "1", "standard deviation of share"),
    }


def _fit_fields(fits: Any, model: LatticeModel) -> Tree:
    return {
        "score": Field(
            fits.score.astype(np.float32),
            "noise units",
            "evidence for the lattice, typically < 3.5 without one",
        ),
        "dispersion": Field(
            np.nanmean(fits.dispersion[..., 1:], axis=-1).astype(np.float32),
            "1",
            "Pearson chi-squared per pixel around the diffracted disks; 1 for the expected noise",
        ),
        "center": Field(fits.center.astype(np.float32), "px", "fitted center (y, x)"),
        "asymmetry": Field(
            friedel_asymmetry(fits, model).astype(np.float32),
            "1",
            "intensity of opposite reflections (y, x): tilt of the lattice",
        ),
    }


def _derived_fields(strain: StrainMap) -> Tree:
    units = {"principal_angle": "rad", "curvature": "rad/position", "burgers": "1/position"}
    return {
        name: Field(value.astype(np.float32), units.get(name.removesuffix("_std"), "1"), name)
        for name, value in derive(strain)._asdict().items()
    }


def _model_fields(found: StrainMeasurement, dataset: Dataset) -> Tree:
    model = found.model
    return {
        "vectors": Field(np.asarray(model.lattice), "px", "lattice the fits refer to (y, x)"),
        "indices": Field(np.asarray(model.indices), "", "reflections (h, k) of the model"),
        "intensity": Field(np.asarray(model.intensity), "1", "typical share of the dose"),
        "background": Field(
            np.asarray(model.background), "1/px", "radial background, share of dose"
        ),
        "disk_radius": Field(np.asarray(model.radius), "px", "radius of the Bragg disks"),
        "edge_width": Field(np.asarray(model.edge_width), "px", "of the disks' logistic edge"),
        "saturation": Field(
            np.asarray(model.detector.saturation), "counts", "pixels from here on are not used"
        ),
        "error_excess": Field(
            np.array(found.excess), "", "k of the error bars' factor sqrt(1 + k / score^2)"
        ),
    }
