"""Experiential RL: who reflects, and what is learned."""

from dataclasses import replace

import pytest
import torch
from tests.algorithms.experiential import (
    COMPACT,
    FIRST,
    LESSONS,
    algorithm,
    batches,
    collected,
    credits,
    learned,
    student,
    texts,
)
from tests.algorithms.terms import far_apart
from tests.driving import collect
from tests.engines.builders import local_engine
from tests.rollout.fakes import TOKENIZER, ScriptedEngine, ShortQuiz

from steadyrl.algorithms.memory import NoMemory
from steadyrl.algorithms.policy_gradient import PolicyGradient, PolicyGradientSettings
from steadyrl.algorithms.protocol import Algorithm, SupportsState
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.protocol import Sampling
from steadyrl.objectives import GRPO, GSPO, NLL, Aggregation
from steadyrl.policies.policy import Policy

# The worked example. Rewards of first attempts are (1, 0, 0) at q0 and (0, 1, 1) at q1; three of
# them failed. The lessons "do A" and "do C" lead to success, "do B" does not.


def test_it_is_an_algorithm_with_a_state() -> None:
    assert isinstance(algorithm(), Algorithm)
    assert isinstance(algorithm(), SupportsState)
    assert algorithm().samples_from_engine


def test_every_part_of_an_episode_is_learned_under_its_own_prompt() -> None:
    first, reflections, second, internalized = batches(collected())

    assert texts(first) == [
        *(f"<|user|>q0<|assistant|>{word}<|end|>" for word in FIRST["q0"]),
        *(f"<|user|>q1<|assistant|>{word}<|end|>" for word in FIRST["q1"]),
    ]
    assert texts(reflections) == [
        "<|user|>q0\nw1\nyou wrote w1\n0<|assistant|>do A<|end|>",
        "<|user|>q0\nw2\nyou wrote w2\n0<|assistant|>do B<|end|>",
        "<|user|>q1\nw3\nyou wrote w3\n0<|assistant|>do C<|end|>",
    ]
    assert texts(second) == [
        "<|system|>do A<|user|>q0<|assistant|>right<|end|>",
        "<|system|>do B<|user|>q0<|assistant|>wrong<|end|>",
        "<|system|>do C<|user|>q1<|assistant|>right<|end|>",
    ]
    assert texts(internalized) == [
        "<|user|>q0<|assistant|>right<|end|>",
        "<|user|>q1<|assistant|>right<|end|>",
    ]
    assert learned(reflections) == ["do A<|end|>", "do B<|end|>", "do C<|end|>"]
    assert learned(internalized) == ["right<|end|>"] * 2
    assert [b.reprompted for b in (first, reflections, second, internalized)] == [False] * 3 + [
        True
    ]


def test_each_part_is_credited_against_the_same_part_of_the_same_task() -> None:
    first, reflections, second, internalized = batches(collected())

    # (1, 0, 0): mean 1/3, sample deviation sqrt((4/9 + 1/9 + 1/9) / 2) = 1 / sqrt(3), so
    # (2/3) sqrt(3) = 1.1547 and -0.5774. (0, 1, 1) is its mirror image.
    expected = [1.1547, -0.5774, -0.5774, -1.1547, 0.5774, 0.5774]
    assert credits(first) == pytest.approx(expected, abs=1e-4)
    # (1, 0): mean 1/2, deviation 1 / sqrt(2), so 0.7071 each way. The one of q1 is alone: A = r2.
    for batch in (reflections, second):
        assert credits(batch) == pytest.approx([0.7071, -0.7071, 1.0], abs=1e-4)
    assert credits(internalized) == [1.0, 1.0]


def test_group_of_one_has_no_advantage_where_that_is_asked_for() -> None:
    _, reflections, second, internalized = batches(collected(group_of_one="zero"))
    for batch in (reflections, second):
        assert credits(batch) == pytest.approx([0.7071, -0.7071, 0.0], abs=1e-4)
    assert credits(internalized) == [1.0, 1.0]


def test_responses_weigh_the_same_in_however_many_rows() -> None:
    subject = algorithm(objective=GSPO())
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    first, *others = mini_batch
    assert first.response_ids.tolist() == [0, 1, 2, 3, 4, 5]
    two = replace(first, response_ids=torch.tensor([0, 0, 0, 1, 1, 1]))
    terms = subject.loss_terms((two, *others))
    assert [t.scale for t in terms] == pytest.approx([2 / 10, 3 / 10, 3 / 10, 2 / 10])
    # Internalization is not by GSPO.
    assert [t.objective.reads_responses for t in terms] == [True, True, True, False]
    clipped = [t.objective.masks(far_apart()).clipped_high for t in terms]
    assert [tokens is not None for tokens in clipped] == [True, True, True, False]


def test_prompts_with_one_episode_learn_from_its_reward() -> None:
    experience = collected(group_size=1)
    # "right" at q0 and "w3" at q1, of which "do C" leads to success.
    assert [credits(batch) for batch in batches(experience)] == [[1.0, 0.0], [1.0], [1.0], [1.0]]
    assert experience.metrics["no_signal_fraction"] == 0.5


def test_every_response_weighs_the_same_but_for_the_coefficient() -> None:
    subject = algorithm(internalization_coefficient=0.5)
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    terms = subject.loss_terms(mini_batch)

    # 6 + 3 + 3 + 2 responses. A mean over each batch, times its share, is a mean over all of them.
    assert [t.scale for t in terms] == pytest.approx([6 / 14, 3 / 14, 3 / 14, 0.5 * 2 / 14])
    assert [t.batch for t in terms] == list(mini_batch)
    assert {t.aggregation for t in terms} == {Aggregation.TOKEN_SUM}
    assert [t.objective.proportional_to_advantage for t in terms] == [True, True, True, False]
    probe = far_apart()
    for term in terms[:3]:
        assert torch.equal(term.objective(probe), GRPO(clip_low=0.2, clip_high=0.28)(probe))
    assert torch.equal(terms[3].objective(probe), NLL()(probe))


@pytest.mark.parametrize(
    ("aggregation", "shares"),
    [
        # Loss tokens with the end token. First: 6 3 3 3 6 6. Lessons: 5 5 5. Second and
        # internalised: 6 each.
        (Aggregation.TOKEN_MEAN, [27, 15, 18, 12]),
        (Aggregation.GROUP_TOKEN_MEAN, [2, 2, 2, 2]),
        (Aggregation.LENGTH_NORM, [6, 3, 3, 2]),
    ],
)
def test_terms_weigh_as_if_all_rows_stood_in_one_batch(
    aggregation: Aggregation, shares: list[int]
) -> None:
    subject = algorithm(aggregation=aggregation)
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    scales = [term.scale for term in subject.loss_terms(mini_batch)]
    assert scales == pytest.approx([share / sum(shares) for share in shares])


def test_reflections_are_scored_at_the_temperature_they_were_drawn_at() -> None:
    first, reflections, second, internalized = batches(collected())
    assert reflections.temperature == COMPACT.sampling.temperature == 0.5
    assert first.temperature is second.temperature is internalized.temperature is None


def test_metrics_of_the_worked_example() -> None:
    assert collected().metrics == {
        "reward": 3 / 6,
        "response_length": pytest.approx(27 / 6),
        "environment_failed_fraction": 0.0,
        "truncated_fraction": 0.0,
        "no_signal_fraction": 0.0,
        "reflection_fraction": 3 / 6,
        "reward_reflected": pytest.approx(2 / 3),
        "reward_after_reflection": pytest.approx(5 / 6),
        "internalized_fraction": pytest.approx(2 / 6),
        "memory_writes": 2.0,
        "failed_reflections": 0.0,
        "reflection_length": 5.0,
        "second_attempt_length": 6.0,
    }


def test_what_was_written_is_on_record_part_by_part() -> None:
    groups = collected().groups
    found = [(g.part, g.task_id, [t.messages[-1].content for t in g.trajectories]) for g in groups]
    q0, q1 = "quiz/train/0", "quiz/train/1"
    assert found == [
        ("first_attempt", q0, FIRST["q0"]),
        ("first_attempt", q1, FIRST["q1"]),
        ("reflection", q0, ["do A", "do B"]),
        ("reflection", q1, ["do C"]),
        ("second_attempt", q0, ["right", "wrong"]),
        ("second_attempt", q1, ["right"]),
    ]
    # A reflection's reward is that of the attempt it led to.
    assert [t.reward for g in groups for t in g.trajectories][6:] == [1, 0, 1, 1, 0, 1]


def test_the_parts_of_an_episode_are_recorded_with_its_story() -> None:
    groups = collected().groups
    stories = {
        part: {
            t.episode.number: t.episode for g in groups if g.part == part for t in g.trajectories
        }
        for part in ("first_attempt", "reflection", "second_attempt")
    }
    first = stories["first_attempt"]
    assert [(s.reflects, s.internalized, s.remembered) for s in first.values()] == [
        (False, False, None),
        (True, True, 0),  # "do A"
        (True, False, None),  # "do B"
        (True, True, 0),  # "do C"
        (False, False, None),
        (False, False, None),
    ]
    reflected = {number: story for number, story in first.items() if story.reflects}
    assert list(reflected) == [1, 2, 3]
    assert stories["reflection"] == stories["second_attempt"] == reflected
    assert {story.recalled for story in first.values()} == {()}


def test_a_story_names_what_was_recalled_and_what_broke() -> None:
    subject = algorithm()
    collect(subject, 0, student())
    later = {"q2": ["w1", "w1", "crash"], "q3": ["right"] * 3}
    lessons = {"w1": ""}
    groups = collect(subject, 1, student(first=later, lessons=lessons)).groups
    stories = [t.episode for g in groups if g.part == "first_attempt" for t in g.trajectories]
    assert [story.number for story in stories] == [6, 7, 8, 9, 10, 11]
    assert [story.recalled for story in stories] == [(0,), (0,), (), (), (), ()]
    assert stories[0].failure == "the reflection is empty"
    assert stories[2].failure.startswith("environment failed: KeyError")
    assert not stories[2].reflects


def test_without_internalization_no_story_tells_of_it() -> None:
    groups = collected(internalization={"name": "none"}).groups
    assert not any(t.episode.internalized for g in groups for t in g.trajectories)


def test_without_failures_there_is_nothing_but_first_attempts() -> None:
    engine = student(first={"q0": ["right"] * 3, "q1": ["right"] * 3})
    experience = collected(engine)
    (first,) = batches(experience)
    assert len(first) == 6
    assert experience.metrics["reflection_fraction"] == 0
    assert experience.metrics["reward_after_reflection"] == 1
    assert "reward_reflected" not in experience.metrics


def test_without_the_gate_successes_are_reflected_on_too() -> None:
    lessons = {**LESSONS, "right": "do A"}
    experience = collected(student(lessons=lessons), gate=False)
    _, reflections, second, _ = batches(experience)
    assert len(reflections) == len(second) == 6
    assert experience.metrics["reflection_fraction"] == 1


def test_the_threshold_decides_what_has_failed() -> None:
    experience = collected(threshold=-1.0)
    assert experience.metrics["reflection_fraction"] == 0
    lessons = {**LESSONS, "right": "do A"}
    experience = collected(student(lessons=lessons), threshold=1.5)
    assert experience.metrics["reflection_fraction"] == 1
    assert experience.metrics["memory_writes"] == 0  # no reward of 1 reaches 1.5


def test_sequential_updates_learn_the_parts_one_after_the_other() -> None:
    subject = algorithm(updates="sequential")
    experience = collect(subject, 0, student())
    sizes = [[len(batch) for batch in mini_batch] for mini_batch in experience.mini_batches]
    assert sizes == [[6], [3, 3], [2]]
    scales = [[t.scale for t in subject.loss_terms(m)] for m in experience.mini_batches]
    assert scales == [[1.0], [0.5, 0.5], [1.0]]
    solved = student(first={"q0": ["right"] * 3, "q1": ["right"] * 3})
    assert len(collect(subject, 0, solved).mini_batches) == 1


def test_mini_batches_are_tasks_with_all_parts_of_their_episodes() -> None:
    experience = collected(prompts=1, mini_batches=2)
    q0, q1 = experience.mini_batches
    assert [len(batch) for batch in q0] == [3, 2, 2, 1]
    assert [len(batch) for batch in q1] == [3, 1, 1, 1]
    assert credits(q1[1]) == [1.0]


def test_collecting_is_a_function_of_step_and_seed_alone(dense_policy: Policy) -> None:
    def tokens(step: int) -> list[list[int]]:
        short = Sampling(temperature=0.5, max_new_tokens=4)
        reflection = PolicyReflection(style=ReflectionStyle.COMPACT, sampling=short)
        subject = algorithm(reflection=reflection, gate=False, memory=NoMemory())
        (mini_batch,) = collect(subject, step, local_engine(dense_policy)).mini_batches
        return [batch.tokens.tolist() for batch in mini_batch]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_a_stored_set_is_asked_in_the_order_of_policy_gradient_with_the_same_seed() -> None:
    quiz = ShortQuiz(8)
    plain = PolicyGradient(
        PolicyGradientSettings(prompts=2, group_size=3),
        environment=quiz,
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=16),
        seed=5,
    )
    engine = ScriptedEngine(lambda *_: "right")
    asked = [group.task_id for group in collected(engine, 1, environment=quiz).groups]
    assert asked == [group.task_id for group in collect(plain, 1, engine).groups]
    assert asked != ["quiz/train/2", "quiz/train/3"]


def test_all_parts_draw_different_random_numbers() -> None:
    engine, subject = student(), algorithm()
    collect(subject, 0, engine)
    seeds = [request.seed for call in engine.calls for request in call]
    assert [len(call) for call in engine.calls] == [2, 3, 3]
    assert len(set(seeds)) == 8


# Memory.


def test_lessons_that_led_to_success_are_remembered_and_read_by_the_next_reflections() -> None:
    subject = algorithm()
    writes = collect(subject, 0, student()).rollout.memory_writes
    assert [(w.slot, w.task_id, w.text) for w in writes] == [
        (0, "quiz/train/0", "do A"),
        (0, "quiz/train/1", "do C"),
    ]
    later = student(first={"q2": ["w1"] * 3, "q3": ["right"] * 3})
    _, reflections, *_ = collect(subject, 1, later).mini_batches[0]
    # The last write of step 0 stands in its one slot.
    asked = "<|system|>do C<|user|>q2\nw1\nyou wrote w1\n0<|assistant|>do A<|end|>"
    assert texts(reflections) == [asked] * 3


def test_first_attempts_never_see_the_memory() -> None:
    subject = algorithm()
    collect(subject, 0, student())
    later = student(first={"q2": ["w1"] * 3, "q3": ["right"] * 3})
    first, *_ = collect(subject, 1, later).mini_batches[0]
    assert {text.partition("<|assistant|>")[0] for text in texts(first)} == {
        "<|user|>q2",
        "<|user|>q3",
    }


def test_a_memory_goes_over_to_another_instance_by_its_state() -> None:
    subject, other = algorithm(), algorithm()
    collect(subject, 0, student())
    other.load_state(subject.state())
    later = {"q2": ["w1"] * 3, "q3": ["right"] * 3}
    tokens = [
        collect(a, 1, student(first=later)).mini_batches[0][1].tokens for a in (subject, other)
    ]
    assert torch.equal(*tokens)
    assert other.state() == subject.state()
