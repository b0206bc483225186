"""Questions about an engine and its trainer, asked through their protocols alone.

KL          what the engine drew, scored by the trainer: under the engine's routes, and its own
decoding    what the engine says of tokens when it draws them, and when it scores them
company     the same tokens scored in one batch, and one row at a time
canary      a sync of changed weights, checked
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.analysis.mismatch import (
    MismatchSources,
    Order,
    Rescored,
    Source,
    mismatch_sources,
)
from steadyrl.analysis.mismatch.passes import MU, OLD, Pass
from steadyrl.analysis.safety import Finding, Verdict
from steadyrl.base.concurrency import concurrently
from steadyrl.base.wording import short_number
from steadyrl.engines.canary import CanaryError
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.learners.protocol import Learner
from steadyrl.objectives import mismatch_diagnostics, sets_differ
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.training.checked_engine import CheckedEngine

ALONE = 8
"""Rows that are scored alone and in company."""


def kl_sources(batch: TokenBatch, learner: Learner) -> MismatchSources:
    """The account of the distance between the engine that sampled `batch` and the learner.

    Decoding counts toward numerics: an engine scores at a temperature of 1 only.
    """
    assert batch.rollout_logprobs is not None, "an engine sampled the batch"
    mask = batch.loss_mask
    routed = batch.rollout_routing is not None
    own = _scored(batch, learner, RoutingReplay.R2 if routed else RoutingReplay.NONE)
    logprobs = {Pass(OLD, OLD): _logprobs(own).double()}
    flips: dict[Source, Tensor] = {}
    margins = torch.empty(len(logprobs[Pass(OLD, OLD)]), 0)
    if routed:
        replayed = _scored(batch, learner, RoutingReplay.R3)
        logprobs[Pass(OLD, MU)] = _logprobs(replayed).double()
        flips[Source.ROUTING] = _flips(own)
        margins = torch.full(flips[Source.ROUTING].shape, torch.inf)
    return mismatch_sources(
        Rescored(
            rollout_logprobs=batch.rollout_logprobs[mask].double(),
            logprobs=logprobs,
            flips=flips,
            margins=margins,
        )
    )


def _scored(batch: TokenBatch, learner: Learner, replay: RoutingReplay) -> TokenBatch:
    """`batch`, scored under this kind of replay. R2 records the learner's own routes."""
    before = learner.replay
    learner.replay = replay
    try:
        return learner.score(batch)
    finally:
        learner.replay = before


def _logprobs(scored: TokenBatch) -> Float[Tensor, " N"]:
    assert scored.old_logprobs is not None, "what is scored has scores"
    return scored.old_logprobs[scored.loss_mask]


def _flips(scored: TokenBatch) -> Tensor:
    """Positions at which learner and engine chose different experts for the preceding token."""
    assert scored.old_routing is not None, "R2 records routes"
    assert scored.rollout_routing is not None, "the engine recorded routes"
    feeding = torch.nn.functional.pad(scored.loss_mask[:, 1:], (0, 1))
    return sets_differ(scored.old_routing.at(feeding), scored.rollout_routing.at(feeding))


def kl_findings(sources: MismatchSources) -> Iterator[Finding]:
    """Findings on the whole distance and on its parts."""
    steps = sources.orders[Order.ROUTES_LAST]
    whole = sources.whole
    r3 = sources.replayed.get(RoutingReplay.R3)
    left = "" if r3 is None else f"; under R3 {short_number(r3.kl_k3)}"
    yield Finding.of("kl", whole.kl_k3, f"k1 {short_number(whole.kl_k1)}{left}")
    yield Finding.of("kl_rounding", steps[Source.NUMERICS].kl_k3, "decoding included")
    if Source.ROUTING in steps:
        flips = sources.flips[Source.ROUTING]
        share = sum(layer.share for layer in flips) / len(flips)
        detail = f"{share:.2%} of the choices differ"
        yield Finding.of("kl_routing", steps[Source.ROUTING].kl_k3, detail)
    else:
        yield Finding.missing("kl_routing", "no routes: the model is dense, or records none")
    yield Finding.of("log_ratio", whole.mean_absolute)
    yield Finding.of("extreme_tokens", whole.extreme_token_fraction)


async def engine_findings(
    engine: Engine, prompts: Sequence[Int[Tensor, " _P"]], sampling: Sampling, seed: int
) -> list[Finding]:
    """Findings on decoding and company, measured on an answer to each of `prompts`.

    Args:
        sampling: That of the run; here the temperature is 1 and nothing is cut.
    """
    names = ("kl_decoding", "company_engine")
    if not engine.capabilities.scoring:
        return [Finding.missing(name, "the engine does not score given tokens") for name in names]
    plain = sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0, "top_k": None})
    requests = [
        Request(prompt_ids=prompt, num_completions=1, seed=seed + number, sampling=plain)
        for number, prompt in enumerate(prompts[:ALONE])
    ]
    answers = [answer for (answer,) in await concurrently(map(engine.generate, requests))]
    rows = [torch.cat([answer.prompt_ids, answer.token_ids]) for answer in answers]
    together = await engine.score(rows)
    alone = [scores for row in rows for scores in await engine.score([row])]
    starts = [len(answer.prompt_ids) for answer in answers]

    def answered(scores: Sequence[Tensor]) -> Tensor:
        return torch.cat([s[start:] for s, start in zip(scores, starts, strict=True)])

    drawn = torch.cat([answer.logprobs for answer in answers])
    detail = f"at temperature 1, {len(rows)} answers"
    return [
        Finding.of("kl_decoding", _k3(drawn, answered(together)), detail),
        _company("company_engine", answered(alone), answered(together)),
    ]


def company_of_trainer(batch: TokenBatch, learner: Learner) -> Finding:
    """The finding on rows that the learner scores alone and in company."""
    chosen = torch.linspace(0, len(batch) - 1, min(ALONE, len(batch))).long()
    together, *alone = [
        _logprobs(_scored(batch.rows(rows), learner, RoutingReplay.NONE))
        for rows in (chosen, *chosen.split(1))
    ]
    return _company("company_trainer", torch.cat(alone), together)


async def canary_finding(checked: CheckedEngine, learner: Learner) -> Finding:
    """The finding on a sync of the weights that the learner has now.

    Args:
        checked: Was synced once before, with other weights.
    """
    before = await _probed(checked)
    try:
        await checked.sync(learner.publish())
    except CanaryError as error:
        return Finding(question="canary", value=None, verdict=Verdict.UNSAFE, detail=str(error))
    moved = float((await _probed(checked) - before).abs().mean())
    verdict = Verdict.SAFE if moved > 0 else Verdict.UNSAFE
    return Finding(
        question="canary",
        value=checked.sync_metrics["canary_difference"],
        verdict=verdict,
        detail=f"the engine's scores moved by {short_number(moved)} nats",
    )


async def _probed(checked: CheckedEngine) -> Float[Tensor, " N"]:
    return torch.cat(await checked.engine.score(checked.probes))


def _company(question: str, alone: Tensor, together: Tensor) -> Finding:
    largest = float((alone - together).abs().max())
    return Finding.of(question, _k3(alone, together), f"at most {short_number(largest)} nats apart")


def _k3(before: Float[Tensor, " N"], after: Float[Tensor, " N"]) -> float:
    return mismatch_diagnostics(before.double(), after.double())["mismatch_kl_k3"]
