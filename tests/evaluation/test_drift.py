"""Off-task texts: which tokenizers can write them, and what a policy makes of them."""

import pytest
import torch
from tests.rollout.fakes import ScriptedEngine

from steadyrl.engines.driver import drive
from steadyrl.evaluation.drift import GREEDY, DriftProbe, mean_loglikelihood
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.loading import load_model
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import PRINTABLE, character_tokenizer
from steadyrl.records.routing import RoutingReplay

WIDE = character_tokenizer(PRINTABLE + "ãï")
"""Has every character of the texts."""


@pytest.fixture(scope="module")
def learner() -> LocalLearner:
    settings = SmallDense(width=16, layers=1, heads=2, kv_heads=1, head_dim=8, mlp_width=16)
    settings = settings.model_copy(update={"max_positions": 320})
    return learner_of(settings)


def learner_of(settings: SmallDense) -> LocalLearner:
    policy = Policy(load_model(settings, tokenizer=WIDE, seed=1, dtype=torch.float32), WIDE)
    return LocalLearner(policy, LocalLearnerSettings(), replay=RoutingReplay.NONE)


def test_texts_are_scored_as_by_one_forward_pass_each(learner: LocalLearner) -> None:
    scores = drive(DriftProbe(WIDE).measure(learner))
    assert [bool(score.text.question) for score in scores] == [True] * 12 + [False] * 3
    sums = []
    for score in scores:
        row = torch.cat([score.text.prompt_ids, score.text.answer_ids])[None]
        with torch.no_grad():
            logprobs = learner.policy.model(row).logits.double().log_softmax(dim=-1)[0, :-1]
        taken = logprobs.gather(1, row[0, 1:, None])[-len(score.text.answer_ids) :]
        sums.append(taken.sum().item())
        assert score.loglikelihood == pytest.approx(sums[-1], rel=1e-5)
    tokens = sum(len(score.text.answer_ids) for score in scores)
    assert mean_loglikelihood(scores) == pytest.approx(sum(sums) / tokens, rel=1e-5)


def test_questions_are_scored_after_the_template_and_answered_greedily(
    learner: LocalLearner,
) -> None:
    engine = ScriptedEngine(lambda prompt, *_: "Paris." if "France" in prompt else "x")
    scores = drive(DriftProbe(WIDE).measure(learner, engine))
    first = scores[0].to_record()

    asked = WIDE.decode(scores[0].text.prompt_ids)
    assert asked == "<|user|>What is the capital of France?<|assistant|>"
    assert (first["answer"], first["response"]) == ("The capital of France is Paris.", "Paris.")
    assert [score.response for score in scores[1:]] == ["x"] * 11 + [None] * 3
    assert GREEDY.temperature == 0


def test_auto_leaves_out_tokenizers_that_cannot_write_the_texts() -> None:
    assert DriftProbe.create("auto", character_tokenizer()) is None
    assert DriftProbe.create("always", character_tokenizer()) is not None
    assert DriftProbe.create("auto", WIDE) is not None
    assert DriftProbe.create("never", WIDE) is None


def test_texts_without_room_in_the_model_are_left_out() -> None:
    short = SmallDense(width=16, layers=1, heads=2, kv_heads=1, head_dim=8, mlp_width=16)
    short = short.model_copy(update={"max_positions": 64})
    scores = drive(DriftProbe(WIDE).measure(learner_of(short)))
    lengths = [len(s.text.prompt_ids) + len(s.text.answer_ids) for s in scores]

    assert 0 < len(scores) < 15
    assert max(lengths) <= 64
