"""A quiz whose episodes reflect: what is written is decided by what is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.driving import Collected, collect
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine

from steadyrl.algorithms.erl import ExperientialRL
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Environment
from steadyrl.records.token_batch import TokenBatch

COMPACT = PolicyReflection(
    style=ReflectionStyle.COMPACT, sampling=Sampling(temperature=0.5, max_new_tokens=16)
)

FIRST = {"q0": ["right", "w1", "w2"], "q1": ["w3", "right", "right"]}
"""First attempts at each question, in order."""

LESSONS = {"w1": "do A", "w2": "do B", "w3": "do C"}
"""What is learned from each wrong answer."""

SECOND = {"do A": "right", "do B": "wrong", "do C": "right"}
"""What is answered under each lesson."""


def algorithm(*, environment: Environment | None = None, **options: Any) -> ExperientialRL:
    """Two questions a step, three episodes each."""
    values = {"prompts": 2, "group_size": 3, "reflection": COMPACT, **options}
    return ExperientialRL(
        ExperientialSettings(**values),
        environment=environment or Quiz(),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=16),
        seed=5,
    )


def student(
    first: Mapping[str, list[str]] = FIRST,
    lessons: Mapping[str, str] = LESSONS,
    second: Mapping[str, str] = SECOND,
    **options: Any,
) -> ScriptedEngine:
    """Answers a bare question by `first`, one under a lesson by `second`, and else reflects.

    The answer that is reflected on stands in the third line from the end of the prompt.
    """

    def answer(prompt: str, number: int, _call: int) -> str:
        question = prompt.removesuffix("<|assistant|>").rpartition("<|user|>")[2]
        if prompt.startswith("<|system|>") and "\n" not in question:
            lesson = prompt.removeprefix("<|system|>").partition("<|user|>")[0]
            return second[lesson]
        if "\n" not in question:
            return first[question][number]
        return lessons[question.splitlines()[-3]]

    return ScriptedEngine(answer, **options)


def texts(batch: TokenBatch) -> list[str]:
    """Each row as the model reads it."""
    return [
        TOKENIZER.decode(batch.tokens[row][batch.attention_mask[row]]) for row in range(len(batch))
    ]


def learned(batch: TokenBatch) -> list[str]:
    """The loss tokens of each row."""
    return [TOKENIZER.decode(batch.tokens[row][batch.loss_mask[row]]) for row in range(len(batch))]


def credits(batch: TokenBatch) -> list[float]:
    """The one advantage of each row."""
    found = []
    for row in range(len(batch)):
        (credit,) = batch.advantages[row][batch.loss_mask[row]].unique().tolist()
        found.append(credit)
    return found


def collected(engine: Any = None, step: int = 0, **options: Any) -> Collected:
    return collect(algorithm(**options), step, engine or student())


def batches(experience: Collected) -> Sequence[TokenBatch]:
    (mini_batch,) = experience.mini_batches
    return mini_batch
