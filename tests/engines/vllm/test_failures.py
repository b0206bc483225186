"""A vLLM that fails in the middle of a rollout: nothing is lost, and nothing counts twice."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion
from tests.driving import generate
from tests.engines.vllm.models import qwen3_moe
from tests.engines.vllm.serving import FLOAT32, perturb, requests, sequences, served, trainer_scores

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

Step = Callable[[], Any]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Policy, VllmEngine]]:
    policy = qwen3_moe()
    with served(policy, restarts=1, timeout=2.0) as engine:
        perturb(policy, 0.05)
        drive(engine.sync(weights_of(policy, version=4)))
        yield policy, engine


def after(engine: VllmEngine, steps: int, failing: Callable[[Step], Any]) -> None:
    """Lets the engine's present vLLM take so many steps, and then do as `failing` says."""
    llm = engine.vllm
    step, taken = llm.step, 0

    def take() -> Any:
        nonlocal taken
        taken += 1
        return step() if taken <= steps else failing(step)

    llm.step = take


def out_of_memory(step: Step) -> Any:
    step()  # it computes, and what it computed is lost
    raise RuntimeError("out of memory")


def same(one: list[list[Completion]], other: list[list[Completion]]) -> bool:
    pairs = zip(chain(*one), chain(*other), strict=True)
    return all(torch.equal(a.token_ids, b.token_ids) for a, b in pairs)


def test_a_rollout_survives_a_failure(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    # The first answers end before the failure, the others after it.
    asked = requests(policy, max_new_tokens=4) + requests(policy, max_new_tokens=24)
    expected = generate(engine, asked)
    first = engine.vllm
    after(engine, 8, out_of_memory)
    with pytest.warns(RuntimeWarning, match=r"vLLM failed \(RuntimeError: out of memory\)"):
        answers = generate(engine, asked)
    assert engine.vllm is not first
    assert same(answers, expected)
    assert {answer.policy_version for answer in chain(*answers)} == {4}
    for answer, tokens in zip(chain(*answers), sequences(list(chain(*answers))), strict=True):
        known = trainer_scores(policy, tokens).logprobs[0, len(answer.prompt_ids) :]
        assert (answer.logprobs - known).abs().max() < FLOAT32


def test_scoring_survives_a_failure(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    drive(engine.sync(weights_of(policy, version=4)))
    given = [request.prompt_ids for request in requests(policy)]
    expected = drive(engine.score(given))
    after(engine, 0, out_of_memory)
    with pytest.warns(RuntimeWarning, match="3 requests were resubmitted"):
        scores = drive(engine.score(given))
    for one, other in zip(scores, expected, strict=True):
        assert torch.equal(one, other)


def test_one_that_never_finishes_anything_counts_as_a_failure(
    pair: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = pair
    drive(engine.sync(weights_of(policy, version=4)))
    asked = requests(policy)
    expected = generate(engine, asked)
    after(engine, 2, lambda step: [])
    with pytest.warns(RuntimeWarning, match="finished none of 9 requests in 2 s"):
        answers = generate(engine, asked)
    assert same(answers, expected)


def test_weights_that_a_learner_has_left_are_not_replaced_by_newer_ones(
    pair: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = pair
    drive(engine.sync(weights_of(policy, version=4)))
    perturb(policy, 1e-6)
    after(engine, 2, out_of_memory)
    said = "the learner has moved on from version 4"
    with pytest.warns(RuntimeWarning), pytest.raises(UserError, match=said):
        generate(engine, requests(policy))


def test_one_that_fails_again_and_again_ends_the_run(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    drive(engine.sync(weights_of(policy, version=4)))
    launch = engine.launch

    def broken() -> Any:
        llm = launch()
        llm.step = lambda: out_of_memory(list)
        return llm

    engine.launch = broken
    after(engine, 0, out_of_memory)
    said = "vLLM failed 2 times since the last sync, most recently with RuntimeError: out of memory"
    with pytest.warns(RuntimeWarning), pytest.raises(UserError, match=said):
        generate(engine, requests(policy))
    engine.launch = launch
    drive(engine.sync(weights_of(policy, version=5)))
    assert {answer.policy_version for answer in chain(*generate(engine, requests(policy)))} == {5}


def test_a_sync_in_the_middle_of_an_answer_begins_it_again(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    (request,) = requests(policy, [40])
    number = engine.submit(request)
    for _ in range(5):
        assert not engine.step()
    perturb(policy, 0.05, seed=2)
    drive(engine.sync(weights_of(policy, version=6)))
    answers: dict[int, list[Completion]] = {}
    while number not in answers:
        answers |= engine.step()
    assert {answer.policy_version for answer in answers[number]} == {6}
    assert same([answers[number]], generate(engine, [request]))
