"""How probable a lattice makes a pattern: what several lattices of a scan are compared by."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from jax4dstem.coordinates import length, radius_from
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.model import FLOOR, LatticeModel
from jax4dstem.lattice.render import interpolate_profile, render_disks
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar


class FoundLattice(NamedTuple):
    """What `FitLattice` found in a pattern, as far as the pattern is drawn from it.

    Attributes:
        center: Of the direct beam, (y, x) in px.
        distortion: A of the lattice.
        intensities: Share of the electrons in every disk.
    """

    center: Point
    distortion: Float[Array, "2 2"]
    intensities: Float[Array, " n"]


@dataclass(frozen=True)
class LatticeEvidence:
    r"""Pattern function: logarithm of the probability of a pattern's counts, given that it shows a lattice.

    .. math::
        \ln p \approx -\frac{1}{2 \chi^2} \sum_{r < R} D(n_r, \lambda_r)
            - \frac12 \sum_j \left[\frac{(I_j - \bar I_j)^2}{s_j^2} + \ln\frac{s_j^2 + \sigma_j^2}{\sigma_j^2}\right]

    with the deviance D of the detector's noise, the expected counts λ of the fitted disks on the radial background
    (whose height is free), and for every intensity I the prior of its typical value and spread s and the
    price of having been fitted to an error σ (Laplace's method). All pixels within R of the direct beam take
    part, whatever the lattice, so that the values of several lattices can be compared.

    Attributes:
        patch: Side in px of the square that a disk is drawn in; see `patch_side`.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.lattice.model import starting_model
        >>> square = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1], [1, 0]]), 3.0)
        >>> found = FoundLattice(jnp.array([20.0, 20.0]), jnp.eye(2), jnp.array([0.5, 0.1, 0.1]))
        >>> evidence = LatticeEvidence(15)
        >>> counts = jnp.full((40, 40), 3.0)
        >>> off = found._replace(intensities=jnp.array([0.0, 0.0, 0.0]))
        >>> at = jnp.array([20.0, 20.0]), 1.0, 15.0
        >>> bool(evidence(counts, *at[:1], off, square, *at[1:]) > evidence(counts, *at[:1], found, square, *at[1:]))
        True

    Reference: MacKay, Neural Comput. 4, 415 (1992), for the price of a parameter.
    """

    patch: int

    def __call__(
        self,
        pattern: Pattern,
        center: Point,
        found: FoundLattice,
        model: LatticeModel,
        dispersion: Scalar,
        reach: Scalar,
    ) -> Float[Array, ""]:
        """Return ln p up to what the pattern adds for any lattice.

        Args:
            pattern: Counts ``(det_y, det_x)``.
            center: Of the direct beam, (y, x) in px, the same for all lattices.
            found: The pattern's lattice.
            model: Of the scan's patterns with this lattice.
            dispersion: χ², variance of counts over the noise's.
            reach: R in px.
        """
        detector = model.detector
        shape = pattern.shape[0], pattern.shape[1]
        dose = pattern_dose(pattern, detector)
        vectors = model.distorted(found.distortion)
        shares = render_disks(shape, found.center, vectors, found.intensities, model, self.patch)
        used = detector.usable(pattern) & (radius_from(center, shape) <= reach)
        counts = jnp.where(used, pattern, 0).astype(float)
        profile = interpolate_profile(model.background, radius_from(found.center, shape))
        excess = jnp.sum(jnp.where(used, counts - dose * shares, 0.0))
        height = excess / jnp.maximum(jnp.sum(jnp.where(used, profile, 0.0)), 1e-12)
        expected = dose * shares + jnp.maximum(height, 0.0) * profile + FLOOR
        deviance = jnp.sum(jnp.where(used, detector.noise.deviance(counts, expected), 0.0))
        return -0.5 * deviance / dispersion - 0.5 * self._price(found, model, dose)

    @staticmethod
    def _price(found: FoundLattice, model: LatticeModel, dose: Scalar) -> Scalar:
        """Of the intensities of the diffracted disks."""
        pixels = jnp.pi * model.radius**2
        lengths = length(jnp.sum((model.indices @ model.lattice) ** 2, axis=1))
        under = interpolate_profile(model.background, lengths) * pixels
        noise = model.detector.noise.summed(pixels)
        variance = noise.variance(dose * (model.intensity + under)) / dose**2
        surprise = ((found.intensities - model.intensity) / model.spread) ** 2
        return jnp.sum((surprise + jnp.log1p(model.spread**2 / variance))[1:])
