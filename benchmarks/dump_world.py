"""A small world whose dumps are real: a Mixture-of-Experts model, earlier weights, its engines.

cold start  ->  reinforcement        weights of an engine that was never synced; the trainer's
                  |  bfloat16, fp8    sound engines
                  |  int4             a coarse engine
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from steadyrl.base.concurrency import concurrently
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.protocol import Split
from steadyrl.lab.study import changed
from steadyrl.lab.world import world
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy, TokenScores
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.completion import Completion
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.training.checkpoint import whole_checkpoints

LEARNING_RATE = 1e-3
"""Of the reinforcement: high, so that a few steps move the weights as many would."""

POOL, PROMPTS, GROUP, NEW_TOKENS = 512, 24, 8, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A response of `R` tokens, as engine and trainer recorded it."""

    prompt: tuple[int, ...]
    """What the engine was fed."""

    trainer_prompt: tuple[int, ...]
    """What the trainer was fed."""

    response: tuple[int, ...]
    mask: np.ndarray
    """The tokens of the response that count."""

    rollout_logprobs: np.ndarray
    trainer_logprobs: np.ndarray
    entropy: np.ndarray
    rollout_experts: np.ndarray | None
    """Of the engine's prompt and response but the last token: (tokens - 1, layers, experts)."""

    trainer_experts: np.ndarray | None


Samples = list[Sample]


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """The models of a world."""

    trainer: Policy
    engines: Mapping[str, Engine]
    """By name: `bfloat16`, `fp8` and `int4` have the trainer's weights, `stale` earlier ones."""

    scorer: Policy
    """The engine `bfloat16`, as a model that scores whole rows."""

    prompts: Sequence[tuple[int, ...]]


def make_world(folder: Path, seed: int, *, cold_start: int = 250, steps: int = 6) -> World:
    """A world whose model has learned for `cold_start` steps and then by reinforcement."""
    config = changed(
        world(Numerics.FP8, gradient_steps=max(1, steps), learning_rate=LEARNING_RATE),
        seed=seed,
        environment=ArithmeticSettings(operands=3).model_dump(),
        steps=steps,
        evaluate_every=max(1, steps),
    )
    assert config.cold_start is not None
    shorter = {**config.cold_start.model_dump(), "steps": cold_start, "batch_size": 32}
    quick = {**config.evaluation.model_dump(), "tasks": 4, "samples": 1}
    journal = {**config.journal.model_dump(), "keep_checkpoints": 8}
    config = changed(config, cold_start=shorter, evaluation=quick, journal=journal)
    checkpoints = whole_checkpoints(start_run(config, folder))
    begin = next(path for path in reversed(checkpoints) if not path.name.startswith("rl-"))
    return loaded_world(config, begin, checkpoints[-1])


def loaded_world(config: RunConfig, begin: Path, end: Path) -> World:
    """The world of two checkpoints of a run."""

    def assembly(numerics: Numerics, checkpoint: Path) -> Assembly:
        made = changed(
            config,
            model=Pretrained(path=str(checkpoint)).model_dump(),
            cold_start=None,
            engine=LocalEngineSettings(numerics=numerics).model_dump(),
        )
        parts = Assembly.of(made)
        drive(parts.engine.sync(parts.learner.publish()))
        return parts

    sound = assembly(Numerics.BFLOAT16, end)
    return World(
        trainer=sound.learner.policy,
        engines={
            "bfloat16": sound.engine,
            "fp8": assembly(Numerics.FP8, end).engine,
            "int4": assembly(Numerics.INT4, end).engine,
            "stale": assembly(Numerics.BFLOAT16, begin).engine,
        },
        scorer=engine_policy(sound.learner.policy, Numerics.BFLOAT16, WeightScaling.CHANNEL),
        prompts=_prompts(sound),
    )


def _prompts(assembly: Assembly) -> list[tuple[int, ...]]:
    tasks = [assembly.environment.task(Split.TRAIN, number) for number in range(POOL)]
    conversations = [task.prompt for task in tasks]
    encoded = encode_prompts(assembly.tokenizer, conversations, [()] * len(tasks))
    return [tuple(prompt.tolist()) for prompt in encoded]


def sample(
    world: World,
    engine: str,
    seed: int,
    sampling: Sampling | None = None,
    *,
    alter: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple,
    trainer_alter: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
    trainer_temperature: float = 1.0,
    raw: bool = False,
    prompts: int = PROMPTS,
) -> Samples:
    """Answers of an engine, scored by the trainer.

    Args:
        sampling: That of the engine.
        raw: Whether the engine reports log-probabilities before temperature and top-p.
        alter: Prompts that the engine is fed.
        trainer_alter: Prompts that the trainer is fed; None: those of the engine.
    """
    first = seed * prompts % max(1, len(world.prompts) - prompts)
    chosen = world.prompts[first : first + prompts]
    sampling = sampling or Sampling(max_new_tokens=NEW_TOKENS)
    requests = [
        Request(
            prompt_ids=torch.tensor(alter(prompt)),
            num_completions=GROUP,
            seed=1000 * seed + number,
            sampling=sampling,
        )
        for number, prompt in enumerate(chosen)
    ]
    answers = drive(concurrently(world.engines[engine].generate(request) for request in requests))
    fed = [(trainer_alter or alter)(prompt) for prompt in chosen]
    pairs = [
        (fed[number], completion)
        for number, completions in enumerate(answers)
        for completion in completions
    ]
    found = scored(world.trainer, pairs, trainer_temperature)
    if not raw:
        return found
    before = scored(world.scorer, [(alter(prompt), answer) for prompt, answer in pairs])
    return [
        replace(one, rollout_logprobs=other.trainer_logprobs)
        for one, other in zip(found, before, strict=True)
    ]


@torch.no_grad()
def scored(
    policy: Policy,
    pairs: Sequence[tuple[tuple[int, ...], Completion]],
    temperature: float = 1.0,
) -> Samples:
    """Completions with the trainer's scores, under prompts of the trainer's own."""
    rows = [torch.tensor([*prompt, *completion.token_ids.tolist()]) for prompt, completion in pairs]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    attention = torch.arange(tokens.shape[1]) < torch.tensor([[len(row)] for row in rows])
    starts = torch.tensor([[len(prompt)] for prompt, _ in pairs])
    mask = attention & (torch.arange(tokens.shape[1]) >= starts)
    scores = policy.score(
        tokens,
        attention,
        mask,
        temperature=temperature,
        record_routing=policy.hook is not None,
    )
    return [
        _sample(prompt, completion, scores, row) for row, (prompt, completion) in enumerate(pairs)
    ]


def _sample(
    prompt: tuple[int, ...], completion: Completion, scores: TokenScores, row: int
) -> Sample:
    response = tuple(completion.token_ids.tolist())
    span = slice(len(prompt), len(prompt) + len(response))
    routes = scores.routing
    engine = completion.routing
    return Sample(
        prompt=tuple(completion.prompt_ids.tolist()),
        trainer_prompt=prompt,
        response=response,
        mask=np.ones(len(response), dtype=bool),
        rollout_logprobs=completion.logprobs.double().numpy(),
        trainer_logprobs=scores.logprobs[row, span].double().numpy(),
        entropy=scores.entropy[row, span].double().numpy(),
        rollout_experts=None if engine is None else torch.cat(engine.experts[0]).numpy(),
        trainer_experts=None if routes is None else torch.cat(routes.experts[row]).numpy()[:-1],
    )
