"""From the Fisher information of fits to covariances."""

import numpy as np

UNKNOWN = 1e12  # variance where the information is singular


def inverse_information(information: np.ndarray) -> np.ndarray:
    """Inverses of symmetric matrices ``(..., n, n)`` in scaled parameters; huge where there is none."""
    information = np.nan_to_num(information.astype(np.float64))
    scale = np.sqrt(np.maximum(np.diagonal(information, axis1=-2, axis2=-1), 1e-300))
    scaled = information / scale[..., :, None] / scale[..., None, :]
    singular = np.linalg.cond(scaled) > 1e7  # float32 sums cannot tell it from zero
    scaled[singular] = np.eye(information.shape[-1])
    inverse = np.linalg.inv(scaled) / scale[..., :, None] / scale[..., None, :]
    inverse[singular] = UNKNOWN * np.eye(information.shape[-1])
    return inverse
