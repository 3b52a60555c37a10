"""Strain by the published cycle-consistent spatial-transforming autoencoder, trained on the scan itself."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import Calibration, radius_from, strain_in_scan_axes
from jax4dstem.dataset import BinDetector, Dataset, check_centers, check_dataset
from jax4dstem.detector import Detector, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, Result, entry, group
from jax4dstem.models import CycleConsistency, CycleConsistentSpec
from jax4dstem.patterns.align import DirectBeam, center_pattern, middle
from jax4dstem.patterns.detectors import total_counts
from jax4dstem.patterns.features import ring_radii
from jax4dstem.reducers import Moments
from jax4dstem.strain.maps import Status
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.train import ApplyModel, Trained, Training, feed_of, train
from jax4dstem.typing import Array, Float, Pattern

SIDE = 100  # px that patterns are binned to, as in the study (experiments/ccstae_noise_table)
EPOCHS, BATCH, RATE = 15, 32, 1e-3  # the study's
GAUGE = 1e-2  # of 3e-3 and 1e-2 over four seeds that which leaves the base less strained; missing a turn costs some 0.3
# Strain, shear, rotation, shift in px: the study's, but for turns beyond half a one, so that bases near it have no seam.
LIMITS = (0.05, 0.05, 1.5 * np.pi, 2.0)
AT_LIMIT = 0.98  # of the largest value that the encoder can say: it might have wanted more


@dataclass(frozen=True)
class CCSTAEStrain(Result):
    """Strain of every position relative to its learned base pattern; the model gives no error bars.

    What lattice a base pattern shows is not known to the model, so strains of different bases do not compare. All are
    NaN where the status is not OK.

    Attributes:
        e_xx: ``(scan_y, scan_x)``.
        e_yy: The same.
        e_xy: The same.
        theta: In radians, within ±π, the same shape.
        shift: Of the pattern against the aligned one, (y, x) in px of the detector; ``(scan_y, scan_x, 2)``.
        base: Number of the base pattern, the same shape.
        status: `Status`, the same shape; NOT_CONVERGED where the encoder is at the limit of what it can say.
        base_patterns: ``(base, pattern_y, pattern_x)``, scaled to standard deviation 1.
        trained: The model.
    """

    e_xx: np.ndarray = entry(SCAN, "1", "strain along x", "strain/ccstae/e_xx")
    e_yy: np.ndarray = entry(SCAN, "1", "strain along y", "strain/ccstae/e_yy")
    e_xy: np.ndarray = entry(SCAN, "1", "tensor shear strain", "strain/ccstae/e_xy")
    theta: np.ndarray = entry(SCAN, "rad", "rotation, counter-clockwise", "strain/ccstae/theta")
    shift: np.ndarray = entry(f"{SCAN} yx", "px", "of the pattern (y, x)", "strain/ccstae/shift")
    base: np.ndarray = entry(SCAN, "", "number of the base pattern", "strain/ccstae/base")
    status: np.ndarray = entry(
        SCAN, "", "0 ok, 1 empty, 4 at the limit of the encoder", "strain/ccstae/status"
    )
    base_patterns: np.ndarray = entry(
        "number pattern_y pattern_x", "1", "base patterns", "strain/ccstae/base_patterns"
    )
    trained: Trained = group("strain/ccstae/trained")


def train_ccstae(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    *,
    n_bases: int = 1,
    detector: Detector | None = None,
    training: Training | None = None,
    progress: str | None = None,
) -> CCSTAEStrain:
    """Train the published network on a scan and read every pattern by it.

    Patterns are centered, binned to about 100 px, divided by their dose and looked at in the ring outside of the
    direct beam only. Beside the published objective a weak one (``gauge``) holds the base in the middle of the patterns. Needs much larger doses than `measure_strain`, and several times its computing.

    Args:
        scan: Raw counts.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.
        radius: Of the direct beam in px.
        n_bases: Base patterns.
        detector: Its masked pixels are replaced by their neighbors.
        training: Options of the training; those of the study by default.
        progress: Label of the progress bar.

    Returns:
        Strain relative to the base patterns, in scan axes.

    Raises:
        InputError: Every pattern is empty, or the direct beam fills the detector.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((4, 4), (64, 64), background=0.0, n_grains=1, seed=5)
        >>> found = train_ccstae(scan, truth.parameters.center, 4.2, training=Training(epochs=1))
        >>> found.base_patterns.shape
        (1, 64, 64)

    Reference: "Extremely Noisy 4D-TEM Strain Mapping Using Cycle Consistent Spatial Transforming Autoencoders".
    """
    check_dataset(scan, "train_ccstae")
    check_centers(beam_center, scan.scan_shape, "train_ccstae")
    counted = map_patterns(total_counts, scan) > 0
    if not counted.any():
        raise InputError("every pattern is empty")
    patterns, ring, factor = _prepared(scan, beam_center, radius, detector, counted)
    height, width = patterns.pattern_shape
    y, x = _middle(scan.pattern_shape, factor)
    spec = CycleConsistentSpec((height, width), (y, x), n_bases, LIMITS)
    trained = train(
        spec,
        CycleConsistency(*ring, gauge=GAUGE),
        feed_of(patterns, counted),
        training or Training(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE),
        progress=progress,
    )
    codes = map_patterns(ApplyModel(spec, "encode"), patterns, trained.weights)
    return _read(trained, codes, counted, factor, scan.calibration)


def _prepared(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    detector: Detector | None,
    counted: np.ndarray,
) -> tuple[Dataset, tuple[float, float], int]:
    """Patterns as the network sees them, its ring in their px, and the binning."""
    center = np.nan_to_num(np.asarray(beam_center, np.float32))
    mean = center.reshape(-1, 2).mean(axis=0)
    inner, outer = ring_radii(DirectBeam(mean, radius), center, scan.pattern_shape)
    factor = max(1, round(min(scan.pattern_shape) / SIDE))
    chain = scan
    if detector is not None and detector.mask is not None:
        chain = chain.map(repair_pixels, ~np.asarray(detector.mask))
    chain = chain.map(center_pattern, per_position=(center,)).map(BinDetector(factor))
    distance = radius_from(jnp.array(_middle(scan.pattern_shape, factor)), chain.pattern_shape)
    inside = np.asarray((distance > inner / factor) & (distance < outer / factor))
    shares = reduce_patterns(Moments(), chain.map(ring_share, inside, 1.0), weights=counted)
    square = (shares.std**2 + shares.mean**2)[inside].mean()
    spread = float(np.sqrt(square - shares.mean[inside].mean() ** 2))
    return chain.map(ring_share, inside, spread), (inner / factor, outer / factor), factor


def ring_share(
    pattern: Pattern, inside: Float[Array, "det_y det_x"] | Any, scale: Float[Array, ""] | float
) -> Float[Array, "det_y det_x"]:
    """Share of the dose in every pixel over a scale, zero outside of a ring."""
    counts = pattern.astype(float)
    return jnp.where(inside, counts, 0.0) / jnp.maximum(jnp.sum(counts), 1.0) / scale


def _middle(shape: tuple[int, int], factor: int) -> tuple[float, float]:
    """Where the direct beam lies in a centered and binned pattern."""
    y, x = ((np.asarray(middle(shape)) - (factor - 1) / 2) / factor).tolist()
    return y, x


def _read(
    trained: Trained, codes: np.ndarray, counted: np.ndarray, factor: int, calibration: Calibration
) -> CCSTAEStrain:
    """Codes of all patterns as maps."""
    spec: CycleConsistentSpec = trained.spec
    strain, shear, rotation, shift = spec.limits
    limits = np.array([strain, strain, shear, rotation, shift, shift])
    affine = codes[..., spec.n_bases :]
    # Rotations of half a turn are the same from both sides.
    said_all = (np.abs(affine) > AT_LIMIT * limits) & (limits < np.pi)
    status = np.select(
        [~counted, said_all.any(axis=-1)], [Status.EMPTY, Status.NOT_CONVERGED], Status.OK
    )
    affine = np.where((status == Status.OK)[..., None], affine, np.nan)
    values = strain_in_scan_axes(affine[..., :4], calibration)
    return CCSTAEStrain(
        *np.moveaxis(values, -1, 0),
        shift=factor * affine[..., 4:],
        base=np.where(counted, codes[..., : spec.n_bases].argmax(axis=-1), -1),
        status=status.astype(np.int8),
        base_patterns=np.asarray(trained.model.bases()),
        trained=trained,
    )
