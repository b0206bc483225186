from matplotlib.figure import Figure

from steadyrl.base.wording import MINUS
from steadyrl.report.log_axis import mark_log_axis


def labels(low: float, high: float) -> list[str]:
    """What stands beside the axis between its ends."""
    figure = Figure()
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    mark_log_axis(axes)
    ticks = axes.yaxis.get_major_locator()()
    return [axes.yaxis.get_major_formatter()(tick) for tick in ticks if low <= tick <= high]


def test_two_decades_are_marked_in_between() -> None:
    assert labels(0.003, 0.11) == ["0.005", "0.01", "0.02", "0.05", "0.1"]


def test_many_decades_are_marked_by_their_powers() -> None:
    assert labels(2e-6, 0.3) == [f"1e{MINUS}5", f"1e{MINUS}4", "0.001", "0.01", "0.1"]
