"""A real vLLM server, compared with the trainer, killed and started again."""

import asyncio
from collections.abc import Iterator
from itertools import chain

import pytest
import torch

from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.engines.canary import CanaryError, CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.servers.engine import ServerEngine
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.weight_source import StateDictWeights, WeightSource
from steadyrl.rollout.routes import check_routing
from steadyrl.training.checked_engine import CheckedEngine
from tests.driving import generate
from tests.engines.vllm.models import qwen3, qwen3_moe
from tests.engines.vllm.server_process import VllmServerProcess, connected
from tests.engines.vllm.serving import FLOAT32, perturb, requests, sequences, trainer_scores

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServerProcess]:
    """A server that starts with other weights than those of the policy."""
    folder = tmp_path_factory.mktemp("checkpoint")
    policy = qwen3_moe(seed=9)
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    process = VllmServerProcess(folder, folder / "log", ["--enable-return-routed-experts"])
    process.start()
    process.wait()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def pair(server: VllmServerProcess) -> Iterator[tuple[Policy, ServerEngine]]:
    policy = qwen3_moe()
    with connected(server, policy) as engine:
        yield policy, engine


def check_answers(policy: Policy, answers: list[Completion], temperature: float = 1.0) -> None:
    """Log-probabilities and routes are those of the trainer."""
    check_routing(answers)
    for answer, tokens in zip(answers, sequences(answers), strict=True):
        own = trainer_scores(policy, tokens, temperature=temperature)
        expected = own.logprobs[0, len(answer.prompt_ids) :]
        assert (answer.logprobs - expected).abs().max() < FLOAT32
        assert own.routing is not None
        assert answer.routing is not None
        fed = torch.arange(len(tokens))[None] < len(tokens) - 1
        recorded = answer.routing.at(answer.routing.known).sort(dim=-1).values
        assert torch.equal(recorded, own.routing.at(fed).sort(dim=-1).values)


def same(one: list[list[Completion]], other: list[list[Completion]]) -> bool:
    pairs = zip(chain(*one), chain(*other), strict=True)
    return all(torch.equal(a.token_ids, b.token_ids) for a, b in pairs)


def test_scores_answers_and_routes_are_those_of_the_trainer(
    pair: tuple[Policy, ServerEngine],
) -> None:
    policy, engine = pair
    given = [request.prompt_ids for request in requests(policy)]
    for tokens, scores in zip(given, drive(engine.score(given)), strict=True):
        assert (scores - trainer_scores(policy, tokens).logprobs[0]).abs().max() < FLOAT32
    asked = requests(policy, temperature=0.5)
    answers = generate(engine, asked)
    check_answers(policy, list(chain(*answers)), temperature=0.5)
    assert same(answers, [generate(engine, [request])[0] for request in asked])
    assert {answer.policy_version for answer in chain(*answers)} == {0}


def test_a_sync_replaces_the_weights_and_repeats_requests_that_run(
    pair: tuple[Policy, ServerEngine],
) -> None:
    policy, engine = pair
    asked = requests(policy, answers=8, max_new_tokens=150)
    perturb(policy, 0.05)

    async def sync_meanwhile() -> list[list[Completion]]:
        running = asyncio.ensure_future(concurrently(map(engine.generate, asked)))
        await asyncio.sleep(0.1)
        await engine.sync(weights_of(policy, version=7))
        return await running

    answers = list(chain(*drive(sync_meanwhile())))
    assert engine.policy_version == 7
    assert {answer.policy_version for answer in answers} <= {0, 7}  # a few may have ended before
    repeated = [answer for answer in answers if answer.policy_version == 7]
    assert repeated
    check_answers(policy, repeated)


def test_a_rollout_survives_a_kill(
    server: VllmServerProcess, pair: tuple[Policy, ServerEngine]
) -> None:
    policy, engine = pair
    asked = requests(policy, answers=8, max_new_tokens=150)
    expected = generate(engine, asked)

    async def kill_meanwhile() -> list[list[Completion]]:
        running = asyncio.ensure_future(concurrently(map(engine.generate, asked)))
        await asyncio.sleep(0.5)
        server.kill()
        server.start()
        return await running

    with pytest.warns(
        RuntimeWarning, match="has restarted. It gets the weights of version 7 again"
    ):
        answers = drive(kill_meanwhile())
    assert same(answers, expected)
    assert [len(each) for each in answers] == [8, 8, 8]
    check_answers(policy, list(chain(*answers)))


def test_a_restart_between_two_rollouts_is_noticed(
    server: VllmServerProcess, pair: tuple[Policy, ServerEngine]
) -> None:
    policy, engine = pair
    given = [request.prompt_ids for request in requests(policy)]
    expected = drive(engine.score(given))
    server.kill()
    server.start()
    server.wait()
    with pytest.warns(RuntimeWarning, match="has restarted"):
        scores = drive(engine.score(given))
    assert all(torch.equal(one, other) for one, other in zip(scores, expected, strict=True))


def checked(policy: Policy, engine: ServerEngine) -> tuple[CheckedEngine, LocalLearner]:
    learner = LocalLearner(policy, LocalLearnerSettings(), replay=RoutingReplay.NONE)
    settings = CanarySettings(every=1)
    probes = make_probes(range(3, policy.vocabulary_size), settings, 256)
    return CheckedEngine(engine, learner, probes, settings), learner


def test_the_canary_proves_syncs_and_names_swapped_tensors(
    pair: tuple[Policy, ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, engine = pair
    proven, learner = checked(policy, engine)
    drive(proven.sync(learner.publish()))
    assert proven.sync_metrics["canary_difference"] < FLOAT32
    perturb(policy, 0.02, seed=7)
    sync = engine.sync
    one, other = (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 3))

    async def swapped(source: WeightSource) -> None:
        state = dict(source.tensors("checkpoint"))
        state |= {one: state[other], other: state[one]}
        await sync(StateDictWeights(state=state, version=source.version))

    monkeypatch.setattr(engine, "sync", swapped)
    with pytest.raises(CanaryError, match=r"After the sync of version"):
        drive(proven.sync(learner.publish()))


def test_a_second_run_is_noticed(
    server: VllmServerProcess, pair: tuple[Policy, ServerEngine]
) -> None:
    policy, engine = pair
    given = [torch.arange(5, 15)]
    drive(engine.score(given))
    with connected(server, policy) as second:
        drive(second.score(given))
        with pytest.raises(UserError, match="got weights of another run"):
            drive(engine.score(given))
    drive(engine.sync(weights_of(policy, version=8)))


def test_other_numerics_are_refused(server: VllmServerProcess) -> None:
    said = r"computes in float32, but engine\.numerics is 'bfloat16'"
    with (
        pytest.raises(UserError, match=said),
        connected(server, qwen3_moe(), numerics="bfloat16"),
    ):
        pass


# The last test: it leaves the server with weights that are partly loaded.
def test_weights_of_another_model_are_refused(server: VllmServerProcess) -> None:
    with connected(server, qwen3()) as engine:
        with pytest.raises(UserError, match=r"vLLM server at .* replied with status 500"):
            drive(engine.score([torch.arange(5, 15)]))
        with pytest.raises(RuntimeError, match="its last sync failed"):
            drive(engine.score([torch.arange(5, 15)]))
