"""Trials of a small model of a Mixture-of-Experts family. Each says yes, or why not."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import generate_all
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.engines.reference import ReferenceEngine
from steadyrl.policies.loading import model_from_config
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.probes import agree
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.policies.weights import copy_weights
from steadyrl.records.completion import Completion
from steadyrl.records.routing import Routing

YES = "yes"
DTYPES = (torch.float32, torch.bfloat16)
TOKENS = torch.arange(3, 27).view(2, 12)
REAL = torch.ones_like(TOKENS, dtype=torch.bool)
PROMPTS = [TOKENS[0, :2], TOKENS[1, :9]]
SAMPLING = Sampling(max_new_tokens=6)
MOST_MISMATCH = 0.1
"""Mean absolute difference, in nats, between a bfloat16 engine and the trainer under R3."""

Trial = Callable[[PreTrainedModel], str]


def policy_of(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> Policy:
    """A policy with the weights of `model`, hooked if it can be."""
    twin = model_from_config(model, dtype)
    copy_weights(model.state_dict(), twin.state_dict())
    try:
        return Policy(twin, character_tokenizer())
    except UserError:
        return Policy(twin, character_tokenizer(), hook_routing=False)


def replay(model: PreTrainedModel) -> str:
    """Own routes to the last bit, other routes that change scores, gradients of routers."""
    for dtype in DTYPES:
        twin = model_from_config(model, dtype)
        copy_weights(model.state_dict(), twin.state_dict())
        policy = Policy(twin, character_tokenizer())
        assert policy.hook is not None
        live = policy.score(TOKENS, REAL, REAL, record_routing=True)
        assert live.routing is not None
        replayed = policy.score(TOKENS, REAL, REAL, replay=live.routing)
        if not torch.equal(replayed.logprobs, live.logprobs):
            return f"wrong in {dtype}: its own routes give other scores"
        experts = (live.routing.padded().experts + 1) % policy.hook.num_experts
        foreign = policy.score(TOKENS, REAL, REAL, replay=Routing.of(experts, REAL, TOKENS))
        if not bool((foreign.logprobs != live.logprobs)[:, 1:].any(dim=1).all()):
            return f"wrong in {dtype}: other routes give the same scores"
        foreign.logprobs.sum().backward()
        for router in policy.hook.routers:
            gradients = [weight.grad for weight in router.parameters() if weight.dim() > 1]
            if not any(grad is not None and bool(grad.abs().max() > 0) for grad in gradients):
                return f"wrong in {dtype}: a router has no gradient"
    return YES


def local_engine(model: PreTrainedModel) -> str:
    """The answers of the reference engine in float32, which the trainer scores alike; R3."""
    for dtype in DTYPES:
        policy = policy_of(model, dtype)
        numerics = Numerics.FLOAT32 if dtype == torch.float32 else Numerics.BFLOAT16
        expected = _answers(ReferenceEngine(_engine_model(policy, numerics)))
        found = _answers(LocalEngine(_engine_model(policy, numerics), max_running=3))
        for ours, theirs in zip(found, expected, strict=True):
            mean = float((ours.logprobs - _scores(policy, ours)).abs().mean())
            if mean > (1e-4 if dtype == torch.float32 else MOST_MISMATCH):
                return f"wrong in {dtype}: {mean:.2g} nats off the trainer"
            exact = dtype == torch.float32
            if exact and ours.token_ids.tolist() != theirs.token_ids.tolist():
                return f"wrong in {dtype}: other answers than the engine reference"
    return YES


def reference_engine(model: PreTrainedModel) -> str:
    """Log-probabilities in float32 are the trainer's."""
    policy = policy_of(model)
    for answer in _answers(ReferenceEngine(_engine_model(policy, Numerics.FLOAT32))):
        if not agree(answer.logprobs, _scores(policy, answer)):
            return "wrong: log-probabilities are not the trainer's"
    return YES


def fp8(model: PreTrainedModel) -> str:
    """Answers of an engine in FP8, whose log-probabilities are finite and not the trainer's."""
    policy = policy_of(model)
    for answer in _answers(ReferenceEngine(_engine_model(policy, Numerics.FP8))):
        mean = float((answer.logprobs - _scores(policy, answer)).abs().mean())
        if not 0 < mean < 2:
            return f"wrong: {mean:.2g} nats off the trainer"
    return YES


def checkpointing(model: PreTrainedModel) -> str:
    """The gradients without it."""
    found = []
    for recomputed in (False, True):
        policy = policy_of(model)
        if recomputed:
            policy.enable_activation_checkpointing()
        record = policy.hook is not None
        policy.score(TOKENS, REAL, REAL, record_routing=record).logprobs.sum().backward()
        found.append([w.grad for w in policy.model.parameters() if w.grad is not None])
    plain, recomputed_ones = found
    same = len(plain) == len(recomputed_ones) and all(map(agree, recomputed_ones, plain))
    return YES if same else "wrong: other gradients"


def sharing(model: PreTrainedModel) -> str:
    """Prefixes are computed once."""
    reason = policy_of(model).sharing_unsupported_reason()
    return YES if reason is None else f"refused: {reason}"


TRIALS: dict[str, Trial] = {
    "replay": replay,
    "local": local_engine,
    "reference": reference_engine,
    "fp8": fp8,
    "checkpointing": checkpointing,
    "sharing": sharing,
}


def _engine_model(policy: Policy, numerics: Numerics) -> EngineModel:
    return EngineModel(
        policy,
        numerics=numerics,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=policy.hook is not None,
    )


def _answers(engine: Engine) -> list[Completion]:
    requests = [
        Request(prompt_ids=p, num_completions=2, seed=n, sampling=SAMPLING)
        for n, p in enumerate(PROMPTS)
    ]
    return [answer for group in generate_all(engine, requests) for answer in group]


@torch.no_grad()
def _scores(policy: Policy, answer: Completion) -> Tensor:
    """The trainer's log-probabilities of an answer, on the engine's routes if it has some."""
    tokens = torch.cat([answer.prompt_ids, answer.token_ids])[None]
    real = torch.ones_like(tokens, dtype=torch.bool)
    routing = answer.routing
    if routing is not None:
        padding = tokens.shape[1] - routing.known.shape[1]
        known = torch.nn.functional.pad(routing.known, (0, padding))
        experts = torch.nn.functional.pad(routing.padded().experts, (0, 0, 0, 0, 0, padding))
        routing = Routing.of(experts, known, tokens)
    scored = policy.score(tokens, real, real, replay=routing)
    return scored.logprobs[0, len(answer.prompt_ids) :]
