"""From a scan's counts to prepared patterns, as all experiments of this folder need them."""

from jax4dstem import Dataset, align_scan, prepare_patterns, survey_scan
from jax4dstem.beam import Prepared


def prepared_of(scan: Dataset) -> Prepared:
    """By default, as `jax4dstem analyze` does it."""
    survey = survey_scan(scan)
    return prepare_patterns(scan, survey, align_scan(scan, survey))
