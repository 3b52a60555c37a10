"""Figures of results: each is a function ``figure(results) -> Figure``. They draw and compute nothing; the report is made of them.

Sizes are in pixels of a page at 100 %, so a figure saved by ``figure.savefig("map.svg")`` has text of 12 px or more.
"""

from jax4dstem.plots.calibration import calibration_fit
from jax4dstem.plots.colors import division_colors, label_color, label_count, label_image
from jax4dstem.plots.domains import (
    clusterings_compared,
    domain_map,
    domain_patterns,
    draw_cepstrum,
    level_maps,
    split_curves,
)
from jax4dstem.plots.examples import lattice_overlay, pattern_examples
from jax4dstem.plots.features import embedding, feature_map, overview, principal_components
from jax4dstem.plots.images import direct_beam, virtual_images
from jax4dstem.plots.lab import color_difference
from jax4dstem.plots.latent import learned_codes
from jax4dstem.plots.scans import scan_overview
from jax4dstem.plots.strain import (
    base_lattices,
    lattice_map,
    second_crystal,
    strain_derived,
    strain_errors,
    strain_map,
)
from jax4dstem.plots.style import scale_bar
from jax4dstem.plots.trust import strain_consensus, strain_status

__all__ = [
    "base_lattices",
    "calibration_fit",
    "clusterings_compared",
    "color_difference",
    "direct_beam",
    "division_colors",
    "domain_map",
    "domain_patterns",
    "draw_cepstrum",
    "embedding",
    "feature_map",
    "label_color",
    "label_count",
    "label_image",
    "lattice_map",
    "lattice_overlay",
    "learned_codes",
    "level_maps",
    "overview",
    "pattern_examples",
    "principal_components",
    "scale_bar",
    "scan_overview",
    "second_crystal",
    "split_curves",
    "strain_consensus",
    "strain_derived",
    "strain_errors",
    "strain_map",
    "strain_status",
    "virtual_images",
]
