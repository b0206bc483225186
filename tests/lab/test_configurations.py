"""A run on record is found by its configuration, whatever has become of settings since."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.errors import UserError
from steadyrl.lab.configurations import (
    CHANGES,
    Change,
    added,
    from_stored,
    identity,
    removed,
    renamed,
    replaced,
    to_stored,
)
from steadyrl.lab.records import find_records, read_record, write_record
from steadyrl.lab.study import changed
from steadyrl.lab.worlds.second_chance import SecondChanceSettings
from steadyrl.objectives import MiniRL
from steadyrl.run.config import RunConfig
from tests.lab.made_up import record
from tests.run.tiny import tiny_run

RECORDS = Path(__file__).parents[2] / "results" / "runs"


def keep_as_older_code_did(
    folder: Path, config: RunConfig, edit: Callable[[dict[str, Any]], None]
) -> None:
    """A record whose stored configuration is of another form than today's."""
    run = record([0.5], config=config)
    edit(run.configuration)
    write_record(replace(run, changes=len(CHANGES)), folder / "old.json")


@pytest.fixture
def config() -> RunConfig:
    return tiny_run()


@pytest.mark.parametrize(
    ("old", "change"),
    [
        (["optimizer", "lr"], renamed("optimizer.lr", "optimizer.learning_rate")),
        (["speed"], renamed("speed", "optimizer.learning_rate")),
    ],
    ids=["within its block", "from another block"],
)
def test_a_renamed_setting_takes_one_entry(
    old: list[str], change: Change, config: RunConfig, tmp_path: Path
) -> None:
    def edit(stored: dict[str, Any]) -> None:
        rate = stored["optimizer"].pop("learning_rate")
        block = stored
        for name in old[:-1]:
            block = block[name]
        block[old[-1]] = rate

    keep_as_older_code_did(tmp_path, config, edit)
    with pytest.raises(UserError, match=r"old\.json is not valid: .*CHANGES, or move the file"):
        find_records(tmp_path)
    assert find_records(tmp_path, [*CHANGES, change]) == {identity(config): tmp_path / "old.json"}


def test_a_whole_block_is_renamed_by_one_entry(config: RunConfig, tmp_path: Path) -> None:
    def edit(stored: dict[str, Any]) -> None:
        stored["method"] = stored.pop("algorithm")

    keep_as_older_code_did(tmp_path, config, edit)
    changes = [*CHANGES, renamed("method", "algorithm")]
    assert identity(config) in find_records(tmp_path, changes)


def test_other_values_are_other_runs_after_a_renaming_too(
    config: RunConfig, tmp_path: Path
) -> None:
    keep_as_older_code_did(tmp_path, config, lambda stored: stored.update(learning=True))
    other = changed(config, steps=config.steps + 1)
    found = find_records(tmp_path, [*CHANGES, removed("learning")])
    assert identity(config) in found
    assert identity(other) not in found


def test_a_record_keeps_the_value_that_was_the_default_when_it_was_made(config: RunConfig) -> None:
    # The record holds every setting, so one whose default changed since is not taken for the new.
    stored = to_stored(config)
    assert stored["evaluation"]["tasks"] == config.evaluation.tasks
    assert "max_turns" in stored["evaluation"]
    stored["evaluation"]["max_turns"] = 7
    assert from_stored(stored, len(CHANGES), "here").evaluation.max_turns == 7


def test_a_new_setting_may_stand_for_what_older_code_did(config: RunConfig) -> None:
    stored = to_stored(config)
    del stored["engine"]["max_running"]
    assert from_stored(stored, 0, "here", []).engine.max_running == 512
    changes = [added("engine.max_running", 8), added("no_such_block.gate", False)]
    assert from_stored(stored, 0, "here", changes).engine.max_running == 8


def test_changes_that_a_record_already_follows_are_not_made_again(config: RunConfig) -> None:
    # `steps` was once called `seed`, and what is called `seed` today is another setting.
    changes = [renamed("seed", "steps")]
    stored = to_stored(changed(config, seed=3, steps=5))
    assert from_stored(stored, 1, "here", changes) == changed(config, seed=3, steps=5)
    assert from_stored(stored, 0, "here", changes) == changed(config, seed=0, steps=3)


def test_a_value_may_count_as_another(config: RunConfig) -> None:
    stored = to_stored(config)
    stored["learner"]["micro_batch_tokens"] = 16384
    assert from_stored(stored, 0, "here").learner.micro_batch_tokens == 8192
    assert from_stored(stored, len(CHANGES), "here").learner.micro_batch_tokens == 16384
    stored["learner"]["micro_batch_tokens"] = 4096
    assert from_stored(stored, 0, "here").learner.micro_batch_tokens == 4096
    assert replaced("no.such.block", 1, 2)(stored) is None


def test_the_three_blocks_of_algorithms_are_one_now(config: RunConfig) -> None:
    plain, control = {"prompts": 3}, {"threshold": 0.5}

    def algorithm(**blocks: Any) -> Any:
        stored = to_stored(config)
        del stored["algorithm"]
        stored |= {"policy_gradient": plain} | {"erl": None, "second_chance": None} | blocks
        return from_stored(stored, 2, "here", CHANGES[:3]).algorithm

    assert algorithm() == PolicyGradientSettings(prompts=3)
    assert algorithm(erl={"group_size": 5}) == ExperientialSettings(group_size=5)
    assert algorithm(second_chance=control) == SecondChanceSettings(prompts=3, threshold=0.5)


def test_infinite_settings_are_stored_as_standard_json(config: RunConfig) -> None:
    unclipped = changed(
        config,
        algorithm=PolicyGradientSettings(
            objective=MiniRL(clip_low=float("inf"), clip_high=float("inf"))
        ),
    )
    text = json.dumps(to_stored(unclipped), allow_nan=False)
    assert from_stored(json.loads(text), len(CHANGES), "here") == unclipped


@pytest.mark.slow
def test_every_run_on_record_is_read_with_its_whole_configuration() -> None:
    paths = sorted(RECORDS.glob("*.json"))
    assert len(find_records(RECORDS)) == len(paths) >= 601
    for path in paths:
        run = read_record(path)
        config = run.config
        assert (run.digest, run.seed) == (path.stem, config.seed)
        assert run.gradient_steps == config.steps * config.algorithm.gradient_steps
        scored = [steps // config.algorithm.gradient_steps for steps, _ in run.scores]
        assert all(step % config.evaluate_every == 0 for step in scored[:-1])
