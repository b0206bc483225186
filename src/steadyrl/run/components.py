"""Components that every process of a run builds from the configuration."""

import warnings
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Algorithm
from steadyrl.algorithms.settings import AlgorithmContext
from steadyrl.algorithms.supervised import Supervised
from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.engine_settings import EngineContext
from steadyrl.engines.protocol import Engine
from steadyrl.environments.former_names import refuse_former_names
from steadyrl.environments.protocol import Environment
from steadyrl.policies.checkpoint_checks import check_ids
from steadyrl.policies.loading import load_model, load_tokenizer, set_dtype
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import max_positions
from steadyrl.policies.replay_choice import choose_replay
from steadyrl.policies.routers import is_moe
from steadyrl.policies.tokenizers import closing_id
from steadyrl.records.routing import RoutingReplay
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.training.continuous_sampler import ContinuousSampler
from steadyrl.training.sampler import LocalSampler
from steadyrl.training.stage import Stage

WEIGHTS, COLD_START, ROLLOUT, EVALUATION, ROUNDING = range(5)
"""Purposes of random numbers: the first element of their path from the seed of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Model and environment of a run."""

    tokenizer: PreTrainedTokenizerBase
    policy: Policy
    environment: Environment

    masters: dict[str, Tensor]
    """Unrounded values of the weights that the policy holds in a lower precision."""

    @classmethod
    def load(
        cls,
        config: RunConfig,
        progress: Progress = NO_PROGRESS,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> "Components":
        """Loads the model and prepares the environment.

        Args:
            tokenizer: The model's, if it has been loaded already.

        Raises:
            UserError: components are incompatible or missing.
        """
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        progress.begin("loading the model")
        tokenizer = tokenizer or load_tokenizer(config.model)
        policy, masters = load_policy(config, tokenizer)
        progress.begin("preparing the tasks")
        refuse_former_names(config.environment)
        environment = config.environment.make()
        refuse_former_names(environment)
        return cls(tokenizer=tokenizer, policy=policy, environment=environment, masters=masters)


def load_policy(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[Policy, dict[str, Tensor]]:
    """The policy to train, on its device, and the unrounded values of weights that are rounded.

    Raises:
        UserError: CUDA is requested and missing, the tokenizer does not fit the model, or routing
            replay is requested for a dense model.
    """
    device = learner_device(config)
    model = load_model(
        config.model, tokenizer=tokenizer, seed=derive_seed(config.first_seed, WEIGHTS)
    )
    check_ids(model, tokenizer)
    masters = set_dtype(model, getattr(torch, config.learner.dtype), config.learner.head_dtype)
    replays = config.replay_to_begin_with is not RoutingReplay.NONE
    if replays and not is_moe(model):
        raise UserError(
            f"routing_replay is {str(config.routing_replay)!r}, but {type(model).__name__} is "
            "dense and has no routing. Set routing_replay to 'none'."
        )
    model = model.to(device)
    logits_memory = config.learner.logits_memory << 20
    try:
        return Policy(model, tokenizer, logits_memory=logits_memory), masters
    except UserError as error:
        if replays:
            raise
        warnings.warn(f"No routing metrics in this run. {error}", stacklevel=2)
        return Policy(model, tokenizer, hook_routing=False, logits_memory=logits_memory), masters


def rounding_seed(config: RunConfig) -> int:
    """Seed of the random numbers for weights: thresholds of stochastic rounding, and noise."""
    return derive_seed(config.seed, ROUNDING)


def make_engine(config: RunConfig, policy: Policy, *, progress: Progress = NO_PROGRESS) -> Engine:
    """A rollout engine with the weights of the policy."""
    parts = EngineContext(
        policy=policy,
        seed=rounding_seed(config),
        progress=progress,
        candidates=config.algorithm.reads_candidates,
    )
    return config.engine.make(parts)


def make_sampler(config: RunConfig, stages: list[Stage], engine: Engine) -> LocalSampler:
    """The sampler of the process that holds the engine."""
    settings = config.engine
    if settings.in_flight == "finish":
        return LocalSampler(stages, engine)
    return ContinuousSampler(
        stages,
        engine,
        max_staleness=settings.steps_ahead,
        drops=settings.late_groups == "drop",
    )


def make_stages(
    config: RunConfig, components: Components, progress: Progress = NO_PROGRESS
) -> list[Stage]:
    """The stages of the run, in order.

    Raises:
        UserError: an algorithm or a teacher cannot work with the other components.
    """
    policy = components.policy
    algorithm = config.algorithm.make(
        AlgorithmContext(
            environment=components.environment,
            tokenizer=components.tokenizer,
            sampling=config.sampling,
            seed=derive_seed(config.seed, ROLLOUT),
            max_positions=max_positions(policy.model),
            make_engine=partial(make_engine, config, policy, progress=progress),
            progress=progress,
        )
    )
    chooses_replay = config.routing_replay == "auto" and policy.hook is not None
    reinforcement = _reinforcement(config, algorithm, chooses_replay=chooses_replay)
    if config.cold_start is None:
        return [reinforcement]
    return [_cold_start(config, components), reinforcement]


def _cold_start(config: RunConfig, components: Components) -> Stage:
    settings, policy = config.cold_start, components.policy
    assert settings is not None
    try:
        teacher = settings.teacher.make(components.environment)
    except UserError as error:
        raise UserError(
            f"{error} Or leave the cold start out by --cold-start none (cold_start: null in a "
            "file), or name a teacher of your own by --cold-start.teacher."
        ) from error
    algorithm = Supervised(
        teacher=teacher,
        environment=components.environment,
        tokenizer=policy.tokenizer,
        closing_id=closing_id(policy.tokenizer, policy.end_token_ids),
        batch_size=settings.batch_size,
        seed=derive_seed(config.first_seed, COLD_START),
    )
    return Stage(
        name="cold_start",
        algorithm=algorithm,
        steps=settings.steps,
        optimizer=settings.optimizer,
        temperature=1.0,
    )


def _reinforcement(config: RunConfig, algorithm: Algorithm, *, chooses_replay: bool) -> Stage:
    ahead = config.engine.steps_ahead
    rule = partial(choose_replay, config.algorithm.gradient_steps, max_staleness=ahead)
    return Stage(
        name="rl",
        algorithm=algorithm,
        steps=config.steps,
        optimizer=config.optimizer,
        temperature=config.sampling.temperature,
        max_staleness=0 if config.engine.in_flight == "continue" else ahead,
        rescored_groups=config.engine.rescored_groups,
        needs_reference=config.algorithm.needs_reference,
        replay=rule if chooses_replay else None,
        evaluate_every=config.evaluate_every,
    )
