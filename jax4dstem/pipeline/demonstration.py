"""How well the domains of simulated data were found."""

from typing import Any

import numpy as np

from jax4dstem.domains import domain_agreement
from jax4dstem.errors import InputError
from jax4dstem.pipeline.results import Results


def compare_with_truth(found: Results, truth: Any) -> str:
    """One line: how well domains and levels of clusters agree with the true labels, and the error of the descan.

    Args:
        found: Answers for a simulated scan, with beam, domain map and domains.
        truth: With ``center`` and ``label`` over the scan.
    """
    if found.beam is None or found.domain_map is None or found.domains is None:
        raise InputError("there are no domains to compare with the truth")
    error = found.beam.center - truth.center
    error = np.linalg.norm(error - error.mean(axis=(0, 1)), axis=-1)
    label = np.asarray(truth.label)
    domains, _ = domain_agreement(found.domain_map.labels, label)
    levels = [f"{domain_agreement(labels, label)[0]:.3f}" for labels in found.domains.levels]
    return (
        f"truth     adjusted Rand index of the domains {domains:.3f}, of levels {', '.join(levels)}; "
        f"median error of the descan {np.median(error):.3f} px"
    )
