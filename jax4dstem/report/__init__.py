"""Figures and one self-contained HTML page, drawn from the results file alone."""

from jax4dstem.report.figures import draw_cepstrum
from jax4dstem.report.page import write_report
from jax4dstem.report.style import cluster_color, cluster_image, scale_bar

__all__ = ["cluster_color", "cluster_image", "draw_cepstrum", "scale_bar", "write_report"]
