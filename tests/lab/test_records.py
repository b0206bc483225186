"""What is kept of a finished run."""

import json
from pathlib import Path

import numpy as np
import pytest

from steadyrl.algorithms.memory import NoMemory
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.errors import UserError
from steadyrl.lab.records import digest_of, read_record, record_of, write_record
from steadyrl.lab.study import changed
from steadyrl.objectives import CISPO, GRPO
from steadyrl.records.run_folder import RunFolder
from tests.lab.made_up import record
from tests.run.tiny import tiny_run


def test_a_digest_names_the_configuration() -> None:
    config = tiny_run()
    digests = {
        digest_of(changed(config, **changes))
        for changes in (
            {},
            {"seed": 1},
            {"steps": 7},
            {"routing_replay": "none"},
            {"algorithm": config.algorithm.model_dump() | {"objective": GRPO()}},
            {"algorithm": config.algorithm.model_dump() | {"objective": CISPO()}},
        )
    }
    assert len(digests) == 6
    assert digest_of(tiny_run()) == digest_of(config)


def test_a_setting_at_its_default_is_no_part_of_the_name() -> None:
    config = tiny_run()
    spelled_out = changed(config, evaluation=config.evaluation.model_dump() | {"max_turns": 32})
    assert digest_of(spelled_out) == digest_of(config)


def test_curves_are_means_over_bins_of_gradient_steps(tmp_path: Path) -> None:
    # N = 2, so a bin of 8 gradient steps is 4 steps of the run; 6 steps make a bin and a half.
    folder = RunFolder(tmp_path)
    folder.manifest.write_text(json.dumps({"commit": "abc", "machine": "m"}))
    folder.append_metrics({"stage": "cold_start", "step": 1, "loss": 1.0})
    folder.append_metrics({"stage": "rl", "step": 0, "score": 0.25})
    for step, reward in enumerate((0.0, 0.2, 0.4, 0.6, 0.5, 0.7), start=1):
        row = {"stage": "rl", "step": step, "reward": reward, "seconds": 0.5}
        folder.append_metrics(row | ({"score": 0.75} if step == 6 else {}))
    kept = record_of(folder, tiny_run())

    assert kept.curves == {"reward": [0.3, 0.6], "seconds": [0.5, 0.5]}
    assert kept.scores == [(0, 0.25), (12, 0.75)]
    assert kept.gradient_steps == 12
    assert kept.seconds == 3.0
    assert kept.curve("entropy").size == 0
    assert kept.bin_centers(2).tolist() == [4.0, 12.0]


def test_bins_are_of_the_steps_that_have_the_metric(tmp_path: Path) -> None:
    # Bins of 4 steps: 0.2 and 0.4 in the first, nothing in the second, 0.9 in the last.
    folder = RunFolder(tmp_path)
    folder.manifest.write_text(json.dumps({"commit": "abc", "machine": "m"}))
    values = {1: 0.2, 4: 0.4, 9: 0.9}
    for step in range(1, 10):
        row = {"stage": "rl", "step": step, "reward": 0.5, "seconds": 0.5}
        folder.append_metrics(row | ({"reward_reflected": values[step]} if step in values else {}))
    kept = record_of(folder, tiny_run())
    assert kept.curves["reward_reflected"] == [0.3, None, 0.9]
    assert np.isnan(kept.curve("reward_reflected")[1])


def test_every_setting_of_experiential_rl_has_a_part_in_the_name() -> None:
    config = changed(tiny_run(), algorithm=PolicyGradientSettings())
    with_erl = [
        changed(config, algorithm={"name": "erl"} | options)
        for options in ({}, {"gate": False}, {"memory": NoMemory()}, {"group_size": 8})
    ]
    assert len({digest_of(run) for run in [config, *with_erl]}) == 5


def test_a_default_of_experiential_rl_is_no_part_of_the_name() -> None:
    config = changed(tiny_run(), algorithm=PolicyGradientSettings())
    whole = changed(config, algorithm={"name": "erl", "gate": True})
    assert digest_of(whole) == digest_of(changed(config, algorithm="erl"))


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.json"
    write_record(record([0.1, 0.2], failure="why"), path)
    assert read_record(path) == record([0.1, 0.2], failure="why")


@pytest.mark.parametrize("text", ["not json", "{}", '{"scores": []}'])
def test_a_damaged_record_says_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json is not a record of a run: .* Remove it"):
        read_record(path)


def test_a_record_without_its_configuration_says_how_to_add_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(record([0.1]), path)
    values = json.loads(path.read_text())
    del values["configuration"], values["changes"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"without its configuration.*recorded_configurations\.py"):
        read_record(path)


def test_a_record_holds_the_configuration_of_its_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.manifest.write_text(json.dumps({"commit": "abc", "machine": "m"}))
    folder.append_metrics({"stage": "rl", "step": 1, "reward": 0.5, "seconds": 0.5})
    config = changed(tiny_run(), seed=4)
    write_record(record_of(folder, config), tmp_path / "a.json")
    assert read_record(tmp_path / "a.json").config == config
