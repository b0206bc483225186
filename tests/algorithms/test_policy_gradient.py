"""What policy gradient collects, how it credits, and what it minimises."""

from collections.abc import Callable
from statistics import mean, stdev

import pytest
import torch
from pydantic import ValidationError
from tests.algorithms.terms import far_apart
from tests.closeness import assert_close
from tests.driving import Collected, collect
from tests.engines.builders import local_engine
from tests.rollout.fakes import TOKENIZER, LongQuiz, ScriptedEngine, ShortQuiz, TenthsQuiz
from transformers import PreTrainedTokenizerFast

from steadyrl.algorithms.policy_gradient import PolicyGradient, PolicyGradientSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_chain import partial_results
from steadyrl.environments.protocol import Environment, Episode, Outcome, Split
from steadyrl.objectives import (
    GRPO,
    Aggregation,
    MiniRL,
    Truncation,
)
from steadyrl.policies.policy import Policy

ENVIRONMENT = Arithmetic(ArithmeticSettings(operands=3))
PROMPTS, GROUP_SIZE, MINI_BATCHES = 2, 3, 2


def algorithm(
    seed: int = 5,
    tokenizer: PreTrainedTokenizerFast = TOKENIZER,
    environment: Environment = ENVIRONMENT,
    **options: object,
) -> PolicyGradient:
    settings = PolicyGradientSettings(
        **{
            "prompts": PROMPTS,
            "group_size": GROUP_SIZE,
            "mini_batches": MINI_BATCHES,
            **options,
        }
    )
    return PolicyGradient(
        settings,
        environment=environment,
        tokenizer=tokenizer,
        sampling=Sampling(max_new_tokens=8),
        seed=seed,
    )


def asked(step: int) -> list[str]:
    """The questions that step `step` is due: the next training tasks."""
    count = PROMPTS * MINI_BATCHES
    tasks = [ENVIRONMENT.task(Split.TRAIN, step * count + i) for i in range(count)]
    return [task.prompt[0].content for task in tasks]


ANSWERS = {
    ENVIRONMENT.task(Split.TRAIN, index).prompt[0].content: ",".join(
        str(result) for result in partial_results(ENVIRONMENT.task(Split.TRAIN, index).payload)
    )
    for index in range(40)
}


def solver(right_counts: list[int]) -> ScriptedEngine:
    """Of the answers to prompt `n`, the first `right_counts[n]` are right."""
    prompts: list[str] = []

    def answer(prompt: str, number: int, _call: int) -> str:
        question = prompt.removeprefix("<|user|>").removesuffix("<|assistant|>")
        if question not in prompts:
            prompts.append(question)
        right = number < right_counts[prompts.index(question)]
        return ANSWERS[question] if right else "oops"

    return ScriptedEngine(answer)


def questions(experience: Collected) -> list[str]:
    return [group.trajectories[0].messages[0].content for group in experience.groups]


def test_every_step_asks_fresh_training_tasks() -> None:
    seen = [questions(collect(algorithm(), step, solver([0] * 4))) for step in range(3)]
    assert seen == [asked(0), asked(1), asked(2)]
    assert len({question for step in seen for question in step}) > 9  # chains may repeat


def test_the_seed_decides_in_what_order_a_stored_set_is_asked() -> None:
    def asked_by(seed: int) -> list[str]:
        subject = algorithm(seed, environment=ShortQuiz(8))
        engine = ScriptedEngine(lambda *_: "right")
        return [g.task_id for step in range(2) for g in collect(subject, step, engine).groups]

    assert sorted(asked_by(5)) == sorted(asked_by(6)) == [f"quiz/train/{n}" for n in range(8)]
    assert asked_by(5) == asked_by(5) != asked_by(6)
    assert sorted(asked_by(5)) not in (asked_by(5), asked_by(6))


def test_a_tokenizer_that_names_neither_end_nor_padding_makes_the_same_rows() -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.backend_tokenizer)
    bare.chat_template = TOKENIZER.chat_template
    assert (bare.pad_token_id, bare.eos_token_id) == (None, None)
    usual, filled = (
        [batch for (batch,) in collect(algorithm(tokenizer=t), 0, solver([1] * 4)).mini_batches]
        for t in (TOKENIZER, bare)
    )
    for one, other in zip(usual, filled, strict=True):
        real = one.attention_mask
        assert not real.all()
        assert torch.equal(other.attention_mask, real)
        assert torch.equal(other.tokens[real], one.tokens[real])


def test_collecting_is_a_function_of_step_and_seed(dense_policy: Policy) -> None:
    def collected(step: int, seed: int = 5) -> list[list[int]]:
        experience = collect(algorithm(seed), step, local_engine(dense_policy))
        return [batch.tokens.tolist() for (batch,) in experience.mini_batches]

    assert collected(1) == collected(1)
    assert collected(1) != collected(2)
    assert collected(1) != collected(1, seed=6)


def test_every_step_draws_with_its_own_random_numbers() -> None:
    engine, subject = solver([0] * 12), algorithm()
    for step in range(3):
        collect(subject, step, engine)
    seeds = [request.seed for call in engine.calls for request in call]
    assert len(set(seeds)) == len(seeds) == 3 * PROMPTS * MINI_BATCHES


def test_mini_batches_are_the_groups_split_by_prompt_in_order() -> None:
    experience = collect(algorithm(), 0, solver([1, 0, 2, 3]))
    assert len(experience.mini_batches) == MINI_BATCHES
    rows = [
        TOKENIZER.decode(batch.tokens[row][batch.attention_mask[row]]).split("<|assistant|>")[0]
        for (batch,) in experience.mini_batches
        for row in range(len(batch))
    ]
    expected = [f"<|user|>{question}" for question in asked(0) for _ in range(GROUP_SIZE)]
    assert rows == expected
    ids = [batch.group_ids.tolist() for (batch,) in experience.mini_batches]
    assert ids == [[0, 0, 0, 1, 1, 1]] * 2


# Of 3 answers to a prompt the first `right` are right: rewards are 1 for these and 0 for the rest.
EXPECTED: dict[str, Callable[[list[float], int], float]] = {
    "group_mean": lambda rewards, i: rewards[i] - mean(rewards),
    "group_mean_std": lambda rewards, i: (
        (rewards[i] - mean(rewards)) / stdev(rewards) if len(set(rewards)) > 1 else 0.0
    ),
    "leave_one_out": lambda rewards, i: rewards[i] - mean(rewards[:i] + rewards[i + 1 :]),
}


@pytest.mark.parametrize("advantage", EXPECTED)
def test_each_episode_is_credited_against_its_own_group(advantage: str) -> None:
    right_counts = [1, 0, 2, 3]
    experience = collect(algorithm(advantage=advantage), 0, solver(right_counts))
    credits = []
    for (batch,) in experience.mini_batches:
        for row in range(len(batch)):
            (credit,) = batch.advantages[row][batch.loss_mask[row]].unique().tolist()
            credits.append(credit)
    expected = []
    for right in right_counts:
        rewards = [1.0] * right + [0.0] * (GROUP_SIZE - right)
        expected += [EXPECTED[advantage](rewards, i) for i in range(GROUP_SIZE)]
    assert_close(credits, expected, terms=32)


def test_metrics_speak_of_every_episode() -> None:
    right_counts = [1, 0, 2, 3]
    experience = collect(algorithm(), 0, solver(right_counts))
    lengths = [
        len(completion.token_ids)
        for group in experience.groups
        for trajectory in group.trajectories
        for completion in trajectory.completions
    ]
    assert len(lengths) == 12
    assert experience.metrics == {
        "reward": pytest.approx(6 / 12),
        "response_length": pytest.approx(sum(lengths) / 12),
        "environment_failed_fraction": 0,
        "truncated_fraction": 0,
        "no_signal_fraction": 2 / 4,  # none right, all right
    }


def test_parts_of_the_reward_are_metrics_of_their_own() -> None:
    quiz = algorithm(environment=TenthsQuiz())
    metrics = collect(quiz, 0, ScriptedEngine(lambda *_: "right")).metrics
    assert (metrics["reward"], metrics["reward/tenth"]) == (1, 1)


def test_nothing_is_learned_from_episodes_whose_environment_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unreliable:
        def __init__(self, episode: Episode) -> None:
            self._episode = episode

        def respond(self, text: str) -> Outcome:
            if text == "oops":
                raise RuntimeError("no service")
            return self._episode.respond(text)

    start = Arithmetic.start
    monkeypatch.setattr(Arithmetic, "start", lambda self, task: Unreliable(start(self, task)))
    # Of three episodes a prompt, one, none, two and three are left.
    experience = collect(algorithm(), 0, solver([1, 0, 2, 3]))
    ((batch,),) = experience.mini_batches
    assert len(batch) == 5
    assert not batch.advantages.any()
    assert experience.metrics["environment_failed_fraction"] == pytest.approx(6 / 12)
    assert experience.metrics["reward"] == 1
    assert experience.metrics["no_signal_fraction"] == 1
    assert sum(len(group.trajectories) for group in experience.groups) == 12


def test_a_task_whose_prompt_leaves_no_room_is_left_out_of_the_batch() -> None:
    subject = PolicyGradient(
        PolicyGradientSettings(prompts=1, group_size=2, mini_batches=2),
        environment=LongQuiz(0),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=8),
        seed=0,
    )
    words = ScriptedEngine(lambda _, number, __: ["right", "wrong"][number], max_positions=20)
    experience = collect(subject, 0, words)
    ((batch,),) = experience.mini_batches
    assert (len(batch), batch.responses) == (2, 2)
    assert [len(group.trajectories) for group in experience.groups] == [2, 2]
    assert experience.metrics["truncated_fraction"] == 0.5


def test_spent_budgets_are_counted() -> None:
    engine = ScriptedEngine(lambda _prompt, number, _call: "1..." if number else "2")
    assert collect(algorithm(), 0, engine).metrics["truncated_fraction"] == pytest.approx(2 / 3)


def test_the_one_loss_term_is_the_objective_of_the_settings() -> None:
    subject = algorithm(
        objective=GRPO(clip_high=0.5), aggregation=Aggregation.CONSTANT, constant_length=9
    )
    (batch,) = collect(subject, 0, solver([1] * 4)).mini_batches[0]
    (term,) = subject.loss_terms((batch,))
    assert term.batch is batch
    assert term.scale == 1
    assert (term.aggregation, term.constant_length) == (Aggregation.CONSTANT, 9)
    assert term.objective.proportional_to_advantage
    terms = far_apart()
    assert torch.equal(term.objective(terms), GRPO(clip_low=0.2, clip_high=0.5)(terms))


def test_an_objective_that_corrects_the_mismatch_takes_no_correction() -> None:
    with pytest.raises(ValidationError, match="correction is 'truncation', but the objective"):
        PolicyGradientSettings(objective=MiniRL(), correction=Truncation())
    settings = PolicyGradientSettings(objective=GRPO(), correction=Truncation())
    assert settings.corrected_objective == Truncation().apply_to(GRPO())


def test_groups_of_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"group_size is 1, .* Set group_size to 2 or more"):
        PolicyGradientSettings(group_size=1)


@pytest.mark.parametrize(
    "options",
    [{"aggregation": Aggregation.CONSTANT}, {"constant_length": 100}],
    ids=["no length", "no use for a length"],
)
def test_constant_aggregation_and_its_length_go_together(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"Set aggregation 'constant' and its length, or"):
        PolicyGradientSettings(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": 0},
        {"mini_batches": 0},
        {"max_turns": 0},
        {"advantage": "none"},
        {"objective": {"name": "ppo"}},
        {"objective": {"name": "minirl", "clip_low": 0}},
        {"objective": {"name": "reinforce", "clip_low": 0.2}},
    ],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        PolicyGradientSettings(**options)
