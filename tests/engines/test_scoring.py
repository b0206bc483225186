"""Given tokens, scored by engines in their own arithmetic."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.records.weight_source import AdapterWeights
from tests.closeness import assert_close
from tests.driving import generate
from tests.engines.builders import (
    engine_model,
    flat,
    local_engine,
    policy_of,
    reference_engine,
    some_requests,
)
from tests.policies.families import FAMILIES, VOCABULARY

BOTH_ENGINES = pytest.mark.parametrize("make_engine", [local_engine, reference_engine])
MakeEngine = Callable[[Policy], Engine]


def some_sequences(lengths: tuple[int, ...] = (7, 1, 30, 2, 12)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(6, VOCABULARY, (length,), generator=generator) for length in lengths]


@pytest.mark.parametrize("model", FAMILIES)
def test_scores_are_the_log_probabilities_of_the_model(model: str) -> None:
    policy, sequences = policy_of(model), some_sequences()
    scores = drive(local_engine(policy).score(sequences))
    for tokens, score in zip(sequences, scores, strict=True):
        with torch.no_grad():
            logits = policy.model(input_ids=tokens[None]).logits[0].float()
        expected = logits[:-1].log_softmax(-1).gather(-1, tokens[1:, None]).squeeze(-1)
        assert score[0] == 0
        assert_close(score[1:], expected)


@BOTH_ENGINES
@pytest.mark.parametrize("numerics", [Numerics.FLOAT32, Numerics.BFLOAT16, Numerics.FP8])
def test_an_engine_scores_its_own_answers_as_it_drew_them(
    make_engine: Callable[..., Engine], numerics: Numerics
) -> None:
    engine = make_engine(policy_of("qwen3_moe"), numerics=numerics)
    answers = flat(generate(engine, some_requests(), Sampling(max_new_tokens=8)))
    sequences = [torch.cat([answer.prompt_ids, answer.token_ids]) for answer in answers]
    scores = drive(engine.score(sequences))
    for answer, score in zip(answers, scores, strict=True):
        found = score[len(answer.prompt_ids) :]
        if numerics is Numerics.FLOAT32:
            assert_close(found, answer.logprobs)
        assert float((found - answer.logprobs).abs().mean()) < 0.5


def test_passes_over_few_positions_change_no_score() -> None:
    policy, sequences = policy_of("mixtral"), some_sequences()
    expected = drive(local_engine(policy).score(sequences))
    model = engine_model(policy)
    shapes: list[tuple[int, ...]] = []
    engine = LocalEngine(model, max_running=4, prefill_positions=16)
    model.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, args: shapes.append(tuple(args[0].shape))
    )
    for score, other in zip(drive(engine.score(sequences)), expected, strict=True):
        assert_close(score, other)
    assert len(shapes) > 1
    assert all(rows * columns <= 16 or rows == 1 for rows, columns in shapes)


@BOTH_ENGINES
def test_sequences_that_cannot_be_scored_are_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(policy_of("qwen3"))
    assert drive(engine.score([])) == []
    with pytest.raises(UserError, match="has no tokens"):
        drive(engine.score([torch.zeros(0, dtype=torch.long)]))
    with pytest.raises(UserError, match=r"129 tokens: the model has 128"):
        drive(engine.score(some_sequences((129,))))


@BOTH_ENGINES
def test_an_adapter_without_its_base_is_refused_in_a_sentence(make_engine: MakeEngine) -> None:
    engine = make_engine(policy_of("qwen3"))
    weights = AdapterWeights(state={}, adapter_config={}, version=1)
    assert not engine.capabilities.adapters
    with pytest.raises(UserError, match=r"without its base model. Merge the adapter into"):
        drive(engine.sync(weights))


@BOTH_ENGINES
def test_capabilities_are_those_of_the_model(make_engine: MakeEngine) -> None:
    for model, routes in (("qwen3", False), ("qwen3_moe", True)):
        capabilities = make_engine(policy_of(model)).capabilities
        assert capabilities.routing == routes
        assert capabilities.exact_draws
        assert capabilities.scoring
        assert capabilities.max_positions == 128
