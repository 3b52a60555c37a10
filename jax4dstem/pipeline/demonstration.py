"""How well the domains of simulated data were found."""

from typing import Any

import numpy as np

from jax4dstem.domains import domain_agreement
from jax4dstem.errors import InputError
from jax4dstem.pipeline.results import Results


def compare_with_truth(found: Results, truth: Any) -> str:
    """One line for the domains and per level of clusters: agreement with the true labels; and the descan error.

    Args:
        found: Answers for a simulated scan, with beam, domain map and domains.
        truth: With ``center`` and ``label`` over the scan.
    """
    if found.beam is None or found.domain_map is None or found.domains is None:
        raise InputError("there are no domains to compare with the truth")
    error = found.beam.center - truth.center
    error = np.linalg.norm(error - error.mean(axis=(0, 1)), axis=-1)
    lines = [f"descan    median error {np.median(error):.3f} px"]
    for name, labels in {"domains": found.domain_map.labels, **found.domains.labels}.items():
        plain, merged = domain_agreement(labels, np.asarray(truth.label))
        count = len(np.unique(labels[labels >= 0]))
        lines.append(
            f"{name:9} {count} clusters, adjusted Rand index {plain:.3f} "
            f"({merged:.3f} merged by majority label)"
        )
    return "\n".join(lines)
