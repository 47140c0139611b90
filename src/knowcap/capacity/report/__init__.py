"""The report of a study as one HTML page, and the README's table of verdicts."""

from knowcap.capacity.report.page import write_report
from knowcap.capacity.report.verdict_table import update_readme

__all__ = ["update_readme", "write_report"]
