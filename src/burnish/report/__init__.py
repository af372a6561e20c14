"""Run folders to pages: the evidence of a run in one file that needs nothing but a browser."""

from burnish.report.page import write_report

__all__ = ["write_report"]
