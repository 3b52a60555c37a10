"""What is unusual: reconstruction error and distance in latent space, with calibrated thresholds."""

from jax4dstem.anomaly.detect import Anomalies, AnomalyDetector, false_discovery

__all__ = ["Anomalies", "AnomalyDetector", "false_discovery"]
