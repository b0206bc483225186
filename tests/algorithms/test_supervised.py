"""The supervised cold start."""

from typing import Any

import numpy as np
import pytest
import torch
from tests import driving
from tests.closeness import assert_close
from tests.driving import Collected
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine, Unreliable, some_tasks

from steadyrl.algorithms.supervised import Supervised, demonstration_batch, turns_of
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_chain import partial_results
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacher, ArithmeticTeacherSettings
from steadyrl.environments.protocol import Demonstration, Split, Task
from steadyrl.objectives import TokenTerms, aggregate, token_weights
from steadyrl.policies.policy import Policy
from steadyrl.records.message import Conversation, Message
from steadyrl.records.token_batch import TokenBatch
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups

END = TOKENIZER.eos_token_id
ENVIRONMENT = Arithmetic(ArithmeticSettings(operands=3))


def refusing_engine() -> ScriptedEngine:
    def answer(_prompt: str, _number: int, _call: int) -> str:
        raise AssertionError("nothing is to be sampled")

    return ScriptedEngine(answer)


def algorithm(error_rate: float = 0.0, seed: int = 3) -> Supervised:
    teacher = ArithmeticTeacher(ArithmeticTeacherSettings(error_rate=error_rate), ENVIRONMENT)
    return Supervised(
        teacher=teacher,
        environment=ENVIRONMENT,
        tokenizer=TOKENIZER,
        closing_id=END,
        batch_size=4,
        seed=seed,
    )


def collect(subject: Supervised, step: int) -> TokenBatch:
    ((batch,),) = driving.collect(subject, step, refusing_engine()).mini_batches
    return batch


def test_rows_are_fresh_tasks_and_their_demonstrations_closed_by_the_end_token() -> None:
    assert not Supervised.samples_from_engine
    for step in (0, 1, 5):
        batch = collect(algorithm(), step)
        for row in range(4):
            task = ENVIRONMENT.task(Split.TRAIN, 4 * step + row)
            answer = ",".join(str(result) for result in partial_results(task.payload))
            question = f"<|user|>{task.prompt[0].content}<|assistant|>"
            text = TOKENIZER.decode(batch.tokens[row][batch.attention_mask[row]])
            assert text == f"{question}{answer}<|end|>"
            learned = TOKENIZER.decode(batch.tokens[row][batch.loss_mask[row]])
            assert learned == f"{answer}<|end|>"


def test_mistakes_of_the_teacher_are_a_function_of_step_and_seed() -> None:
    def tokens(step: int, seed: int = 3) -> list[list[int]]:
        return collect(algorithm(error_rate=0.9, seed=seed), step).tokens.tolist()

    assert tokens(2) == tokens(2)
    assert tokens(2) != tokens(2, seed=4)
    assert tokens(2) != collect(algorithm(), 2).tokens.tolist()


class Dice:
    """A teacher who writes down what was thrown."""

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str:
        return str(generator.integers(10**9))


def test_every_demonstration_draws_its_own_random_numbers() -> None:
    subject = Supervised(
        teacher=Dice(),
        environment=ENVIRONMENT,
        tokenizer=TOKENIZER,
        closing_id=END,
        batch_size=4,
        seed=3,
    )
    thrown = []
    for step in range(3):
        batch = collect(subject, step)
        thrown += [TOKENIZER.decode(batch.tokens[row][batch.loss_mask[row]]) for row in range(4)]
    assert len(set(thrown)) == 12


def test_the_loss_is_the_mean_negative_log_likelihood_of_demonstrated_tokens(
    dense_policy: Policy,
) -> None:
    subject = algorithm()
    batch = collect(subject, 0)
    (term,) = subject.loss_terms((batch,))
    assert term.batch is batch
    scores = dense_policy.score(batch.tokens, batch.attention_mask, batch.loss_mask)
    value = term.objective(
        TokenTerms(
            logprobs=scores.logprobs,
            old_logprobs=scores.logprobs.detach(),
            rollout_logprobs=scores.logprobs.detach(),
            advantages=batch.advantages,
            loss_mask=batch.loss_mask,
        )
    )
    weights = token_weights(batch.loss_mask, batch.group_ids, term.aggregation)
    loss = term.scale * aggregate(value, weights)
    with torch.no_grad():
        logits = dense_policy.model(input_ids=batch.tokens).logits[:, :-1]
    targets = batch.tokens[:, 1:].masked_fill(~batch.loss_mask[:, 1:], -100)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert_close(loss.item(), expected.item())


def demonstrated(shown: list[tuple[Task, Conversation, Conversation]]) -> TokenBatch:
    pairs = [(t, Demonstration(prompt=asked, continuation=said)) for t, asked, said in shown]
    turns = [each for each in turns_of(pairs, TOKENIZER) if not isinstance(each, UserError)]
    return demonstration_batch(turns, TOKENIZER, END)


def test_a_demonstrated_episode_is_the_row_of_one_that_was_sampled() -> None:
    quiz = Quiz(turns=3)
    tasks = some_tasks(quiz, 2)
    groups = drive(
        play_groups(
            quiz,
            ScriptedEngine(lambda _prompt, _number, call: ("a", "right", "bad")[call]),
            TOKENIZER,
            tasks,
            group_size=1,
            sampling=Sampling(),
            seed=0,
        )
    )
    pad = TOKENIZER.pad_token_id
    sampled = token_batch(groups, [torch.ones(1)] * 2, pad_token_id=pad)
    said = [group.trajectories[0].messages[1:] for group in groups]
    batch = demonstrated([(t, t.prompt, turns) for t, turns in zip(tasks, said, strict=True)])
    for name in ("tokens", "attention_mask", "loss_mask", "group_ids", "advantages"):
        assert getattr(batch, name).equal(getattr(sampled, name)), name
    assert batch.rollout_logprobs is None
    learned = TOKENIZER.decode(batch.tokens[0][batch.loss_mask[0]])
    assert learned == "a<|end|>right<|end|>bad<|end|>"


def test_turns_of_the_prompt_carry_no_loss() -> None:
    prompt = (
        Message(role="user", content="1+1"),
        Message(role="assistant", content="3"),
        Message(role="user", content="wrong"),
    )
    answer = (Message(role="assistant", content="2"),)
    batch = demonstrated([(some_tasks(Quiz(), 1)[0], prompt, answer)])
    text = TOKENIZER.decode(batch.tokens[0])
    assert text == "<|user|>1+1<|assistant|>3<|end|><|user|>wrong<|assistant|>2<|end|>"
    assert TOKENIZER.decode(batch.tokens[0][batch.loss_mask[0]]) == "2<|end|>"
    assert torch.equal(batch.advantages, batch.loss_mask.float())


class Examiner:
    """A teacher that has tasks of its own, and asks each of them twice."""

    def task(self, split: Split, index: int) -> Task:
        return Task(
            id=f"{split}/{index}", prompt=(Message(role="user", content="1"),), payload=index
        )

    def demonstrate(self, task: Task, generator: np.random.Generator) -> Demonstration:
        said = (
            Message(role="assistant", content=f"a{task.payload}"),
            Message(role="user", content="again"),
            Message(role="assistant", content="b"),
        )
        return Demonstration(prompt=task.prompt, continuation=said)


def test_a_teacher_may_bring_its_own_tasks_and_show_conversations() -> None:
    ((batch,),) = taught(Examiner(), Quiz()).mini_batches
    learned = [TOKENIZER.decode(batch.tokens[n][batch.loss_mask[n]]) for n in range(4)]
    assert learned == [f"a{number}<|end|>b<|end|>" for number in range(4, 8)]


def test_a_demonstration_without_a_turn_of_the_model_is_refused() -> None:
    asked = (Message(role="user", content="1"),)
    with pytest.raises(TypeError, match="no assistant turn"):
        Demonstration(prompt=asked, continuation=asked)


class FailingTeacher:
    """Writes the number of the task, but fails at those of `failing` or writes no text."""

    def __init__(self, *failing: int) -> None:
        self._failing = failing

    def demonstrate(self, task: Task, generator: np.random.Generator) -> Any:
        if task.payload in self._failing:
            raise KeyError("no such word")
        return f"w{task.payload}" if task.payload != 6 else None


def taught(teacher: Any, environment: Quiz) -> Collected:
    subject = Supervised(
        teacher=teacher,
        environment=environment,
        tokenizer=TOKENIZER,
        closing_id=END,
        batch_size=4,
        seed=3,
    )
    return driving.collect(subject, 1, refusing_engine())


def test_what_a_teacher_or_an_environment_fails_at_is_left_out_and_counted() -> None:
    experience = taught(FailingTeacher(5), Unreliable(tasks=[4]))
    ((batch,),) = experience.mini_batches
    assert TOKENIZER.decode(batch.tokens[0][batch.loss_mask[0]]) == "w7<|end|>"
    assert len(batch) == 1
    assert experience.metrics == {"environment_failed_fraction": 3 / 4}
    assert [reason.split(":")[0] for reason in experience.rollout.failures] == [
        "Unreliable.task failed on number 4 of the train split",
        "FailingTeacher.demonstrate failed on the task 'quiz/train/5'",
        "FailingTeacher.demonstrate returned None, which is not a string. Give a response.",
    ]


def test_a_batch_in_which_every_demonstration_fails_is_refused() -> None:
    told = "nothing to demonstrate in a batch of 4 tasks. The first one: FailingTeacher.demon"
    with pytest.raises(UserError, match=told):
        taught(FailingTeacher(4, 5, 6, 7), Quiz())
