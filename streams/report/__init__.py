"""report.html: a finished market day in one file that needs nothing else, made from the page's own state."""

from streams.report.document import report, write_report

__all__ = ["report", "write_report"]
