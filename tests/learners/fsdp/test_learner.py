"""Two ranks compute what one process computes, whatever they are given."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from steadyrl.base.errors import NonFiniteError, UserError
from steadyrl.engines.canary import CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.learners.adapter_check import check_adapter
from steadyrl.learners.fsdp.checkpoint import WEIGHTS
from steadyrl.learners.fsdp.hosts import ThisMachine
from steadyrl.learners.fsdp.ranks import RankGroup
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.objectives import GSPO, NLL, Aggregation, MiniRL, ScoreCentering
from steadyrl.objectives.measurements import policy_metrics
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.weight_source import StateDictWeights, WeightSource, full_weights
from tests.closeness import assert_close
from tests.learners.fsdp.groups import (
    Pair,
    assert_equal_gradients,
    close,
    flat,
    gradients,
    local,
    make_policy,
    saved_tensors,
    sharded,
)
from tests.learners.small import (
    largest_difference,
    made_up_batch,
    sampled_batch,
    term_on,
    tiny_policy,
    weights_of,
)

pytestmark = [pytest.mark.scale, pytest.mark.timeout(300)]


def prefixed(batch: TokenBatch) -> TokenBatch:
    """`batch`, whose groups have common prompts of three tokens."""
    tokens = batch.tokens.clone()
    tokens[:, :3] = batch.group_ids[:, None] + torch.arange(10, 13)
    return replace(batch, tokens=tokens)


def check_update(pair: Pair, batch: TokenBatch, folder: Path, **term: object) -> None:
    """Asserts equal losses, gradients, metrics and weights of one update."""
    found = pair.sharded.update([term_on(batch, **term)], step=0, steps=1)
    expected = pair.local.update([term_on(batch, **term)], step=0, steps=1)
    assert close(found.loss, expected.loss)
    assert close(found.gradient_norm, expected.gradient_norm)
    assert_equal_gradients(gradients(pair.sharded, folder), pair.local.optimizer.gradients())
    metrics, same = (flat(policy_metrics(each.measurements)) for each in (found, expected))
    assert metrics == pytest.approx(same, rel=1e-5, abs=1e-6)
    assert found.reach.weights_changed == pytest.approx(expected.reach.weights_changed, abs=1e-3)


@pytest.mark.parametrize("budget", [8192, 24, 1])
def test_dense_update_is_that_of_one_process(two: RankGroup, tmp_path: Path, budget: int) -> None:
    pair = Pair.of(two, "dense", micro_batch_tokens=budget)
    check_update(pair, made_up_batch(), tmp_path / "saved")


@pytest.mark.parametrize("aggregation", [Aggregation.TOKEN_MEAN, Aggregation.LENGTH_NORM])
def test_loss_is_the_mean_over_all_ranks(
    two: RankGroup, tmp_path: Path, aggregation: Aggregation
) -> None:
    # Ragged rows: a mean of the ranks' means would weigh short rows more.
    pair = Pair.of(two, "dense", micro_batch_tokens=12)
    check_update(
        pair, made_up_batch(), tmp_path / "saved", objective=NLL(), aggregation=aggregation
    )


def test_responses_of_several_rows_stay_on_one_rank(two: RankGroup, tmp_path: Path) -> None:
    advantages = (1.0, -0.5, 1.0, -0.5, 0.0)
    batch = replace(made_up_batch(advantages), response_ids=torch.tensor([0, 1, 0, 1, 2]))
    objective = GSPO(clip_low=0.5, clip_high=0.5)
    pair = Pair.of(two, "dense", micro_batch_tokens=1)
    check_update(pair, batch, tmp_path / "saved", objective=objective)


@pytest.mark.parametrize("budget", [8192, 40])
def test_candidates_are_scored_and_centered_as_in_one_process(
    two: RankGroup, tmp_path: Path, budget: int
) -> None:
    pair = Pair.of(two, "moe", micro_batch_tokens=budget)
    batch = sampled_batch(tiny_policy(), candidates=5)
    found, expected = (learner.score(batch) for learner in (pair.sharded, pair.local))
    assert_close(found.token_candidates.old_logprobs, expected.token_candidates.old_logprobs)
    objective = ScoreCentering(candidates=5).apply_to(MiniRL())
    check_update(pair, expected, tmp_path / "saved", objective=objective)


def test_common_prefixes_are_computed_once_on_each_rank(two: RankGroup, tmp_path: Path) -> None:
    pair = Pair.of(two, "dense", share_prefixes="always", micro_batch_tokens=24, pass_cost=0)
    check_update(pair, prefixed(made_up_batch((1.0, -1.0, 0.5, 0.25, -1.0))), tmp_path / "saved")


def test_fewer_rows_than_ranks_and_no_signal_at_all(two: RankGroup, tmp_path: Path) -> None:
    pair = Pair.of(two, "dense")
    check_update(pair, made_up_batch((1.0,)), tmp_path / "saved")
    nothing = term_on(made_up_batch((0.0, 0.0)))
    found, expected = (
        learner.update([nothing], step=1, steps=2) for learner in (pair.sharded, pair.local)
    )
    assert found.gradient_norm == expected.gradient_norm == 0
    assert_close(weights_of(pair.sharded), weights_of(pair.local))


def test_gradient_is_clipped_by_its_norm_over_all_ranks(two: RankGroup) -> None:
    pair = Pair.of(two, "dense", optimizer=OptimizerSettings(gradient_clip=1e-3, eps=1e-3))
    for step in range(2):
        for learner in (pair.sharded, pair.local):
            learner.update([term_on(made_up_batch())], step=step, steps=2)
    assert_close(weights_of(pair.sharded), weights_of(pair.local))


@pytest.mark.parametrize("replay", list(RoutingReplay))
@pytest.mark.parametrize("checkpointing", [False, True])
def test_experts_are_replayed_as_in_one_process(
    two: RankGroup, tmp_path: Path, replay: RoutingReplay, checkpointing: bool
) -> None:
    pair = Pair.of(
        two,
        "moe",
        replay=replay,
        micro_batch_tokens=24,
        activation_checkpointing=checkpointing,
    )
    batch = sampled_batch(tiny_policy())
    found, expected = pair.sharded.score(batch), pair.local.score(batch)
    assert_close(found.old_logprobs, expected.old_logprobs)
    assert (found.old_routing is None) == (expected.old_routing is None)
    if found.old_routing is not None:
        assert torch.equal(found.old_routing.known, expected.old_routing.known)
        assert torch.equal(
            found.old_routing.padded().experts, expected.old_routing.padded().experts
        )
    check_update(pair, expected, tmp_path / "saved")


@pytest.mark.parametrize("replay", [RoutingReplay.R2, RoutingReplay.R3])
def test_experts_are_replayed_within_shared_prefixes(
    two: RankGroup, tmp_path: Path, replay: RoutingReplay
) -> None:
    pair = Pair.of(two, "moe", replay=replay, share_prefixes="always", micro_batch_tokens=48)
    batch = pair.local.score(sampled_batch(tiny_policy()))
    check_update(pair, batch, tmp_path / "saved")


@pytest.mark.parametrize("experts", [False, True])
def test_an_adapter_is_trained_as_in_one_process(
    two: RankGroup, tmp_path: Path, experts: bool
) -> None:
    lora = LoraSettings(rank=2, experts=experts)
    pair = Pair.of(two, "moe", replay=RoutingReplay.R3, lora=lora, micro_batch_tokens=24)
    check_update(pair, sampled_batch(tiny_policy()), tmp_path / "saved")
    found, expected = (
        dict(full_weights(learner.publish()).tensors("checkpoint"))
        for learner in (pair.sharded, pair.local)
    )
    assert_close(found, expected)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
def test_bfloat16_passes_move_float32_masters(
    two: RankGroup, lora: LoraSettings | None, tmp_path: Path
) -> None:
    options = {"dtype": "bfloat16", "replay": RoutingReplay.R3, "lora": lora}
    nearest = {} if lora else {"rounding": "nearest"}
    learners = sharded(two, "moe", **options), local("moe", **options, **nearest)
    batch = sampled_batch(tiny_policy())
    found, expected = (each.update([term_on(batch)], step=0, steps=1) for each in learners)
    assert found.loss == pytest.approx(expected.loss, rel=2e-3)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=2e-3)
    assert found.reach.update_reached == pytest.approx(expected.reach.update_reached, abs=2e-3)
    learners[0].save(tmp_path)
    masters = saved_tensors(tmp_path / WEIGHTS)
    assert any(not torch.equal(each, each.bfloat16().float()) for each in masters.values())
    # An engine samples from the weights that passes compute with.
    ours, theirs = (
        {name: weight.dtype for name, weight in full_weights(each.publish()).tensors()}
        for each in learners
    )
    assert ours == theirs
    if lora is None:
        for name, weight in learners[0].publish().tensors("model"):
            assert torch.equal(weight, masters.get(name, weight).to(weight.dtype))


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_published_weights_have_the_names_of_checkpoints(two: RankGroup, kind: str) -> None:
    pair = Pair.of(two, kind)
    for naming in ("checkpoint", "model"):
        found, expected = (
            dict(learner.publish().tensors(naming)) for learner in (pair.sharded, pair.local)
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_published_weights_are_not_read_after_the_next_update(two: RankGroup) -> None:
    learner = sharded(two)
    source = learner.publish()
    learner.update([term_on(made_up_batch())], step=0, steps=1)
    with pytest.raises(RuntimeError, match="read after a later update"):
        next(source.tensors("model"))


def test_the_reference_policy_is_sharded_too(two: RankGroup, tmp_path: Path) -> None:
    pair = Pair.of(two, "moe", micro_batch_tokens=24)
    batch = made_up_batch()
    for learner, name in ((pair.sharded, "sharded"), (pair.local, "local")):
        learner.save_reference(tmp_path / name)
        learner.update([term_on(batch)], step=0, steps=2)
        learner.load_reference(tmp_path / name)
    assert_close(
        dict(pair.sharded.publish_reference().tensors()),
        dict(pair.local.publish_reference().tensors()),
    )


def test_a_loss_that_is_not_finite_stops_every_rank_before_the_step(two: RankGroup) -> None:
    learner = sharded(two, micro_batch_tokens=12)
    before = weights_of(learner)
    batch = made_up_batch()
    endless = replace(batch, advantages=batch.advantages * torch.inf)
    with pytest.raises(NonFiniteError, match="the loss is not finite"):
        learner.update([term_on(endless)], step=0, steps=1)
    assert learner.policy_version == 0
    after = weights_of(learner)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def pids(group: RankGroup) -> list[int]:
    return [process.pid for process in group.processes]


@pytest.mark.parametrize("experts", [False, True])
def test_an_adapter_is_checked_through_the_ranks(
    two: RankGroup, experts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = LoraSettings(rank=2, experts=experts)
    learner, alone = sharded(two, "moe", lora=lora), local("moe", lora=lora)
    learner.update([term_on(made_up_batch())], step=0, steps=2)
    before, settings = weights_of(learner), CanarySettings(every=1)
    probes = make_probes(range(6, 90), settings, 64)
    model = EngineModel(
        make_policy("moe"),
        numerics=Numerics.FLOAT32,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=True,
    )
    engine = LocalEngine(model, max_running=8)

    note = drive(check_adapter(learner, engine, probes, settings))
    assert note.startswith(
        "LoRA trains {:,} weights beside {:,} frozen".format(*alone.adapter_sizes())
    )
    assert "the engine agreed with it to" in note
    assert largest_difference(weights_of(learner), before) == 0
    base = {n: w.clone() for n, w in full_weights(alone.publish()).tensors("model")}

    async def keep_base(weights: WeightSource) -> None:
        model.sync(StateDictWeights(state=base, version=weights.version))

    monkeypatch.setattr(engine, "sync", keep_base)
    with pytest.raises(UserError, match="With an adapter of random numbers, the engine does not"):
        drive(check_adapter(learner, engine, probes, settings))
    assert largest_difference(weights_of(learner), before) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process need Linux")
def test_a_rank_without_memory_ends_the_run_with_what_to_set() -> None:
    import resource

    group = RankGroup(2, ThisMachine("cpu"), timeout=120.0)
    learner = sharded(group, "dense", micro_batch_tokens=1 << 20)
    pid = group.processes[1].pid
    limit = psutil.Process(pid).memory_info().vms + (96 << 20)
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    batch = made_up_batch(advantages=[1.0, -1.0] * 16384)
    with pytest.raises(
        UserError, match=r"Rank 1 of the learner ran out of memory\. Set learner\.act"
    ):
        learner.update([term_on(batch)], step=0, steps=1)
    with pytest.raises(UserError, match="ranks have ended"):
        learner.update([term_on(made_up_batch())], step=0, steps=1)


def test_a_rank_that_dies_ends_the_others(tmp_path: Path) -> None:
    group = RankGroup(2, ThisMachine("cpu"), timeout=300.0)
    learner = sharded(group)
    os.kill(pids(group)[1], signal.SIGKILL)
    with pytest.raises(UserError, match=r"Rank 1 of the learner ended \(exit status -9\)"):
        learner.update([term_on(made_up_batch())], step=0, steps=1)
    for pid in pids(group):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(UserError, match="ranks have ended"):
        learner.score(made_up_batch())


def test_a_rank_that_hangs_ends_the_run(tmp_path: Path) -> None:
    group = RankGroup(2, ThisMachine("cpu"), timeout=300.0)
    learner = sharded(group)
    group.timeout = 2.0
    os.kill(pids(group)[1], signal.SIGSTOP)
    with pytest.raises(UserError, match="ranks 0, 1 did not finish 'update' within 2 seconds"):
        learner.update([term_on(made_up_batch())], step=0, steps=1)
    for pid in pids(group):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
