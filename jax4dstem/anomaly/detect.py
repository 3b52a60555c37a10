"""Anomalies of codes and reconstruction errors, against normal data."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.covariance import EmpiricalCovariance, MinCovDet

from jax4dstem.errors import InputError

ROBUST_FROM = 5  # samples per dimension that a robust covariance needs


@dataclass(frozen=True)
class Anomalies:
    """How unusual samples are.

    Attributes:
        error: Reconstruction error, ``(n,)``.
        distance: Squared Mahalanobis distance of the code from the normal ones, ``(n,)``.
        p_value: Share of normal samples that are at least as unusual in either measure, times two
            (for two measures), at most 1, ``(n,)``.
        by_threshold: Boolean: above the percentile of the normal samples in either measure.
        by_discovery: Boolean: among those the expected share of normal samples is bounded.
    """

    error: np.ndarray
    distance: np.ndarray
    p_value: np.ndarray
    by_threshold: np.ndarray
    by_discovery: np.ndarray


@dataclass(frozen=True)
class AnomalyDetector:
    """Thresholds that normal samples have set; make it with `fit`.

    The normal samples should not be those the model was trained on: their errors are too small.

    Attributes:
        center: Mean of the normal codes, ``(latent,)``.
        precision: Inverse of their covariance, ``(latent, latent)``.
        errors: Their reconstruction errors, sorted, ``(n,)``.
        distances: Their squared Mahalanobis distances, sorted, ``(n,)``.
        percentile: Of the normal samples that pass.
        discovery_rate: Largest expected share of normal samples among the anomalies.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> normal = AnomalyDetector.fit(rng.standard_normal((200, 2)), rng.random(200))
        >>> normal.find(np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([0.5, 0.5])).by_threshold.tolist()
        [False, True]
    """

    center: np.ndarray
    precision: np.ndarray
    errors: np.ndarray
    distances: np.ndarray
    percentile: float
    discovery_rate: float

    @classmethod
    def fit(
        cls,
        codes: np.ndarray,
        errors: np.ndarray,
        *,
        percentile: float = 99.0,
        discovery_rate: float = 0.05,
    ) -> "AnomalyDetector":
        """Calibrate on normal samples.

        Args:
            codes: ``(n, latent)``.
            errors: Reconstruction errors ``(n,)``.
            percentile: Of the normal samples that pass, in (50, 100), shared by the two measures.
            discovery_rate: Largest expected share of normal samples among the anomalies.

        Raises:
            InputError: Too few samples, NaN, or a percentile out of range.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> normal = AnomalyDetector.fit(rng.standard_normal((500, 2)), rng.random(500))
            >>> found = normal.find(np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 0.0]]), np.array([0.5, 0.5, 7.0]))
            >>> found.by_threshold.tolist()
            [False, True, True]
        """
        codes, errors = np.asarray(codes, np.float64), np.asarray(errors, np.float64)
        if len(codes) <= codes.shape[1] + 1 or len(codes) != len(errors):
            raise InputError(
                f"{len(codes)} normal codes of size {codes.shape[1]} with {len(errors)} errors do not "
                "calibrate a threshold"
            )
        if not (np.isfinite(codes).all() and np.isfinite(errors).all()):
            raise InputError("the normal samples have NaN or infinite codes or errors")
        if not 50 < percentile < 100 or not 0 < discovery_rate < 1:
            raise InputError(
                "the percentile must lie in (50, 100) and the discovery rate in (0, 1)"
            )
        enough = (
            len(codes) >= ROBUST_FROM * codes.shape[1]
            and np.linalg.matrix_rank(np.cov(codes.T)) == codes.shape[1]
        )
        estimate = MinCovDet(random_state=0) if enough else EmpiricalCovariance()
        fitted = estimate.fit(codes)
        center, precision = fitted.location_, np.linalg.pinv(fitted.covariance_)
        distances = _squared_distance(codes, center, precision)
        return cls(
            center, precision, np.sort(errors), np.sort(distances), percentile, discovery_rate
        )

    def find(self, codes: np.ndarray, errors: np.ndarray) -> Anomalies:
        """Judge samples; NaN is neither normal nor an anomaly.

        Args:
            codes: ``(n, latent)``.
            errors: Reconstruction errors ``(n,)``.
        """
        errors = np.asarray(errors, np.float64)
        distance = _squared_distance(np.asarray(codes, np.float64), self.center, self.precision)
        known = np.isfinite(errors) & np.isfinite(distance)
        smallest = np.minimum(
            _exceedance(self.errors, errors), _exceedance(self.distances, distance)
        )
        p_value = np.where(known, np.minimum(2 * smallest, 1.0), np.nan)
        # Two measures, so each has half of the share that may exceed.
        share = 1 - (1 - self.percentile / 100) / 2
        above = (errors > np.quantile(self.errors, share)) | (
            distance > np.quantile(self.distances, share)
        )
        return Anomalies(
            errors, distance, p_value, known & above, false_discovery(p_value, self.discovery_rate)
        )


def false_discovery(p_value: np.ndarray, rate: float) -> np.ndarray:
    """Discoveries with a bounded expected share of false ones, by Benjamini and Hochberg.

    Args:
        p_value: Any shape; NaN is never a discovery.
        rate: The bound.

    Returns:
        Boolean, of the same shape.

    Example:
        >>> false_discovery(np.array([0.001, 0.2, 0.9, np.nan]), 0.05).tolist()
        [True, False, False, False]

    Reference: Benjamini and Hochberg, J. R. Stat. Soc. B 57, 289 (1995).
    """
    found = np.zeros(p_value.shape, bool)
    known = np.isfinite(p_value)
    if known.any():
        found[known] = stats.false_discovery_control(p_value[known]) <= rate
    return found


def _squared_distance(codes: np.ndarray, center: np.ndarray, precision: np.ndarray) -> np.ndarray:
    gap = codes - center
    return np.einsum("ni,ij,nj->n", gap, precision, gap)


def _exceedance(normal: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Share of normal values at least as large; never 0, as the sample is finite."""
    below = np.searchsorted(normal, values, side="left")
    return (len(normal) - below + 1) / (len(normal) + 1)
