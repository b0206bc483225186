"""Plans of small runs on one CPU core beside what was measured there.

    python -m benchmarks.performance.plan_checks            # from the recorded measurements
    python -m benchmarks.performance --only rollout,update  # measures the times again
    python benchmarks/memory_plans.py models/smollm2        # and the memory

W1's rollout and the share of peak operations that W2's update reaches fix two constants of the cost
model (`cpu_operation_seconds`, `cpu_training`); the other rows test it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory_plans import configurations
from benchmarks.performance.long_tail_world import W2

from steadyrl.planning.costs import EngineCost, LearnerCost
from steadyrl.planning.hardware import ACCELERATORS, Cluster
from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.plan import plan_run, shape_of
from steadyrl.planning.reading import read_shape
from steadyrl.planning.settings import PlanSettings
from steadyrl.planning.shape import ModelShape
from steadyrl.planning.workload import TrainedRow, Workload
from steadyrl.policies.model_settings import SmallMoE

RESULTS = Path(__file__).parents[1] / "results"

CORE = Cluster.parse("1xCPU")
FLOAT32 = 4
ROWS = 256
"""Responses of a rollout of W1 and of W2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A planned and a measured value.

    Example:
        Check(what="rollout, W2, s", planned=20.0, measured=26.9)
    """

    what: str
    planned: float
    measured: float

    fixes: str = ""
    """The constant that it fixes."""

    @property
    def error(self) -> float:
        """Error of the plan, as a share of what was measured."""
        return self.planned / self.measured - 1


def checks() -> Iterator[Check]:
    """Times of W1 and W2, and the peak of a run of one step."""
    for name, shape, work in (("W1", shape_of(SmallMoE()), w1()), ("W2", w2_shape(), w2())):
        key = name.lower()
        yield Check(
            what=f"rollout, {name}, s",
            planned=rollout_seconds(shape, work),
            measured=measured("rollout", f"rollout-{key}-generate"),
            fixes="`cpu_operation_seconds`" if name == "W1" else "",
        )
        yield Check(
            what=f"update, {name}, s",
            planned=update_seconds(shape, work),
            measured=measured("update", f"update-{key}-bare"),
            fixes="`cpu_training`, by 64 of its rows" if name == "W2" else "",
        )
    yield memory_check()


def memory_check() -> Check:
    """The peak of one step of a dense model of 34 million parameters."""
    name = "34M dense, float32"
    settings = PlanSettings(gpus="1xCPU", prompt_tokens=12, response_tokens=32)
    plan = plan_run(configurations(Path("none"))[name], settings)
    (memory,) = plan.devices.values()
    runs = json.loads((RESULTS / "memory_plans.json").read_text(encoding="utf-8"))["runs"]
    (peak,) = (run["measured"] for run in runs if run["run"] == name)
    return Check(what=f"peak memory, {name}, GB", planned=memory.least / 1e9, measured=peak / 1e9)


def measured(group: str, key: str) -> float:
    """Recorded seconds of our side of a row of `benchmarks.performance`."""
    record = json.loads((RESULTS / f"performance_{group}.json").read_text(encoding="utf-8"))
    (row,) = (row for row in record["rows"] if row["key"] == key)
    seconds: float = row["measured"]["details"]["ours"]["seconds"]
    return seconds


def w1() -> Workload:
    """32 prompts x 8 answers of 20 tokens in mean, at most 32: `docs/performance.md`."""
    return _workload(prompt=12, group=8, mean=20.4, maximum=32, spread=0.1)


def w2() -> Workload:
    """16 prompts of 96 tokens x 16 answers, geometric lengths cut off at 512."""
    return _workload(prompt=96, group=16, mean=100.5, maximum=512, spread=1.0)


def w2_shape() -> ModelShape:
    """29 million parameters, 16 experts of which 2 are chosen."""
    return read_shape(W2, "W2")


def _workload(*, prompt: int, group: int, mean: float, maximum: int, spread: float) -> Workload:
    row = TrainedRow(length=prompt + mean, computed=prompt / group + mean, answered=mean)
    return Workload(
        sequences=ROWS,
        group=group,
        prompt=prompt,
        lengths=ResponseLengths(mean=mean, maximum=maximum, spread=spread),
        rows=(row,),
        updates=1,
        reference=False,
        steps_ahead=0,
    )


def rollout_seconds(shape: ModelShape, work: Workload) -> float:
    """Planned time of the rollout by the local engine in float32."""
    engine = EngineCost(
        shape=shape,
        accelerator=ACCELERATORS["CPU"],
        itemsize=FLOAT32,
        cache_itemsize=FLOAT32,
        eager=True,
    )
    lengths = work.lengths.quantiles(work.sequences)
    return engine.rollout_seconds(lengths, prompt=float(work.prompt), group=work.group, slots=ROWS)


def update_seconds(shape: ModelShape, work: Workload) -> float:
    """Planned time of the update by the local learner in float32."""
    learner = LearnerCost(
        shape=shape, cluster=CORE, itemsize=FLOAT32, micro_batch_tokens=8192, checkpointing=False
    )
    return learner.update_seconds(work)


def main() -> None:
    """Prints a row for each check."""
    print("| | planned | measured | error | |\n|---|---|---|---|---|")
    for check in checks():
        fixes = f"fixes {check.fixes}" if check.fixes else ""
        print(
            f"| {check.what} | {check.planned:.3g} | {check.measured:.3g} | {check.error:+.0%} "
            f"| {fixes} |"
        )


if __name__ == "__main__":
    main()
