"""The report of a run: one HTML file that needs nothing else to be read.

It reads run folders and logs of other trainers only, so any run can be reported anywhere, finished
or not.

    RunFolder, ForeignRun -> run_data -> facts, panels, samples, episodes -> templates -> HTML
"""

from steadyrl.report.figure import write_figure
from steadyrl.report.page import write_report
from steadyrl.report.run_data import RunData, read_run

__all__ = ["RunData", "read_run", "write_figure", "write_report"]
