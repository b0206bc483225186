"""Everything that is drawn: the curves of a report, the picture of a run, the figure of a study.

A report's drawings are inline SVG whose colors are variables of the page, so they follow its light
and dark style, and whose text is text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from steadyrl.analysis import Series, text_for
from steadyrl.base.errors import UserError
from steadyrl.base.wording import count, short_number
from steadyrl.report.svg import Ink, inline_svg

SMOOTHED_FROM = 40
"""A curve of more points than this gets a smoothed line on top."""

PANELS = ("score", "mismatch_kl_k3", "reward", "entropy")
"""The metrics by which a run is judged, as in arXiv:2512.01374, figures 1 to 4."""

ROUND = (1, 2, 2.5, 5, 10)
"""Distances between ticks, up to a power of ten."""

DENSE_UP_TO = 100
"""Ratio of the ends of a log axis up to which 2 and 5 are marked between the powers of ten."""

MAP_COLUMNS = 600
MAP_COLOR = (0.76, 0.36, 0.24)
"""Red, green and blue of the strongest value of a map; legible on light and on dark paper."""


STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.labelsize": 9,
    "grid.color": "#d8d8d8",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "path.simplify_threshold": 0.4,
    "svg.fonttype": "none",
    "xtick.bottom": False,
    "ytick.left": False,
    "ytick.minor.left": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
"""Axes without a frame: pale horizontal lines and small labels."""

PAGE_STYLE = STYLE | {
    "grid.color": Ink.GRID.value,
    "grid.linewidth": 0.8,
    "text.color": Ink.TEXT.value,
    "font.size": 10,
    **{f"{axis}tick.labelcolor": Ink.TEXT.value for axis in "xy"},
    **{f"{axis}tick.labelsize": 10 for axis in "xy"},
    **{f"{axis}tick.major.pad": 5 for axis in "xy"},
}


PANEL, SMALL, WIDE = (440, 240), (310, 168), (924, 260)
"""Width and height of drawings, in pixels of the page at its natural size."""


def smoothing_window(points: int) -> int:
    """Points in each mean of the smoothed line of a curve of `points`: odd; 1 is no smoothing."""
    return 1 if points <= SMOOTHED_FROM else max(5, points // 20) // 2 * 2 + 1


def smoothed(values: Float[np.ndarray, " S"], window: int) -> Float[np.ndarray, " S"]:
    """The mean of the finite values in the `window` around each point; NaN at the others."""
    finite = np.isfinite(values)
    ones = np.ones(window)
    half = window // 2
    total = np.convolve(np.where(finite, values, 0.0), ones)[half : half + len(values)]
    terms = np.convolve(finite.astype(np.float64), ones)[half : half + len(values)]
    return np.where(finite, total / np.maximum(terms, 1.0), np.nan)


def uses_log_axis(series: Series, log_scale: bool) -> bool:
    """Whether the curve uses a log axis: it is requested, and some value is above 0."""
    return log_scale and bool((series.values[series.finite] > 0).any())


def curves_svg(
    curves: Mapping[str, Series],
    *,
    size: tuple[int, int],
    key: str,
    unit: str = "step",
    log_scale: bool = False,
    baseline: bool = False,
    band: tuple[Series | None, Series | None] | None = None,
) -> Markup:
    """An `<svg>` of one or two series on common axes, the second in the other color.

    A line has gaps where a value is not finite, and a mark at the foot. More than `SMOOTHED_FROM`
    points are drawn faint, with a smoothed line on top.

    Args:
        curves: By title.
        key: Names the drawing, differently from every other one of the page.
        unit: What the horizontal axis counts.
        log_scale: Ask for a log axis.
        baseline: Add a dotted line at the first value.
        band: Lower and upper ends of a bar at each of their steps.
    """
    both = list(curves.values())
    log_axis = len(both) == 1 and uses_log_axis(both[0], log_scale)
    with rc_context(PAGE_STYLE):
        figure, axes = _page_axes(size, unit)
        shown = [
            _draw_curve(axes, series, ink.value, log_axis)
            for series, ink in zip(both, (Ink.LINE, Ink.OTHER), strict=False)
        ]
        for series in both:
            foot, missing = axes.get_xaxis_transform(), series.steps[~series.finite]
            axes.plot(
                missing, 0.03 + 0 * missing, "|", ms=9, color=Ink.WARNING.value, transform=foot
            )
        first = shown[0][np.isfinite(shown[0])][:1]
        if baseline and len(first):
            axes.axhline(first[0], color=Ink.TEXT.value, linewidth=0.8, linestyle=(0, (1, 3)))
        low, high = band or (None, None)
        if low is not None and high is not None:
            axes.vlines(low.steps, low.values, high.values, Ink.LINE.value, lw=5, alpha=0.22)
            shown += [low.values, high.values]
        _set_limits(axes, np.concatenate([s.steps for s in both]), np.concatenate(shown), log_axis)
        label = "; ".join([curve_label(series, title) for title, series in curves.items()])
        return inline_svg(figure, key, label)


def layers_svg(series: Series, *, title: str, size: tuple[int, int], key: str) -> Markup:
    """An `<svg>` of `series` as a map: steps to the right, layers upwards, the stronger the larger.

    A column shows the latest step recorded by then. A value of 0, or not finite, has no color.
    """
    first, last = int(series.steps.min()), int(series.steps.max())
    columns = np.linspace(first, last, min(last - first + 1, MAP_COLUMNS))
    latest = np.searchsorted(series.steps, columns, side="right") - 1
    values = np.where(series.finite, series.values, 0.0)
    strength = values[latest].T / max(values.max(), np.finfo(np.float64).tiny)
    colors = np.empty((*strength.shape, 4))
    colors[..., :3] = MAP_COLOR
    colors[..., 3] = np.clip(strength, 0, 1)
    layers = values.shape[1]
    extent = (first - 0.5, last + 0.5, -0.5, layers - 0.5)
    with rc_context(PAGE_STYLE | {"axes.grid": False}):
        figure, axes = _page_axes(size, "step")
        axes.imshow(colors, aspect="auto", origin="lower", interpolation="none", extent=extent)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
        axes.set(xlim=extent[:2], ylim=extent[2:])
        label = f"{title} of {count(layers, 'layer')}, up to {short_number(values.max())}"
        return inline_svg(figure, key, label)


def curve_label(series: Series, title: str) -> str:
    """The curve in one line, for those who cannot see it."""
    values = series.values[series.finite]
    if not len(values):
        return f"{title}: no finite value"
    first, last = short_number(values[0]), short_number(values[-1])
    return f"{title} over {count(len(values), 'point')}, from {first} to {last}"


def four_panels(
    x_label: str, height: float = 5.2, names: tuple[str, ...] = PANELS
) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure of two rows and two columns, and its axes by the metric that each shows."""
    with rc_context(STYLE | {"axes.spines.bottom": True}):
        figure = Figure(figsize=(10, height), layout="constrained")
        panels = dict(zip(names, figure.subplots(2, 2).flat, strict=True))
        for name, axes in panels.items():
            axes.set_title(text_for(name).title)
            axes.set_xlabel(x_label)
    return figure, panels


def draw_panel(axes: Axes, series: Series, color: str, log_scale: bool) -> None:
    """Draws one curve into axes of `four_panels`."""
    log_axis = uses_log_axis(series, log_scale)
    shown = _draw_curve(axes, series, color, log_axis)
    _set_limits(axes, series.steps, shown, log_axis)


def mark_log_axis(axis: Axis) -> None:
    """Gives a logarithmic axis, whose limits are final, ticks that read as numbers."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if high / low <= DENSE_UP_TO else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def save(figure: Figure, path: Path) -> Path:
    """`path`, where the figure now is; its suffix says PNG, SVG or PDF. Equal figures, equal files.

    Raises:
        UserError: there is no suffix, or matplotlib does not know it.
    """
    if not path.suffix:
        raise UserError(f"{path} has no suffix. Add .png or .svg.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context({"svg.hashsalt": "steadyrl"}):
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, metadata=metadata)
    except ValueError as error:
        raise UserError(
            f"No picture can be written to {path}: {error}. Use .png or .svg."
        ) from error
    return path


def _page_axes(size: tuple[int, int], unit: str) -> tuple[Figure, Axes]:
    """Empty axes that leave room for labels, and the word `unit` at the corner."""
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((40 / width, 22 / height, 1 - 50 / width, 1 - 32 / height))
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.set_autoscale_on(False)
    figure.text(35 / width, 6 / height, unit, ha="right")
    return figure, axes


def _draw_curve(axes: Axes, series: Series, color: str, log_axis: bool) -> Float[np.ndarray, " S"]:
    """Draws the curve; its values, NaN where nothing can be seen."""
    values = np.where(series.finite, series.values, np.nan)
    visible = np.where(values > 0, values, np.nan) if log_axis else values
    if log_axis:
        axes.set_yscale("log")
    window = smoothing_window(len(series.steps))
    if window == 1:
        axes.plot(series.steps, visible, color=color, marker="o", markersize=3.5, clip_on=False)
        return visible
    axes.plot(series.steps, visible, color=color, linewidth=0.8, alpha=0.32)
    line = smoothed(values, window)
    axes.plot(series.steps, np.where(line > 0, line, np.nan) if log_axis else line, color=color)
    return visible


def _set_limits(
    axes: Axes, steps: Int[np.ndarray, " S"], shown: Float[np.ndarray, " V"], log_axis: bool
) -> None:
    first, last = int(steps.min()), int(steps.max())
    axes.set_xlim(first - 0.5 if first == last else first, last + 0.5 if first == last else last)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:.0f}"))
    shown = shown[np.isfinite(shown)]
    if not len(shown):
        axes.yaxis.set_major_locator(NullLocator())
        return
    low, high = float(shown.min()), float(shown.max())
    if log_axis:
        axes.set_ylim(low / 1.3, high * 1.3)
        mark_log_axis(axes.yaxis)
        return
    axes.set_ylim(_linear_limits(low, high))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def _linear_limits(low: float, high: float) -> tuple[float, float]:
    """Limits with some air; 0 is in when a constant is drawn or when it is near."""
    if high - low <= 1e-9 * abs(high):
        return (0.0, 1.0) if low == 0 else (min(0.0, 2 * low), max(0.0, 2 * low))
    air = 0.06 * (high - low)
    return (0.0 if 0 <= low < 0.5 * high else low - air), high + air
