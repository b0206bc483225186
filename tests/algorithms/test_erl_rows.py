"""Rows of longer conversations, and prompts that are exchanged."""

from dataclasses import replace

import pytest
import torch
from tests.algorithms.experiential import COMPACT, algorithm, student, texts
from tests.driving import collect
from tests.rollout.fakes import LAYERS, Quiz, ScriptedEngine

from steadyrl.algorithms.erl import ExperientialRL
from steadyrl.algorithms.erl_rows import compute_advantages
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.objectives import group_mean_std
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.trajectory import Group, Trajectory


def group(*rewards: float) -> Group:
    trajectory = Trajectory(
        task_id="t", messages=(), completions=(), reward=0.0, terminated=True, truncated=False
    )
    return Group(task_id="t", trajectories=tuple(replace(trajectory, reward=r) for r in rewards))


def test_groups_of_one_are_credited_apart_from_the_others() -> None:
    groups = [group(1.0), group(0.0, 1.0, 1.0), group(0.0), group(0.5)]
    ids = torch.tensor([1, 1, 1])
    inner = group_mean_std(torch.tensor([0.0, 1.0, 1.0]), ids).tolist()
    for rule, alone in (("reward", [1.0, 0.0, 0.5]), ("zero", [0.0, 0.0, 0.0])):
        credits = [c.tolist() for c in compute_advantages(groups, "group_mean_std", rule)]
        assert credits == [alone[:1], pytest.approx(inner), alone[1:2], alone[2:]]
    assert compute_advantages([], "group_mean", "reward") == []
    assert [c.tolist() for c in compute_advantages([group(1.0)], "group_mean", "reward")] == [[1.0]]


def two_turns() -> ScriptedEngine:
    """Wrong in both turns, then right in both under the lesson."""

    def answer(prompt: str, number: int, _call: int) -> str:
        if "\n" in prompt:
            return "hint"
        return "right" if prompt.startswith("<|system|>") else f"w{number}"

    return ScriptedEngine(answer)


def test_internalised_conversations_keep_every_turn_and_lose_the_lesson() -> None:
    subject = algorithm(environment=Quiz(turns=2), group_size=2, prompts=1, threshold=2.0)
    (mini_batch,) = collect(subject, 0, two_turns()).mini_batches
    first, reflections, second, internalized = mini_batch
    told = "<|user|>q0<|assistant|>w0<|end|><|user|>next<|assistant|>w0<|end|>"
    assert texts(first)[0] == told
    assert texts(reflections)[0].startswith(
        "<|user|>q0\n[assistant] w0\n[user] next\n[assistant] w0\nyou wrote w0\nyou wrote w0\n0<|a"
    )
    conversation = "<|user|>q0<|assistant|>right<|end|><|user|>next<|assistant|>right<|end|>"
    assert texts(second) == [f"<|system|>hint{conversation}"] * 2
    assert texts(internalized) == [conversation] * 2
    # What was sampled keeps its probabilities: they are those under the lesson.
    for row in range(2):
        under_lesson = second.rollout_logprobs[row][second.loss_mask[row]]
        assert torch.equal(
            internalized.rollout_logprobs[row][internalized.loss_mask[row]], under_lesson
        )


def test_only_reprompted_rows_have_no_routes_of_the_engine() -> None:
    (mini_batch,) = collect(algorithm(), 0, student()).mini_batches
    *sampled, internalized = mini_batch
    routings = [batch.rollout_routing for batch in sampled]
    assert [routing.at(routing.known).shape[1] for routing in routings] == [LAYERS] * 3
    assert internalized.rollout_routing is None
    assert internalized.reprompted
    assert not any(batch.reprompted for batch in sampled)


def test_distillation_pairs_first_attempts_with_themselves_under_the_lesson() -> None:
    subject = algorithm(internalization={"name": "on_policy_distillation"})
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    rows = mini_batch[-1]
    teacher = rows.teacher
    assert teacher is not None
    assert texts(rows) == ["<|user|>q0<|assistant|>w1<|end|>", "<|user|>q1<|assistant|>w3<|end|>"]
    assert texts(teacher) == [
        f"<|system|>do {x}{t}" for x, t in zip("AC", texts(rows), strict=True)
    ]
    # The student's rows are first attempts as the engine wrote them.
    assert not rows.reprompted
    assert not rows.is_measured
    assert rows.rollout_routing is not None
    assert teacher.rollout_routing is None
    first = mini_batch[0]
    assert torch.equal(
        rows.rollout_logprobs[0][rows.loss_mask[0]], first.rollout_logprobs[1][first.loss_mask[1]]
    )


def test_rows_that_fall_apart_under_the_teacher_s_prompt_are_refused() -> None:
    tokenizer = character_tokenizer()
    # Under a system message, this template leaves out the end of turns that are over.
    end = "{% if message['role'] == 'assistant' %}"
    assert end in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(
        end, "{% if message['role'] == 'assistant' and messages[0]['role'] != 'system' %}"
    )
    subject = ExperientialRL(
        ExperientialSettings(
            prompts=1,
            group_size=2,
            threshold=2.0,
            reflection=COMPACT,
            internalization={"name": "on_policy_distillation"},
        ),
        environment=Quiz(turns=2),
        tokenizer=tokenizer,
        sampling=Sampling(max_new_tokens=16),
        seed=0,
    )
    with pytest.raises(
        RuntimeError, match="different rows under its teacher's prompt than under its"
    ):
        collect(subject, 0, two_turns())
