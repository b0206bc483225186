"""Proof that an engine computes what the trainer does: a fixed probe, scored by both after a sync.

    sync --> engine draws a few tokens after some probes    (through its caches, if it has any)
         --> engine scores probes and drawn tokens          (without them)
         --> trainer scores the probes

Three things are compared. What engine and trainer say of the probes differs by their numerics
alone, so that several times what it was at the first sync is a fault: weights that are missing,
mixed up, old, or laid out wrongly. What the engine said of its tokens when it drew them, and says
when it scores them, tells of caches that still hold what older weights computed. And scores that
are the same to the last bit, while the trainer's have moved, tell of a sync that did nothing.

Weights that arrive wrongly are silent otherwise: vLLM's reload of experts on the CPU
(`engines/vllm/worker.py`), adapters under an old name, shards that are skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.engines.protocol import Engine, Request, Sampling

NEW_TOKENS = 4
"""Tokens that the engine draws after a probe."""

SAMPLED_PROBES = 3
"""Probes after which it does so: as many as a stale cache needs to be seen."""

MIN_DIFFERENCE = 1e-4
"""Nats per token below which nothing is a fault: the numerics of float32, changed routes included.
"""

_QUANTILE = 0.75
"""Of the differences of all tokens. A few tokens that are routed to another expert do not move it,
and a fault in one tensor of many does."""


class CanarySettings(Settings):
    """The check that follows a sync."""

    every: int = Field(0, ge=0)
    """Syncs from one check to the next. 0 turns the check off; use 1 with an engine in another
    process or of another library."""

    probes: int = Field(6, ge=3)
    """Number of fixed token sequences that are scored."""

    length: int = Field(34, ge=8)
    """Tokens in each of them. More than a block of the engine's prefix cache, so that one is used.
    """

    factor: float = Field(3.0, gt=1.0, allow_inf_nan=False)
    """Times the difference at the first sync that stops the run."""

    first_share: float = Field(0.3, gt=0.0, allow_inf_nan=False)
    """Difference at the first sync that stops the run, as a share of the spread of the trainer's
    scores. Numerics coarser than FP8 may need more."""


class CanaryError(UserError):
    """Engine and trainer do not compute the same any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """What an engine says of the probes."""

    scores: Float[Tensor, " N"]
    """Of every token of the probes but their first ones."""

    drawn: Float[Tensor, " M"]
    """Of the tokens it drew after them, when it did."""

    rescored: Float[Tensor, " M"]
    """Of the same tokens, when they were given."""


def make_probes(
    token_ids: Sequence[int], settings: CanarySettings, max_positions: int | None
) -> list[Int[Tensor, " T"]]:
    """The probes: tokens drawn from `token_ids`, the same ones in every run.

    Args:
        token_ids: Tokens of the vocabulary that are text.
        max_positions: That of the engine.
    """
    length = settings.length
    if max_positions is not None:
        length = min(length, max_positions - NEW_TOKENS - 1)
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(token_ids), (settings.probes, length), generator=generator)
    return list(torch.tensor(list(token_ids))[places])


async def read_engine(engine: Engine, probes: Sequence[Int[Tensor, " T"]]) -> EngineReading:
    """What `engine` says of `probes` now."""
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    requests = [
        Request(prompt_ids=probe, num_completions=1, seed=number, sampling=sampling)
        for number, probe in enumerate(probes[:SAMPLED_PROBES])
    ]
    # Before it scores: that computes prompts anew, and what is cached then is new, too.
    answers = [answer for (answer,) in await concurrently(map(engine.generate, requests))]
    rows = [torch.cat([answer.prompt_ids, answer.token_ids]) for answer in answers]
    scored = await engine.score([*rows, *probes[SAMPLED_PROBES:]])
    length = len(probes[0])
    return EngineReading(
        scores=torch.cat([scores[1:length] for scores in scored]),
        drawn=torch.cat([answer.logprobs for answer in answers]),
        rescored=torch.cat([scores[length:] for scores in scored]),
    )


class Canary:
    """Compares readings of an engine with the trainer, and with the first one."""

    def __init__(self, settings: CanarySettings) -> None:
        self._factor, self._first_share = settings.factor, settings.first_share
        self._first: _Reading | None = None
        self._changed: _Reading | None = None
        """The last reading whose scores were not those of the one before."""

    def reset(self) -> None:
        """Takes the next reading as the first one: the policy may be of another kind now."""
        self._first = None

    def compare(
        self, engine: EngineReading, trainer: Float[Tensor, " N"], version: int
    ) -> dict[str, float]:
        """The metrics of a reading.

        Args:
            trainer: What the trainer says of the same tokens, with the weights of `version`.

        Raises:
            CanaryError: engine and trainer do not compute the same.
        """
        now = _Reading(engine=engine, trainer=trainer, version=version)
        if self._first is None:
            self._check_first(now)
            self._first = self._changed = now
        else:
            self._check_difference(now)
            self._check_caches(now)
            self._check_movement(now)
        return {
            "canary_difference": now.difference,
            "canary_cache_difference": now.cache_difference,
        }

    def _check_first(self, now: "_Reading") -> None:
        limit = max(MIN_DIFFERENCE, self._first_share * now.spread)
        for difference, between in (
            (now.difference, "the engine's scores of a fixed probe and the trainer's are"),
            (now.cache_difference, "what the engine says of tokens drawn and given is"),
        ):
            if not difference <= limit:
                raise CanaryError(
                    f"At the first sync already, {between} {_nats(difference)} apart, where "
                    f"{_nats(limit)} is the limit: the engine has other weights, computes another "
                    "model, or computes it in very coarse numerics, for which canary.first_share "
                    "may be raised."
                )

    def _check_difference(self, now: "_Reading") -> None:
        assert self._first is not None
        # Numerics err in proportion to the logits, so the spread of scores is the scale.
        growth = now.spread / max(self._first.spread, MIN_DIFFERENCE)
        limit = max(MIN_DIFFERENCE, self._factor * self._first.difference * growth)
        if not now.difference <= limit:
            raise CanaryError(
                f"After the sync of version {now.version}, the engine says something else than the "
                f"trainer of a fixed probe: {_nats(now.difference)} apart, where {_nats(limit)} is "
                f"the limit, by what was measured after version {self._first.version}."
            )

    def _check_caches(self, now: "_Reading") -> None:
        assert self._first is not None
        limit = max(
            MIN_DIFFERENCE, self._factor * self._first.cache_difference, self._first.difference
        )
        if not now.cache_difference <= limit:
            raise CanaryError(
                f"After the sync of version {now.version}, the engine drew tokens with other "
                f"probabilities than it gives them when it scores them: "
                f"{_nats(now.cache_difference)} apart, up to {_nats(limit)} were to be expected. "
                "It may keep keys and values that older weights computed."
            )

    def _check_movement(self, now: "_Reading") -> None:
        assert self._first is not None
        assert self._changed is not None
        if not torch.equal(now.engine.scores, self._changed.engine.scores):
            self._changed = now
            return
        moved = _typical((now.trainer - self._changed.trainer).abs())
        if moved > max(MIN_DIFFERENCE, self._first.difference):
            raise CanaryError(
                f"The engine scores a fixed probe to the same bits as after version "
                f"{self._changed.version}, but the trainer, at version {now.version}, has moved "
                f"by {_nats(moved)}: nothing of the syncs since then has reached the engine."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    engine: EngineReading
    trainer: Float[Tensor, " N"]
    version: int

    @property
    def difference(self) -> float:
        """How far engine and trainer are apart on three quarters of the probes' tokens, in nats."""
        return _typical((self.engine.scores - self.trainer).abs())

    @property
    def cache_difference(self) -> float:
        """The same for drawing and scoring, both by the engine."""
        return _typical((self.engine.drawn - self.engine.rescored).abs())

    @property
    def spread(self) -> float:
        """How far the trainer's scores of the probes' tokens are from their mean, in nats."""
        return _typical((self.trainer - self.trainer.mean()).abs())


def _typical(values: Float[Tensor, " N"]) -> float:
    return float(values.double().quantile(_QUANTILE))


def _nats(value: float) -> str:
    return f"{value:.2g} nats"
