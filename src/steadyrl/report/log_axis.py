"""The axis of a quantity that spans decades."""

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from steadyrl.base.wording import short_number

DENSE_UP_TO = 100
"""Ratio of an axis' ends up to which 2 and 5 are marked between the powers of ten."""


def mark_log_axis(axes: Axes) -> None:
    """Gives the logarithmic y axis, whose limits are final, ticks that read as numbers."""
    low, high = axes.get_ylim()
    subs = (1, 2, 5) if high / low <= DENSE_UP_TO else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
