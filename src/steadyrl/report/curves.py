"""Metrics drawn against steps."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from steadyrl.analysis.series import Series
from steadyrl.base.wording import count, short_number
from steadyrl.report.log_axis import mark_log_axis
from steadyrl.report.svg import Ink, inline_svg

SMOOTHED_FROM = 40
"""A curve of more points than this gets a smoothed line on top."""

ROUND = (1, 2, 2.5, 5, 10)
"""Distances between ticks, up to a power of ten."""

MAP_COLUMNS = 600
MAP_COLOUR = (0.76, 0.36, 0.24)
"""Red, green and blue of the strongest value of a map; legible on light and on dark paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSize:
    """Of a drawing, in the page's pixels when it is shown at its natural size."""

    width: int
    height: int


PANEL = FigureSize(width=440, height=240)
SMALL = FigureSize(width=310, height=168)
WIDE = FigureSize(width=924, height=260)


def smoothing_window(points: int) -> int:
    """How many neighbours the smoothed line of `points` is a mean over: odd, 1 for none."""
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
    """Whether the curve is drawn on a log axis: asked for, and some value is above 0."""
    return log_scale and bool((series.values[series.finite] > 0).any())


def curve_svg(
    series: Series,
    *,
    title: str,
    log_scale: bool,
    size: FigureSize,
    key: str,
    baseline: bool = False,
    band: tuple[Series, Series] | None = None,
) -> str:
    """An `<svg>` of `series`: a line with gaps where a value is not finite, marked at the foot.

    More than `SMOOTHED_FROM` points are drawn faint, with a smoothed line on top. `baseline` adds a
    dashed line at the first value, `band` a bar between its two ends at each of their steps. `key`
    names the figure and must be its own in a page.
    """
    figure, axes = _empty_figure(size)
    window = smoothing_window(len(series.steps))
    values = np.where(series.finite, series.values, np.nan)
    on_log_axis = uses_log_axis(series, log_scale)
    visible = values > 0 if on_log_axis else series.finite
    if on_log_axis:
        axes.set_yscale("log")
    if baseline and visible.any():
        first = values[visible][0]
        axes.axhline(first, color=Ink.TEXT.value, linewidth=0.8, linestyle=(0, (1, 3)))
    raw = np.where(visible, values, np.nan)
    _draw_raw(axes, series, raw, faint=window > 1)
    if window > 1:
        line = smoothed(values, window)
        if on_log_axis:
            line = np.where(line > 0, line, np.nan)
        axes.plot(series.steps, line, color=Ink.LINE.value, linewidth=1.6)
    missing = series.steps[~series.finite]
    if len(missing):
        foot, heights = axes.get_xaxis_transform(), np.full(len(missing), 0.03)
        axes.plot(missing, heights, "|", markersize=9, color=Ink.WARNING.value, transform=foot)
    shown = raw[np.isfinite(raw)]
    if band is not None:
        low, high = band
        axes.vlines(low.steps, low.values, high.values, Ink.LINE.value, linewidth=5, alpha=0.22)
        shown = np.concatenate([shown, low.values, high.values])
    _set_limits(axes, series, shown, on_log_axis)
    return inline_svg(figure, key, curve_label(series, title))


def pair_svg(pair: dict[str, Series], *, size: FigureSize, key: str, unit: str = "step") -> str:
    """An `<svg>` of two series, each by its title, on common axes; the other in the other colour.

    Each is drawn as `curve_svg` draws one on a linear axis. `unit` is what the axis counts.
    """
    figure, axes = _empty_figure(size, unit)
    for series, ink in zip(pair.values(), (Ink.LINE, Ink.OTHER), strict=True):
        window = smoothing_window(len(series.steps))
        values = np.where(series.finite, series.values, np.nan)
        _draw_raw(axes, series, values, faint=window > 1, ink=ink)
        if window > 1:
            axes.plot(series.steps, smoothed(values, window), color=ink.value, linewidth=1.6)
    both = Series(
        name=" and ".join(pair),
        steps=np.concatenate([series.steps for series in pair.values()]),
        values=np.concatenate([series.values for series in pair.values()]),
    )
    _set_limits(axes, both, both.values[both.finite], on_log_axis=False)
    label = "; ".join([curve_label(series, title) for title, series in pair.items()])
    return inline_svg(figure, key, label)


def layers_svg(series: Series, *, title: str, size: FigureSize, key: str) -> str:
    """An `<svg>` of `series` as a map: steps to the right, layers upwards, the stronger the larger.

    A column shows the latest step recorded by then. Paper-coloured is 0 or not finite.
    """
    figure, axes = _empty_figure(size)
    first, last = int(series.steps.min()), int(series.steps.max())
    columns = np.linspace(first, last, min(last - first + 1, MAP_COLUMNS))
    latest = np.searchsorted(series.steps, columns, side="right") - 1
    values = np.where(series.finite, series.values, 0.0)
    strength = values[latest].T / max(values.max(), np.finfo(np.float64).tiny)
    colours = np.empty((*strength.shape, 4))
    colours[..., :3] = MAP_COLOUR
    colours[..., 3] = np.clip(strength, 0, 1)
    layers = values.shape[1]
    extent = (first - 0.5, last + 0.5, -0.5, layers - 0.5)
    axes.imshow(colours, aspect="auto", origin="lower", interpolation="none", extent=extent)
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.set_ylim(-0.5, layers - 0.5)
    label = f"{title} of {count(layers, 'layer')}, up to {short_number(values.max())}"
    return inline_svg(figure, key, label)


def curve_label(series: Series, title: str) -> str:
    """The curve in one line, for those who cannot see it."""
    values = series.values[series.finite]
    if not len(values):
        return f"{title}: no finite value"
    first, last = short_number(values[0]), short_number(values[-1])
    return f"{title} over {count(len(values), 'point')}, from {first} to {last}"


def curve_notes(series: Series, log_scale: bool) -> list[str]:
    """What a reader of the curve must know: values that are not finite or not on the axis."""
    notes = []
    missing = int((~series.finite).sum())
    if missing:
        rows = ~series.finite if not series.has_layers else (~series.finite).any(axis=1)
        first = series.steps[rows][0]
        notes.append(f"{count(missing, 'value')} not finite, first at step {first}: left blank.")
    if series.has_layers:
        largest = series.values[series.finite].max(initial=0.0)
        notes.append(f"Strongest colour: {short_number(largest)}. Layer 0 is at the bottom.")
    elif uses_log_axis(series, log_scale):
        hidden = int((series.values[series.finite] <= 0).sum())
        if hidden:
            notes.append(f"{count(hidden, 'value')} of 0 or below, not on the log axis.")
    return notes


def _empty_figure(size: FigureSize, unit: str = "step") -> tuple[Figure, Axes]:
    """Axes without a frame: pale horizontal lines, small labels, and the word `unit`."""
    figure = Figure(figsize=(size.width / 72, size.height / 72))
    left, right, bottom, top = 40, 10, 22, 10
    across, up = size.width - left - right, size.height - bottom - top
    axes = figure.add_axes(
        (left / size.width, bottom / size.height, across / size.width, up / size.height)
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_axisbelow(True)
    axes.set_autoscale_on(False)
    axes.grid(axis="y", color=Ink.GRID.value, linewidth=0.8)
    axes.tick_params(
        which="both", left=False, bottom=False, labelsize=10, labelcolor=Ink.TEXT.value, pad=5
    )
    figure.text(
        (left - 5) / size.width,
        6 / size.height,
        unit,
        color=Ink.TEXT.value,
        fontsize=10,
        ha="right",
    )
    return figure, axes


def _draw_raw(
    axes: Axes, series: Series, raw: Float[np.ndarray, " S"], faint: bool, ink: Ink = Ink.LINE
) -> None:
    if faint:
        axes.plot(series.steps, raw, color=ink.value, linewidth=0.8, alpha=0.32)
    else:
        axes.plot(
            series.steps,
            raw,
            color=ink.value,
            linewidth=1.6,
            marker="o",
            markersize=3.5,
            clip_on=False,
        )


def _set_limits(
    axes: Axes, series: Series, shown: Float[np.ndarray, " s"], on_log_axis: bool
) -> None:
    first, last = int(series.steps.min()), int(series.steps.max())
    axes.set_xlim(first - 0.5 if first == last else first, last + 0.5 if first == last else last)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:.0f}"))
    if not len(shown):
        axes.yaxis.set_major_locator(NullLocator())
        return
    low, high = float(shown.min()), float(shown.max())
    if on_log_axis:
        axes.set_ylim(low / 1.3, high * 1.3)
        mark_log_axis(axes)
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
