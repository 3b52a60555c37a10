"""Figures: functions of a scan or of results that return a matplotlib figure."""

from jax4dstem.plots.scans import scan_overview

__all__ = ["scan_overview"]
