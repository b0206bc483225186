"""Checkpoints of shards: read by other numbers of ranks, and by Transformers."""

import errno
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from steadyrl.base.errors import UserError
from steadyrl.learners.fsdp.checkpoint import MOMENTS, WEIGHTS
from steadyrl.learners.fsdp.hosts import ThisMachine
from steadyrl.learners.fsdp.learner import FsdpLearner
from steadyrl.learners.fsdp.ranks import RankGroup
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.lora import LoraSettings
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import JournalSettings
from steadyrl.training.stage import RunPosition, Stage
from tests.closeness import assert_close
from tests.learners.fsdp.groups import close, local, saved_tensors, sharded
from tests.learners.small import (
    Idle,
    largest_difference,
    logprobs_of,
    made_up_batch,
    sampled_batch,
    term_on,
    tiny_policy,
    weights_of,
)

pytestmark = [pytest.mark.scale, pytest.mark.timeout(300)]

STAGE = Stage(name="rl", algorithm=Idle(), steps=9, optimizer=OptimizerSettings(), temperature=1.0)


@pytest.fixture(scope="module", params=[1, 4])
def others(request: pytest.FixtureRequest) -> Iterator[RankGroup]:
    group = RankGroup(request.param, ThisMachine("cpu"), timeout=300.0)
    yield group
    group.close()


def train(learner: FsdpLearner, first: int, steps: int) -> list[float]:
    """Losses of some updates; the batch of each depends on its step alone."""
    terms = [[term_on(made_up_batch(seed=step))] for step in range(first, first + steps)]
    return [learner.update(term, step=0, steps=9).loss for term in terms]


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_other_numbers_of_ranks_resume_to_the_same_losses(
    two: RankGroup, others: RankGroup, tmp_path: Path, kind: str
) -> None:
    learner = sharded(two, kind, micro_batch_tokens=24)
    train(learner, 0, 2)
    learner.save(tmp_path / "saved")
    weights, expected = weights_of(learner), train(learner, 2, 2)
    resumed = sharded(others, kind, micro_batch_tokens=24)
    resumed.load(tmp_path / "saved", policy_version=2)
    assert largest_difference(weights_of(resumed), weights) == 0
    found = train(resumed, 2, 2)
    assert resumed.policy_version == 4
    assert close(found[0], expected[0])
    # Moments are restored, too; AdamW divides small gradients, and their rounding, by their size.
    assert found[1] == pytest.approx(expected[1], rel=1e-4)


def test_the_same_ranks_resume_to_the_same_bits(two: RankGroup, tmp_path: Path) -> None:
    learner = sharded(two, "moe", micro_batch_tokens=24)
    train(learner, 0, 2)
    learner.save(tmp_path / "saved")
    expected, weights = train(learner, 2, 1), weights_of(learner)
    resumed = sharded(two, "moe", micro_batch_tokens=24)
    resumed.load(tmp_path / "saved", policy_version=2)
    assert train(resumed, 2, 1) == expected
    assert largest_difference(weights_of(resumed), weights) == 0


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_what_is_written_in_the_background_is_what_was_there_when_it_began(
    two: RankGroup, tmp_path: Path, kind: str
) -> None:
    assert not sharded(two, kind).saves_in_background
    learner = sharded(two, kind, background_saves=True)
    assert learner.saves_in_background
    train(learner, 0, 2)
    for number in range(3):
        learner.save(tmp_path / f"{number}-plain")
        weights = weights_of(learner)
        learner.begin_save(tmp_path / f"{number}-background")
        expected = train(learner, 2 + 2 * number, 2)  # weights and moments change meanwhile
        learner.finish_save()
        assert learner.is_saved()

    resumed = sharded(two, kind)
    resumed.load(tmp_path / "2-background", policy_version=6)
    assert largest_difference(weights_of(resumed), weights) == 0
    assert train(resumed, 6, 2) == expected
    for part in (WEIGHTS, MOMENTS):
        first, second = (
            saved_tensors(tmp_path / f"1-{way}" / part) for way in ("plain", "background")
        )
        assert first.keys() == second.keys()
        assert largest_difference(first, second) == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of other processes")
@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_takes_no_more_is_named_and_ends_no_rank(
    two: RankGroup, tmp_path: Path, background: bool
) -> None:
    learner = sharded(two, background_saves=background)
    train(learner, 0, 1)
    checkpointer = Checkpointer(RunFolder(tmp_path), JournalSettings())

    def save() -> None:
        checkpointer.save(STAGE, RunPosition(step=1), learner, None)
        checkpointer.complete()

    with ExitStack() as stack:
        for process in two.processes:
            before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, -1))
            stack.callback(resource.prlimit, process.pid, resource.RLIMIT_FSIZE, before)
        with pytest.raises(OSError, match="File too large") as fault:
            save()
    assert fault.value.errno == errno.EFBIG
    assert list((tmp_path / "checkpoints").iterdir()) == []
    train(learner, 1, 1)


def test_a_checkpoint_before_the_first_step_has_no_moments(two: RankGroup, tmp_path: Path) -> None:
    learner = sharded(two)
    learner.save(tmp_path / "saved")
    resumed = sharded(two)
    train(resumed, 5, 1)
    resumed.load(tmp_path / "saved", policy_version=0)
    found = train(resumed, 0, 1), weights_of(resumed)
    fresh = sharded(two)
    expected = train(fresh, 0, 1), weights_of(fresh)
    assert found[0] == expected[0]
    assert largest_difference(found[1], expected[1]) == 0


def test_an_adapter_is_resumed_and_read_by_peft(two: RankGroup, tmp_path: Path) -> None:
    lora = LoraSettings(rank=2)
    batch = sampled_batch(tiny_policy())
    learner = sharded(two, "moe", replay=RoutingReplay.R3, lora=lora)
    learner.update([term_on(batch)], step=0, steps=2)
    learner.save(tmp_path / "saved")
    alone = local("moe", replay=RoutingReplay.R3, lora=lora)
    alone.trained.load(tmp_path / "saved")
    assert_close(weights_of(alone), weights_of(learner))
    expected = learner.update([term_on(batch)], step=1, steps=2).loss
    resumed = sharded(two, "moe", replay=RoutingReplay.R3, lora=lora)
    resumed.load(tmp_path / "saved", policy_version=1)
    assert resumed.update([term_on(batch)], step=1, steps=2).loss == expected


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_shards_become_a_model_for_transformers(
    two: RankGroup, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from steadyrl.cli.main import main

    learner, oracle = sharded(two, kind), local(kind)
    for each in (learner, oracle):
        each.update([term_on(made_up_batch())], step=0, steps=1)
    learner.save(tmp_path / "saved")
    out = tmp_path / "whole"
    assert main(["consolidate", str(tmp_path / "saved"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert len(AutoTokenizer.from_pretrained(out)) == len(oracle.policy.tokenizer)
    tokens = made_up_batch().tokens
    with torch.no_grad():
        expected = logprobs_of(oracle.policy, tokens)
        oracle.policy.model.load_state_dict(model.state_dict())
        assert_close(logprobs_of(oracle.policy, tokens), expected, terms=512)


def test_folders_without_shards_are_refused(
    two: RankGroup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from steadyrl.cli.main import main

    local().save(tmp_path / "whole")
    with pytest.raises(UserError, match="was not written by learner 'fsdp'"):
        sharded(two).load(tmp_path / "whole", policy_version=0)
    assert main(["consolidate", str(tmp_path / "whole"), "--out", str(tmp_path / "out")]) == 2
    assert "whole models already" in capsys.readouterr().err


def test_shards_of_another_model_are_refused(two: RankGroup, tmp_path: Path) -> None:
    sharded(two, "dense").save(tmp_path / "saved")
    with pytest.raises(UserError, match="holds another model"):
        sharded(two, "moe").load(tmp_path / "saved", policy_version=0)


def test_shards_given_as_a_model_are_named(two: RankGroup, tmp_path: Path) -> None:
    from steadyrl.policies.loading import load_model, load_tokenizer
    from steadyrl.policies.model_settings import Pretrained

    sharded(two, "dense").save(tmp_path / "saved")
    settings = Pretrained(path=str(tmp_path / "saved"))
    with pytest.raises(UserError, match=r"a checkpoint of learner 'fsdp'.*steadyrl consolidate"):
        load_model(settings, tokenizer=load_tokenizer(settings), seed=0)
