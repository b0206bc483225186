"""Agent programs as environments: rewards, failures, and the rows that are trained on."""

import asyncio
import shlex
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import torch
from openai import AsyncOpenAI, OpenAI
from pydantic import ValidationError

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.agent_access import AgentTask, ModelAccess
from steadyrl.environments.agent_commands import run_command
from steadyrl.environments.agents import AgentEnvironment, AgentSettings
from steadyrl.environments.protocol import Outcome, Split
from steadyrl.records.tool_calls import ToolSettings
from steadyrl.records.trajectory import Group
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import make_tasks
from tests.rollout.fakes import TOKENIZER, Hopeless, Quiz, ScriptedEngine
from tests.run.tiny import tiny_run

CLIENT = OpenAI(base_url="http://unused", api_key="unused", max_retries=0)
SETTINGS = AgentSettings(
    program="builtins:print",
    tasks="fractions:Fraction",
    tools=ToolSettings(shown="none", calls="json"),
)


def scripted(prompt: str, number: int, call: int) -> str:
    return f"turn {prompt.count('<|assistant|>')}"


def chat(access: ModelAccess, *messages: Any, **options: Any) -> Any:
    client = CLIENT.with_options(base_url=access.base_url, api_key=access.api_key)
    reply = client.chat.completions.create(model=access.model, messages=list(messages), **options)
    return reply.choices[0].message.model_dump(exclude_none=True)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def two_turns(task: AgentTask, access: ModelAccess) -> float:
    first = chat(access, *task.messages)
    second = chat(access, *task.messages, first, user("go on"))
    assert second["content"] == "turn 2"
    return float(task.data)


def play(
    program: Callable[..., Any],
    *,
    engine: Engine | None = None,
    tasks: Any = None,
    count: int = 1,
    group_size: int = 1,
    max_turns: int = 8,
    **changes: Any,
) -> list[Group]:
    source = tasks or Quiz()
    environment = AgentEnvironment(SETTINGS.model_copy(update=changes), program, source)
    try:
        return drive(
            play_groups(
                environment,
                engine or ScriptedEngine(scripted),
                TOKENIZER,
                make_tasks(source, Split.TRAIN, range(count)),
                group_size=group_size,
                sampling=Sampling(max_new_tokens=16),
                seed=0,
                max_turns=max_turns,
            )
        )
    finally:
        environment.close()


def test_calls_of_a_program_become_one_row_of_its_episode() -> None:
    groups = play(two_turns, count=2, group_size=3)

    assert [[t.reward for t in group.trajectories] for group in groups] == [[0.0] * 3, [1.0] * 3]
    advantages = [torch.tensor([1.0, 2.0, 3.0])] * 2
    batch = token_batch(groups, advantages, pad_token_id=TOKENIZER.pad_token_id)
    assert len(batch.tokens) == 6
    assert TOKENIZER.decode(batch.tokens[3]) == (
        "<|user|>q1<|assistant|>turn 1<|end|><|user|>go on<|assistant|>turn 2<|end|>"
    )
    learned = batch.tokens[3][batch.loss_mask[3]]
    assert TOKENIZER.decode(learned) == "turn 1<|end|>turn 2<|end|>"
    assert groups[1].trajectories[0].terminated
    assert [m.content for m in groups[1].trajectories[0].messages][-1] == "turn 2"


def test_coroutine_functions_run_concurrently_and_may_return_an_outcome() -> None:
    started: list[str] = []

    async def program(task: AgentTask, access: ModelAccess) -> Outcome:
        started.append(task.id)
        while len(started) < 8:
            await asyncio.sleep(0.01)
        async with AsyncOpenAI(base_url=access.base_url, api_key=access.api_key) as client:
            await client.chat.completions.create(model=access.model, messages=task.messages)
        return Outcome(
            reward=1.0, terminated=True, feedback="well done", reward_parts={"form": 0.5}
        )

    (group,) = play(program, group_size=8)

    assert [t.feedback for t in group.trajectories] == ["well done"] * 8
    assert group.trajectories[0].reward_parts == {"form": 0.5}


def test_a_program_may_post_its_reward() -> None:
    def program(task: AgentTask, access: ModelAccess) -> None:
        chat(access, *task.messages)
        path = access.base_url.removesuffix("/v1") + "/reward"
        headers = {"authorization": f"Bearer {access.api_key}"}
        assert httpx.post(path, json={"reward": 0.25}, headers=headers).status_code == 200
        assert httpx.post(path, json={"reward": 9}).status_code == 401

    (group,) = play(program)

    assert group.trajectories[0].reward == 0.25


AGENT = """
import json, os, sys, urllib.request

task = json.loads(sys.stdin.readline())


def post(url, body):
    headers = {
        "content-type": "application/json",
        "authorization": "Bearer " + os.environ["OPENAI_API_KEY"],
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))


url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
reply = post(url, {"model": os.environ["OPENAI_MODEL"], "messages": task["messages"]})
assert reply["choices"][0]["message"]["content"] == "turn 1"
if task["data"] == 0:
    print(0.5)
elif task["data"] == 1:
    post(os.environ["STEADYRL_REWARD_URL"], {"reward": 0.25})
elif task["data"] == 2:
    sys.exit("no such tool")
else:
    import time
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_command_is_a_program_too(tmp_path: Path) -> None:
    file = tmp_path / "my agent.py"
    file.write_text(AGENT)
    command = AgentSettings(
        program=shlex.join([sys.executable, "-S", str(file)]), tasks="builtins:dict"
    ).command

    groups = play(partial(run_command, command), count=4, timeout=3.0)

    episodes = [group.trajectories[0] for group in groups]
    assert [episode.reward for episode in episodes] == [0.5, 0.25, 0.0, 0.0]
    assert [episode.environment_failed for episode in episodes] == [False, False, True, True]
    assert "ended with status 1: no such tool" in episodes[2].truncation_reason
    assert "took more than 3 s" in episodes[3].truncation_reason
    assert all(len(episode.completions) == 1 for episode in episodes)


def fail_on_second(task: AgentTask, access: ModelAccess) -> Any:
    if task.data == 1:
        raise KeyError("limit")
    return two_turns(task, access)


def never(task: AgentTask, access: ModelAccess) -> Any:
    time.sleep(1.0)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            fail_on_second,
            "environment failed: KeyError: 'limit' (tests/gateway/test_agent",
        ),
        (never, "environment failed: AgentFailedError: the program took more than 0.3 s"),
        (lambda task, access: None, "AgentFailedError: the program neither returned a reward nor"),
        (lambda task, access: 1.0, "AgentFailedError: the program never called the model"),
        (lambda task, access: float("nan"), "ValueError: the reward is nan"),
        (lambda task, access: "good", "TypeError: the reward is 'good'"),
    ],
)
def test_an_episode_fails_with_the_reason(program: Callable[..., Any], reason: str) -> None:
    groups = play(program, count=2, timeout=0.3 if program is never else 60.0)

    failed = groups[1].trajectories[0]
    assert reason in failed.truncation_reason
    assert failed.environment_failed
    if program is fail_on_second:
        assert groups[0].trajectories[0].terminated


def test_a_task_that_cannot_be_made_fails_its_episodes() -> None:
    (group,) = play(two_turns, tasks=Hopeless())

    assert group.trajectories[0].environment_failed


def test_an_episode_is_truncated_after_its_calls() -> None:
    def program(task: AgentTask, access: ModelAccess) -> float:
        messages = list(task.messages)
        while True:
            messages += [chat(access, *messages), user("go on")]

    (group,) = play(program, max_turns=3)

    (episode,) = group.trajectories
    assert episode.truncation_reason == "not over after 3 calls"
    assert len(episode.completions) == 3
    assert episode.was_played


def test_an_episode_is_truncated_without_room() -> None:
    engine = ScriptedEngine(scripted, max_positions=40)

    def program(task: AgentTask, access: ModelAccess) -> float:
        first = chat(access, *task.messages)
        chat(access, *task.messages, first, user("x" * 30))
        return 1.0

    (group,) = play(program, engine=engine)

    assert "leaves no room to answer" in group.trajectories[0].truncation_reason


def test_sub_agents_and_branches_are_rows_of_the_same_episode() -> None:
    def program(task: AgentTask, access: ModelAccess) -> float:
        first = chat(access, *task.messages)
        helper = chat(access, user("help"))
        chat(access, *task.messages, first, user(helper["content"]))
        chat(access, *task.messages)
        return 1.0

    groups = play(program)

    batch = token_batch(groups, [torch.ones(1)], pad_token_id=TOKENIZER.pad_token_id)
    assert batch.response_ids.tolist() == [0, 0, 0]
    assert batch.rollout_routing is not None
    assert int(batch.loss_mask.sum()) == sum(
        len(c.token_ids) for c in groups[0].trajectories[0].completions
    )


def test_a_late_call_of_an_ended_episode_is_refused() -> None:
    codes: list[int] = []
    ended = threading.Event()

    def program(task: AgentTask, access: ModelAccess) -> float:
        if task.data == 0:
            chat(access, *task.messages)
            late.append(access)
            ended.set()
            return 1.0
        assert ended.wait(10)
        time.sleep(0.2)
        headers = {"authorization": f"Bearer {late[0].api_key}"}
        codes.append(httpx.get(f"{late[0].base_url}/models", headers=headers).status_code)
        chat(access, *task.messages)
        return 1.0

    late: list[ModelAccess] = []
    groups = play(program, count=2)

    assert codes == [404]
    assert len(groups[0].trajectories[0].completions) == 1


def test_a_failure_of_the_engine_ends_the_rollout() -> None:
    class Broken(ScriptedEngine):
        def answer(self, requests: Any) -> Any:
            raise RuntimeError("out of memory")

    def stubborn(task: AgentTask, access: ModelAccess) -> float:
        try:
            chat(access, *task.messages)
        except Exception:
            time.sleep(0.3)
        return 1.0

    with pytest.raises(RuntimeError, match="out of memory"):
        play(stubborn, engine=Broken(scripted), group_size=4)


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match=r"environment.program is 'my_agent:solve': No module"):
        AgentSettings(program="my_agent:solve", tasks="builtins:dict").make()
    with pytest.raises(UserError, match=r"fractions:Fraction returned a Fraction, which has"):
        SETTINGS.make()
    erl = ExperientialSettings(prompts=2, group_size=2)
    with pytest.raises(ValidationError, match="runs agent programs, which cannot be given"):
        tiny_run(environment=SETTINGS, algorithm=erl, cold_start=None)
