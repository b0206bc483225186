"""What is shown while a run goes on."""

import io
import re
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from steadyrl.cli import live_view
from steadyrl.cli.live_view import LineView, LiveView, closing_line, view_for
from steadyrl.cli.run_status import RunStatus
from tests.training.test_loop import Scripted, stage_of

COLD = stage_of(Scripted([], samples=False), steps=120, name="cold_start")
RL = stage_of(Scripted([]), steps=120)


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(terminal: bool, width: int = 140) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=width, color_system=None), file


def test_a_log_has_a_line_for_each_step_with_its_seconds_and_the_time_left() -> None:
    screen, file = console(terminal=False)
    clock = Clock()
    view = LineView(screen, RunStatus(clock))
    view.begin("evaluation", stage="rl", steps=120)
    clock.now += 75
    view.log(RL, 0, {"score": 0.25, "evaluation_seconds": 75.0})
    for step in range(1, 4):
        view.begin("rollout", stage="rl", step=step, steps=120)
        clock.now += 10
        row = {"reward": step / 1000, "mismatch_kl_k3": 1e-4, "ess": 1.0, "seconds": 10.0}
        view.log(RL, step, row | ({"score": 0.5} if step == 2 else {}))

    assert file.getvalue().splitlines() == [
        "rl 0/120  evaluation",
        "rl 0/120  score 0.250  75.0 s",
        "rl 1/120  reward 0.001  mismatch 1.0e-04  10.0 s  elapsed 0:00:10  left 0:19:50",
        "rl 2/120  reward 0.002  score 0.500  mismatch 1.0e-04  10.0 s  elapsed 0:00:20  "
        "left 0:19:40",
        "rl 3/120  reward 0.003  mismatch 1.0e-04  10.0 s  elapsed 0:00:30  left 0:19:30",
    ]


def test_a_cold_start_has_a_line_now_and_then_and_at_its_end() -> None:
    screen, file = console(terminal=False)
    view = LineView(screen, RunStatus(Clock()), every=50)
    for step in range(1, 121):
        view.log(COLD, step, {"loss": step / 100})

    lines = [line.split("  ")[:2] for line in file.getvalue().splitlines()]
    assert lines == [
        ["cold_start 50/120", "loss 0.500"],
        ["cold_start 100/120", "loss 1.000"],
        ["cold_start 120/120", "loss 1.200"],
    ]


def test_a_long_phase_has_a_heartbeat_that_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_view, "HEARTBEAT", 0.01)
    screen, file = console(terminal=False)
    clock, beaten = Clock(), threading.Event()
    view = LineView(screen, RunStatus(clock))
    monkeypatch.setattr(screen, "print", printing(screen.print, beaten))
    view.begin("rollout", stage="rl", step=4, steps=120)
    clock.now += 20
    view.advance("episodes", 0, 64)
    view.advance("answers", 16, 64, tokens=2048, most_tokens=16384)
    with view:
        assert beaten.wait(10)

    told = "rollout: 0/64 episodes, 16/64 answers, 2,048 tokens, after 0:00:20, about 0:01:00 left"
    assert set(file.getvalue().splitlines()) == {f"rl 4/120  {told}"}


def test_a_heartbeat_in_short_phases_says_how_far_the_stage_is() -> None:
    clock = Clock()
    view = LineView(console(terminal=False)[0], RunStatus(clock))
    view.begin("loading the model")
    assert view.heartbeat() == "loading the model"
    for step in range(1, 31):
        view.begin("demonstrations", stage="cold_start", step=step, steps=100)
        clock.now += 0.4
        view.log(stage_of(Scripted([], samples=False), steps=100, name="cold_start"), step, {})
    view.begin("demonstrations", stage="cold_start", step=31, steps=100)

    assert view.heartbeat() == "cold_start 30/100  elapsed 0:00:12  left 0:00:28"
    clock.now += 20
    assert view.heartbeat() == "cold_start 31/100  demonstrations: after 0:00:20"


def test_a_run_that_starts_again_says_so_without_naming_a_step() -> None:
    view = LineView(console(terminal=False)[0], RunStatus(Clock()))
    view.begin("update", stage="rl", step=9, steps=14)
    view.log(RL, 9, {})
    view.begin("starting the learner's ranks")

    assert view.heartbeat() == "starting the learner's ranks"


def printing(inner: Callable[..., None], done: threading.Event) -> Callable[..., None]:
    def outer(*args: object, **kwargs: object) -> None:
        inner(*args, **kwargs)
        done.set()

    return outer


def test_the_time_left_of_a_phase_is_what_it_took_before() -> None:
    clock = Clock()
    status = RunStatus(clock)
    for step in (1, 2):
        status.begin("rollout", "rl", step, 9)
        clock.now += 40
        status.begin("update", "rl", step, 9)
        clock.now += 5
    status.begin("rollout", "rl", 3, 9)
    clock.now += 10
    status.advance("answers", 1, 64)

    assert status.phase_text() == "rollout: 1/64 answers, after 0:00:10, about 0:00:30 left"


def test_a_resumed_stage_counts_the_steps_of_this_process_alone() -> None:
    clock = Clock()
    status = RunStatus(clock)
    status.begin("rollout", "rl", 51, 60)
    clock.now += 30
    status.take_step("rl", 51, 60, {})

    assert status.stage is not None
    assert status.stage_text(status.stage) == "elapsed 0:00:30  left 0:04:30"


EXPERIENTIAL = {"reward": 0.25, "reward_after_reflection": 0.625, "memory_writes": 3.0}


def test_a_run_that_reflects_shows_reward_before_and_after_and_what_is_remembered() -> None:
    screen, file = console(terminal=False)
    LineView(screen).log(RL, 50, EXPERIENTIAL)
    told = "reward 0.250  after reflection 0.625  remembered 3"
    assert file.getvalue().startswith(f"rl 50/120  {told}  elapsed")

    screen, file = console(terminal=True)
    with LiveView(screen) as view:
        view.log(RL, 7, EXPERIENTIAL)
    assert told in last_lines(file)[-1]


@pytest.mark.parametrize("terminal", [False, True])
def test_notes_are_printed(terminal: bool) -> None:
    screen, file = console(terminal=terminal)
    view = view_for(screen)
    view.note(RL, 2, "Routing replay is r3, because it is.")

    assert "note (rl step 2): Routing replay is r3, because it is." in file.getvalue()


def last_lines(file: io.StringIO) -> list[str]:
    """What the terminal shows at the end: text without control sequences."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    return [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]


def test_a_terminal_shows_a_bar_for_each_stage_and_the_latest_metrics() -> None:
    screen, file = console(terminal=True)
    with LiveView(screen) as view:
        view.log(COLD, 120, {"loss": 1.25, "entropy": 2.0})
        view.log(RL, 0, {"score": 0.5})
        view.log(RL, 7, {"reward": 0.25, "loss": -0.125})
    cold, rl, metrics = last_lines(file)[-3:]

    assert cold.startswith("cold_start ")
    assert "120/120" in cold
    assert "7/120" in rl
    # The score stays until the next one; a policy-gradient loss says little, so it is left out.
    assert metrics == "reward 0.250  score 0.500"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_step_elapsed_and_time_left_are_shown_at_any_width(width: int) -> None:
    clock = Clock()
    screen, file = console(terminal=True, width=width)
    with LiveView(screen, RunStatus(clock)) as view:
        view.begin("rollout", stage="cold_start", step=119, steps=120)
        clock.now += 3600
        view.log(COLD, 119, {"loss": 1.25, "entropy": 2.0})
        view.begin("rollout", stage="rl", step=1, steps=2000)
        clock.now += 83
        row = EXPERIENTIAL | {"score": 0.5, "entropy": 1.0, "mismatch_kl_k3": 1e-4, "loss": 1.0}
        view.log(stage_of(Scripted([]), steps=2000), 1, row)
    lines = last_lines(file)

    assert "1/2000  elapsed 0:01:23  left 46:05:17" in lines[-2]
    assert "119/120  elapsed 1:01:23  left 0:58:37" in lines[-3]
    assert max(map(len, lines)) <= width


def test_a_terminal_shows_how_far_the_phase_is_until_the_run_ends() -> None:
    screen, _ = console(terminal=True)
    view = LiveView(screen, RunStatus(Clock()))
    view.begin("loading the model")
    view.begin("evaluation", stage="rl", steps=120)
    view.advance("episodes", 12, 64)
    with screen.capture() as shown:
        screen.print(view)

    assert shown.get().splitlines()[-1].strip() == "evaluation: 12/64 episodes"


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveView), (False, LineView)])
def test_the_view_fits_the_console(terminal: bool, kind: type) -> None:
    assert isinstance(view_for(console(terminal)[0]), kind)


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view_for(console(terminal=True)[0]), LineView)


def test_the_closing_line_has_the_first_and_the_last_score_with_their_intervals() -> None:
    first = {"score": 0.1, "score_low": 0.05, "score_high": 0.2}
    assert closing_line([first, {"reward": 3}, {"score": 0.2}, {"score": 0.4}]) == (
        "held-out score: 0.100 (95% interval 0.050 to 0.200) before, 0.400 after"
    )
    assert closing_line([{"reward": 3}]) is None
