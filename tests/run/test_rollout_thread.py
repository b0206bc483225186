"""Rollouts in a thread beside updates: the same run as in one process, and none is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.base.progress import Progress
from steadyrl.engines.protocol import Engine, EngineCapabilities
from steadyrl.policies.policy import Policy
from steadyrl.records.weight_source import StateDictWeights, WeightSource
from steadyrl.run.assembly import Assembly
from steadyrl.run.components import make_engine
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.placement.embedded import Embedded
from steadyrl.run.placement.settings import EmbeddedPlacement
from steadyrl.run.rollout_thread import ThreadEngine
from steadyrl.training.journal import JournalSettings
from tests.run.test_execution import StopAfter, timeless
from tests.run.test_overlap import CONTINUOUS, OVERLAP, engine, one_stage, tasks_of

pytestmark = pytest.mark.slow


class Apart:
    """An engine whose weights are stored before they are loaded, as one of other processes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.loads: list[int] = []

    @property
    def capabilities(self) -> EngineCapabilities:
        return self._inner.capabilities

    @property
    def policy_version(self) -> int:
        return self._inner.policy_version

    async def generate(self, request: Any) -> Any:
        return await self._inner.generate(request)

    async def score(self, sequences: Any) -> Any:
        return await self._inner.score(sequences)

    async def sync(self, weights: WeightSource) -> None:
        await self.load(self.store(weights))

    def store(self, weights: WeightSource) -> StateDictWeights:
        state = {name: value.clone() for name, value in weights.tensors("model")}
        return StateDictWeights(state=state, version=weights.version)

    async def load(self, stored: StateDictWeights) -> None:
        self.loads.append(stored.version)
        await self._inner.sync(stored)


class ThreadPlacement(EmbeddedPlacement):
    """The engine in this process, used by a thread."""

    @property
    def engines_are_elsewhere(self) -> bool:
        return True

    def open(self, config: RunConfig, progress: Progress) -> Any:
        return _Placed(config)


class _Placed(Embedded):
    def engine(self, policy: Policy, progress: Progress) -> Engine:
        return Apart(make_engine(self._config, policy, progress=progress))


def in_thread(**changes: Any) -> RunConfig:
    """A run whose rollouts are sampled in a thread."""
    return one_stage(**changes).model_copy(update={"placement": ThreadPlacement()})


def test_rollouts_of_a_thread_are_those_of_the_same_bound_in_one_process(tmp_path: Path) -> None:
    start_run(in_thread(engine=OVERLAP), tmp_path / "thread")
    start_run(one_stage(engine=engine(max_staleness=1)), tmp_path / "plain")

    elsewhere = "engine_update_reached_fraction"
    one, other = (
        [{k: v for k, v in row.items() if k != elsewhere} for row in timeless(tmp_path / name)]
        for name in ("thread", "plain")
    )
    assert one == other
    assert any(row.get("gradient_norm", 0.0) > 0 for row in one)


def test_a_continuous_thread_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    journal = JournalSettings(checkpoint_every=2)
    config = in_thread(engine=CONTINUOUS, steps=6, journal=journal)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", [StopAfter("rl", 3)])
    resume_run(tmp_path / "run")  # as config.yaml says, in two processes
    start_run(one_stage(steps=6), tmp_path / "plain")

    assert tasks_of(tmp_path / "run") == tasks_of(tmp_path / "plain")
    rows = [row for row in timeless(tmp_path / "run") if row["step"] > 0]
    assert max(row["staleness_oldest"] for row in rows) <= 2 * 2  # two updates per rollout


def test_exceptions_of_the_thread_are_raised_in_this_one() -> None:
    assembly = Assembly.of(in_thread(engine=CONTINUOUS))
    engine = getattr(assembly.engine, "engine", assembly.engine)
    assert isinstance(engine, ThreadEngine)
    with pytest.raises(IndexError):
        assembly.sampler.state(7)
    with pytest.raises(AssertionError, match="stateful"):
        assembly.sampler.load_state(0, torch.zeros(1))
    assembly.close()
    assembly.close()
