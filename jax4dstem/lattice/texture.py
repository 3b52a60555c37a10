"""Contrast inside the disks of a scan, and whether a fit has to model it."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.evidence import convincing
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.intensities import (
    SIGNIFICANT,
    background_under,
    disk_pixels,
    typical_dispersion,
)
from jax4dstem.lattice.measure import LatticeSetup, MeasureLattice
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.stream import map_patterns

SUSPICIOUS = 1.03  # dispersion around the strongest disks that makes us look for the probe's image, and texture, inside them
STRONGEST = 12  # disks that are looked at
MODES = 5  # polynomials inside textured disks
# Texture and position of a disk pull on each other: of a thick crystal's patterns 2, 95 and 100 % have settled after 2, 3 and 4; of gold of up to
# 20 nm, by Bloch waves, nine of ten after 4 and all after 6 (experiments/dynamical). More cost time, and change nothing.
FINE = 6  # iterations of the fit with sharp edges
WIDE_TEXTURE = 0.5  # prior of their contrast while it is learned
TEXTURED = 0.04  # contrast inside the disks from which on they are modelled


def learn_texture(
    setup: LatticeSetup,
    measure: MeasureLattice,
    sample: ScanSample,
    center: np.ndarray,
    fits: Any,
) -> tuple[LatticeSetup, MeasureLattice, Any]:
    """Model the contrast inside the disks, if there is any beyond noise."""
    # What flat disks scatter by is in good part texture.
    model = setup.model._replace(texture=jnp.asarray(WIDE_TEXTURE, jnp.float32), scatter=None)
    trial = MeasureLattice(with_texture(measure.fit))
    found = map_patterns(trial, sample.dataset, setup._replace(model=model), per_position=(center,))
    texture = _typical_texture(model, sample, found)
    if texture < TEXTURED:
        return setup, measure, fits
    dispersion = typical_dispersion(found)
    # Rarely less than half of the wide prior: what is shrunk by too narrow a prior pulls the disks.
    texture = max(texture, WIDE_TEXTURE / 2)
    model = model._replace(
        texture=jnp.asarray(texture, jnp.float32), dispersion=jnp.asarray(dispersion, jnp.float32)
    )
    return setup._replace(model=model), trial, found


def with_texture(fit: FitLattice) -> FitLattice:
    """The fit of patterns whose disks have contrast inside."""
    return replace(fit, modes=MODES, fine=FINE)


def misfit(model: LatticeModel, fits: Any) -> float:
    """Mean Pearson dispersion around the strongest diffracted disks."""
    strongest = 1 + np.argsort(-np.asarray(model.intensity)[1:])[:STRONGEST]
    return float(np.nanmean(fits.dispersion[convincing(fits)][:, strongest]))


def direct_misfit(fits: Any) -> float:
    """Median Pearson dispersion around the direct beam, whose many electrons show the probe's shape first."""
    return float(np.nanmedian(fits.dispersion[convincing(fits)][:, 0]))


def _typical_texture(model: LatticeModel, sample: ScanSample, fits: Any) -> float:
    """Root mean square contrast inside the disks after subtraction of the noise's, 0 if insignificant."""
    good = convincing(fits)
    intensity = np.asarray(model.intensity)[1:]
    under = background_under(model, np.asarray(model.indices)[1:])
    doses = np.asarray(map_patterns(pattern_dose, sample.dataset, model.detector))[good]
    doses = np.maximum(doses, 1)[:, None]
    of_disks = model.detector.noise.summed(disk_pixels(model))
    variance = np.asarray(of_disks.variance(doses * (intensity + under)), np.float64)
    noise = MODES * variance / (doses * intensity) ** 2
    signal = np.minimum(fits.texture[good][:, 1:], 10.0)
    weight = 1 / (noise + MODES * TEXTURED**2) ** 2
    excess = np.average(signal - noise, weights=weight) / MODES
    spread = np.sqrt(np.average((signal - noise) ** 2, weights=weight) / signal.size) / MODES
    return float(np.sqrt(excess)) if excess > SIGNIFICANT * spread else 0.0
