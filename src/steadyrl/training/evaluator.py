"""Evaluation at regular steps of a run."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.protocol import Environment
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from steadyrl.evaluation.drift import DriftProbe
from steadyrl.records.weight_source import WeightSource
from steadyrl.training.stage import Stage


class Evaluator:
    """Measures the engine's policy on the same held-out tasks with the same random numbers.

    Args:
        engine_without_noise: Used instead of the run's engine, with the learner's weights; None if
            that engine has no noise.
        publish: Gives the learner's present weights to that engine.
    """

    drift: DriftProbe | None = None
    """Scores off-task texts at the same steps; None: they are not scored."""

    def __init__(
        self,
        settings: EvaluationSettings,
        *,
        environment: Environment,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        seed: int,
        engine_without_noise: Engine | None = None,
        publish: Callable[[], WeightSource] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.settings = settings
        self._engine_without_noise = engine_without_noise
        self._publish = publish
        self._progress = progress
        self._environment = environment
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._seed = seed
        self.drift = DriftProbe.create(settings.drift, tokenizer)

    def is_due(self, stage: Stage, step: int) -> bool:
        """Whether an evaluation takes place after `step` steps of `stage`."""
        every = stage.evaluate_every
        return every is not None and (step % every == 0 or step == stage.steps)

    async def evaluate(self, stage: Stage, step: int, engine: Engine) -> Accuracy | None:
        """The accuracy after `step` steps of `stage`; None if no evaluation is due.

        Raises:
            UserError: the environment fails in every episode before the first step.
        """
        if not self.is_due(stage, step):
            return None
        if self._engine_without_noise is not None and self._publish is not None:
            await self._engine_without_noise.sync(self._publish())
            engine = self._engine_without_noise
        accuracy = await measure_accuracy(
            self.settings,
            environment=self._environment,
            engine=engine,
            tokenizer=self._tokenizer,
            sampling=self._sampling,
            seed=self._seed,
            progress=self._progress,
        )
        if step == 0:  # later on it may be an outage, which a run outlives
            accuracy.require_measured()
        return accuracy
