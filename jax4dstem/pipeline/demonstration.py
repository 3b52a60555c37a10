"""How well the domains of simulated data were found."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from jax4dstem.io.results import read_group


def merge_by_majority(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give every cluster the truth label that most of its positions have.

    Example:
        >>> import numpy as np
        >>> merge_by_majority(np.array([0, 0, 1, 2]), np.array([5, 5, 7, 7])).tolist()
        [5, 5, 7, 7]
    """
    merged = np.full_like(truth, -1, dtype=np.int64)
    for cluster in np.unique(labels):
        members = labels == cluster
        values, counts = np.unique(truth[members], return_counts=True)
        merged[members] = values[counts.argmax()]
    return merged


def domain_agreement(labels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Adjusted Rand index of the clusters, and of the clusters merged by majority truth label."""
    labels, truth = labels.ravel(), truth.ravel()
    merged = merge_by_majority(labels, truth)
    return adjusted_rand_score(truth, labels), adjusted_rand_score(truth, merged)


def compare_with_truth(results: Path, truth: Any) -> str:
    """One line per level of a results file: agreement with the true labels; and the descan error."""
    tree, _ = read_group(results)
    error = tree["center"].data - truth.center
    error = np.linalg.norm(error - error.mean(axis=(0, 1)), axis=-1)
    lines = [f"descan    median error {np.median(error):.3f} px"]
    for name, labels in sorted(tree["labels"].items()):
        plain, merged = domain_agreement(labels.data, np.asarray(truth.label))
        count = len(np.unique(labels.data[labels.data >= 0]))
        lines.append(
            f"{name}   {count} clusters, adjusted Rand index {plain:.3f} "
            f"({merged:.3f} merged by majority label)"
        )
    return "\n".join(lines)
