"""What the drawings of a report show, and what they are made of."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from steadyrl.analysis import Series
from steadyrl.base.wording import MINUS
from steadyrl.report.plots import (
    SMALL,
    curves_svg,
    layers_svg,
    mark_log_axis,
    smoothed,
    smoothing_window,
)


def series(values: list[float], first_step: int = 1) -> Series:
    steps = np.arange(first_step, first_step + len(values))
    return Series(name="reward", steps=steps, values=np.array(values))


def draw(curve: Series, log_scale: bool = False, key: str = "k", baseline: bool = False) -> str:
    return curves_svg(
        {"Reward": curve}, size=SMALL, key=key, log_scale=log_scale, baseline=baseline
    )


def lines(svg: str, ink: str = "line") -> list[str]:
    """The paths drawn in the color of a curve."""
    return re.findall(rf'<path d="([^"]*)"[^>]*stroke: var\(--{ink}\)[^>]*stroke-width: [01]', svg)


def heights(path: str) -> list[float]:
    """The vertical positions of the points of a line, downwards."""
    return [float(pair.split()[1]) for pair in re.findall(r"[ML] (\S+ \S+)", path)]


def test_smoothing_is_the_mean_of_the_neighbors() -> None:
    # The window is cut at the ends: (3 + 6) / 2, (3 + 6 + 0) / 3, (6 + 0) / 2.
    np.testing.assert_allclose(smoothed(np.array([3.0, 6.0, 0.0]), 3), [4.5, 3.0, 3.0])


def test_smoothing_keeps_gaps_and_leaves_them_out_of_the_mean() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    np.testing.assert_allclose(smoothed(values, 3), [1.0, np.nan, 3.0, np.nan, 5.0])


@pytest.mark.parametrize(("points", "window"), [(1, 1), (40, 1), (41, 5), (400, 21), (5000, 251)])
def test_only_long_curves_are_smoothed(points: int, window: int) -> None:
    assert smoothing_window(points) == window


def test_a_long_curve_is_a_faint_line_and_a_smoothed_one() -> None:
    noisy = np.random.default_rng(0).normal(size=200).tolist()
    raw, smooth = (np.abs(np.diff(heights(line))).mean() for line in lines(draw(series(noisy))))
    assert smooth < raw / 5


def test_a_value_that_is_not_finite_breaks_the_line_and_is_marked_at_its_step() -> None:
    whole, broken = (draw(series([1.0, 2.0, last, 4.0, 5.0])) for last in (3.0, np.nan))

    assert [line.count("M") for line in lines(whole)] == [1]
    assert [line.count("M") for line in lines(broken)] == [2]
    assert "var(--warning)" not in whole
    assert "var(--warning)" in broken


def test_a_curve_without_any_finite_value_is_still_drawn_and_says_so() -> None:
    svg = draw(series([np.nan, np.inf]))
    assert 'aria-label="Reward: no finite value"' in svg
    assert svg.count("<use") == 2


def test_a_log_axis_spaces_decades_evenly() -> None:
    (line,) = lines(draw(series([0.001, 0.01, 0.1]), log_scale=True))
    low, middle, high = heights(line)
    assert low - middle == pytest.approx(middle - high, abs=0.2)


def test_a_log_curve_of_zeros_falls_on_a_linear_axis() -> None:
    curve = series([0.0, 0.0, 0.0])
    assert lines(draw(curve, log_scale=True)) == lines(draw(curve, log_scale=False))


def test_the_baseline_lies_at_the_height_of_the_first_point() -> None:
    svg = draw(series([0.25, 0.75], first_step=0), baseline=True)
    dashes = re.search(r'<path d="M \S+ (\S+)[^>]*stroke-dasharray', svg)

    assert dashes is not None
    assert float(dashes[1]) == heights(lines(svg)[0])[0]


def test_two_drawings_share_no_ids_and_one_drawing_is_always_the_same() -> None:
    curve = series([1.0, np.nan, 2.0])
    ids = [set(re.findall(r' id="([^"]*)"', draw(curve, key=key))) for key in ("a", "b")]

    assert all(ids)
    assert not ids[0] & ids[1]
    assert draw(curve, key="a") == draw(curve, key="a")


def test_every_color_comes_from_the_page() -> None:
    svg = draw(series([*np.linspace(0, 1, 60).tolist(), np.nan]), baseline=True)

    assert re.findall(r"#[0-9a-f]{6}\b(?=[;\"])", svg) == []
    used = set(re.findall(r"var\(--\w+\)", svg))
    assert {"var(--line)", "var(--text)", "var(--grid)", "var(--warning)"} <= used


def test_a_drawing_keeps_nothing_that_a_page_does_not_need() -> None:
    svg = draw(series([1.0, 2.0]))

    assert svg.startswith('<svg role="img" aria-label="Reward over 2 points, from 1 to 2"')
    assert svg.endswith("</svg>")
    for ballast in ("http", "<!--", "<metadata", "<style", "font-family", "<?xml"):
        assert ballast not in svg


def test_a_title_cannot_leave_its_attribute() -> None:
    svg = curves_svg({'"><script>': series([1.0])}, size=SMALL, key="k")
    assert "<script>" not in svg


def test_layers_are_drawn_as_a_picture_inside_the_page() -> None:
    table = np.array([[0.0, 0.5], [0.25, np.nan]])
    layers = Series(name="per_layer", steps=np.array([1, 3]), values=table)
    svg = layers_svg(layers, title="By layer", size=SMALL, key="k")

    assert 'href="data:image/png;base64,' in svg
    assert 'aria-label="By layer of 2 layers, up to 0.5"' in svg


def test_two_curves_are_drawn_on_common_axes_in_two_colors() -> None:
    low, high = series([0.0, 0.0, 0.0]), series([1.0, 1.0, 1.0])
    svg = curves_svg({"Before": low, "After": high}, size=SMALL, key="k")
    (line,), (other,) = lines(svg), lines(svg, "other")

    # 136 pixels are between the lowest and the highest value and their air of 6% on either side.
    assert len({*heights(line)}) == len({*heights(other)}) == 1
    assert heights(line)[0] - heights(other)[0] > 0.85 * (SMALL[1] - 32)
    assert 'aria-label="Before over 3 points, from 0 to 0; After over 3 points, from 1 to 1"' in svg


def labels(low: float, high: float) -> list[str]:
    """What stands beside a logarithmic axis between its ends."""
    axes = Figure().subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    mark_log_axis(axes.yaxis)
    ticks = axes.yaxis.get_major_locator()()
    return [axes.yaxis.get_major_formatter()(tick) for tick in ticks if low <= tick <= high]


def test_a_log_axis_is_marked_between_powers_of_ten_where_it_is_short() -> None:
    assert labels(0.003, 0.11) == ["0.005", "0.01", "0.02", "0.05", "0.1"]
    assert labels(2e-6, 0.3) == [f"1e{MINUS}5", f"1e{MINUS}4", "0.001", "0.01", "0.1"]
