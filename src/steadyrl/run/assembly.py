"""From a configuration to the objects it describes."""

import warnings
from collections.abc import Callable
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
from steadyrl.engines.canary import make_probes
from steadyrl.engines.engine_settings import EngineContext
from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import Closable, Environment, SupportsNotes
from steadyrl.learners.protocol import Learner
from steadyrl.learners.settings import LearnerContext
from steadyrl.policies.checkpoint_checks import check_ids
from steadyrl.policies.loading import load_model, load_tokenizer, set_dtype
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import max_positions
from steadyrl.policies.replay_choice import choose_replay
from steadyrl.policies.routers import is_moe
from steadyrl.policies.template_notes import template_notes
from steadyrl.policies.tokenizers import closing_id, text_tokens
from steadyrl.records.routing import RoutingReplay
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.run.engine_needs import check_engine
from steadyrl.run.sampling_notes import sampling_notes
from steadyrl.training.checked_engine import CheckedEngine
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.stage import Stage

EngineMaker = Callable[[RunConfig, Policy], Engine]

WEIGHTS, COLD_START, ROLLOUT, EVALUATION, ROUNDING = range(5)
"""Seed paths by purpose: the first step of each path from the run's seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts of a run."""

    stages: list[Stage]
    learner: Learner
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    evaluator: Evaluator
    environment: Environment

    notes: tuple[str, ...] = ()
    """Notes on checkpoint and sampling."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        *,
        engine_maker: EngineMaker | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> "Assembly":
        """The parts that `config` describes.

        Args:
            engine_maker: Makes engines in the place of `make_engine`.

        Raises:
            UserError: parts do not fit together, or are not there.
        """
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        progress.begin("loading the model")
        tokenizer = load_tokenizer(config.model)
        policy, masters = load_policy(config, tokenizer)
        progress.begin("preparing the tasks")
        environment = config.environment.make()
        chooses = config.routing_replay == "auto" and policy.hook is not None
        make = engine_maker or partial(make_engine, progress=progress)
        algorithm = config.algorithm.make(
            AlgorithmContext(
                environment=environment,
                tokenizer=tokenizer,
                sampling=config.sampling,
                seed=derive_seed(config.seed, ROLLOUT),
                max_positions=max_positions(policy.model),
                make_engine=partial(make, config, policy),
                progress=progress,
            )
        )
        stages = [_reinforcement(config, algorithm, chooses_replay=chooses)]
        if config.cold_start is not None:
            stages.insert(0, _cold_start(config, environment, policy))
        learner = config.learner.make(
            LearnerContext(
                policy=policy,
                replay=config.replay_to_begin_with,
                masters=masters,
                seed=rounding_seed(config),
                progress=progress,
            )
        )
        quiet = config.model_copy(update={"engine": config.engine.without_noise()})
        evaluator = Evaluator(
            config.evaluation,
            engine_without_noise=make(quiet, policy) if config.engine.has_noise else None,
            publish=learner.publish,
            environment=environment,
            tokenizer=tokenizer,
            sampling=config.sampling,
            seed=derive_seed(config.seed, EVALUATION),
            progress=progress,
        )
        progress.begin("preparing the engine")
        engine = _checked(make(config, policy), learner, tokenizer, policy, config)
        return cls(
            stages=stages,
            learner=learner,
            tokenizer=tokenizer,
            engine=engine,
            evaluator=evaluator,
            environment=environment,
            notes=(
                *_notes(policy),
                *(environment.notes if isinstance(environment, SupportsNotes) else ()),
                *check_engine(config, engine.capabilities),
                *sampling_notes(config),
            ),
        )

    def close(self) -> None:
        """Lets environment and engine end what they hold."""
        for part in (self.environment, self.engine):
            if isinstance(part, Closable):
                part.close()


def unchecked(config: RunConfig) -> RunConfig:
    """`config` without the check of syncs, for an engine whose learner is in another process."""
    canary = config.canary.model_copy(update={"every": 0})
    return config.model_copy(update={"canary": canary})


def _checked(
    engine: Engine,
    learner: Learner,
    tokenizer: PreTrainedTokenizerBase,
    policy: Policy,
    config: RunConfig,
) -> Engine:
    """`engine`, and after its syncs the proof that they have worked, where that is asked for."""
    if not config.canary.every or not engine.capabilities.scoring:
        return engine
    tokens = text_tokens(tokenizer, policy.vocabulary_size)
    probes = make_probes(tokens, config.canary, engine.capabilities.max_positions)
    return CheckedEngine(engine, learner, probes, config.canary)


def _notes(policy: Policy) -> tuple[str, ...]:
    """Notes on end tokens and chat template of the checkpoint."""
    end = policy.end_token_note
    return (*([end] if end else []), *template_notes(policy.tokenizer))


def load_policy(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[Policy, dict[str, Tensor]]:
    """The policy to be trained, on its device, and the weights that its type rounds, unrounded.

    Raises:
        UserError: CUDA is asked for and missing, the tokenizer does not fit the model, or routing
            replay is asked of a dense model.
    """
    device = learner_device(config)
    model = load_model(config.model, tokenizer=tokenizer, seed=derive_seed(config.seed, WEIGHTS))
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
    """The seed of what is drawn for weights: thresholds of stochastic rounding, and noise."""
    return derive_seed(config.seed, ROUNDING)


def make_engine(config: RunConfig, policy: Policy, *, progress: Progress = NO_PROGRESS) -> Engine:
    """The rollout engine, holding the policy's weights."""
    parts = EngineContext(policy=policy, seed=rounding_seed(config), progress=progress)
    return config.engine.make(parts)


def with_decisions(config: RunConfig) -> RunConfig:
    """`config` with what its engine decides at the start, so that a resumed run is the same run."""
    engine = config.engine.resolve(learner_device(config))
    return config.model_copy(update={"engine": engine})


def _cold_start(config: RunConfig, environment: Environment, policy: Policy) -> Stage:
    settings = config.cold_start
    assert settings is not None
    algorithm = Supervised(
        teacher=settings.teacher.make(environment),
        environment=environment,
        tokenizer=policy.tokenizer,
        closing_id=closing_id(policy.tokenizer, policy.end_token_ids),
        batch_size=settings.batch_size,
        seed=derive_seed(config.seed, COLD_START),
    )
    return Stage(
        name="cold_start",
        algorithm=algorithm,
        steps=settings.steps,
        optimizer=settings.optimizer,
        temperature=1.0,
    )


def _reinforcement(config: RunConfig, algorithm: Algorithm, *, chooses_replay: bool) -> Stage:
    gradient_steps = config.algorithm.gradient_steps
    return Stage(
        name="rl",
        algorithm=algorithm,
        steps=config.steps,
        optimizer=config.optimizer,
        temperature=config.sampling.temperature,
        needs_reference=config.algorithm.needs_reference,
        replay=partial(choose_replay, gradient_steps, overlap=config.engine.overlap)
        if chooses_replay
        else None,
        evaluate_every=config.evaluate_every,
    )
