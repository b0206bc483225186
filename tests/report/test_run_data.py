from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from steadyrl.analysis.series import Series
from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.run_data import read_run

MakeRun = Callable[..., RunFolder]


def test_a_series_holds_the_steps_that_recorded_it(make_run: MakeRun) -> None:
    rows = [
        {"stage": "rl", "step": 0, "score": 0.1},
        {"stage": "rl", "step": 1, "reward": 0.25},
        {"stage": "rl", "step": 2, "reward": None, "score": 0.5},
    ]
    (stage,) = read_run(make_run(rows)).stages
    score, reward = stage.series("score"), stage.series("reward")

    assert score is not None
    assert reward is not None
    assert (score.steps.tolist(), score.values.tolist()) == ([0, 2], [0.1, 0.5])
    assert (reward.steps.tolist(), reward.values.tolist()) == ([1], [0.25])
    assert stage.last_step == 2


def test_stages_keep_their_order_and_their_own_steps(make_run: MakeRun) -> None:
    rows = [
        {"stage": "cold_start", "step": 1, "loss": 2.0},
        {"stage": "rl", "step": 1, "reward": 0.5},
        {"stage": "cold_start", "step": 2, "loss": 1.0},
    ]
    stages = read_run(make_run(rows)).stages

    assert [(stage.title, stage.last_step) for stage in stages] == [
        ("Cold start", 2),
        ("Reinforcement learning", 1),
    ]


def test_layers_that_a_step_did_not_record_are_not_numbers(make_run: MakeRun) -> None:
    name = "routing_disagreement_per_layer"
    rows = [
        {"stage": "rl", "step": 1, name: []},
        {"stage": "rl", "step": 2, name: [0.25, 0.5]},
        {"stage": "rl", "step": 3, name: [0.75]},
    ]
    (stage,) = read_run(make_run(rows)).stages
    layers = stage.metrics[name]

    assert isinstance(layers, Series)
    assert layers.steps.tolist() == [2, 3]
    np.testing.assert_array_equal(layers.values, [[0.25, 0.5], [0.75, np.nan]])


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run folder: it has no config\.yaml"):
        read_run(RunFolder(tmp_path))


def test_a_run_without_metrics_is_refused_with_the_advice_to_wait(make_run: MakeRun) -> None:
    with pytest.raises(UserError, match=r"no metrics yet.*wait for its first step"):
        read_run(make_run([]))


def test_a_row_without_a_step_is_refused_by_its_number(make_run: MakeRun) -> None:
    rows = [{"stage": "rl", "step": 1, "reward": 0.5}, {"stage": "rl", "reward": 0.5}]

    with pytest.raises(UserError, match=r"Row 2 of .* has no step, got step=None"):
        read_run(make_run(rows))


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{broken", "cannot be read: .*Restore"),
        ("[1, 2]", "must hold values by name, got list.*Restore"),
    ],
)
def test_a_file_that_holds_no_values_by_name_is_refused(
    make_run: MakeRun, name: str, text: str, complaint: str
) -> None:
    folder = make_run([{"stage": "rl", "step": 1, "reward": 0.5}])
    (folder.path / name).write_text(text, encoding="utf-8")

    with pytest.raises(UserError, match=f"{name} {complaint}"):
        read_run(folder)
