"""From counts to a fitted lattice in one pattern: contrast, rotation search, likelihood fit."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from jax4dstem.lattice.detection import DiskKernels, disk_contrast
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.model import LatticeFit, LatticeModel
from jax4dstem.lattice.search import Hypotheses, score_lattice, search_lattice
from jax4dstem.typing import Pattern, Point


class LatticeSetup(NamedTuple):
    """All that is shared by the scan: filters, hypotheses and model."""

    kernels: DiskKernels
    hypotheses: Hypotheses
    model: LatticeModel


@dataclass(frozen=True)
class MeasureLattice:
    """Pattern function: the lattice of a pattern, from the center of the direct beam alone.

    Attributes:
        fit: The likelihood fit that follows the search.
    """

    fit: FitLattice

    def __call__(self, pattern: Pattern, center: Point, setup: LatticeSetup) -> LatticeFit:
        """Search all rotations, fit, and score the fitted lattice.

        Args:
            pattern: Raw counts ``(det_y, det_x)``.
            center: Of the direct beam, (y, x) in px.
            setup: Shared by the scan.
        """
        kernels, hypotheses, model = setup
        counts = jnp.where(pattern >= 0, pattern, 0).astype(float)
        contrast = disk_contrast(jnp.minimum(counts, model.saturation), kernels)
        found = search_lattice(contrast, center, hypotheses)
        start = jnp.linalg.inv(model.vectors) @ found.vectors @ jnp.linalg.inv(model.ellipse)
        fit = self.fit(pattern, center, start, model)
        vectors = model.lattice(fit.distortion)
        return fit._replace(score=score_lattice(contrast, fit.center, vectors, hypotheses))
