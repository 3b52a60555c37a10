"""The lattices of a scan as they would be measured with more or fewer electrons."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.lattice.bootstrap import bootstrap_patterns, draw_positions, excess_of, fit_drawn
from jax4dstem.lattice.cold_start import Learned, typical_dose, weighted
from jax4dstem.lattice.intensities import background_under, disk_pixels
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Float, Pattern, Scalar


class FitsAtDose(NamedTuple):
    """A sample of the scan at another dose; fits of arrays ``(rows, cols, ...)``.

    Attributes:
        scaled: Of the sample's own patterns, every count multiplied: information and score that are expected of such patterns
            with so many electrons.
        expected: The same of patterns made with everything learned, without noise.
        drawn: Of these with their noise.
        truth: Distortions they were made with, ``(rows, cols, 2, 2)``.
        excess: k of the error bars of a scan of that dose, σ² (1 + k / score²).
    """

    scaled: Any
    expected: Any
    drawn: Any
    truth: np.ndarray
    excess: float


def scale_counts(pattern: Pattern, share: Scalar) -> Float[Array, "det_y det_x"]:
    """Every count multiplied: what is expected of other doses, without their noise."""
    return pattern.astype(float) * share


def fits_at_dose(
    learned: Learned, sample: ScanSample, center: np.ndarray, share: float
) -> FitsAtDose:
    """Measure a sample of the scan as if its patterns had another number of electrons.

    Args:
        learned: From `learn_lattice` or `learned_again`.
        sample: It belongs to.
        center: Of the direct beam at the sampled positions, ``(rows, cols, 2)`` in px.
        share: Electrons over those of the sample's patterns.

    Returns:
        Fits of expected counts, and of drawn ones.
    """
    rng = np.random.default_rng(0)
    dose = typical_dose(sample, learned.setup.model.detector)
    model = model_at_dose(learned.setup.model, dose, share)
    setup = weighted(learned.setup._replace(model=model), share * dose)
    learned = learned._replace(setup=setup)
    which = draw_positions(learned, rng)
    intensity = learned.fits.intensities.reshape(len(which), -1)[which]
    patterns = bootstrap_patterns(learned, sample, center, which, intensity)
    patterns = patterns._replace(expected=share * patterns.expected)
    # What was saturated stays unknown, however few electrons are expected there.
    clipped = model.detector._replace(saturation=model.detector.saturation * share)
    without_noise = setup._replace(model=model._replace(detector=clipped))

    def fit(counts: np.ndarray, centers: np.ndarray) -> Any:
        scan = Dataset.from_array(counts.astype(np.float32))
        return map_patterns(learned.measure, scan, without_noise, per_position=(centers,))

    scaled = map_patterns(scale_counts, sample.dataset, np.float32(share))
    drawn, truth = fit_drawn(learned, sample, patterns, rng), patterns.distortion
    expected = fit(patterns.expected, patterns.center)
    return FitsAtDose(fit(scaled, center), expected, drawn, truth, excess_of(drawn, truth))


def model_at_dose(model: LatticeModel, dose: float, share: float) -> LatticeModel:
    r"""What a scan's model becomes with another number of electrons.

    Shares of the electrons stay. What the model does not describe, a share of the counts itself, weighs less against the noise
    of fewer: with the counts λ around a disk and the variance v of the noise

    .. math:: D_f - 1 = (D - 1) \frac{f^2 \, v(\lambda)}{v(f \lambda)}

    and f alone where nothing is read out. Where counts scatter less than the noise (D < 1), they do so at every dose.

    Args:
        model: Of the scan.
        dose: Its electrons per pattern.
        share: f, other electrons over those.
    """
    noise, dispersion = model.detector.noise, np.asarray(model.dispersion, np.float64)
    under = background_under(model, np.asarray(model.indices)) / disk_pixels(model)
    counts = dose * (under + np.asarray(model.intensity, np.float64) / disk_pixels(model))
    growth = (
        share**2 * np.asarray(noise.variance(counts)) / np.asarray(noise.variance(share * counts))
    )
    changed = np.where(dispersion > 1, 1 + (dispersion - 1) * growth, dispersion)
    model = model._replace(dispersion=jnp.asarray(changed, float))
    if model.scatter is None:
        return model
    return model._replace(scatter=1 + (model.scatter - 1) * jnp.asarray(growth, float)[:, None])
