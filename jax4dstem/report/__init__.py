"""Figures and one self-contained HTML page, drawn from the results file alone."""

from jax4dstem.report.page import write_report

__all__ = ["write_report"]
