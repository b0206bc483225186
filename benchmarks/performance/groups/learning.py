"""Time from one cold start to 0.85 accuracy on the demo's task: ours against TRL's GRPOTrainer.

Both take the same optimiser steps on their own samples: the demo's prompts, learning rates and
MiniRL, which on-policy and without mismatch is what TRL is set to do. They take turns step by step;
evaluations, by the same code on the same held-out problems, count for nobody.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks.performance.context import Context
from benchmarks.performance.demo_world import cold_started
from benchmarks.performance.groups.step import OurStep
from benchmarks.performance.records import Measured, Row, attempt, exact
from benchmarks.performance.timing import Sample
from benchmarks.performance.worlds import World
from transformers import PreTrainedModel

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.driver import drive
from steadyrl.evaluation.accuracy import measure_accuracy
from steadyrl.recipes import RECIPES
from steadyrl.records.weight_source import StateDictWeights

ACCURACY = 0.85
EVALUATE_EVERY = 10
QUICK_STEPS = 6
MICRO_BATCHES = ((512, False), (128, False))


def rows(context: Context) -> Iterator[Row]:
    """The one race."""
    what = f"time from cold start to {ACCURACY} accuracy, against TRL"
    yield attempt("learning-trl", what, partial(_race, context))


def learning_world(context: Context) -> World:
    """The demo at the end of its own, full cold start."""
    config = RECIPES["demo"]()
    algorithm = config.algorithm
    assert isinstance(algorithm, PolicyGradientSettings)
    return World(
        name="demo",
        checkpoint=cold_started(config, context.work / "demo"),
        environment=config.environment.make(),
        prompts=algorithm.prompts,
        group_size=algorithm.group_size,
        max_new_tokens=config.sampling.max_new_tokens,
        device=context.device,
    )


class Runner:
    """How one competitor comes along."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._policy = world.policy()
        self._engine = world.engine(self._policy)
        self._settings = RECIPES["demo"]().evaluation
        self.seconds = 0.0
        self.steps = 0
        self.curve: list[tuple[float, float]] = []
        """(seconds, accuracy)"""

    @property
    def arrived(self) -> bool:
        """Whether its last evaluation was good enough."""
        return bool(self.curve) and self.curve[-1][1] >= ACCURACY

    def took(self, sample: Sample, model: PreTrainedModel) -> None:
        """Notes a step after which the weights are those of `model`."""
        self.seconds += sample.seconds
        self.steps += 1
        if self.steps % EVALUATE_EVERY == 0:
            self.evaluate(model)

    def evaluate(self, model: PreTrainedModel) -> None:
        """Adds a point to the curve."""
        weights = StateDictWeights(state=model.state_dict(), version=self.steps)
        drive(self._engine.sync(weights))
        accuracy = drive(
            measure_accuracy(
                self._settings,
                environment=self._world.environment,
                engine=self._engine,
                tokenizer=self._policy.tokenizer,
                sampling=self._world.sampling,
                seed=0,
            )
        )
        self.curve.append((self.seconds, accuracy.score))


def _race(context: Context) -> Measured:
    from benchmarks.performance.peers.trl_grpo import Choice, InTurn, fastest, trainer_for

    config, world = RECIPES["demo"](), learning_world(context)
    folder, optimizer = context.work / "trl", config.optimizer
    choices = [Choice(micro_batch=size, continuous=way) for size, way in MICRO_BATCHES]
    best, _ = fastest(world, choices, optimizer=optimizer, folder=folder)
    our_step = OurStep(world, optimizer, steps=config.steps)
    ours, trl = Runner(world), Runner(world)
    ours.evaluate(our_step.learner.policy.model)
    turns = InTurn(lambda step, model: between(step, model))
    limit = QUICK_STEPS if context.quick else config.steps

    def between(step: int, model: PreTrainedModel) -> bool:
        trl.took(turns.samples[-1], model)
        if not ours.arrived:
            ours.took(our_step(), our_step.learner.policy.model)
        return trl.arrived or step == limit

    trainer_for(
        world, best, steps=config.steps, optimizer=optimizer, callbacks=[turns], folder=folder
    ).train()
    return _measured(ours, trl)


def _measured(ours: Runner, trl: Runner) -> Measured:
    details = {
        name: {"steps": runner.steps, "seconds": runner.seconds, "curve": runner.curve}
        for name, runner in (("ours", ours), ("peer", trl))
    }
    unit = "x TRL's time over ours, one run each"
    if not ours.arrived:
        note = f"ours not reached within {ours.steps} steps, {ours.seconds:.0f} s"
        return Measured(value=None, unit=unit, details=details, note=note)
    note = f"ours {ours.seconds:.0f} s in {ours.steps} steps; "
    note += f"TRL {trl.seconds:.0f} s in {trl.steps} steps"
    note += "" if trl.arrived else ", not reached: the ratio is a lower bound"
    return Measured(value=exact(trl.seconds / ours.seconds), unit=unit, details=details, note=note)
