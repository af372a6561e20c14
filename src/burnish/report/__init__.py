"""The evidence of a run on one page that needs nothing but a browser."""

from burnish.report.page import write_report

__all__ = ["write_report"]
