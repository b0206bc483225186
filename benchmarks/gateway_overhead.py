"""What the gateway costs a rollout: the same episodes as an environment and as an agent program.

    python benchmarks/gateway_overhead.py --out benchmarks/results/gateway_overhead.json

64 episodes at the same time, each with the same turns and the same replies to them, with a real
model and with a tiny one. Three ways take turns at going first:

environment    the rollout calls `respond`, without HTTP
bare           an agent program that posts JSON with an HTTP client
official       an agent program with OpenAI's client

Processor time of the whole process per sampled token, clients included, so that a busy machine
does not count. The ratio is taken round by round.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch
from openai import AsyncOpenAI
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


def bare(client: httpx.AsyncClient) -> Callable[..., Any]:
    """The program with an HTTP client."""

    async def solve(task: AgentTask, access: ModelAccess) -> float:
        said: list[Any] = list(task.messages)
        headers = {"authorization": f"Bearer {access.api_key}"}
        for _ in range(task.data):
            body = {"model": access.model, "messages": said}
            path = f"{access.base_url}/chat/completions"
            reply = await client.post(path, json=body, headers=headers)
            said += [reply.json()["choices"][0]["message"], {"role": "user", "content": "Go on."}]
        return 0.0

    return solve


def official(client: AsyncOpenAI) -> Callable[..., Any]:
    """The program with OpenAI's client."""

    async def solve(task: AgentTask, access: ModelAccess) -> float:
        own = client.with_options(base_url=access.base_url, api_key=access.api_key)
        said: list[Any] = list(task.messages)
        for _ in range(task.data):
            reply = await own.chat.completions.create(model=access.model, messages=said)
            said += [reply.choices[0].message, {"role": "user", "content": "Go on."}]
        return 0.0

    return solve


def cost(
    environment: Environment,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    options: Options,
    number: int,
) -> float:
    """Processor seconds per sampled token of one rollout."""
    tasks = [environment.task(Split.TRAIN, index) for index in range(options.episodes)]
    started = time.process_time()
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
    spent = time.process_time() - started
    episodes = [episode for group in groups for episode in group.trajectories]
    assert all(len(episode.completions) == options.turns for episode in episodes)
    return spent / sum(len(c.token_ids) for episode in episodes for c in episode.completions)


def measure(model: ModelSettings, options: Options) -> dict[str, object]:
    """Costs with one model."""
    tokenizer = load_tokenizer(model)
    policy = Policy(load_model(model, tokenizer=tokenizer, seed=0), tokenizer)
    engine = FixedTurns(LocalEngineSettings().make(EngineContext(policy=policy, seed=0)))
    settings = AgentSettings(program="builtins:print", tasks="fractions:Fraction")
    stories = Stories(options.turns)
    limits = httpx.Limits(max_connections=None)
    programs = {
        "bare": bare(httpx.AsyncClient(timeout=600, limits=limits)),
        "official": official(AsyncOpenAI(base_url="http://unused", api_key="none", timeout=600)),
    }
    ways: dict[str, Any] = {"environment": stories} | {
        name: AgentEnvironment(settings, program, stories) for name, program in programs.items()
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, options.rounds):  # one round warms up
        names = list(ways)[number % 3 :] + list(ways)[: number % 3]
        for name in names:
            spent = cost(ways[name], engine, tokenizer, options, number + 1)
            if number >= 0:
                costs[name].append(spent)
    for name in programs:
        ways[name].close()
    return {"microseconds_per_token": _spread(costs, 1e6), "overhead": _overheads(costs)}


def _spread(costs: dict[str, list[float]], scale: float) -> dict[str, list[float]]:
    """Smallest, median and largest cost of each way."""
    return {
        name: [round(scale * f(each), 1) for f in (min, statistics.median, max)]
        for name, each in costs.items()
    }


def _overheads(costs: dict[str, list[float]]) -> dict[str, list[float]]:
    """Smallest, median and largest of the costs over those of the environment, less 1."""
    found = {}
    for name in ("bare", "official"):
        pairs = zip(costs[name], costs["environment"], strict=True)
        ratios = [with_gateway / without - 1 for with_gateway, without in pairs]
        found[name] = [round(f(ratios), 4) for f in (min, statistics.median, max)]
    return found


def main(options: Options) -> None:
    """Prints the numbers and writes them."""
    torch.set_num_threads(1)
    models: dict[str, ModelSettings] = {"tiny": SmallMoE(max_positions=1024)}
    if (options.model / "config.json").is_file():
        models["SmolLM2-135M"] = Pretrained(path=str(options.model))
    found = {**manifest(options.seed), "options": options.model_dump(mode="json")}
    found["models"] = {name: measure(model, options) for name, model in models.items()}
    print(as_json(found["models"]))
    if options.out is not None:
        write_atomically(options.out, as_json(found))


if __name__ == "__main__":
    main(script_options(Options))
