"""Records of runs that never were."""

from collections.abc import Sequence

from steadyrl.lab.claims import Claim
from steadyrl.lab.configurations import CHANGES, to_stored
from steadyrl.lab.records import RunRecord
from steadyrl.lab.study import Condition, Study
from steadyrl.run.config import RunConfig
from tests.run.tiny import tiny_run


def record(
    reward: Sequence[float],
    *,
    seed: int = 0,
    scores: Sequence[tuple[int, float]] = ((0, 0.1), (160, 0.5)),
    gradient_steps: int = 160,
    failure: str | None = None,
    entropy: float = 0.5,
    mismatch: float = 1e-3,
    config: RunConfig | None = None,
) -> RunRecord:
    """A run with one reward for each bin of eight gradient steps."""
    return RunRecord(
        digest=f"{seed:016x}",
        seed=seed,
        commit="abc",
        machine="a machine",
        seconds=1.0,
        gradient_steps=gradient_steps,
        failure=failure,
        scores=list(scores),
        curves={
            "reward": list(reward),
            "entropy": [entropy] * len(reward),
            "mismatch_kl_k3": [mismatch] * len(reward),
            "gradient_norm": [2.0] * len(reward),
        },
        configuration=to_stored(config or tiny_run()),
        changes=len(CHANGES),
    )


def study_of(claims: Sequence[Claim], names: Sequence[str] = ("A", "B")) -> Study:
    """A study of two conditions that differ in nothing but their learning rate."""
    config = tiny_run()
    conditions = tuple(
        Condition(
            name=name,
            config=config.model_copy(
                update={
                    "optimizer": config.optimizer.model_copy(
                        update={"learning_rate": 1e-3 * (number + 1)}
                    )
                }
            ),
        )
        for number, name in enumerate(names)
    )
    return Study(
        experiment="made-up",
        level="fp8",
        title="Made up",
        conditions=conditions,
        claims=tuple(claims),
    )
