"""The examples of tool-calling agents, in a short form and whole."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.agents import AgentEnvironment, AgentSettings
from steadyrl.environments.protocol import Split
from steadyrl.records.run_folder import RunFolder
from steadyrl.rollout.episodes import play_groups
from steadyrl.run.execution import start_run
from tests.rollout.fakes import TOKENIZER, ScriptedEngine

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("agent_tools")


@pytest.fixture
def agent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of an example, which needs the package `agents` if it is `agent_library`."""
    monkeypatch.syspath_prepend(EXAMPLES)
    if request.param == "agent_library":
        pytest.importorskip("agents", reason="needs openai-agents")
    return importlib.import_module(request.param)


BOTH = pytest.mark.parametrize("agent", ["agent_tools", "agent_library"], indirect=True)


def scores(folder: RunFolder) -> list[float]:
    rows = [row for row in folder.read_metrics() if row.get("stage") == "rl"]
    return [row["score"] for row in rows if "score" in row]


def test_the_splits_of_the_example_have_other_results(example: Any) -> None:
    sums = example.Sums()
    results = [
        {sums.task(split, n).payload for n in range(100)} for split in (Split.TRAIN, Split.TEST)
    ]
    assert not results[0] & results[1]


def scripted(prompt: str, number: int, call: int) -> str:
    """A call for sums whose first number is even, a guess for others; the output is repeated."""
    question, _, output = prompt.removesuffix("<|assistant|>").rpartition("<|tool|>")
    if question:
        return output
    a, b = map(int, prompt.removesuffix("<|assistant|>").rpartition("<|user|>")[2].split("+"))
    if a % 2:
        return "7"
    return f'{{"arguments": {{"b":{b}, "a":{a}}}, "name":"add"}}'


@BOTH
def test_an_agent_plays_its_episodes(agent: Any) -> None:
    settings: AgentSettings = agent.configuration().environment
    environment = settings.make()
    assert isinstance(environment, AgentEnvironment)
    tasks = [environment.task(Split.TRAIN, number) for number in range(6)]

    try:
        groups = drive(
            play_groups(
                environment,  # type: ignore[arg-type]
                ScriptedEngine(scripted),
                TOKENIZER,
                tasks,
                group_size=1,
                sampling=Sampling(max_new_tokens=64),
                seed=0,
                max_turns=4,
            )
        )
    finally:
        environment.close()

    episodes = [group.trajectories[0] for group in groups]
    calls = [int(task.prompt[0].content.split("+")[0]) % 2 == 0 for task in tasks]
    assert {True, False} == set(calls)
    assert [episode.truncation_reason for episode in episodes] == [""] * 6
    assert [episode.reward for episode in episodes] == [float(called) for called in calls]
    assert [len(episode.completions) for episode in episodes] == [1 + called for called in calls]
    first = episodes[calls.index(True)].completions
    text = TOKENIZER.decode(first[1].prompt_ids)
    assert text.startswith(TOKENIZER.decode([*first[0].prompt_ids, *first[0].token_ids]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@BOTH
def test_an_agent_learns_to_call_its_tool(agent: Any, tmp_path: Path) -> None:
    changes = {"steps": 6, "evaluate_every": 6}
    folder = start_run(agent.configuration(**changes), tmp_path / "run")

    first, *_, last = scores(folder)
    assert last > first + 0.2
