"""Rollout: our engine against Transformers and vLLM, tokens really produced per second."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, cycle
from typing import Any

from benchmarks.performance.context import Context
from benchmarks.performance.demo_world import demo_twin
from benchmarks.performance.peers.transformers_generate import (
    generate,
    generate_continuously,
    generation_config,
)
from benchmarks.performance.peers.vllm import VLLM
from benchmarks.performance.records import Measured, Row, attempt
from benchmarks.performance.timing import (
    Sample,
    Timed,
    interleaved,
    rate_ratio,
    summary,
    timed,
)
from benchmarks.performance.workloads import small_and_large
from benchmarks.performance.worlds import World
from transformers import GenerationConfig, PreTrainedModel

from steadyrl.engines.driver import generate_all

ROUNDS = {"W1": 9, "W2": 2, "W3": 3}
CONTINUOUS_ROUNDS = {"W1": 3, "W2": 1, "W3": 3}
VLLM_ROUNDS = {"W1": 9, "W2": 2}

PARTS = {"W1": (8, 4, 2, 1), "W2": (8, 4), "W3": (4, 2, 1)}
"""Of the prompts, in one batch of `generate`. Larger batches than a quarter of W2 take minutes."""


def rows(context: Context) -> Iterator[Row]:
    """W1 and W2 against every peer that a CPU can run."""
    w1, large = small_and_large(context)
    twin = demo_twin(context.work, context.device)
    yield from transformers_rows(w1, context)
    yield from vllm_rows(twin, context, note="vLLM refuses heads of 16: both on 2 heads of 32")
    yield from transformers_rows(large, context)
    yield from vllm_rows(large, context)


def transformers_rows(world: World, context: Context) -> Iterator[Row]:
    """One workload against `generate` and against continuous batching."""
    ours, rounds = OurRollout(world), context.rounds(ROUNDS[world.name])
    key, what = f"rollout-{world.name.lower()}", f"rollout, {world.name}, against Transformers"
    yield attempt(
        f"{key}-generate", f"{what} generate", partial(_against_generate, world, ours, rounds)
    )
    yield attempt(
        f"{key}-continuous",
        f"{what} continuous batching",
        partial(_against_continuous, world, ours, context.rounds(CONTINUOUS_ROUNDS[world.name])),
    )


def vllm_rows(world: World, context: Context, note: str = "") -> Iterator[Row]:
    """One workload against vLLM: in float32 as we are and, W2 for one round, in bfloat16."""
    ours, rounds = OurRollout(world), context.rounds(VLLM_ROUNDS[world.name])
    against = partial(against_vllm, world, ours, context, note=note)
    key, what = f"rollout-{world.name.lower()}-vllm", f"rollout, {world.name}, against vLLM on CPU"
    yield attempt(key, what, partial(against, rounds))
    if world.name == "W2":
        bfloat16 = partial(against, 1, dtype="bfloat16")
        yield attempt(f"{key}-bfloat16", f"{what} in bfloat16", bfloat16)


class OurRollout:
    """Rollouts of our engine, each with new random numbers."""

    def __init__(self, world: World, **engine: Any) -> None:
        self._world = world
        self._policy = world.policy()
        self._engine = world.engine(self._policy, **engine)
        self._seeds = count()
        self.lengths: list[int] = []

    def __call__(self) -> Sample:
        """One timed rollout."""
        requests = self._world.requests(self._policy.tokenizer, next(self._seeds))

        def work() -> int:
            completions = generate_all(self._engine, requests)
            self.lengths = [len(c.token_ids) for group in completions for c in group]
            return sum(self.lengths)

        return timed(work, self._world.device)

    def describe(self) -> dict[str, Any]:
        """The workload, with the lengths of the last rollout."""
        return self._world.describe(self._policy, self.lengths)


def _against_generate(world: World, ours: OurRollout, rounds: int) -> Measured:
    """Fixed batches of the size that a sweep finds fastest.

    The time of `generate` on several batches is the sum of theirs, so a turn is one batch, and
    the turns go through the prompts.
    """
    model = world.model()
    sizes = [max(1, world.prompts // parts) for parts in PARTS[world.name]]
    sweep = {size: next(_generate_turns(world, model, size))() for size in sizes}
    best = max(sizes, key=lambda size: sweep[size].tokens / sweep[size].seconds)
    turns = _generate_turns(world, model, best)
    samples = interleaved({"ours": ours, "peer": lambda: next(turns)()}, rounds=rounds, warmups=0)
    speeds = {
        f"{size * world.group_size} sequences": sample.tokens / sample.seconds
        for size, sample in sweep.items()
    }
    return _measured(
        samples,
        details={"peer_tokens_per_second_by_batch": speeds, "workload": ours.describe()},
        note=f"its fastest batch of a sweep: {best * world.group_size} sequences",
    )


def _generate_turns(world: World, model: PreTrainedModel, size: int) -> Iterator[Timed]:
    """Timed calls of `generate`, each on the next `size` prompts."""
    settings = _generation_config(world)
    prompts = world.prompt_ids(world.tokenizer())
    for start in cycle(range(0, len(prompts), size)):
        chosen = prompts[start : start + size]
        yield partial(timed, partial(_tokens, generate, model, chosen, settings), world.device)


def _against_continuous(world: World, ours: OurRollout, rounds: int) -> Measured:
    prompts = world.prompt_ids(world.tokenizer())
    work = partial(
        _tokens, generate_continuously, world.model(), prompts, _generation_config(world)
    )
    peer = partial(timed, work, world.device)
    return _measured(interleaved({"ours": ours, "peer": peer}, rounds=rounds, warmups=0))


def against_vllm(
    world: World,
    ours: OurRollout,
    context: Context,
    rounds: int,
    *,
    note: str = "",
    dtype: str = "float32",
) -> Measured:
    """Ours against vLLM in a process of its own, which times itself while ours waits."""
    with VLLM(
        context.vllm_python,
        world.checkpoint,
        dtype=dtype,
        max_sequences=world.prompts * world.group_size,
        log=context.work / "vllm.log",
    ) as vllm:
        peer = partial(
            vllm.generate,
            world.prompt_ids(world.tokenizer()),
            copies=world.group_size,
            max_new_tokens=world.max_new_tokens,
            end_token_id=world.tokenizer().eos_token_id,
        )
        competitors = {"ours": ours, "peer": peer}
        warmups = 1 if world.name == "W1" else 0
        samples = interleaved(competitors, rounds=rounds, warmups=warmups)
    return _measured(samples, note=note)


def _generation_config(world: World) -> GenerationConfig:
    tokenizer = world.tokenizer()
    return generation_config(
        tokenizer.eos_token_id, tokenizer.pad_token_id, world.max_new_tokens, world.group_size
    )


def _tokens(write: Callable[..., list[int]], *arguments: Any) -> int:
    """Tokens of all answers that `write` gives the lengths of."""
    return sum(write(*arguments))


def _measured(
    samples: Mapping[str, Sequence[Sample]],
    details: Mapping[str, Any] | None = None,
    note: str = "",
) -> Measured:
    ours, peer = samples["ours"], samples["peer"]
    by_processor = rate_ratio(ours, peer, clock="processor_seconds")
    both = {"ours": summary(ours), "peer": summary(peer), "by_processor_time": by_processor.median}
    return Measured(
        value=rate_ratio(ours, peer),
        unit="x the peer's tokens/s",
        details=both | dict(details or {}),
        note=note,
    )
