"""What the gateway costs a rollout: the same episodes as an environment and as an agent program.

    python benchmarks/gateway_overhead.py --out benchmarks/results/gateway_overhead.json

64 episodes at the same time, each with the same turns and the same replies to them, with a real
model and with a tiny one. Three ways take turns at going first:

environment    the rollout calls `respond`, without HTTP
bare           an agent program that posts JSON with an HTTP client
official       an agent program with OpenAI's client

Processor time per sampled token, so that a busy machine does not count, of the thread that steps
the engine and answers HTTP, and of the whole process, which has the clients too. On machines of
their own, or with cores to spare, clients cost the rollout nothing. Ratios and differences are
taken round by round.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_settings import EngineContext
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.environments.agent_access import AgentTask, ModelAccess
from steadyrl.environments.agents import AgentEnvironment, AgentSettings
from steadyrl.environments.protocol import Environment, Outcome, Split, Task
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import ModelSettings, Pretrained, SmallMoE
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.run_folder import write_atomically
from steadyrl.records.weight_source import WeightSource
from steadyrl.rollout.episodes import play_groups
from steadyrl.run.manifest import as_json, manifest

TIMEOUT = 600
"""Seconds that clients wait for an answer."""

PARTS = ("server", "all")
NEXT = Message(role="user", content="Go on.")


class Options(Settings):
    """Measure the cost of the gateway."""

    model: Path = Path("models/smollm2")
    """Checkpoint of the real model, left out if it is missing."""

    episodes: int = 64
    """Episodes at the same time."""

    turns: int = 3
    """Turns of an episode."""

    tokens: int = 48
    """Maximum tokens of a turn."""

    rounds: int = 5
    """Rounds that count, of all three ways each."""

    seed: int = 0
    """Seed of the sampling."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


class FixedTurns:
    """An engine whose turns end when their tokens are used up, so that episodes go on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.capabilities = engine.capabilities

    @property
    def policy_version(self) -> int:
        """Version of the weights."""
        return self._engine.policy_version

    async def generate(self, request: Request) -> list[Completion]:
        """Completions that all stopped."""
        completions = await self._engine.generate(request)
        return [replace(each, finish_reason=FinishReason.STOP) for each in completions]

    async def score(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        """Scores of the engine."""
        return await self._engine.score(sequences)

    async def sync(self, weights: WeightSource) -> None:
        """Syncs the engine."""
        await self._engine.sync(weights)


class Stories:
    """Episodes with a fixed number of turns, whatever is said."""

    def __init__(self, turns: int) -> None:
        self._turns = turns

    def task(self, split: Split, index: int) -> Task:
        """A story to tell."""
        prompt = (Message(role="user", content=f"Tell the story number {index} of a journey."),)
        return Task(id=f"stories/{index}", prompt=prompt, payload=self._turns)

    def start(self, task: Task) -> "Story":
        """A new episode."""
        return Story(self._turns)


class Story:
    """An episode."""

    def __init__(self, turns: int) -> None:
        self._left = turns

    def respond(self, text: str) -> Outcome:
        """The next turn, or the end."""
        self._left -= 1
        over = self._left == 0
        return Outcome(reward=0.0, terminated=over, observation=() if over else (NEXT,))


async def bare(task: AgentTask, access: ModelAccess) -> float:
    """The program with an HTTP client."""
    said: list[Any] = list(task.messages)
    headers = {"authorization": f"Bearer {access.api_key}"}
    async with httpx.AsyncClient(timeout=TIMEOUT, headers=headers, verify=False) as client:
        for _ in range(task.data):
            body = {"model": access.model, "messages": said}
            reply = await client.post(f"{access.base_url}/chat/completions", json=body)
            said += [reply.json()["choices"][0]["message"], {"role": "user", "content": "Go on."}]
    return 0.0


async def official(task: AgentTask, access: ModelAccess) -> float:
    """The program with OpenAI's client."""
    said: list[Any] = list(task.messages)
    http = DefaultAsyncHttpxClient(timeout=TIMEOUT, verify=False)
    async with AsyncOpenAI(
        base_url=access.base_url, api_key=access.api_key, http_client=http
    ) as client:
        for _ in range(task.data):
            reply = await client.chat.completions.create(model=access.model, messages=said)
            said += [reply.choices[0].message, {"role": "user", "content": "Go on."}]
    return 0.0


PROGRAMS: dict[str, Callable[..., Any]] = {"bare": bare, "official": official}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Processor seconds per sampled token of a rollout."""

    all: float
    """Of the process."""

    server: float
    """Of the thread that steps the engine and answers HTTP."""

    tokens_per_call: float


def cost(
    environment: Environment,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    options: Options,
    number: int,
) -> Cost:
    """The cost of one rollout."""
    tasks = [environment.task(Split.TRAIN, index) for index in range(options.episodes)]
    process, thread = time.process_time(), time.thread_time()
    groups = drive(
        play_groups(
            environment,
            engine,
            tokenizer,
            tasks,
            group_size=1,
            sampling=Sampling(max_new_tokens=options.tokens),
            seed=options.seed + number,
            max_turns=options.turns,
        )
    )
    process, thread = time.process_time() - process, time.thread_time() - thread
    episodes = [episode for group in groups for episode in group.trajectories]
    assert all(len(episode.completions) == options.turns for episode in episodes)
    tokens = sum(len(c.token_ids) for episode in episodes for c in episode.completions)
    calls = options.episodes * options.turns
    return Cost(all=process / tokens, server=thread / tokens, tokens_per_call=tokens / calls)


def measure(model: ModelSettings, options: Options) -> dict[str, object]:
    """Costs with one model."""
    tokenizer = load_tokenizer(model)
    policy = Policy(load_model(model, tokenizer=tokenizer, seed=0), tokenizer)
    engine = FixedTurns(LocalEngineSettings().make(EngineContext(policy=policy, seed=0)))
    settings = AgentSettings(program="builtins:print", tasks="fractions:Fraction")
    stories = Stories(options.turns)
    ways: dict[str, Any] = {"environment": stories} | {
        name: AgentEnvironment(settings, program, stories) for name, program in PROGRAMS.items()
    }
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for number in range(-1, options.rounds):  # one round warms up
        names = list(ways)[number % 3 :] + list(ways)[: number % 3]
        for name in names:
            spent = cost(ways[name], engine, tokenizer, options, number + 1)
            if number >= 0:
                costs[name].append(spent)
    for name in PROGRAMS:
        ways[name].close()
    return {
        "tokens_per_call": round(statistics.mean(c.tokens_per_call for c in costs["bare"]), 1),
        "microseconds_per_token": _costs(costs),
        "overhead": _differences(costs, lambda found, without: found / without - 1, digits=4),
        "milliseconds_per_call": _call_costs(costs),
    }


def _costs(costs: dict[str, list[Cost]]) -> dict[str, dict[str, list[float]]]:
    """Smallest, median and largest cost of each way."""
    return {
        part: {
            name: _spread([1e6 * getattr(c, part) for c in each], 1) for name, each in costs.items()
        }
        for part in PARTS
    }


def _differences(
    costs: dict[str, list[Cost]], compare: Callable[[float, float], float], *, digits: int
) -> dict[str, dict[str, list[float]]]:
    """Smallest, median and largest result of `compare` for each way and the environment."""
    return {
        part: {
            name: _spread(
                [
                    compare(getattr(found, part), getattr(without, part))
                    for found, without in zip(costs[name], costs["environment"], strict=True)
                ],
                digits,
            )
            for name in PROGRAMS
        }
        for part in PARTS
    }


def _call_costs(costs: dict[str, list[Cost]]) -> dict[str, dict[str, list[float]]]:
    """What a call costs more than in the environment."""
    tokens = statistics.mean(c.tokens_per_call for c in costs["bare"])
    return _differences(costs, lambda found, without: 1e3 * tokens * (found - without), digits=2)


def _spread(values: list[float], digits: int) -> list[float]:
    """Smallest, median and largest."""
    return [round(f(values), digits) for f in (min, statistics.median, max)]


def http_parser() -> str:
    """The parser that uvicorn finds."""
    return "h11" if find_spec("httptools") is None else "httptools"


def main(options: Options) -> None:
    """Prints the numbers and writes them."""
    torch.set_num_threads(1)
    models: dict[str, ModelSettings] = {"tiny": SmallMoE(max_positions=1024)}
    if (options.model / "config.json").is_file():
        models["SmolLM2-135M"] = Pretrained(path=str(options.model))
    given = options.model_dump(mode="json", exclude={"model", "out"})
    found = {**manifest(options.seed), "options": given, "http": http_parser()}
    found["models"] = {name: measure(model, options) for name, model in models.items()}
    print(as_json(found["models"]))
    if options.out is not None:
        write_atomically(options.out, as_json(found))


if __name__ == "__main__":
    main(script_options(Options))
