"""Whole runs of Experiential RL: memory and weights come through an interruption to the bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from steadyrl.algorithms.erl import ExperientialRL
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import NoMemory, Retrieval, SingleSlot
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.protocol import SupportsReference
from steadyrl.algorithms.reflection import (
    FrozenReflection,
    FrozenReflector,
    NoReflection,
    ServerReflection,
)
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.lab.worlds.grid_drills import GridDrillSettings
from steadyrl.lab.worlds.second_chance import SecondChanceSettings
from steadyrl.objectives import ReferenceKL
from steadyrl.records.message import Message
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import ColdStart, RunConfig, from_yaml, to_yaml
from steadyrl.run.execution import resume_run, start_run
from tests.engines.server import Call, chat_server, says
from tests.run.test_execution import StopAfter, timeless, weights
from tests.run.tiny import tiny_experiential_run, tiny_run


def changed(**options: Any) -> RunConfig:
    """The tiny run with other settings of the algorithm."""
    config = tiny_experiential_run()
    assert isinstance(config.algorithm, ExperientialSettings)
    return tiny_experiential_run(algorithm=config.algorithm.model_copy(update=options))


def state(path: Path) -> Any:
    return json.loads((path / "checkpoints" / "rl-000006" / "algorithm_state.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "step"), [(SingleSlot(), 3), (Retrieval(capacity=2, recalled=1), 5)]
)
def test_an_interrupted_run_is_resumed_to_the_same_end_and_memory(
    tmp_path: Path, memory: Any, step: int
) -> None:
    config = changed(memory=memory)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start_run(config, whole)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, cut, [StopAfter("rl", step)])
    resume_run(cut)
    written = RunFolder(whole).read_memory()

    # Checkpoints are written every 2 steps: something was remembered before the one that the run
    # goes on from, and something is after it.
    assert min(row["step"] for row in written) <= step - 1 < max(row["step"] for row in written)
    assert timeless(cut) == timeless(whole)
    assert weights(cut) == weights(whole)
    assert state(cut) == state(whole)
    assert RunFolder(cut).read_memory() == written


@pytest.mark.slow
@pytest.mark.parametrize("stop", [("rl", 3), ("cold_start", 6)])
def test_a_run_that_is_held_to_its_beginning_is_resumed_to_the_same_end(
    tmp_path: Path, stop: tuple[str, int]
) -> None:
    config = changed(reference_kl=ReferenceKL(coefficient=0.5))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start_run(config, whole)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, cut, [StopAfter(*stop)])
    resume_run(cut)
    start_run(tiny_experiential_run(), tmp_path / "free")

    assert timeless(cut) == timeless(whole)
    assert weights(cut) == weights(whole)
    assert weights(tmp_path / "free") != weights(whole)
    distances = [row["reference_kl"] for row in timeless(whole) if "reference_kl" in row]
    assert len(distances) == 6
    assert distances[-1] > 0
    file = Path("references") / "rl" / "weights.safetensors"
    assert (cut / file).read_bytes() == (whole / file).read_bytes()
    assert not (tmp_path / "free" / "references").exists()


@pytest.mark.slow
def test_a_run_whose_reference_is_lost_is_not_resumed(tmp_path: Path) -> None:
    config = changed(reference_kl=ReferenceKL(coefficient=0.5))
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", [StopAfter("rl", 3)])
    (tmp_path / "run" / "references" / "rl" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"the weights with which this stage began, is missing"):
        resume_run(tmp_path / "run")


def test_policy_gradient_is_held_to_the_end_of_its_cold_start(tmp_path: Path) -> None:
    settings = PolicyGradientSettings(
        prompts=4, group_size=4, reference_kl=ReferenceKL(coefficient=0.1, estimator="k2")
    )
    start_run(tiny_run(algorithm=settings, steps=3), tmp_path / "run")
    distances = [row.get("reference_kl") for row in timeless(tmp_path / "run")]

    assert distances[:7] == [None] * 7  # the cold start, and the evaluation before the first step
    assert distances[7] == 0
    assert all(distance > 0 for distance in distances[8:])
    begun = load_file(tmp_path / "run" / "references" / "rl" / "weights.safetensors")
    ended = load_file(tmp_path / "run" / "checkpoints" / "cold_start-000006" / "model.safetensors")
    assert begun.keys() >= {"model.embed_tokens.weight"}
    assert torch.equal(begun["model.embed_tokens.weight"], ended["model.embed_tokens.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"mini_batches": 1, "updates": "sequential"},
        {"internalization": {"name": "importance_weighted"}},
        {"internalization": {"name": "on_policy_distillation"}},
        {"reflection": NoReflection(style=ReflectionStyle.COMPACT), "memory": NoMemory()},
        {"gate": False},
    ],
)
def test_every_variant_runs_under_r3_and_gives_its_metrics(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    base = tiny_experiential_run().algorithm
    assert base is not None
    erl = ExperientialSettings.model_validate({**base.model_dump(), **options})
    start_run(tiny_experiential_run(algorithm=erl, steps=3), tmp_path / "run")
    rows = [row for row in timeless(tmp_path / "run") if row["stage"] == "rl" and row["step"]]
    assert len(rows) == 3
    for row in rows:
        assert {"reward_after_reflection", "mismatch_kl_k3", "ess", "loss"} <= set(row)
        # R3 replays the engine's routes on all that is measured.
        assert row["routing_disagreement"] == 0
    # Under the raw record, the tiny policy solves nothing at a second attempt.
    solved = any(row["internalized_fraction"] > 0 for row in rows)
    assert solved == ("reflection" not in options)


@pytest.mark.slow
def test_a_held_reflector_reflects_as_the_policy_began_and_is_not_trained(tmp_path: Path) -> None:
    config = tiny_experiential_run()
    assert isinstance(config.algorithm, ExperientialSettings)
    held = FrozenReflection(**config.algorithm.reflection.model_dump(exclude={"name", "malformed"}))
    config = changed(reflection=held)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start_run(config, whole)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, cut, [StopAfter("rl", 3)])
    resume_run(cut)
    assert timeless(cut) == timeless(whole)
    assert weights(cut) == weights(whole)

    start_run(tiny_experiential_run(), tmp_path / "own")
    own, other = (
        [row for row in timeless(path) if row["stage"] == "rl" and row["step"]]
        for path in (tmp_path / "own", whole)
    )
    # The first step is sampled from the same weights; later ones are not.
    shared = ("reward", "reward_reflected", "reflection_fraction", "failed_reflections")
    assert [own[0][name] for name in shared] == [other[0][name] for name in shared]
    assert all("reflection_length" in row for row in own)
    assert not any("reflection_length" in row for row in other)
    assert [row["loss"] for row in own] != [row["loss"] for row in other]


def test_a_held_reflector_does_not_follow_the_policy() -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=24)
    reflection = FrozenReflection(style=ReflectionStyle.COMPACT, sampling=sampling)
    assembly = Assembly.of(changed(reflection=reflection))
    algorithm = assembly.stages[-1].algorithm
    assert isinstance(algorithm, SupportsReference)
    asked = (Message(role="user", content="1+1"),)

    def replies() -> list[str]:
        reflector = algorithm._reflector
        assert isinstance(reflector, FrozenReflector)
        return [drive(reflector.reflect(asked, assembly.engine, seed)).reply for seed in range(4)]

    drive(algorithm.take_reference(assembly.learner.publish()))
    begun = replies()
    assert any(begun)
    with torch.no_grad():
        for weight in assembly.learner.policy.model.parameters():
            weight.mul_(-1)
    drive(assembly.engine.sync(assembly.learner.publish()))
    assert replies() == begun
    drive(algorithm.take_reference(assembly.learner.publish()))
    assert replies() != begun


@pytest.mark.slow
def test_a_server_may_reflect(tmp_path: Path) -> None:
    def lesson(call: Call, number: int) -> Any:
        assert call.body["messages"][-1]["role"] == "user"
        return says(f"{number % 10}")

    with chat_server(lesson) as (url, calls):
        reflection = ServerReflection(base_url=url, model="m", style=ReflectionStyle.COMPACT)
        start_run(
            tiny_experiential_run(
                algorithm=ExperientialSettings(prompts=4, reflection=reflection), steps=2
            ),
            tmp_path / "run",
        )
    rows = [row for row in timeless(tmp_path / "run") if row["stage"] == "rl" and row["step"]]
    assert len(calls) > 8
    assert all(row["failed_reflections"] == 0 for row in rows)
    assert all("reflection_length" not in row for row in rows)


def test_an_unreachable_server_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    with chat_server(lambda *_: says("")) as (url, _):
        pass
    reflection = ServerReflection(base_url=url, model="m", style=ReflectionStyle.COMPACT, retries=0)
    erl = ExperientialSettings(prompts=4, reflection=reflection)
    path = tmp_path / "run"
    start_run(tiny_experiential_run(algorithm=erl, steps=2), path)
    for row in timeless(path)[-2:]:
        assert row["failed_reflections"] == row["reflection_fraction"] * 16 > 0
        assert "reward_reflected" not in row
    lines = (path / "completions" / "rl-000002.jsonl").read_text().splitlines()
    reasons = {json.loads(line)["truncation_reason"] for line in lines}
    assert any("cannot be reached" in reason for reason in reasons)
    (note,) = [n for n in RunFolder(path).read_notes() if "All reflections" in n["note"]]
    assert (note["stage"], note["step"]) == ("rl", 1)
    assert "cannot be reached" in note["note"]


def test_a_checkpoint_without_memory_is_refused(tmp_path: Path) -> None:
    plain = tiny_run(model=tiny_experiential_run().model)
    start_run(plain, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()  # as runs that did not record their settings
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(tiny_experiential_run()))
    with pytest.raises(UserError, match=r"holds no memory, but ExperientialRL has one"):
        resume_run(tmp_path / "run")


def test_the_configuration_decides_which_algorithm_runs() -> None:
    stages = Assembly.of(tiny_experiential_run()).stages
    assert isinstance(stages[-1].algorithm, ExperientialRL)


def test_the_control_repeats_failed_attempts_in_training_and_not_in_evaluation(
    tmp_path: Path,
) -> None:
    config = tiny_run(
        model=tiny_experiential_run().model,
        algorithm=SecondChanceSettings(prompts=4, group_size=4, style=ReflectionStyle.COMPACT),
        steps=2,
    )
    start_run(config, tmp_path / "run")

    def turns(file: str) -> set[int]:
        lines = (tmp_path / "run" / "completions" / file).read_text().splitlines()
        talks = [json.loads(line)["conversation"] for line in lines]
        return {sum(m["role"] == "assistant" for m in talk) for talk in talks}

    assert 2 in turns("rl-000001.jsonl")
    assert turns("evaluation_rl-000002.jsonl") == {1}


def test_a_run_on_a_hidden_lake_begins_with_drills(tmp_path: Path) -> None:
    lake = FrozenLakeSettings(rendering="compact", max_size=3, max_path=3, meaning=7)
    hidden = {"symbols": MeaningSource.FIXED, "actions": MeaningSource.FIXED}
    varied = {"symbols": MeaningSource.PERMUTED, "actions": MeaningSource.PERMUTED}
    drills = GridDrillSettings(environment=lake.model_copy(update=varied))
    config = tiny_experiential_run(
        model=tiny_run().model.model_copy(update={"max_positions": 256}),
        environment=lake.model_copy(update=hidden),
        cold_start=ColdStart(teacher=drills, steps=2, batch_size=16),
        steps=1,
        evaluate_every=1,
    )
    assert from_yaml_text(to_yaml(config), tmp_path) == config
    folder = start_run(config, tmp_path / "run")
    cold, rl = folder.read_metrics()[0], folder.read_metrics()[-1]
    assert (cold["stage"], rl["stage"]) == ("cold_start", "rl")
    assert cold["loss"] > 0
    assert rl["reflection_fraction"] > 0


def from_yaml_text(text: str, folder: Path) -> RunConfig:
    (folder / "config.yaml").write_text(text)
    return from_yaml(folder / "config.yaml")
