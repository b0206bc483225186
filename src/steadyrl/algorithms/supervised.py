"""Supervised cold start: maximum likelihood on a teacher's demonstrations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Experience, MiniBatch, Plan, Rollout
from steadyrl.base.errors import UserError, call_user_code, require_type
from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import (
    Demonstration,
    Environment,
    Split,
    Task,
    TaskSource,
    Teacher,
)
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import NLL, Aggregation
from steadyrl.policies.tokenizers import padding_id
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.prompts import encode_each
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import FailedTask, make_tasks

Turns = list[tuple[Int[Tensor, " _P"], str]]
"""For each turn of the assistant, its prompt and its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations(Rollout):
    """Demonstrated tasks of a step, each with the turns of its demonstration."""

    turns: tuple[Turns, ...]


class Supervised:
    """Learns from a teacher's demonstrations on training tasks.

    Args:
        environment: Source of tasks, unless the teacher has tasks of its own.
        closing_id: Token that ends every turn of a demonstration.
    """

    samples_from_engine = False

    def __init__(
        self,
        *,
        teacher: Teacher,
        environment: Environment,
        tokenizer: PreTrainedTokenizerBase,
        closing_id: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._teacher = teacher
        self._tasks: TaskSource = teacher if isinstance(teacher, TaskSource) else environment
        self._tokenizer = tokenizer
        self._closing_id = closing_id
        self._batch_size = batch_size
        self._seed = seed

    def plan(self, step: int) -> Plan:
        """Training tasks that no earlier step has demonstrated."""
        numbers = range(step * self._batch_size, (step + 1) * self._batch_size)
        tasks = make_tasks(self._tasks, Split.TRAIN, numbers)
        return Plan(step=step, tasks=tuple(tasks), seed=derive_seed(self._seed, step))

    async def play(self, plan: Plan, engine: Engine) -> Demonstrations:
        """Demonstrations, without tasks that failed and those that the chat template refuses.

        Raises:
            UserError: none is left.
        """
        generator = np.random.default_rng(plan.seed)
        shown: list[tuple[Task, Demonstration]] = []
        failures: list[str] = []
        for task in plan.tasks:
            try:
                shown.append((task, demonstration(self._teacher, task, generator)))
            except UserError as error:
                failures.append(str(error))
        encoded = turns_of(shown, self._tokenizer)
        failures += [str(turns) for turns in encoded if isinstance(turns, UserError)]
        kept = [turns for turns in encoded if not isinstance(turns, UserError)]
        if not kept:
            raise UserError(
                f"There is nothing to demonstrate in a batch of {len(failures)} tasks. The first "
                f"one: {failures[0]}"
            )
        return Demonstrations(turns=tuple(kept), failures=tuple(failures))

    def learn(self, rollout: Rollout) -> Experience:
        """One token batch of all demonstrations."""
        assert isinstance(rollout, Demonstrations)
        batch = demonstration_batch(rollout.turns, self._tokenizer, self._closing_id)
        share = len(rollout.failures) / self._batch_size
        return Experience(
            mini_batches=((batch,),),
            metrics={"environment_failed_fraction": share} if rollout.failures else {},
        )

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """A single term: mean negative log-likelihood of the demonstrated tokens."""
        (batch,) = mini_batch
        return (LossTerm(batch=batch, objective=NLL(), aggregation=Aggregation.TOKEN_MEAN),)


def demonstration(teacher: Teacher, task: Task, generator: np.random.Generator) -> Demonstration:
    """The teacher's demonstration of `task`.

    Raises:
        UserError: the task failed, the teacher raises, or it does not return a text.
    """
    if isinstance(task, FailedTask):
        raise UserError(task.failure)
    name = f"{type(teacher).__name__}.demonstrate"
    given = call_user_code(
        partial(teacher.demonstrate, task, generator),
        failure=f"{name} failed on the task {task.id!r}",
        remedy="Correct it: every task can be demonstrated.",
    )
    if isinstance(given, Demonstration):
        return given
    text: str = require_type(given, str, given_by=name, noun="a string", remedy="Give a response.")
    answer = Message(role="assistant", content=text)
    return Demonstration(prompt=task.prompt, continuation=(answer,))


def turns_of(
    shown: Sequence[tuple[Task, Demonstration]], tokenizer: PreTrainedTokenizerBase
) -> list[Turns | UserError]:
    """The turns of each demonstration, or the error of a chat template that refuses it."""
    places = [
        (row, place)
        for row, (_, each) in enumerate(shown)
        for place, message in enumerate(each.continuation)
        if message.role == "assistant"
    ]
    read = encode_each(
        tokenizer,
        [(*shown[row][1].prompt, *shown[row][1].continuation[:place]) for row, place in places],
        [shown[row][0].tools for row, _ in places],
    )
    turns: list[Turns | UserError] = [[] for _ in shown]
    for (row, place), before in zip(places, read, strict=True):
        so_far = turns[row]
        if isinstance(before, UserError):
            turns[row] = before
        elif not isinstance(so_far, UserError):
            so_far.append((before, shown[row][1].continuation[place].content))
    return turns


def demonstration_batch(
    demonstrations: Sequence[Turns], tokenizer: PreTrainedTokenizerBase, closing_id: int
) -> TokenBatch:
    """One batch of demonstrations: the tokens of their turns carry loss with advantage 1.

    Each turn ends with the token `closing_id`; the tokens between turns carry no loss. A
    demonstration is one row if the chat template only appends to a conversation.
    """
    texts = [text for turns in demonstrations for _, text in turns]
    written = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    groups = [
        Group(
            task_id=str(row),
            trajectories=(
                _trajectory([_completion(read, [*next(written), closing_id]) for read, _ in turns]),
            ),
        )
        for row, turns in enumerate(demonstrations)
    ]
    advantages = [torch.ones(1)] * len(groups)
    batch = token_batch(groups, advantages, pad_token_id=padding_id(tokenizer))
    return replace(batch, rollout_logprobs=None)  # no engine sampled them


def _completion(prompt: Int[Tensor, " P"], response: list[int]) -> Completion:
    """A completion that no policy sampled."""
    return Completion(
        prompt_ids=prompt,
        token_ids=torch.tensor(response),
        logprobs=torch.zeros(len(response)),
        finish_reason=FinishReason.STOP,
        policy_version=0,
    )


def _trajectory(completions: list[Completion]) -> Trajectory:
    return Trajectory(
        task_id="",
        messages=(),
        completions=tuple(completions),
        reward=0.0,
        terminated=True,
        truncated=False,
    )
