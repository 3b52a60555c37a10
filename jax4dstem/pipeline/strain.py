"""Stage `strain`: strain in all ways, of the whole scan or of sums of neighbors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.lattice import zone_lattice
from jax4dstem.pipeline.given import given_probe
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.strain import (
    NoStrain,
    StrainAnswers,
    StrainReference,
    StrainWays,
    strain_in_blocks,
)

PRECISE = 0.3  # px: lattices have only differences to a hidden center; strain errs by more than it over the disks' distance


def strain(scan: Dataset, done: Mapping[str, Any], recipe: Recipe) -> StrainAnswers | NoStrain:
    """Strain of every position relative to a reference, in several ways.

    Data without a lattice are no error where no reference is given: the reason is the result.

    Raises:
        InputError: The given lattice or the reference region does not fit.
    """
    options, beam, survey = recipe.strain, done["beam"], done["survey"]
    if beam.hidden and np.nanmedian(beam.doubt) > PRECISE:
        return NoStrain(
            f"masked pixels hide the direct beam, and its center is known to {np.nanmedian(beam.doubt):.2g} px only: "
            "give it by --center Y,X"
        )
    reference = strain_reference(scan, done, recipe)
    ways = strain_ways(recipe)
    try:
        return strain_in_blocks(
            survey.electrons(scan),
            beam.center,
            beam.radius,
            options.bin,
            reference=reference,
            ways=ways,
            detector=survey.detector.of_electrons,
            probe=given_probe(recipe, scan, survey, beam),
        )
    except InputError as error:
        if options.references or options.probe or options.probe_region:
            raise
        return NoStrain(str(error))


def strain_ways(recipe: Recipe) -> StrainWays:
    """The ways to strain that a recipe names.

    Raises:
        InputError: There is no such way.
    """
    options = recipe.strain
    return StrainWays(options.bases, options.mixing, options.further, recipe.seed)


def strain_reference(scan: Dataset, done: Mapping[str, Any], recipe: Recipe) -> StrainReference:
    """What the recipe says that strain is relative to.

    Raises:
        InputError: It does not fit the scan.
    """
    options = recipe.strain
    if options.g1 is not None and options.g2 is not None:
        return StrainReference.vectors(options.g1, options.g2)
    if options.crystals:
        known = [StrainReference.crystal(*each, scan.calibration) for each in options.crystals]
        return StrainReference.several(known)
    if options.region is not None:
        return StrainReference.rectangle(scan.scan_shape, options.region)
    if options.cluster is not None:
        labels = done["domains"].labels["level_1"] if "domains" in done else None
        return StrainReference.domain(labels, options.cluster)
    return StrainReference.median()


def known_crystals(scan: Dataset, recipe: Recipe) -> dict[str, np.ndarray]:
    """Lattices in px of the crystals that a recipe names, by file and zone; none where the detector's pixel is not known."""
    pixel = scan.calibration.pixel_inv_angstrom
    if pixel is None:
        return {}
    return {
        f"{Path(path).name} [{' '.join(map(str, zone))}]": zone_lattice(path, zone, pixel)
        for path, zone in recipe.strain.crystals
    }
