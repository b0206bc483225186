"""Small policies, and token batches for them, made up or sampled by an engine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.protocol import Learner
from steadyrl.objectives import Aggregation, MiniRL, Objective
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.batching import token_batch
from tests.driving import generate
from tests.function_objective import FunctionObjective, TokenFunction

TINY_MOE = SmallMoE(
    layers=2, width=16, heads=2, kv_heads=1, head_dim=8, experts=4, expert_width=8, max_positions=64
)


def tiny_policy(dtype: torch.dtype = torch.float32) -> Policy:
    """A Mixture-of-Experts policy whose routers have an opinion."""
    tokenizer = load_tokenizer(TINY_MOE)
    model = load_model(TINY_MOE, tokenizer=tokenizer, seed=1, dtype=dtype)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    return Policy(model, tokenizer)


def tiny_learner(
    *,
    replay: RoutingReplay = RoutingReplay.NONE,
    dtype: torch.dtype = torch.float32,
    optimizer: OptimizerSettings | None = None,
    temperature: float = 1.0,
    **settings: object,
) -> LocalLearner:
    """A learner on `tiny_policy`, always from the same weights."""
    learner = LocalLearner(
        tiny_policy(dtype),
        LocalLearnerSettings(dtype=str(dtype).removeprefix("torch."), **settings),
        replay=replay,
    )
    learner.begin_stage(optimizer or UNCLIPPED, temperature, fresh=True)
    return learner


MINIRL = MiniRL()

SAMPLING = Sampling(max_new_tokens=16)

UNCLIPPED = OptimizerSettings(learning_rate=1e-3, gradient_clip=torch.inf)


def made_up_batch(
    advantages: Sequence[float] = (1.0, -0.5, 0.0, 0.25, -1.0), seed: int = 0
) -> TokenBatch:
    """One row of random tokens for each advantage, of different lengths, which no engine routed."""
    generator = torch.Generator().manual_seed(seed)
    rows, length = len(advantages), 12
    lengths = torch.randint(5, length + 1, (rows,), generator=generator)
    lengths[0] = length
    places = torch.arange(length)
    attention_mask = places < lengths[:, None]
    loss_mask = attention_mask & (places >= 3)
    tokens = torch.randint(6, 90, (rows, length), generator=generator)
    return TokenBatch(
        tokens=torch.where(attention_mask, tokens, 0),
        attention_mask=attention_mask,
        loss_mask=loss_mask,
        group_ids=torch.arange(rows) // 2,
        response_ids=torch.arange(rows),
        advantages=torch.tensor(advantages)[:, None] * loss_mask,
        rollout_logprobs=-5 * torch.rand(rows, length, generator=generator) * loss_mask,
    )


def sampled_batch(
    policy: Policy,
    *,
    seed: int = 0,
    numerics: Numerics = Numerics.FP8,
    sampling: Sampling = SAMPLING,
    candidates: int = 0,
) -> TokenBatch:
    """Rows that an engine sampled and routed, in two groups of three."""
    model = EngineModel(
        policy,
        numerics=numerics,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=True,
        candidates=candidates,
    )
    engine = LocalEngine(model, max_running=8)
    generator = torch.Generator().manual_seed(seed)
    requests = [
        Request(
            prompt_ids=torch.randint(6, 90, (4,), generator=generator),
            num_completions=3,
            seed=100 * seed + number,
            sampling=Sampling(),
        )
        for number in range(2)
    ]
    answers = generate(engine, requests, sampling)
    groups = [group_of([[completion] for completion in completions]) for completions in answers]
    advantages = [torch.tensor([1.0, -0.5, -0.5]), torch.tensor([0.5, -1.0, 0.5])]
    return token_batch(groups, advantages, pad_token_id=0)


def completion_of(tokens: int, reason: FinishReason = FinishReason.STOP) -> Completion:
    """A completion of so many tokens."""
    return Completion(
        prompt_ids=torch.tensor([3]),
        token_ids=torch.arange(tokens),
        logprobs=torch.zeros(tokens),
        finish_reason=reason,
        policy_version=0,
    )


def group_of(episodes: Sequence[Sequence[object]], rewards: Sequence[float] | None = None) -> Group:
    """Episodes of one task that hold the given completions."""
    rewards = rewards or [float(number % 2) for number in range(len(episodes))]
    trajectories = tuple(
        Trajectory(
            task_id="task",
            messages=(),
            completions=tuple(completions),
            reward=reward,
            terminated=True,
            truncated=False,
        )
        for completions, reward in zip(episodes, rewards, strict=True)
    )
    return Group(task_id="task", trajectories=trajectories)


def term_on(
    batch: TokenBatch,
    objective: Objective | TokenFunction = MINIRL,
    aggregation: Aggregation = Aggregation.TOKEN_SUM,
    scale: float = 1.0,
) -> LossTerm:
    """A term of an objective, or of a function with the flags of MiniRL."""
    if not isinstance(objective, Objective):
        objective = FunctionObjective(function=objective, like=MINIRL)
    return LossTerm(batch=batch, objective=objective, aggregation=aggregation, scale=scale)


def step(learner: LocalLearner, batch: TokenBatch, **term: object) -> dict[str, torch.Tensor]:
    """Takes one optimiser step on `batch`; returns the gradient of each weight."""
    learner.update([term_on(batch, **term)], step=0, steps=1)
    return {name: g.clone() for name, g in learner.optimizer.gradients().items()}


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    """A copy of the weights."""
    return {name: weight.clone() for name, weight in learner.publish().tensors("model")}


def without_signal(batch: TokenBatch) -> TokenBatch:
    """`batch` with zero advantages."""
    return replace(batch, advantages=torch.zeros_like(batch.advantages))


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest element-wise difference, after proof that the names agree."""
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def count_rows(learner: LocalLearner) -> dict[str, int]:
    """Rows that the trunk runs from now on, with and without gradient."""
    rows = {"learned": 0, "measured": 0}

    def count(_module: object, _args: object, inputs: dict[str, Tensor]) -> None:
        rows["learned" if torch.is_grad_enabled() else "measured"] += len(inputs["input_ids"])

    learner.policy.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return rows


def logprobs_of(policy: Policy, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities straight from the model's logits. Padding is on the right."""
    logits = policy.model(input_ids=tokens).logits.float() / temperature
    scores = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(scores, (1, 0))


def move_weights(learner: LocalLearner) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.policy.model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))


def tiny_learner_with(weights: dict[str, Tensor]) -> LocalLearner:
    learner = tiny_learner()
    learner.policy.model.load_state_dict(weights)
    return learner


def trained(dtype: torch.dtype = torch.float32) -> LocalLearner:
    """A learner after two updates."""
    learner = tiny_learner(dtype=dtype)
    for seed in (1, 2):
        step(learner, made_up_batch(seed=seed))
    return learner


class Idle:
    """An algorithm that has no state at all."""

    samples_from_engine = False

    def plan(self, step: int) -> Any:
        raise AssertionError

    def play(self, plan: object, engine: object) -> Any:
        raise AssertionError

    def learn(self, rollout: object) -> Any:
        raise AssertionError

    def loss_terms(self, mini_batch: object) -> Any:
        raise AssertionError
