"""Check that engine and trainer compute the same: both score a fixed probe after a sync.

    sync --> engine samples a few tokens after some probes    (through its caches, if it has any)
         --> engine scores probes and sampled tokens          (without them)
         --> trainer scores the probes

Three comparisons are made. Scores of engine and trainer differ by their numerics alone, so several
times the difference at the first sync is a fault: missing, mixed up, stale or misplaced weights. A
difference between the log-probabilities of the engine's tokens when sampled and when scored reveals
caches computed with older weights. Scores that are bitwise unchanged, while the trainer's have
moved, reveal a sync without effect.

Such faults are silent otherwise: vLLM's reload of experts on the CPU (`engines/vllm/worker.py`),
adapters under an old name, skipped shards.
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
"""Number of tokens that the engine samples after a probe."""

SAMPLED_PROBES = 3
"""Number of probes after which it samples, enough to reveal a stale cache."""

MIN_DIFFERENCE = 1e-4
"""Nats per token below which no difference is a fault: float32 numerics, including changed
routes."""

_QUANTILE = 0.75
"""Quantile of the differences of all tokens. A few tokens routed to another expert do not change
it, but a fault in one of many tensors does."""


class CanarySettings(Settings):
    """Check of the weights after a sync."""

    every: int = Field(0, ge=0)
    """Number of syncs between checks. 0 disables the check; use 1 with an engine in another process
    or library."""

    probes: int = Field(6, ge=3)
    """Number of fixed token sequences to score."""

    length: int = Field(34, ge=8)
    """Tokens per probe. More than a block of the engine's prefix cache, so that the cache is
    used."""

    factor: float = Field(3.0, gt=1.0, allow_inf_nan=False)
    """Maximum difference, as a multiple of the difference at the first sync."""

    first_share: float = Field(0.3, gt=0.0, allow_inf_nan=False)
    """Maximum difference at the first sync, as a share of the spread of the trainer's scores.
    Numerics coarser than FP8 may need more."""


class CanaryError(UserError):
    """Engine and trainer no longer compute the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """Log-probabilities of the probes and sampled tokens in the engine."""

    scores: Float[Tensor, " N"]
    """Log-probabilities of all tokens of the probes except the first ones."""

    drawn: Float[Tensor, " M"]
    """Log-probabilities of the sampled tokens when they were sampled."""

    rescored: Float[Tensor, " M"]
    """Log-probabilities of the same tokens when they are scored."""


def make_probes(
    token_ids: Sequence[int], settings: CanarySettings, max_positions: int | None
) -> list[Int[Tensor, " T"]]:
    """Probes drawn from `token_ids`, identical in every run.

    Args:
        token_ids: Text tokens of the vocabulary.
        max_positions: Maximum positions of the engine.
    """
    length = settings.length
    if max_positions is not None:
        length = min(length, max_positions - NEW_TOKENS - 1)
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(token_ids), (settings.probes, length), generator=generator)
    return list(torch.tensor(list(token_ids))[places])


async def read_engine(engine: Engine, probes: Sequence[Int[Tensor, " T"]]) -> EngineReading:
    """Current readings of `engine`."""
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
    """Compares readings of an engine with the trainer and with the first reading."""

    def __init__(self, settings: CanarySettings) -> None:
        self._factor, self._first_share = settings.factor, settings.first_share
        self._first: _Reading | None = None
        self._changed: _Reading | None = None
        """The last reading whose scores differed from those of the one before."""

    def reset(self) -> None:
        """Uses the next reading as the first one, for example for another policy."""
        self._first = None

    def compare(
        self, engine: EngineReading, trainer: Float[Tensor, " N"], version: int
    ) -> dict[str, float]:
        """Metrics of a reading.

        Args:
            trainer: The trainer's scores of the same tokens, with the weights of `version`.

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
            (now.cache_difference, "the engine's scores of its tokens when sampled and later are"),
        ):
            if not difference <= limit:
                raise CanaryError(
                    f"At the first sync, {between} {_nats(difference)} apart, above the limit of "
                    f"{_nats(limit)}: the engine has different weights, a different model, or "
                    "very coarse numerics, for which canary.first_share may be raised."
                )

    def _check_difference(self, now: "_Reading") -> None:
        assert self._first is not None
        # Numerics err in proportion to the logits, so the spread of scores is the scale.
        growth = now.spread / max(self._first.spread, MIN_DIFFERENCE)
        limit = max(MIN_DIFFERENCE, self._factor * self._first.difference * growth)
        if not now.difference <= limit:
            raise CanaryError(
                f"After the sync of version {now.version}, the scores of engine and trainer on a "
                f"fixed probe are {_nats(now.difference)} apart, above the limit of "
                f"{_nats(limit)} that follows from version {self._first.version}."
            )

    def _check_caches(self, now: "_Reading") -> None:
        assert self._first is not None
        limit = max(
            MIN_DIFFERENCE, self._factor * self._first.cache_difference, self._first.difference
        )
        if not now.cache_difference <= limit:
            raise CanaryError(
                f"After the sync of version {now.version}, the engine's log-probabilities of its "
                f"tokens when sampled and when scored are {_nats(now.cache_difference)} apart, "
                f"above the limit of {_nats(limit)}. Its caches may hold keys and values of older "
                "weights."
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
                "The engine's scores of a fixed probe are bitwise unchanged since version "
                f"{self._changed.version}, but the trainer's have moved by {_nats(moved)} at "
                f"version {now.version}: no sync since then has reached the engine."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    engine: EngineReading
    trainer: Float[Tensor, " N"]
    version: int

    @property
    def difference(self) -> float:
        """Difference between engine and trainer in nats, for three quarters of the tokens."""
        return _typical((self.engine.scores - self.trainer).abs())

    @property
    def cache_difference(self) -> float:
        """Difference between sampling and scoring in the engine in nats."""
        return _typical((self.engine.drawn - self.engine.rescored).abs())

    @property
    def spread(self) -> float:
        """Distance of the trainer's scores from their mean in nats."""
        return _typical((self.trainer - self.trainer.mean()).abs())


def _typical(values: Float[Tensor, " N"]) -> float:
    return float(values.double().quantile(_QUANTILE))


def _nats(value: float) -> str:
    return f"{value:.2g} nats"
