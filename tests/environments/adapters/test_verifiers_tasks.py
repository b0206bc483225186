"""Environments of verifiers, with the real package: one published at PyPI, and two of this file."""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers", minversion="0.4")
pytestmark = [pytest.mark.adapters, pytest.mark.filterwarnings("default")]


from steadyrl.algorithms.policy_gradient import PolicyGradientSettings  # noqa: E402
from steadyrl.base.errors import UserError  # noqa: E402
from steadyrl.engines.driver import drive  # noqa: E402
from steadyrl.engines.protocol import Sampling  # noqa: E402
from steadyrl.environments import ArithmeticSettings, FrozenLakeSettings  # noqa: E402
from steadyrl.environments.adapters.verifiers_tasks import VerifiersSettings  # noqa: E402
from steadyrl.environments.protocol import Split  # noqa: E402
from steadyrl.policies.model_settings import SmallMoE  # noqa: E402
from steadyrl.records.tool_calls import ToolSettings  # noqa: E402
from steadyrl.records.trajectory import Group, Trajectory  # noqa: E402
from steadyrl.rollout.episodes import play_groups  # noqa: E402
from steadyrl.rollout.tasks import make_tasks  # noqa: E402
from steadyrl.run.execution import start_run  # noqa: E402
from tests.rollout.fakes import TOKENIZER, ScriptedEngine  # noqa: E402
from tests.run.tiny import tiny_run  # noqa: E402

HIDDEN = ToolSettings(shown="none", calls="json")


def play(
    settings: VerifiersSettings, answer: Any, *, count: int = 1, group_size: int = 1
) -> list[Group]:
    environment = settings.make()
    try:
        return drive(
            play_groups(
                environment,
                ScriptedEngine(answer),
                TOKENIZER,
                make_tasks(environment, Split.TRAIN, range(count)),
                group_size=group_size,
                sampling=Sampling(max_new_tokens=200),
                seed=0,
                max_turns=16,
            )
        )
    finally:
        environment.close()


def one(settings: VerifiersSettings, answer: Any) -> Trajectory:
    ((trajectory,),) = (group.trajectories for group in play(settings, answer))
    return trajectory


MARBLE = VerifiersSettings(taskset="marble-v1", options={"pieces": 1})


def test_a_published_environment_rewards_its_own_solution_and_nothing_else() -> None:
    environment = MARBLE.make()
    tasks = [environment.task(Split.TRAIN, number) for number in range(2)]
    assert "A marble rolls off" in tasks[0].prompt[0].content
    solutions = [json.dumps(task.payload.data.solution) for task in tasks]

    rings = [task.prompt[0].content.split("mouth centred at ")[1][:12] for task in tasks]
    asked: Counter[str] = Counter()

    def answer(prompt: str, number: int, call: int) -> str:
        (task,) = [number for number, ring in enumerate(rings) if ring in prompt]
        asked[rings[task]] += 1
        return f"```json\n{solutions[task] if asked[rings[task]] == 1 else '[]'}\n```"

    groups = play(MARBLE, answer, count=2, group_size=2)
    for group in groups:
        rewards = [trajectory.reward for trajectory in group.trajectories]
        assert [t.truncation_reason for t in group.trajectories] == ["", ""]
        assert set(rewards) <= {0.0, 1.0}
        for trajectory in group.trajectories:
            parts = {"scored", "answered_legally", "closeness"}
            assert parts <= trajectory.reward_parts.keys()
            assert trajectory.reward_parts["scored"] == trajectory.reward
    assert sum(t.reward for group in groups for t in group.trajectories) == 2


def test_episodes_share_the_client_that_asks_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from verifiers.v1.interception import server

    made: list[Any] = []
    make = server.resolve_client
    monkeypatch.setattr(
        server, "resolve_client", lambda config: made.append(config) or make(config)
    )
    groups = play(MARBLE, lambda *_: "none", count=2, group_size=8)
    assert [t.truncation_reason for group in groups for t in group.trajectories] == [""] * 16
    assert len(made) == 1


def test_splits_of_an_endless_taskset_share_no_task() -> None:
    environment = MARBLE.make()
    assert environment.distinct_tasks(Split.TRAIN) is None
    ids = {split: environment.task(split, 0).id for split in Split}
    assert len(set(ids.values())) == 3
    assert environment.task(Split.TEST, 0).id == ids[Split.TEST]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taskset": "no-such-taskset"}, "cannot load the taskset 'no-such-taskset'"),
        ({"options": {"piece": 1}}, "cannot load the taskset 'marble-v1': ValidationError"),
        ({"harness": "no-such-harness"}, "no-such-harness"),
        ({"environment": {"id": "no-such-env"}}, "no-such-env"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MARBLE.model_copy(update=changes).make()


def exported(**settings: Any) -> VerifiersSettings:
    """An environment of ours, as a taskset of verifiers, as an environment of ours."""
    return VerifiersSettings(taskset="steadyrl-verifiers", options={"environment": settings})


def test_an_environment_of_ours_is_a_taskset_and_comes_back_as_it_was() -> None:
    ours = ArithmeticSettings().make()
    right = {
        task.prompt[-1].content: ours.solution(task)[0]
        for task in (ours.task(Split.TRAIN, number) for number in range(40))
    }

    asked: Counter[str] = Counter()

    def answer(prompt: str, number: int, call: int) -> str:
        question = prompt.removesuffix("<|assistant|>").rpartition("|>")[2]
        asked[question] += 1
        return right[question] if asked[question] == 1 else "0"

    groups = play(exported(name="arithmetic"), answer, count=2, group_size=2)
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    assert [t.truncation_reason for t in trajectories] == [""] * 4
    for trajectory in trajectories:
        question, reply = (message.content for message in trajectory.messages)
        assert trajectory.reward == float(reply == right[question])
    assert 2 <= sum(trajectory.reward for trajectory in trajectories) < 4


def test_turns_of_an_environment_of_ours_are_turns_of_verifiers() -> None:
    lake = FrozenLakeSettings(show_rulebook=True)
    solved = {}
    for number in range(40):
        task = lake.make().task(Split.TRAIN, number)
        solved[task.prompt[-1].content] = lake.make().solution(task)

    def answer(prompt: str, number: int, call: int) -> str:
        (moves,) = [moves for text, moves in solved.items() if text in prompt]
        return moves[prompt.count("<|assistant|>") - 1]

    settings = exported(name="frozen_lake", show_rulebook=True)
    trajectory = one(settings.model_copy(update={"timeout": 60.0}), answer)
    assert trajectory.truncation_reason == ""
    assert trajectory.reward == 1
    assert len(trajectory.completions) > 1


SUMS = VerifiersSettings(taskset="my-sums", tools=HIDDEN, timeout=200.0)


@pytest.fixture
def my_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """A taskset with a tool server, as a package of a user."""
    folder = str(Path(__file__).parent / "verifiers_packages")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.usefixtures("my_sums")
def test_tools_of_a_task_are_called_and_weighted_rewards_and_metrics_are_kept() -> None:
    def answer(prompt: str, number: int, call: int) -> str:
        if "<|tool|>" in prompt:
            return prompt.rpartition("<|tool|>")[2].partition("<")[0]
        a = int(prompt.partition("What is ")[2].partition("+")[0])
        return json.dumps({"name": "adding_add", "arguments": {"a": a, "b": a}})

    trajectory = one(SUMS, answer)
    assert trajectory.truncation_reason == ""
    assert trajectory.reward == 2.0
    assert trajectory.reward_parts["right"] == 1.0
    assert trajectory.reward_parts["length"] == len(trajectory.messages[-1].content)
    assert len(trajectory.completions) == 2


@pytest.mark.usefixtures("my_sums")
def test_a_finite_taskset_has_every_task_in_one_split() -> None:
    environment = SUMS.make()
    counts = {split: environment.distinct_tasks(split) for split in Split}
    assert sum(count or 0 for count in counts.values()) == 30
    ids = {
        environment.task(split, number).id
        for split, count in counts.items()
        for number in range(count or 0)
    }
    assert len(ids) == 30
    first = environment.task(Split.TRAIN, 0)
    assert environment.task(Split.TRAIN, counts[Split.TRAIN] or 0).id == first.id


@pytest.mark.usefixtures("my_sums")
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("nan", "environment failed: ValueError: the reward is nan"),
        ("crash", "environment failed: AgentFailedError: verifiers could not play the episode"),
    ],
)
def test_an_episode_that_goes_wrong_fails_with_the_reason(reply: str, reason: str) -> None:
    trajectory = one(SUMS, lambda *_: reply)
    assert reason in trajectory.truncation_reason
    assert trajectory.truncated


@pytest.mark.usefixtures("my_sums")
def test_a_reward_that_never_comes_fails_its_episode() -> None:
    began = time.monotonic()
    trajectory = one(SUMS.model_copy(update={"timeout": 1.0}), lambda *_: "never")
    assert "the episode took more than 1 s" in trajectory.truncation_reason
    assert time.monotonic() - began < 45


@pytest.mark.timeout(300)
def test_a_published_environment_trains_unmodified(tmp_path: Path) -> None:
    run = tiny_run(
        environment=MARBLE,
        model=SmallMoE(layers=2, width=32, heads=2, kv_heads=1, expert_width=16),
        cold_start=None,
        steps=2,
        sampling=Sampling(max_new_tokens=24),
        algorithm=PolicyGradientSettings(prompts=2, group_size=4),
    )
    folder = start_run(run, tmp_path / "run")
    rows = [row for row in folder.read_metrics() if row.get("stage") == "rl"]
    failed = [row["environment_failed_fraction"] for row in rows if row["step"]]
    assert failed == [0, 0]
