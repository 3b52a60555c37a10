"""One self-contained HTML page of a results directory: what was found, in words, tables and the figures of `plots`."""

from jax4dstem.report.page import check_formats, write_report

__all__ = ["check_formats", "write_report"]
