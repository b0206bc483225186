"""The plan of a run on a cluster: what fits where, how long a step takes, and what limits it.

configuration --> shape, workload --+
64xH100       --> layouts ----------+--> memory of each device --> fits? --> seconds of a step
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.planning.costs import EngineCost, LearnerCost, rollout_seconds, sync_seconds
from steadyrl.planning.hardware import Cluster
from steadyrl.planning.layout import Layout, layouts
from steadyrl.planning.memory import (
    DeviceMemory,
    engine_memory,
    learner_memory,
    shared_memory,
)
from steadyrl.planning.reading import (
    engine_itemsize,
    is_eager,
    learner_itemsize,
    read_config,
    read_shape,
    read_workload,
)
from steadyrl.planning.settings import PlanSettings
from steadyrl.planning.shape import ModelShape
from steadyrl.planning.workload import Workload
from steadyrl.policies.model_settings import ModelSettings, Pretrained
from steadyrl.run.config import RunConfig

MOST_DEVICES = 1 << 14
"""Devices up to which a cluster that fits is searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of the parts of a step.

    Example:
        StepTime(rollout=90.0, scoring=0.0, update=60.0, sync=7.0, overlaps=False)
    """

    rollout: float
    scoring: float
    update: float
    sync: float

    overlaps: bool
    """Whether the next rollout is sampled during scoring and update."""

    @property
    def total(self) -> float:
        """Seconds from one step to the next."""
        training = self.scoring + self.update
        together = max(self.rollout, training) if self.overlaps else self.rollout + training
        return together + self.sync

    @property
    def bottleneck(self) -> str:
        """The part that takes longest."""
        parts = {name: getattr(self, name) for name in ("rollout", "scoring", "update", "sync")}
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run on a cluster in one layout.

    Example:
        plan_run(config, PlanSettings(gpus="64xH100")).time.total
    """

    config: RunConfig
    shape: ModelShape
    work: Workload
    layout: Layout

    @property
    def engine(self) -> EngineCost:
        """The cost of one engine."""
        return EngineCost(
            shape=self.shape,
            accelerator=self.layout.cluster.accelerator,
            tensor_parallel=self.layout.tensor_parallel,
            itemsize=engine_itemsize(self.config),
            eager=is_eager(self.config),
        )

    @property
    def learner(self) -> LearnerCost:
        """The cost of the learner."""
        return LearnerCost(
            shape=self.shape,
            cluster=self.layout.cluster.with_devices(self.layout.learner_devices),
            itemsize=learner_itemsize(self.config),
            micro_batch_tokens=self.config.learner.micro_batch_tokens,
            checkpointing=self.config.learner.activation_checkpointing,
        )

    @cached_property
    def devices(self) -> dict[str, DeviceMemory]:
        """Memory of a device of each kind."""
        engine = engine_memory(self.engine, self.work)
        learner = learner_memory(self.config, self.shape, self.work, self.layout)
        if self.layout.is_shared:
            return {"engine and learner": shared_memory(engine, learner)}
        return {"engine": engine, "learner": learner}

    @property
    def fits(self) -> bool:
        """Whether every device holds its part."""
        return all(memory.fits for memory in self.devices.values())

    @cached_property
    def capacity(self) -> int:
        """Sequences that an engine can decode at the same time: as many as its cache holds at their
        mean length, and no more than its settings allow.
        """
        memory = next(iter(self.devices.values()))
        mean = self.engine.cache_bytes(self.work.prompt + self.work.lengths.mean)
        held = max(1, int(memory.cache / mean)) if mean else self.work.sequences
        limit = getattr(self.config.engine, "max_running", "auto")
        return min(held, limit) if isinstance(limit, int) else held

    @property
    def slots(self) -> int:
        """Sequences that an engine decodes at the same time."""
        together = self.work.sequences * (1 + self.work.steps_ahead)
        return min(self.capacity, -(-together // self.layout.engines))

    @cached_property
    def time(self) -> StepTime:
        """Seconds of a step."""
        work, cluster = self.work, self.layout.cluster
        overlaps = work.steps_ahead > 0 and not self.layout.is_shared
        return StepTime(
            rollout=rollout_seconds(
                self.engine,
                work,
                engines=self.layout.engines,
                slots=self.slots,
                together=1 + work.steps_ahead * overlaps,
            ),
            scoring=self.learner.scoring_seconds(work),
            update=self.learner.update_seconds(work),
            sync=sync_seconds(
                self.shape, cluster, self.engine.itemsize, shared=self.layout.is_shared
            ),
            overlaps=overlaps,
        )

    @property
    def sync_bytes(self) -> float:
        """Bytes of the weights that each engine receives at a sync."""
        return float(self.shape.parameters * self.engine.itemsize)

    @property
    def route_bytes(self) -> float:
        """Bytes of the engine's expert choices in a step, one for each layer and choice."""
        return self.work.sampled * self.shape.layers * self.shape.experts_per_token

    @property
    def gathered_bytes(self) -> float:
        """Bytes that each device of the learner gathers and reduces in a pass of the update."""
        if self.layout.learner_devices == 1:
            return 0.0
        return self.shape.parameters * (2.0 * learner_itemsize(self.config) + 4)

    @property
    def tokens_per_second(self) -> float:
        """Tokens that are trained on, per second and device."""
        return self.work.tokens / self.time.total / self.layout.cluster.devices


def plan_run(config: RunConfig, settings: PlanSettings) -> RunPlan:
    """The fastest plan that fits.

    Raises:
        UserError: none fits; the message names the smallest change that does. Or the model's
            configuration is not on this machine, or a setting cannot be used.
    """
    return min(fitting_plans(config, settings), key=lambda plan: plan.time.total)


def fitting_plans(config: RunConfig, settings: PlanSettings) -> list[RunPlan]:
    """The plans of all layouts that fit.

    Raises:
        UserError: as `plan_run`.
    """
    cluster = Cluster.parse(settings.gpus)
    settings = _with_tensor_parallel(config, settings)
    plans = list(_plans(config, settings, cluster))
    fitting = [plan for plan in plans if plan.fits]
    if not fitting:
        raise UserError(_refusal(config, settings, cluster, plans))
    return fitting


def _with_tensor_parallel(config: RunConfig, settings: PlanSettings) -> PlanSettings:
    """The settings with the tensor parallelism that the engine's own settings give, if any."""
    given = getattr(config.engine, "options", {}).get("tensor_parallel_size")
    if settings.tensor_parallel != "auto" or given is None:
        return settings
    return settings.model_copy(update={"tensor_parallel": given})


def shape_of(settings: ModelSettings) -> ModelShape:
    """The shape of a model, read once.

    Raises:
        UserError: its configuration is not on this machine.
    """
    name = settings.path if isinstance(settings, Pretrained) else str(settings.name)
    return _shape(settings, name)


@lru_cache(maxsize=16)
def _shape(settings: ModelSettings, name: str) -> ModelShape:
    return read_shape(read_config(settings), name)


def _plans(config: RunConfig, settings: PlanSettings, cluster: Cluster) -> Iterator[RunPlan]:
    shape, work = shape_of(config.model), read_workload(config, settings)
    for layout in layouts(cluster, settings):
        if shape.divides_among(layout.tensor_parallel):
            yield RunPlan(config=config, shape=shape, work=work, layout=layout)
        elif settings.tensor_parallel != "auto":
            raise UserError(_indivisible(shape, layout.tensor_parallel))


def _indivisible(shape: ModelShape, devices: int) -> str:
    able = [str(number) for number in range(1, 17) if shape.divides_among(number)]
    return (
        f"--tensor-parallel is {devices}, but {shape.name} has {shape.heads} attention heads and "
        f"{shape.kv_heads} for keys and values, which {devices} devices cannot share evenly. Use "
        f"{', '.join(able)}, or auto."
    )


CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("learner.activation_checkpointing to true", {"activation_checkpointing": True}),
    (
        "learner.activation_checkpointing to true and learner.micro_batch_tokens to 1024",
        {"activation_checkpointing": True, "micro_batch_tokens": 1024},
    ),
)
"""Changes of the learner that save memory on a cluster, the cheapest first."""


def _refusal(
    config: RunConfig, settings: PlanSettings, cluster: Cluster, plans: list[RunPlan]
) -> str:
    """Sentence for a run that fits in no layout: what the nearest needs, and what suffices."""
    nearest = min(plans, key=_excess)
    kind, memory = max(nearest.devices.items(), key=lambda item: item[1].least)
    parts = {**memory.held, **memory.update}
    if memory.sequence > sum(memory.update.values()):
        parts = {**memory.held, "keys and values of one sequence": memory.sequence}
    largest = sorted(parts, key=lambda name: -parts[name])[:3]
    listed = ", ".join(f"{parts[name] / 1e9:.3g} for {name}" for name in largest)
    return (
        f"{nearest.shape.name} does not fit on {cluster}: in the layout that comes closest, a "
        f"device of the {kind} needs {memory.least / 1e9:.3g} GB ({listed}), and "
        f"{memory.usable / 1e9:.3g} of its GB are usable. {_remedy(config, settings, cluster)}"
    )


def _excess(plan: RunPlan) -> float:
    """The largest part of a device's memory that the plan needs."""
    return max(memory.least / memory.usable for memory in plan.devices.values())


def _remedy(config: RunConfig, settings: PlanSettings, cluster: Cluster) -> str:
    for words, changes in CHANGES:
        changed = config.model_copy(update={"learner": config.learner.model_copy(update=changes)})
        if any(plan.fits for plan in _plans(changed, settings, cluster)):
            return f"Set {words}."
    both = config.learner.model_copy(update=CHANGES[0][1])
    frugal = config.model_copy(update={"learner": both})
    free = settings.model_copy(update={"engine_gpus": "auto", "tensor_parallel": "auto"})
    devices = cluster.devices
    while devices < MOST_DEVICES:
        if any(plan.fits for plan in _plans(frugal, free, cluster.with_devices(devices))):
            more = (
                "" if devices == cluster.devices else f"--gpus {devices}x{cluster.accelerator.name}"
            )
            own = "" if config.learner.activation_checkpointing else f", with {CHANGES[0][0]}"
            return f"Use {more or '--engine-gpus auto and --tensor-parallel auto'}{own}."
        devices *= 2
    return "No number of these devices makes it fit: lower sampling.max_new_tokens."
