"""A learner's adapter on a real vLLM server, which also has sampling defaults of its own."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.canary import CanaryError
from steadyrl.engines.driver import drive
from steadyrl.engines.servers.engine import ServerEngine
from steadyrl.engines.servers.protocol import SyncedWeights
from steadyrl.engines.vllm.server import VllmServer
from steadyrl.learners.adapter_check import check_adapter
from steadyrl.learners.local import LocalLearner
from steadyrl.policies.policy import Policy
from steadyrl.training.checked_engine import CheckedEngine
from tests.driving import generate
from tests.engines.vllm.adapters import RANK, SETTINGS, learner_on, move, probes_of
from tests.engines.vllm.models import qwen3
from tests.engines.vllm.server_process import VllmServerProcess, connected
from tests.engines.vllm.serving import FLOAT32, requests, sequences, trainer_scores

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

DEFAULTS = '{"top_p": 0.1, "top_k": 2, "min_p": 0.5, "temperature": 0.3, "repetition_penalty": 2}'
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OPTIONS = (
    *("--enable-lora", "--max-lora-rank", "8", "--lora-target-modules", *MODULES),
    *("--override-generation-config", DEFAULTS),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalLearner, ServerEngine]]:
    """A learner of an adapter, and the engine on a server that starts with another base."""
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    other = qwen3(seed=9)
    other.model.save_pretrained(folder)
    other.tokenizer.save_pretrained(folder)
    process = VllmServerProcess(folder, folder / "log", OPTIONS)
    process.start()
    try:
        process.wait()
        policy = qwen3()
        learner = learner_on(policy)
        with connected(process, policy, adapter_rank=RANK, patience=20.0) as engine:
            yield learner, engine
    finally:
        process.kill()


def api_of(engine: ServerEngine) -> VllmServer:
    assert isinstance(engine._api, VllmServer)
    return engine._api


def largest_difference(engine: ServerEngine, policy: Policy) -> float:
    """Between server and trainer, over tokens that the server drew and scored."""
    answers = list(chain(*generate(engine, requests(policy, (5, 40)))))
    rows = sequences(answers)
    found = 0.0
    for answer, row, of_engine in zip(answers, rows, drive(engine.score(rows)), strict=True):
        of_trainer = trainer_scores(policy, row).logprobs[0]
        drawn = (of_trainer[len(answer.prompt_ids) :] - answer.logprobs).abs().max()
        found = max(found, float(drawn), float((of_trainer - of_engine)[1:].abs().max()))
    return found


def test_each_sync_brings_the_adapter_under_a_new_name_and_the_base_once(
    pair: tuple[LocalLearner, ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, engine = pair
    drive(engine.sync(learner.publish()))
    assert largest_difference(engine, learner.policy) < FLOAT32
    names = {api_of(engine)._adapter}

    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the base was sent again")

    monkeypatch.setattr(api_of(engine), "_call_workers", refuse)
    before = trainer_scores(learner.policy, torch.arange(5, 40)).logprobs
    for seed in (1, 2):
        move(learner, seed)
        drive(engine.sync(learner.publish()))
        assert engine.policy_version == learner.policy_version
        assert largest_difference(engine, learner.policy) < FLOAT32
        names.add(api_of(engine)._adapter)
    assert len(names) == 3
    served = drive(api_of(engine)._client.get("/v1/models"))["data"]
    assert [model["id"] for model in served if model["parent"]] == [api_of(engine)._adapter]
    after = trainer_scores(learner.policy, torch.arange(5, 40)).logprobs
    assert float((after - before).abs().max()) > 0.1


def test_the_check_at_the_start_passes(pair: tuple[LocalLearner, ServerEngine]) -> None:
    learner, engine = pair
    note = drive(check_adapter(learner, engine, probes_of(learner.policy), SETTINGS))
    assert "the engine agreed with it to" in note


def proven(learner: LocalLearner, engine: ServerEngine) -> CheckedEngine:
    """The engine after a sync that the canary found right, and the learner after an update."""
    checked = CheckedEngine(engine, learner, probes_of(learner.policy), SETTINGS)
    drive(checked.sync(learner.publish()))
    assert checked.sync_metrics["canary_difference"] < FLOAT32
    move(learner, 7 + learner.policy_version)
    return checked


def test_requests_that_leave_the_adapter_out_are_caught(
    pair: tuple[LocalLearner, ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, api = proven(*pair), api_of(pair[1])
    complete = api._complete

    async def of_the_base(weights: SyncedWeights, **question: Any) -> dict[str, Any]:
        return await complete(replace(weights, adapter=None), **question)

    monkeypatch.setattr(api, "_complete", of_the_base)
    with pytest.raises(CanaryError, match="After the sync of version"):
        drive(checked.sync(pair[0].publish()))


def test_an_old_adapter_under_the_new_name_is_caught(
    pair: tuple[LocalLearner, ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, engine = pair
    checked, api = proven(learner, engine), api_of(engine)
    load, before = api._load_adapter, engine._current
    assert before is not None

    async def the_one_before(weights: SyncedWeights) -> None:
        await load(replace(weights, adapter=before.adapter))

    monkeypatch.setattr(api, "_load_adapter", the_one_before)
    with pytest.raises(CanaryError, match="After the sync of version"):
        drive(checked.sync(learner.publish()))


def test_an_adapter_that_never_arrived_is_refused_by_its_name(
    pair: tuple[LocalLearner, ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, engine = pair
    checked = proven(learner, engine)

    async def nothing(_: SyncedWeights) -> None:
        return None

    monkeypatch.setattr(api_of(engine), "_load_adapter", nothing)
    monkeypatch.setattr(engine, "_patience", 1.0)
    with pytest.raises(UserError, match=r"status 404: The model .* does not exist"):
        drive(checked.sync(learner.publish()))
