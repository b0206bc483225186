"""An asynchronous run whose rollouts come from two vLLM engines in actors of a Ray cluster."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steadyrl.engines.canary import CanarySettings
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.placement.settings import RayPlacement
from tests.run.test_overlap import tasks_of
from tests.run.tiny import tiny_run

pytest.importorskip("vllm")
pytest.importorskip("ray")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

STEPS = 4


def run(**changes: Any) -> RunConfig:
    least = {"width": 32, "head_dim": 32, "expert_width": 32}  # sizes that vLLM computes
    return tiny_run(model=tiny_run().model.model_copy(update=least), steps=STEPS, **changes)


def test_an_asynchronous_run_on_two_engines_learns_from_each_task_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steadyrl.run.placement.ray_engine import PlacedEngine

    asked: Counter[tuple[int, str]] = Counter()

    class Counted(PlacedEngine):
        async def ask(self, question: str, *args: Any) -> Any:
            asked[self.number, question] += 1
            return await super().ask(question, *args)

    monkeypatch.setattr("steadyrl.run.placement.on_ray.PlacedEngine", Counted)
    engine = VllmSettings(
        numerics="float32",
        cache_memory=64,
        overlap=True,
        in_flight="continue",
        max_staleness=2,
    )
    placement = RayPlacement(address="local:2", connect_timeout=60.0, timeout=300.0)
    config = run(engine=engine, placement=placement, canary=CanarySettings(every=1))
    start_run(config, tmp_path / "run")
    start_run(run(), tmp_path / "plain")

    assert tasks_of(tmp_path / "run") == tasks_of(tmp_path / "plain")
    rows = [row for row in RunFolder(tmp_path / "run").read_metrics() if row["stage"] == "rl"]
    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    assert max(row["canary_difference"] for row in rows[1:]) < 1e-4
    assert 0 < max(row["staleness_oldest"] for row in rows[1:]) <= 2 * 2  # two updates per rollout
    for number in (0, 1):
        assert asked[number, "generate"] > 0
        assert asked[number, "sync"] >= STEPS
