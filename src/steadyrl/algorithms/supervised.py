"""Supervised cold start: maximum likelihood on a teacher's demonstrations."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Experience, MiniBatch
from steadyrl.base.errors import UserError, answer_of, of_kind
from steadyrl.base.text import well_formed
from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import Environment, Split, Task, Teacher
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import NLL, Aggregation
from steadyrl.policies.tokenizers import encode_prompts, padding_id
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.batching import demonstration_batch, token_batch
from steadyrl.rollout.prompts import encode_each
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import FailedTask, tasks_of


class Supervised:
    """Learns to write what a teacher writes on training tasks.

    Args:
        closing_id: The token that closes every demonstration.
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
        self._environment = environment
        self._tokenizer = tokenizer
        self._closing_id = closing_id
        self._batch_size = batch_size
        self._seed = seed

    async def collect(self, step: int, engine: Engine) -> Experience:
        """Demonstrations on fresh training tasks, each closed by an end token.

        Tasks that the environment does not give, the teacher fails on or the chat template refuses
        are left out.

        Raises:
            UserError: none is left.
        """
        generator = np.random.default_rng(derive_seed(self._seed, step))
        first = step * self._batch_size
        numbers = range(first, first + self._batch_size)
        shown: list[Task] = []
        texts: list[str] = []
        failures: list[str] = []
        for task in tasks_of(self._environment, Split.TRAIN, numbers):
            try:
                texts.append(_demonstration(self._teacher, task, generator))
                shown.append(task)
            except UserError as error:
                failures.append(str(error))
        encoded = encode_each(self._tokenizer, [t.prompt for t in shown], [t.tools for t in shown])
        failures += [str(prompt) for prompt in encoded if isinstance(prompt, UserError)]
        pairs = [
            (p, t) for p, t in zip(encoded, texts, strict=True) if not isinstance(p, UserError)
        ]
        if not pairs:
            raise UserError(
                f"There is nothing to demonstrate in a batch of {len(failures)} tasks. The first "
                f"one: {failures[0]}"
            )
        prompts, texts = [prompt for prompt, _ in pairs], [text for _, text in pairs]
        experience = demonstrated(prompts, texts, self._tokenizer, self._closing_id)
        if not failures:
            return experience
        share = len(failures) / self._batch_size
        return replace(
            experience,
            metrics={"environment_failed_fraction": share},
            failures=tuple(failures),
        )

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """Mean negative log-likelihood of the demonstrated tokens."""
        return maximum_likelihood(mini_batch)


def _demonstration(teacher: Teacher, task: Task, generator: np.random.Generator) -> str:
    """What the teacher writes.

    Raises:
        UserError: there is no task, the teacher fails, or gives something else than a text.
    """
    if isinstance(task, FailedTask):
        raise UserError(task.failure)
    name = f"{type(teacher).__name__}.demonstrate"
    text = answer_of(
        partial(teacher.demonstrate, task, generator),
        failure=f"{name} failed on the task {task.id!r}",
        remedy="Correct it: every task can be demonstrated.",
    )
    answer: str = of_kind(text, str, given_by=name, noun="text", remedy="Give a response.")
    return answer


def demonstrated(
    prompts: Sequence[Int[Tensor, " _P"]],
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    closing_id: int,
) -> Experience:
    """One batch of `prompts` with their answers `texts`, each closed by the token `closing_id`."""
    responses = tokenizer([well_formed(text) for text in texts], add_special_tokens=False)[
        "input_ids"
    ]
    batch = demonstration_batch(
        prompts,
        [torch.tensor([*response, closing_id]) for response in responses],
        pad_token_id=padding_id(tokenizer),
    )
    return Experience(mini_batches=((batch,),))


def demonstrated_episodes(
    prompts: Sequence[tuple[Message, ...]],
    continuations: Sequence[tuple[Message, ...]],
    tokenizer: PreTrainedTokenizerBase,
    closing_id: int,
) -> Experience:
    """One batch of conversations that begin with `prompts` and go on with `continuations`.

    Of these, the assistant's turns carry loss, each closed by the token `closing_id`; what it reads
    between them does not. A conversation is one row if the chat template only ever adds to it.
    """
    turns = [
        (row, (*prompt, *said[:place]), message.content)
        for row, (prompt, said) in enumerate(zip(prompts, continuations, strict=True))
        for place, message in enumerate(said)
        if message.role == "assistant"
    ]
    read = encode_prompts(tokenizer, [before for _, before, _ in turns])
    written = tokenizer([text for _, _, text in turns], add_special_tokens=False)["input_ids"]
    completions: list[list[Completion]] = [[] for _ in prompts]
    for (row, _, _), before, response in zip(turns, read, written, strict=True):
        completions[row].append(_completion(before, [*response, closing_id]))
    groups = [
        Group(task_id=str(row), trajectories=(_episode((*prompt, *said), completions[row]),))
        for row, (prompt, said) in enumerate(zip(prompts, continuations, strict=True))
    ]
    advantages = [torch.ones(1)] * len(groups)
    batch = token_batch(groups, advantages, pad_token_id=padding_id(tokenizer))
    return Experience(mini_batches=((replace(batch, rollout_logprobs=None),),))


def _completion(prompt: Int[Tensor, " P"], response: list[int]) -> Completion:
    """What was written by hand; no policy gave it a probability."""
    return Completion(
        prompt_ids=prompt,
        token_ids=torch.tensor(response),
        logprobs=torch.zeros(len(response)),
        finish_reason=FinishReason.STOP,
        policy_version=0,
    )


def _episode(messages: tuple[Message, ...], completions: list[Completion]) -> Trajectory:
    return Trajectory(
        task_id="",
        messages=messages,
        completions=tuple(completions),
        reward=0.0,
        terminated=True,
        truncated=False,
    )


def maximum_likelihood(mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
    """The one term: mean negative log-likelihood of the demonstrated tokens."""
    (batch,) = mini_batch
    return (LossTerm(batch=batch, objective=NLL(), aggregation=Aggregation.TOKEN_MEAN),)
