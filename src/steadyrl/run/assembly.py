"""Assembly of a run from its configuration."""

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.canary import make_probes
from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import Closable, Environment, SupportsNotes
from steadyrl.learners.protocol import Learner
from steadyrl.learners.settings import LearnerContext
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.merged_weights import MergedWeights
from steadyrl.policies.policy import Policy
from steadyrl.policies.template_notes import template_notes
from steadyrl.policies.tokenizers import text_tokens
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.components import (
    EVALUATION,
    Components,
    make_engine,
    make_sampler,
    make_stages,
    rounding_seed,
)
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.run.engine_needs import check_engine
from steadyrl.run.placement.protocol import Placement
from steadyrl.run.remote import RemoteEngine, RemoteSampler
from steadyrl.run.rollout_process import RolloutProcess
from steadyrl.run.rollout_thread import (
    RolloutThread,
    StoringEngine,
    ThreadEngine,
    ThreadSampler,
)
from steadyrl.run.setting_notes import generation_note, warm_up_notes
from steadyrl.training.checked_engine import CheckedEngine
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.sampler import LocalSampler, Sampler
from steadyrl.training.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The components of a run, connected to each other."""

    stages: list[Stage]
    learner: Learner
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    sampler: Sampler
    evaluator: Evaluator
    environment: Environment
    placement: Placement

    notes: tuple[str, ...] = ()
    """Notes on the checkpoint, the environment, the engine and the sampling."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> "Assembly":
        """The assembly that `config` describes.

        Args:
            tokenizer: The model's, if it has been loaded already.

        Raises:
            UserError: components are incompatible or missing.
        """
        placement = config.placement.open(config, progress)
        try:
            return cls._placed(config, placement, tokenizer, progress)
        except BaseException:
            placement.close()
            raise

    @classmethod
    def _placed(
        cls,
        config: RunConfig,
        placement: Placement,
        tokenizer: PreTrainedTokenizerBase | None,
        progress: Progress,
    ) -> "Assembly":
        components = Components.load(config, progress, tokenizer=tokenizer)
        stages = make_stages(config, components, progress)
        learner = config.learner.make(
            LearnerContext(
                policy=components.policy,
                replay=config.replay_to_begin_with,
                masters=components.masters,
                seed=rounding_seed(config),
                progress=progress,
                scores_routers=config.algorithm.scores_routers,
                rank_host=placement.rank_host,
            )
        )
        try:
            evaluator = _evaluator(config, components, learner, progress)
            progress.begin("preparing the engine")
            engine, sampler = _place(config, placement, components, stages, learner, progress)
        except BaseException:
            _close(learner)
            raise
        try:
            notes = _notes(config, components, engine)
        except BaseException:
            _close(engine)
            _close(learner)
            raise
        return cls(
            stages=stages,
            learner=learner,
            tokenizer=components.tokenizer,
            engine=engine,
            sampler=sampler,
            evaluator=evaluator,
            environment=components.environment,
            placement=placement,
            notes=notes,
        )

    def close(self) -> None:
        """Closes the environment, the engine and the learner, and then what they run on."""
        _close(self.environment)
        _close(self.engine)
        _close(self.learner)
        self.placement.close()


def with_decisions(config: RunConfig) -> RunConfig:
    """`config` with what the engine decides at the start, so that a resumed run is the same run."""
    engine = config.engine.resolve(learner_device(config))
    return config.model_copy(update={"engine": engine})


def unchecked(config: RunConfig) -> RunConfig:
    """`config` without the check of syncs."""
    canary = config.canary.model_copy(update={"every": 0})
    return config.model_copy(update={"canary": canary})


def _close(part: object) -> None:
    if isinstance(part, Closable):
        part.close()


def _place(
    config: RunConfig,
    placement: Placement,
    components: Components,
    stages: list[Stage],
    learner: Learner,
    progress: Progress,
) -> tuple[Engine, Sampler]:
    """Engine and sampler, where `placement` says or in a second process."""
    policy = components.policy
    if config.engine.overlap and not config.placement.engines_are_elsewhere:
        process = RolloutProcess(config, MergedWeights(policy.model), progress)
        engine = _checked(RemoteEngine(process), learner, policy, config)
        return engine, RemoteSampler(stages, engine, process)
    engine = placement.engine(policy, progress)
    if config.engine.overlap:
        thread = _rollout_thread(config, components, engine)
        engine = _checked(ThreadEngine(thread), learner, policy, config)
        return engine, ThreadSampler(stages, engine, thread)
    engine = _checked(engine, learner, policy, config)
    return engine, LocalSampler(stages, engine)


def _rollout_thread(config: RunConfig, components: Components, engine: Engine) -> RolloutThread:
    """A thread that samples with an engine of other processes.

    Its algorithms, environment and tokenizer are its own, since those of the loop are used at the
    same time.
    """
    assert isinstance(engine, StoringEngine), "an engine elsewhere stores weights"
    tokenizer = load_tokenizer(config.model)
    own = replace(components, tokenizer=tokenizer, environment=config.environment.make())
    sampler = make_sampler(config, make_stages(config, own), engine)
    return RolloutThread(engine, sampler, own.environment)


def _checked(engine: Engine, learner: Learner, policy: Policy, config: RunConfig) -> Engine:
    """`engine`, with a check of its syncs if the configuration asks for it."""
    if not config.canary.every or not engine.capabilities.scoring:
        return engine
    tokens = text_tokens(policy.tokenizer, policy.vocabulary_size)
    probes = make_probes(tokens, config.canary, engine.capabilities.max_positions)
    return CheckedEngine(engine, learner, probes, config.canary)


def _evaluator(
    config: RunConfig, components: Components, learner: Learner, progress: Progress
) -> Evaluator:
    """The evaluator. If the engine of the run has noise, it gets one of its own without."""
    quiet = config.model_copy(update={"engine": config.engine.without_noise()})
    policy, noisy = components.policy, config.engine.has_noise
    return Evaluator(
        config.evaluation,
        engine_without_noise=make_engine(quiet, policy, progress=progress) if noisy else None,
        publish=learner.publish,
        environment=components.environment,
        tokenizer=components.tokenizer,
        sampling=config.sampling,
        seed=derive_seed(config.seed, EVALUATION),
        progress=progress,
    )


def _notes(config: RunConfig, components: Components, engine: Engine) -> tuple[str, ...]:
    """Notes of the components.

    Raises:
        UserError: the engine cannot do what the configuration asks for.
    """
    policy, environment = components.policy, components.environment
    told = (policy.end_token_note, generation_note(policy.model.generation_config))
    return (
        *filter(None, told),
        *warm_up_notes(config),
        *template_notes(policy.tokenizer),
        *(environment.notes if isinstance(environment, SupportsNotes) else ()),
        *check_engine(config, engine.capabilities),
    )
