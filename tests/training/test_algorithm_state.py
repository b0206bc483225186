"""A checkpoint holds what the algorithm remembers, and notices damage to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.training import checkpoint
from steadyrl.training.checkpoint import load_checkpoint, read_algorithm_state, save_checkpoint
from steadyrl.training.stage import RunPosition, Stage
from tests.learners.small import Idle, tiny_learner
from tests.training.damage import cut_off, empty, flip_a_bit

LEARNER = tiny_learner()


class Remembering(Idle):
    """An algorithm with a state."""

    def __init__(self, state: object = None) -> None:
        self.remembered = state

    def state(self) -> object:
        return self.remembered

    def load_state(self, state: object) -> None:
        self.remembered = state


def stages(*algorithms: Any) -> list[Stage]:
    return [
        Stage(
            name=f"stage{number}",
            algorithm=algorithm,
            steps=1,
            optimizer=OptimizerSettings(),
            temperature=1.0,
        )
        for number, algorithm in enumerate(algorithms)
    ]


STATE = {"texts": ['"ü" \ud800', ""], "writes": 3, "nested": [[0.1, None]]}


def remembering(path: Path, state: Any = STATE) -> Path:
    save_checkpoint(
        path / "rl-000001", LEARNER, RunPosition(stage=1, step=1), algorithm_state=state
    )
    return path / "rl-000001"


def test_the_state_is_read_as_it_was_saved(tmp_path: Path) -> None:
    path = remembering(tmp_path)

    assert read_algorithm_state(path, stages(Remembering(), Remembering())) == STATE
    assert load_checkpoint(tmp_path / "rl-000001", tiny_learner()) == RunPosition(stage=1, step=1)


def test_the_state_is_verified_without_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load_checkpoint` has read them all before; hashing large weights takes minutes."""
    path, hashed = remembering(tmp_path), []
    real = checkpoint.sha256_of
    monkeypatch.setattr(checkpoint, "sha256_of", lambda f: (hashed.append(f.name), real(f))[1])
    state = read_algorithm_state(path, stages(Remembering(), Remembering()))

    assert (state, hashed) == (STATE, ["algorithm_state.json"])


@pytest.mark.parametrize("harm", [cut_off, flip_a_bit, empty, Path.unlink])
def test_a_damaged_state_is_refused_with_a_remedy(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = remembering(tmp_path)
    harm(path / "algorithm_state.json")
    with pytest.raises(UserError, match=r"is damaged: algorithm_state\.json .* Remove that folder"):
        read_algorithm_state(path, stages(Remembering(), Remembering()))
    with pytest.raises(UserError, match=r"is damaged: algorithm_state\.json"):
        load_checkpoint(path, tiny_learner())


def test_a_checkpoint_of_another_algorithm_is_refused(saved: Path) -> None:
    with pytest.raises(UserError, match=r"holds no memory, but Remembering has one\. Resume a run"):
        read_algorithm_state(saved, stages(Remembering(), Remembering()))


def test_an_algorithm_that_remembers_nothing_has_no_state(saved: Path) -> None:
    assert read_algorithm_state(saved, stages(Idle(), Idle())) is None
