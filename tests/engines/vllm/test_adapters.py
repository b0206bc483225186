"""A learner's adapter in vLLM: scores as the trainer's at every sync, and the base sent once."""

from collections.abc import Iterator

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.canary import CanaryError
from steadyrl.engines.driver import drive
from steadyrl.engines.vllm import library
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.learners.adapter_check import check_adapter
from steadyrl.learners.local import LocalLearner
from steadyrl.policies.policy import Policy
from steadyrl.training.checked_engine import CheckedEngine
from tests.driving import generate
from tests.engines.vllm.adapters import RANK, SETTINGS, learner_on, move, probes_of
from tests.engines.vllm.models import qwen3, qwen3_moe
from tests.engines.vllm.serving import FLOAT32, requests, sequences, served, trainer_scores

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm


def largest_difference(engine: VllmEngine, policy: Policy) -> float:
    """Between vLLM and trainer, over tokens that vLLM drew, when it draws and when it scores."""
    answers = [each for group in generate(engine, requests(policy)) for each in group]
    rows = sequences(answers)
    scored = drive(engine.score(rows))
    found = 0.0
    for answer, row, of_engine in zip(answers, rows, scored, strict=True):
        of_trainer = trainer_scores(policy, row).logprobs[0]
        drawn = (of_trainer[len(answer.prompt_ids) :] - answer.logprobs).abs().max()
        found = max(found, float(drawn), float((of_trainer - of_engine)[1:].abs().max()))
    return found


@pytest.fixture(scope="module")
def dense() -> Iterator[tuple[LocalLearner, VllmEngine]]:
    policy = qwen3()
    learner = learner_on(policy)
    with served(policy, adapter_rank=RANK) as engine:
        yield learner, engine


def test_scores_are_those_of_the_trainer_at_every_sync(
    dense: tuple[LocalLearner, VllmEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, engine = dense
    drive(engine.sync(learner.publish()))
    names = {engine._runner.adapter.lora_name}

    def refuse(_llm: object) -> None:
        raise AssertionError("the base was sent again")

    monkeypatch.setattr(engine, "_load_base", refuse)
    assert largest_difference(engine, learner.policy) < FLOAT32
    before = trainer_scores(learner.policy, torch.arange(5, 40)).logprobs
    for seed in (1, 2):
        move(learner, seed)
        drive(engine.sync(learner.publish()))
        assert engine.policy_version == learner.policy_version
        assert largest_difference(engine, learner.policy) < FLOAT32
        assert len(engine.vllm.list_loras()) == 1
        names.add(engine._runner.adapter.lora_name)
    assert len(names) == 3
    after = trainer_scores(learner.policy, torch.arange(5, 40)).logprobs
    assert float((after - before).abs().max()) > 0.1


def test_the_check_at_the_start_passes(dense: tuple[LocalLearner, VllmEngine]) -> None:
    learner, engine = dense
    note = drive(check_adapter(learner, engine, probes_of(learner.policy), SETTINGS))
    assert "the engine agreed with it to" in note
    assert largest_difference(engine, learner.policy) < FLOAT32


def test_an_adapter_that_is_not_replaced_is_caught(
    dense: tuple[LocalLearner, VllmEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, engine = dense
    checked = CheckedEngine(engine, learner, probes_of(learner.policy), SETTINGS)
    drive(checked.sync(learner.publish()))
    assert checked.sync_metrics["canary_difference"] < FLOAT32
    monkeypatch.setattr(engine, "_load_adapter", lambda _llm: None)
    move(learner, 7)
    with pytest.raises(CanaryError, match="After the sync of version"):
        drive(checked.sync(learner.publish()))


def test_the_check_at_the_start_finds_an_adapter_that_never_arrives(
    dense: tuple[LocalLearner, VllmEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, engine = dense

    def without(_llm: object) -> None:
        engine._runner.adapter = None

    monkeypatch.setattr(engine, "_load_adapter", without)
    with pytest.raises(UserError, match=r"With an adapter of .* leave engine.adapter_rank out"):
        drive(check_adapter(learner, engine, probes_of(learner.policy), SETTINGS))


def test_a_rank_above_that_of_the_engine_is_refused() -> None:
    policy = qwen3()
    learner = learner_on(policy, rank=16)
    with (
        served(policy, adapter_rank=RANK) as engine,
        pytest.raises(UserError, match=r"has rank 16, but vLLM was started for rank 8. Set engine"),
    ):
        drive(engine.sync(learner.publish()))


@pytest.mark.parametrize("experts", [False, True])
def test_without_a_rank_vllm_gets_merged_weights(experts: bool) -> None:
    policy = qwen3_moe()
    learner = learner_on(policy, experts=experts)
    with served(policy) as engine:
        for seed in (1, 2):
            move(learner, seed)
            drive(engine.sync(learner.publish()))
            assert engine.differing_tensors(learner.publish()) == []
            assert largest_difference(engine, policy) < FLOAT32


def test_experts_are_only_taken_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    # On the CPU, vLLM computes no experts beside adapters.
    monkeypatch.setattr(library, "_compute_tokens", lambda _: None)
    policy = qwen3_moe()
    learner = learner_on(policy, experts=True)
    with (
        served(policy, adapter_rank=RANK) as engine,
        pytest.raises(UserError, match="changes experts, which vLLM only takes merged"),
    ):
        drive(engine.sync(learner.publish()))
