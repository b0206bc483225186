"""Answers of external engines as records, in the shapes and types of vLLM 0.30."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch

from steadyrl.engines.answers import (
    Answer,
    EngineOutputError,
    MoeShape,
    completion,
    routing_of,
)
from steadyrl.engines.vllm.outputs import decode_routes, prompt_scores
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.rollout.routes import check_routing

PROMPT = torch.tensor([5, 6, 7])
SHAPE = MoeShape(layers=(0, 2), num_experts=4, experts_per_token=2)
# Four fed tokens (the last one sampled is never fed), three layers, of which the second is dense.
ROUTES = np.array(
    [
        [[0, 1], [0, 0], [2, 3]],
        [[1, 0], [0, 0], [3, 2]],
        [[2, 1], [0, 0], [0, 3]],
        [[3, 1], [0, 0], [1, 2]],
    ],
    dtype=np.uint8,
)


def answer(**changes: Any) -> Answer:
    values: dict[str, Any] = {
        "token_ids": [8, 2],
        "logprobs": [-0.5, -1.5],
        "finish_reason": "stop",
        "routed_experts": ROUTES,
    }
    return Answer(**(values | changes))


def record(given: Answer, moe: MoeShape | None = SHAPE) -> Completion:
    return completion(PROMPT, given, end_token_ids={2}, moe=moe, policy_version=3)


def test_an_answer_becomes_a_completion() -> None:
    found = record(answer())
    assert found.token_ids.tolist() == [8, 2]
    assert found.logprobs.tolist() == [-0.5, -1.5]
    assert found.finish_reason is FinishReason.STOP
    assert found.policy_version == 3
    assert found.routing is not None
    assert found.routing.known.tolist() == [[True] * 4]
    assert found.routing.padded().experts[0].tolist() == [
        [[0, 1], [2, 3]],
        [[1, 0], [3, 2]],
        [[2, 1], [0, 3]],
        [[3, 1], [1, 2]],
    ]
    check_routing([found])


def test_a_dense_model_has_no_routes() -> None:
    assert record(answer(routed_experts=None), moe=None).routing is None


def test_an_answer_cut_by_its_budget_says_so() -> None:
    given = answer(token_ids=[8, 9], finish_reason="length")
    assert record(given).finish_reason is FinishReason.LENGTH


def test_many_experts_fit() -> None:
    moe = MoeShape(layers=(1,), num_experts=512, experts_per_token=2)
    routes = np.array([[[0, 0], [511, 256]]], dtype=np.uint16)
    found = routing_of(routes, moe, torch.tensor([4]))
    assert found.padded().experts.tolist() == [[[[511, 256]]]]
    assert found.padded().experts.dtype == torch.int16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logprobs": [-0.5]}, "2 tokens with 1 log-probabilities"),
        ({"token_ids": [], "logprobs": []}, "0 tokens"),
        ({"logprobs": [-0.5, float("nan")]}, "1 log-probabilities that are not finite"),
        ({"finish_reason": "length"}, "reason 'length' after token 2, which is an end token"),
        ({"token_ids": [2, 8]}, "reason 'stop' after token 8, which is not an end token"),
        ({"finish_reason": "repetition"}, "reason 'repetition'"),
        ({"routed_experts": None}, "no routes"),
        ({"routed_experts": ROUTES[:3]}, r"shape \(3, 3, 2\) for 4 input tokens"),
        ({"routed_experts": ROUTES[:, :2]}, "model with 3 layers"),
        ({"routed_experts": ROUTES[..., :1]}, "to 1 experts, the trainer to 2"),
        ({"routed_experts": ROUTES + 4}, "returned expert 7, but the model has 4"),
        ({"routed_experts": np.zeros_like(ROUTES)}, "routes were not recorded"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineOutputError, match=message):
        record(answer(**changes))


def test_a_server_sends_routes_as_a_file_in_base64() -> None:
    file = io.BytesIO()
    np.save(file, ROUTES)
    text = base64.b64encode(file.getvalue()).decode()
    decoded = decode_routes(text)
    assert decoded is not None
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, ROUTES)
    assert decode_routes(None) is None


@pytest.mark.parametrize("text", ["", "%%%", base64.b64encode(b"\x93NUMPY").decode()])
def test_routes_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(EngineOutputError, match="unreadable routes"):
        decode_routes(text)


def test_given_tokens_are_found_by_number_or_by_text() -> None:
    entries = [None, {"6": {"logprob": -1.0}, "9": {"logprob": -0.1}}, {7: {"logprob": -2.0}}]
    assert prompt_scores(PROMPT, entries).tolist() == [0.0, -1.0, -2.0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (None, "no scores for 3"),
        ([None, {"6": {"logprob": -1.0}}], "2 scores for 3"),
        ([None, {"6": {"logprob": -1.0}}, {"9": {"logprob": -1.0}}], "prompt token 7"),
        ([None, {"6": {"logprob": -1.0}}, {"7": {"logprob": float("nan")}}], "not finite"),
    ],
)
def test_missing_scores_are_refused(entries: Any, message: str) -> None:
    with pytest.raises(EngineOutputError, match=message):
        prompt_scores(PROMPT, entries)
