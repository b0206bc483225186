"""What is shown while a run goes on."""

import io
import re

import pytest
from rich.console import Console

from steadyrl.cli.live_view import LineView, LiveView, scores, view_for
from tests.training.test_loop import Scripted, stage_of

COLD = stage_of(Scripted([]), steps=120, name="cold_start")
RL = stage_of(Scripted([]), steps=120)


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=140, color_system=None), file


def test_lines_are_printed_now_and_then_at_evaluations_and_at_the_end() -> None:
    screen, file = console(terminal=False)
    view = LineView(screen, every=50)
    for step in range(1, 121):
        row = {"reward": step / 1000, "mismatch_kl_k3": 1e-4, "ess": 1.0}
        view.on_step(RL, step, row | ({"score": 0.5} if step == 30 else {}))

    assert file.getvalue().splitlines() == [
        "rl 30/120  reward 0.030  score 0.500  mismatch 1.0e-04",
        "rl 50/120  reward 0.050  mismatch 1.0e-04",
        "rl 100/120  reward 0.100  mismatch 1.0e-04",
        "rl 120/120  reward 0.120  mismatch 1.0e-04",
    ]


EXPERIENTIAL = {"reward": 0.25, "reward_after_reflection": 0.625, "memory_writes": 3.0}


def test_a_run_that_reflects_shows_reward_before_and_after_and_what_is_remembered() -> None:
    screen, file = console(terminal=False)
    LineView(screen, every=50).on_step(RL, 50, EXPERIENTIAL)
    told = "reward 0.250  after reflection 0.625  remembered 3"
    assert file.getvalue().splitlines() == [f"rl 50/120  {told}"]

    screen, file = console(terminal=True)
    with LiveView(screen) as view:
        view.on_step(RL, 7, EXPERIENTIAL)
    assert told in last_lines(view, file)[-1]


@pytest.mark.parametrize("terminal", [False, True])
def test_notes_are_printed(terminal: bool) -> None:
    screen, file = console(terminal=terminal)
    view = view_for(screen)
    view.on_note(RL, 2, "Routing replay: r3, because it is.")

    assert "rl from step 2 on  Routing replay: r3, because it is." in file.getvalue()


def last_lines(view: LiveView, file: io.StringIO) -> list[str]:
    """What the terminal shows at the end: text without control sequences."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    return [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]


def test_a_terminal_shows_a_bar_for_each_stage_with_its_latest_metrics() -> None:
    screen, file = console(terminal=True)
    with LiveView(screen) as view:
        view.on_step(COLD, 120, {"loss": 1.25, "entropy": 2.0})
        view.on_step(RL, 0, {"score": 0.5})
        view.on_step(RL, 7, {"reward": 0.25, "loss": -0.125})
    cold, rl = last_lines(view, file)[-2:]

    assert cold.startswith("cold_start")
    assert "120/120 entropy 2.000  loss 1.250" in cold
    # The score stays until the next one; a policy-gradient loss says little, so it is left out.
    assert "7/120" in rl
    assert "reward 0.250  score 0.500" in rl
    assert "loss" not in rl


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveView), (False, LineView)])
def test_the_view_fits_the_console(terminal: bool, kind: type) -> None:
    assert isinstance(view_for(console(terminal)[0]), kind)


def test_scores_are_those_of_evaluated_rows_in_order() -> None:
    assert scores([{"score": 0.1}, {"reward": 3}, {"score": 0.4}]) == [0.1, 0.4]
