"""The rule for worlds of Experiential RL, on policies whose skill is known."""

import json
import re
from pathlib import Path

import pytest
from benchmarks.cold_start_rule import Counts, Options, checkpoint_of, counted, main, measured

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.grid_environment import GridEnvironment
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.environments.protocol import Split
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.lab.worlds.grid_drills import GridDrillSettings
from steadyrl.lab.worlds.question_drills import QuestionDrillSettings
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.run.execution import start_run
from tests.rollout.fakes import TOKENIZER, ScriptedEngine
from tests.run.tiny import tiny_run

PERMUTED = {"rendering": "compact", "actions": MeaningSource.PERMUTED, "max_path": 3, "moves": 3}
LAKE = FrozenLakeSettings(min_size=3, max_size=3, **PERMUTED)
ROOM = SokobanSettings(min_size=6, max_size=6, **PERMUTED)
EVERY_GAME = pytest.mark.parametrize("game", [LAKE, ROOM], ids=["lake", "room"])
TASKS = 12


class Player:
    """Wins where a rulebook tells what actions do, and reflects as told; else it says `guess`."""

    def __init__(self, game: FrozenLakeSettings | SokobanSettings, guess: str) -> None:
        world = game.make()
        assert isinstance(world, GridEnvironment)
        self._guess = guess
        self._plans = {}
        for index in range(TASKS):
            task = world.task(Split.VALIDATION, index)
            book = " ".join(world.rulebook(task).split()[-4:])  # actions come last
            (plan,) = world.solution(task)
            self._plans[f"<|system|>{book}<|user|>{task.prompt[0].content}<|assistant|>"] = plan

    def __call__(self, prompt: str, _number: int, _call: int) -> str:
        if prompt in self._plans:
            return self._plans[prompt]
        *_, feedback, reward = prompt.removesuffix("<|assistant|>").split("\n")
        return self._rulebook(prompt, feedback) if reward in ("0", "1") else self._guess

    @staticmethod
    def _rulebook(prompt: str, feedback: str) -> str:
        memory = re.search(r"<\|system\|>(.*?)<\|user\|>", prompt)
        told = feedback + " " + (memory[1] if memory else "")
        keys = [re.search(rf"{re.escape(arrow)}([ldru])", told) for arrow in "<v>^"]
        pairs = zip("<v>^", keys, strict=True)
        return " ".join([arrow + (key[1] if key else "?") for arrow, key in pairs])


def counts_of(
    game: FrozenLakeSettings | SokobanSettings, player: Player | None = None, guess: str = "d"
) -> Counts:
    return counted(
        GridDrillSettings(environment=game),
        ScriptedEngine(player or (lambda *_: guess)),
        TOKENIZER,
        Sampling(max_new_tokens=8),
        tasks=TASKS,
        seed=0,
    )


@EVERY_GAME
def test_a_player_who_reads_and_writes_rulebooks_passes(
    game: FrozenLakeSettings | SokobanSettings,
) -> None:
    unreadable = counts_of(game, Player(game, guess="?"))
    assert unreadable == Counts(tasks=TASKS, alone=0, guided=TASKS, exact=TASKS)
    assert unreadable.passes


@EVERY_GAME
def test_who_always_says_the_same_wins_what_that_wins_with_or_without_a_rulebook(
    game: FrozenLakeSettings | SokobanSettings,
) -> None:
    world = game.make()
    tasks = [world.task(Split.VALIDATION, index) for index in range(TASKS)]
    won = sum(int(world.start(task).respond("d").reward) for task in tasks)
    assert counts_of(game) == Counts(tasks=TASKS, alone=won, guided=won, exact=0)


def test_drills_on_questions_are_counted_like_drills_on_games() -> None:
    counts = counted(
        QuestionDrillSettings(),
        ScriptedEngine(lambda *_: r"\boxed{?}"),
        TOKENIZER,
        Sampling(max_new_tokens=16),
        tasks=TASKS,
        seed=0,
    )
    assert counts == Counts(tasks=TASKS, alone=0, guided=0, exact=0)


@pytest.mark.parametrize(
    ("alone", "guided", "exact", "passes"),
    [(2, 6, 8, True), (2, 5, 10, False), (0, 10, 7, False), (6, 10, 10, True), (7, 10, 10, False)],
)
def test_the_rule_asks_for_four_tenths_more_and_eight_tenths_right(
    alone: int, guided: int, exact: int, passes: bool
) -> None:
    assert Counts(tasks=10, alone=alone, guided=guided, exact=exact).passes == passes


def drilled_run() -> RunConfig:
    """Two steps of drills, two of reinforcement."""
    drilled = LAKE.model_copy(update={"meaning": 9})
    teacher = GridDrillSettings(environment=drilled)
    return tiny_run(
        model={"name": "small_dense", "layers": 1, "width": 16, "heads": 2, "head_dim": 8},
        environment=drilled.model_copy(update={"actions": MeaningSource.FIXED}),
        cold_start=ColdStart(teacher=teacher, steps=2, batch_size=4),
        routing_replay="none",
        steps=2,
    )


def test_a_run_is_measured_at_the_end_of_its_cold_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_run(drilled_run(), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "cold_start-000002"
    assert checkpoint_of(tmp_path / "run") == checkpoint_of(checkpoint) == checkpoint

    main(Options(runs=(tmp_path / "run",), tasks=6, out=tmp_path / "rule.json"))

    (row,) = json.loads((tmp_path / "rule.json").read_text())["rows"]
    counts = measured(checkpoint, tasks=6, seed=0)
    assert row["checkpoint"] == "run/cold_start-000002"
    assert Counts(**{name: row[name] for name in ("tasks", "alone", "guided", "exact")}) == counts
    assert counts.exact == 0  # a model that has learned nothing
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:2] == ["run/cold_start-000002", str(counts.alone)]
    assert line.endswith("fails")


def test_runs_without_drills_are_refused(tmp_path: Path) -> None:
    start_run(tiny_run(steps=0), tmp_path / "run")
    with pytest.raises(UserError, match="has no cold start on drills, so the rule says nothing"):
        measured(checkpoint_of(tmp_path / "run"), tasks=2, seed=0)


def test_folders_without_a_cold_start_s_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no checkpoint of a cold start\. Give a folder that"):
        checkpoint_of(tmp_path)
