"""The report of a run: one HTML file that needs nothing else to be read.

It reads run folders only, so any run can be reported anywhere, finished or not.

    run folder -> run_data (series by stage) -> verdict, curves, samples -> page -> report.html
"""

from steadyrl.report.figure import write_figure
from steadyrl.report.page import write_report

__all__ = ["write_figure", "write_report"]
