"""Faults of dumps: in the engine that sampled them, or in the program that wrote them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from dump_world import NEW_TOKENS, Sample, Samples, World, sample

from steadyrl.analysis.dumps import DumpCause
from steadyrl.engines.protocol import Sampling

Make = Callable[[World, int], Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A way to sample and write, and what a comparison should call it."""

    name: str
    make: Make
    cause: DumpCause | None = None
    """None for a sound dump."""

    cause_of_one_side: DumpCause | None = None
    """The cause in formats with one prompt for both sides, where they show less; None: the same."""

    alone: Make | None = None
    """The same fault in formats with one prompt for both sides, if it is another sample there."""

    needs_routes: bool = False
    """Whether a format must record the engine's routes for the fault to be in the dump at all."""

    def expected(self, *, both_sides: bool) -> DumpCause | None:
        """The cause that a comparison should name; None for a sound dump."""
        return self.cause if both_sides else self.cause_of_one_side or self.cause


@lru_cache(maxsize=8)
def sound_samples(world: World, engine: str, seed: int) -> Samples:
    """Answers of an engine as they are, which several faults of writing begin with."""
    return sample(world, engine, seed)


def _sound(engine: str) -> Make:
    return lambda world, seed: sound_samples(world, engine, seed)


def _sampled(temperature: float = 1.0, *, top_p: float = 1.0, raw: bool = False) -> Make:
    settings = Sampling(max_new_tokens=NEW_TOKENS, temperature=temperature, top_p=top_p)
    return lambda world, seed: sample(world, "bfloat16", seed, settings, raw=raw)


def _temperature(world: World, seed: int) -> Samples:
    return _sampled((0.7, 1.3)[seed % 2])(world, seed)


def _temperature_once(world: World, seed: int) -> Samples:
    """The trainer divides by the temperature; the engine's log-probabilities are without it."""
    temperature = (0.7, 1.3)[seed % 2]
    settings = Sampling(max_new_tokens=NEW_TOKENS, temperature=temperature)
    return sample(world, "bfloat16", seed, settings, raw=True, trainer_temperature=temperature)


def _doubled(prompt: tuple[int, ...]) -> tuple[int, ...]:
    return (prompt[0], *prompt)


def _bos(world: World, seed: int) -> Samples:
    return sample(world, "bfloat16", seed, alter=_doubled, trainer_alter=tuple)


def _bos_on_both_sides(world: World, seed: int) -> Samples:
    """The recorded tokens have two, and the trainer is fed what is recorded."""
    return sample(world, "bfloat16", seed, alter=_doubled)


def _template(world: World, seed: int) -> Samples:
    """The engine's template has no space for the last token before the answer."""
    return sample(
        world,
        "bfloat16",
        seed,
        alter=lambda prompt: (*prompt[:-1], prompt[0], prompt[-1]),
        trainer_alter=tuple,
    )


def _written(change: Callable[[Sample, int], Sample], engine: str = "bfloat16") -> Make:
    """Sound samples, changed one by one as they are written; the number is the row's."""

    def make(world: World, seed: int) -> Samples:
        return [
            change(one, number) for number, one in enumerate(sound_samples(world, engine, seed))
        ]

    return make


def _shifted_routes(one: Sample, _: int) -> Sample:
    assert one.rollout_experts is not None
    return replace(one, rollout_experts=np.roll(one.rollout_experts, 1, axis=0))


def _overflow(one: Sample, number: int) -> Sample:
    """Logits beyond 65,504 in float16: their log-probabilities are NaN."""
    values = one.rollout_logprobs.copy()
    if number % 16 == 0:
        values[number % len(values)] = np.nan
    return replace(one, rollout_logprobs=values)


def _saturated(one: Sample, _: int) -> Sample:
    return replace(one, rollout_logprobs=np.maximum(one.rollout_logprobs, -2.5))


def _padding(world: World, seed: int) -> Samples:
    """Responses padded to the longest, and the padding scored by the trainer and counted."""
    sound = sound_samples(world, "bfloat16", seed)
    longest = max(len(one.response) for one in sound)
    generator = np.random.default_rng(seed)

    def padded(one: Sample) -> Sample:
        more = longest - len(one.response)
        return replace(
            one,
            response=(*one.response, *(0,) * more),
            mask=np.ones(longest, dtype=bool),
            rollout_logprobs=np.pad(one.rollout_logprobs, (0, more)),
            trainer_logprobs=np.append(one.trainer_logprobs, -generator.gamma(4.0, 2.0, more)),
            entropy=np.append(one.entropy, generator.gamma(2.0, 0.5, more)),
            rollout_experts=_longer(one.rollout_experts, more),
            trainer_experts=_longer(one.trainer_experts, more),
        )

    return [padded(one) for one in sound]


def _longer(experts: np.ndarray | None, more: int) -> np.ndarray | None:
    return None if experts is None else np.pad(experts, ((0, more), (0, 0), (0, 0)), mode="edge")


def _mask(world: World, seed: int) -> Samples:
    def slipped(one: Sample, _: int) -> Sample:
        mask = one.mask.copy()
        mask[0 if seed % 2 else -1] = False
        return replace(one, mask=mask)

    return _written(slipped)(world, seed)


def _sum(one: Sample, _: int) -> Sample:
    total = np.full_like(one.rollout_logprobs, one.rollout_logprobs.sum())
    return replace(one, rollout_logprobs=total)


def _divided(one: Sample, _: int) -> Sample:
    return replace(one, trainer_logprobs=one.trainer_logprobs / len(one.response))


def _base_2(one: Sample, _: int) -> Sample:
    return replace(one, rollout_logprobs=one.rollout_logprobs / np.log(2))


def _next_token(one: Sample, _: int) -> Sample:
    return replace(one, rollout_logprobs=np.append(one.rollout_logprobs[1:], 0.0))


def _permuted(world: World, seed: int) -> Samples:
    """The engine's log-probabilities in another order than the rows, cut or filled to fit."""
    sound = sound_samples(world, "bfloat16", seed)
    order = np.random.default_rng(seed).permutation(len(sound))

    def of(one: Sample, other: Sample) -> Sample:
        values = other.rollout_logprobs[: len(one.response)]
        more = len(one.response) - len(values)
        return replace(one, rollout_logprobs=np.pad(values, (0, more)))

    return [of(one, sound[place]) for one, place in zip(sound, order, strict=True)]


def _as_float16(one: Sample, _: int) -> Sample:
    return replace(
        one,
        rollout_logprobs=one.rollout_logprobs.astype(np.float16).astype(float),
        trainer_logprobs=one.trainer_logprobs.astype(np.float16).astype(float),
    )


SOUND = (
    Case(name="sound: bfloat16 engine", make=_sound("bfloat16")),
    Case(name="sound: FP8 engine", make=_sound("fp8")),
    Case(name="sound: 4-bit engine", make=_sound("int4")),
    Case(name="sound: dump in float16", make=_written(_as_float16, "fp8")),
)

FAULTY = (
    Case(name="stale weights", make=_sound("stale"), cause=DumpCause.STALE),
    Case(name="temperature in the engine alone", make=_temperature, cause=DumpCause.TEMPERATURE),
    Case(
        name="temperature in the trainer alone",
        make=_temperature_once,
        cause=DumpCause.TEMPERATURE,
    ),
    Case(name="top-p not reported", make=_sampled(top_p=0.7, raw=True), cause=DumpCause.SAMPLING),
    Case(name="top-p in the engine alone", make=_sampled(top_p=0.7), cause=DumpCause.FILTER),
    Case(name="BOS doubled", make=_bos, cause=DumpCause.BOS, alone=_bos_on_both_sides),
    Case(
        name="template differs",
        make=_template,
        cause=DumpCause.TEMPLATE,
        cause_of_one_side=DumpCause.OTHER_POLICY,
    ),
    Case(
        name="routes shifted",
        make=_written(_shifted_routes),
        cause=DumpCause.ROUTES,
        needs_routes=True,
    ),
    Case(name="padding counted", make=_padding, cause=DumpCause.PADDING),
    Case(name="mask off by one", make=_mask, cause=DumpCause.MASK),
    Case(name="overflow of float16", make=_written(_overflow), cause=DumpCause.NON_FINITE),
    Case(name="clamped", make=_written(_saturated), cause=DumpCause.SATURATION),
    Case(name="sums of sequences", make=_written(_sum), cause=DumpCause.SEQUENCE_VALUES),
    Case(name="divided by the length", make=_written(_divided), cause=DumpCause.DIVIDED),
    Case(name="base 2", make=_written(_base_2), cause=DumpCause.UNIT),
    Case(name="next token's", make=_written(_next_token), cause=DumpCause.SHIFTED),
    Case(name="rows permuted", make=_permuted, cause=DumpCause.PERMUTED),
)
