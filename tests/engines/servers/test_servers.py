"""Servers of both kinds: answers, syncs, faults in the middle of a rollout, and bad input."""

import re
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_settings import EngineContext
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.servers import engine as server_engine
from steadyrl.engines.servers.engine import ServerEngine
from steadyrl.engines.sglang.settings import SglangSettings
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.weight_source import AdapterWeights, StateDictWeights
from steadyrl.rollout.routes import check_routing
from tests.driving import generate
from tests.engines.servers.fakes import (
    BAD,
    GOOD,
    FakeServer,
    FakeSglang,
    FakeVllm,
    Reply,
    listening,
)

PROMPT = torch.tensor([5, 6, 7])


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(server_engine, "FIRST_WAIT", 0.01)


@pytest.fixture(params=[FakeVllm, FakeSglang])
def fake(request: pytest.FixtureRequest) -> FakeServer:
    return request.param()


@contextmanager
def connected(fake: FakeServer, policy: Policy, **values: Any) -> Iterator[ServerEngine]:
    """The engine on `fake`."""
    if isinstance(fake, FakeSglang):
        fake.architectures = fake.architectures or [type(policy.model).__name__]
    kind = SglangSettings if isinstance(fake, FakeSglang) else VllmSettings
    with listening(fake) as url:
        settings = kind(**{"url": url, "numerics": "float32", "patience": 5.0, **values})
        engine = settings.make(EngineContext(policy=policy, seed=3))
        assert isinstance(engine, ServerEngine)
        try:
            yield engine
        finally:
            engine.close()


def request_of(answers: int = 3, **sampling: Any) -> Request:
    values = {"max_new_tokens": 4, **sampling}
    return Request(prompt_ids=PROMPT, num_completions=answers, seed=1, sampling=Sampling(**values))


def refused(said: str) -> AbstractContextManager[Any]:
    return pytest.raises(UserError, match=re.escape(said))


def tokens(answers: list[list[Completion]]) -> list[int]:
    return [int(answer.token_ids[0]) for answer in chain(*answers)]


def test_answers_are_tokens_log_probabilities_and_routes(
    fake: FakeServer, moe_policy: Policy
) -> None:
    with connected(fake, moe_policy) as engine:
        (answers,) = generate(engine, [request_of()])
    check_routing(answers)
    for answer in answers:
        assert answer.token_ids[0] == GOOD
        assert int(answer.token_ids[1]) in moe_policy.end_token_ids
        assert answer.logprobs.tolist() == [-0.5, -1.25]
        assert answer.finish_reason is FinishReason.STOP
        assert answer.routing is not None
        assert answer.routing.padded().experts[0].tolist() == [[[0, 1], [2, 3]]] * 4


def test_greedy_answers_have_no_uncertainty(fake: FakeServer, dense_policy: Policy) -> None:
    with connected(fake, dense_policy) as engine:
        ((answer,),) = generate(engine, [request_of(1, temperature=0.0)])
    assert answer.logprobs.tolist() == [0.0, 0.0]


def test_every_request_says_what_a_server_may_have_another_default_of(
    fake: FakeServer, dense_policy: Policy
) -> None:
    with connected(fake, dense_policy) as engine:
        generate(engine, [request_of(1, temperature=0.7)])
        drive(engine.score([PROMPT]))
    path = "/generate" if isinstance(fake, FakeSglang) else "/v1/completions"
    asked, scored = (body.get("sampling_params", body) for body in fake.of(path))
    none = -1 if isinstance(fake, FakeSglang) else 0
    neutral = {"top_p": 1.0, "top_k": none, "min_p": 0.0, "repetition_penalty": 1.0}
    neutral |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert asked.items() >= (neutral | {"temperature": 0.7}).items()
    assert scored.items() >= (neutral | {"temperature": 1.0}).items()


def test_given_tokens_are_scored(fake: FakeServer, dense_policy: Policy) -> None:
    with connected(fake, dense_policy) as engine:
        scores = drive(engine.score([PROMPT, PROMPT[:2]]))
    assert [each.tolist() for each in scores] == [
        pytest.approx([0.0, -0.6, -0.7]),
        pytest.approx([0.0, -0.6]),
    ]


def test_a_server_without_routes_says_so_before_the_run_begins(moe_policy: Policy) -> None:
    vllm, sglang = FakeVllm(), FakeSglang()
    vllm.config["model_config"]["enable_return_routed_experts"] = False
    sglang.info["enable_return_routed_experts"] = False
    for fake in (vllm, sglang):
        with connected(fake, moe_policy) as engine:
            assert not engine.capabilities.routing
            ((answer,),) = generate(engine, [request_of(1)])
            assert answer.routing is None


def test_at_most_so_many_requests_run_at_once(fake: FakeServer, dense_policy: Policy) -> None:
    fake.answer_seconds = 0.02
    with connected(fake, dense_policy, max_running=3) as engine:
        assert len(tokens(generate(engine, [request_of(10), request_of(5)]))) == 15
    assert fake.most_running == 3


def test_a_sync_goes_through_a_folder_that_is_removed_after_the_next_one(
    fake: FakeServer, dense_policy: Policy, tmp_path: Path
) -> None:
    with connected(fake, dense_policy, sync_folder=str(tmp_path)) as engine:
        for version in (1, 2):
            drive(engine.sync(weights_of(dense_policy, version=version)))
            assert engine.policy_version == version
            assert fake.files == [
                "config.json",
                "model-00001.safetensors",
                "model.safetensors.index.json",
            ]
        (root,) = tmp_path.iterdir()
        assert [str(folder) for folder in root.glob("[!.]*")] == [fake.loaded]
        ((answer,),) = generate(engine, [request_of(1)])
        assert answer.policy_version == 2
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more_is_named(
    fake: FakeServer, dense_policy: Policy, tmp_path: Path
) -> None:
    with connected(fake, dense_policy, sync_folder=str(tmp_path)) as engine:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            with refused("File too large. Free some space, or set engine.sync_folder"):
                drive(engine.sync(weights_of(dense_policy)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def busy(fake: FakeServer) -> Reply:
    return 503, {"error": {"message": "overloaded"}}


def broken(fake: FakeServer) -> None:
    return None


def aborted(fake: FakeServer) -> Reply:
    if isinstance(fake, FakeVllm):
        return 200, {"choices": [{"finish_reason": "abort", "token_ids": []}]}
    return 200, {"meta_info": {"finish_reason": {"type": "abort", "message": "Aborted"}}}


def restarted(fake: FakeServer) -> None:
    fake.restart()


@pytest.mark.parametrize("fault", [busy, broken, aborted])
def test_what_passes_is_asked_again_and_counts_once(
    fake: FakeServer, dense_policy: Policy, fault: Callable[[FakeServer], Reply | None]
) -> None:
    with connected(fake, dense_policy) as engine:
        fake.faults = [fault] * 4
        answers = generate(engine, [request_of(3), request_of(2)])
    assert [len(each) for each in answers] == [3, 2]
    assert tokens(answers) == [GOOD] * 5
    path = "/v1/completions" if isinstance(fake, FakeVllm) else "/generate"
    assert len(fake.of(path)) == 9
    seeds = [body.get("seed") or body["sampling_params"]["sampling_seed"] for body in fake.of(path)]
    assert len(set(seeds)) == 3  # both requests have the same seed, and repeats keep theirs


def test_after_a_restart_nothing_is_sampled_from_other_weights(
    fake: FakeServer, dense_policy: Policy
) -> None:
    fake.answer_seconds = 0.01
    with connected(fake, dense_policy, max_running=2) as engine:
        drive(engine.sync(weights_of(dense_policy, version=4)))
        assert tokens(generate(engine, [request_of(2)])) == [GOOD] * 2
        fake.faults = [restarted]
        with pytest.warns(RuntimeWarning, match=r"restarted\. It gets the weights of version 4"):
            answers = generate(engine, [request_of(8)])
        assert tokens(answers) == [GOOD] * 8
        assert {answer.policy_version for answer in answers[0]} == {4}


def test_a_restart_without_a_failed_request_is_noticed(
    fake: FakeServer, dense_policy: Policy
) -> None:
    with connected(fake, dense_policy) as engine:
        generate(engine, [request_of(1)])
        fake.restart()
        assert fake.token == BAD
        with pytest.warns(RuntimeWarning, match="has restarted"):
            assert tokens(generate(engine, [request_of(3)])) == [GOOD] * 3


def test_weights_of_another_run_are_not_sampled_from(
    fake: FakeServer, dense_policy: Policy
) -> None:
    with connected(fake, dense_policy) as engine:
        generate(engine, [request_of(1)])
        fake.tag = "steadyrl-0123456789ab-1"
        with refused("got weights of another run. Give every run a server"):
            generate(engine, [request_of(1)])


def test_a_server_that_stays_away_ends_the_run_in_time(
    fake: FakeServer, dense_policy: Policy
) -> None:
    with connected(fake, dense_policy, patience=0.2) as engine:
        generate(engine, [request_of(1)])
        fake.faults = [busy] * 1000
        with refused("status 503: overloaded. Check the server's log"):
            generate(engine, [request_of(1)])


def test_a_refusal_is_quoted(fake: FakeServer, dense_policy: Policy) -> None:
    with connected(fake, dense_policy) as engine:
        fake.faults = [lambda _: (400, {"error": {"message": "Token id 7 is out of vocabulary"}})]
        with refused("status 400: Token id 7 is out of vocabulary"):
            generate(engine, [request_of(1)])


def test_what_the_server_cannot_hold_is_refused(fake: FakeServer, dense_policy: Policy) -> None:
    with (
        connected(fake, dense_policy) as engine,
        refused("needs 65 positions, but the engine has 64"),
    ):
        generate(engine, [request_of(1, max_new_tokens=62)])


def test_a_sync_that_fails_leaves_no_weights(fake: FakeServer, dense_policy: Policy) -> None:
    with connected(fake, dense_policy) as engine:
        generate(engine, [request_of(1)])
        state = dict(dense_policy.model.state_dict())
        state.pop("model.norm.weight")
        whole = weights_of(dense_policy, version=2)
        lacking = StateDictWeights(state=state, version=2, to_checkpoint=whole.to_checkpoint)
        with pytest.raises(ValueError, match="weights are missing"):
            drive(engine.sync(lacking))
        with pytest.raises(RuntimeError, match="its last sync failed"):
            generate(engine, [request_of(1)])
        drive(engine.sync(whole))
        assert tokens(generate(engine, [request_of(1)])) == [GOOD]


def test_weights_that_the_server_refuses_end_the_run(
    fake: FakeServer, dense_policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = type(fake).respond

    def respond(self: FakeServer, path: str, body: Any) -> Reply:
        if path == "/collective_rpc":
            return 500, {"error": {"message": "shape mismatch"}}
        if path == "/update_weights_from_disk":
            return 400, {"success": False, "message": "shape mismatch"}
        return reply(self, path, body)

    monkeypatch.setattr(type(fake), "respond", respond)
    with (
        connected(fake, dense_policy) as engine,
        refused("shape mismatch. No weights were synced. Resume"),
    ):
        generate(engine, [request_of(1)])


def test_a_sync_folder_that_is_not_there_is_refused(fake: FakeServer, dense_policy: Policy) -> None:
    with (
        refused("engine.sync_folder /nowhere cannot be used: No such file"),
        connected(fake, dense_policy, sync_folder="/nowhere"),
    ):
        pass


def test_a_server_that_is_not_there_is_refused_at_once(dense_policy: Policy) -> None:
    for kind in (VllmSettings, SglangSettings):
        settings = kind(url="http://127.0.0.1:9")
        with pytest.raises(UserError, match=r"127.0.0.1:9 cannot be reached .* Start it, or corr"):
            settings.make(EngineContext(policy=dense_policy, seed=3))


def test_a_server_of_another_kind_is_refused(dense_policy: Policy) -> None:
    context = EngineContext(policy=dense_policy, seed=3)
    with listening(FakeSglang()) as url, refused("Start it with VLLM_SERVER_DEV_MODE=1"):
        VllmSettings(url=url).make(context)
    with listening(FakeVllm()) as url, refused("status 404: Not Found. Start it, or correct"):
        SglangSettings(url=url).make(context)


@pytest.mark.parametrize(
    ("group", "option", "value", "message"),
    [
        ("model_config", "dtype", "torch.bfloat16", "bfloat16, but engine.numerics is 'float32'"),
        ("model_config", "logprobs_mode", "raw_logprobs", "--logprobs-mode processed_logprobs"),
        ("model_config", "generation_config", "auto", "--generation-config vllm"),
        ("model_config", "logits_processors", ["my.MinP"], "changes logits by my.MinP, which the"),
        ("device_config", "device", "cpu", "--worker-extension-cls steadyrl.engines.vllm.worker"),
    ],
)
def test_unsuitable_options_of_vllm_are_refused_with_the_right_ones(
    moe_policy: Policy, group: str, option: str, value: object, message: str
) -> None:
    fake = FakeVllm()
    fake.config[group][option] = value
    with refused(message), connected(fake, moe_policy):
        pass


def test_a_vllm_without_adapters_is_refused(dense_policy: Policy) -> None:
    fake = FakeVllm()
    fake.config["lora_config"] = None
    said = "UPDATING=1 and start it with --enable-lora --max-lora-rank 8"
    with refused(said), connected(fake, dense_policy, adapter_rank=8):
        pass


def test_unsuitable_options_of_sglang_are_refused(dense_policy: Policy) -> None:
    fake = FakeSglang()
    fake.info["dtype"] = "auto"
    said = "started with --dtype auto, but engine.numerics is 'float32'"
    with refused(said), connected(fake, dense_policy):
        pass
    fake = FakeSglang()
    fake.info["preferred_sampling_params"] = '{"top_p": 0.9}'
    said = 'to every request: {"top_p": 0.9}. Start it without --preferred-sampling-params'
    with refused(said), connected(fake, dense_policy):
        pass
    fake = FakeSglang(architectures=["OlmoeForCausalLM"])
    said = "serves a model of class ['OlmoeForCausalLM'], but this run trains"
    with refused(said), connected(fake, dense_policy):
        pass


def test_adapters_get_a_new_name_at_each_sync(dense_policy: Policy) -> None:
    fake = FakeVllm()
    state = {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(2, 2)}
    weights = AdapterWeights(
        state=state, adapter_config={"r": 2, "target_modules": ["up_proj"]}, version=1
    )
    with connected(fake, dense_policy, adapter_rank=8) as engine:
        names = []
        for version in (1, 2):
            drive(engine.sync(replace(weights, version=version)))
            ((answer,),) = generate(engine, [request_of(1)])
            assert answer.policy_version == version
            names.append(fake.of("/v1/completions")[-1]["model"])
            assert fake.adapters == [names[-1]]
        assert len(set(names)) == 2
        assert len(fake.of("/collective_rpc")) == 1  # the base is loaded once
        fake.restart()
        with pytest.warns(RuntimeWarning, match="has restarted"):
            generate(engine, [request_of(1)])
        assert len(fake.of("/collective_rpc")) == 2
        assert len(fake.adapters) == 1
        assert fake.adapters[0] not in names


def test_an_adapter_is_refused_where_none_was_announced(
    fake: FakeServer, dense_policy: Policy
) -> None:
    weights = AdapterWeights(state={}, adapter_config={}, version=1)
    with (
        connected(fake, dense_policy) as engine,
        refused("got a LoRA adapter without its base model"),
    ):
        drive(engine.sync(weights))
