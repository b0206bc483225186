"""A cold start in the skills that an episode of Experiential RL needs, on multi-hop questions.

    first attempt     question                                   -> searches, an answer
    reflection        memory; question, attempt, hint, reward    -> the rulebook, where it is known
    second attempt    rulebook; question                         -> searches that follow it
    retry             attempt, hint; question                    -> searches that heed the hint

Retries are what the controls do: they read the record of a failed attempt as it is, in the place of
the rulebook (no reflection) or as a conversation that goes on (`second_chance.SecondChance`).

Every drill has a meaning of words of its own, so that a model learns to use rulebooks and to write
them, and knows none. What a question alone does not tell, the first attempt guesses.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from steadyrl.algorithms.reflection_prompts import (
    AttemptRecord,
    ReflectionStyle,
    make_record,
    reflection_prompt,
    task_with_record,
)
from steadyrl.environments.hotpot_dialogue import DialogueStyle, format_call
from steadyrl.environments.hotpot_qa import HotpotQA, HotpotQASettings
from steadyrl.environments.protocol import Demonstration, Environment, Episode, Outcome, Task
from steadyrl.lab.worlds.coded_questions import HOPS, RELATIONS, WORDS, CodedQuestions
from steadyrl.lab.worlds.drills import Drills, DrillSettings, MakeDrill, answer, drill
from steadyrl.lab.worlds.rulebooks import UNKNOWN, completed, partly_known
from steadyrl.records.message import Conversation
from steadyrl.records.trajectory import Trajectory
from steadyrl.rollout.tasks import check_outcome


class QuestionDrillSettings(DrillSettings):
    """Shares of each kind of drill, and the questions."""

    name: Literal["question_drills"] = "question_drills"

    environment: HotpotQASettings = HotpotQASettings(
        questions=CodedQuestions(), style=DialogueStyle.COMPACT, passages=1
    )
    """Coded questions in the compact style, whose meanings are permuted."""

    first_attempts: float = Field(0.1, ge=0, le=1)
    """Share of drills that are first attempts."""

    reflections: float = Field(0.3, ge=0, le=1)
    """Share of drills that are reflections."""

    retries: float = Field(0.1, ge=0, le=1)
    """Share of drills that are retries. The rest are second attempts."""

    prior: bool = False
    """First attempts search by the meaning of number 0, whatever that of the drill: a policy that
    is sure of rules which do not hold seldom guesses others."""

    hidden_pairs: float = Field(0.25, ge=0, lt=1)
    """Probability that a rulebook, or a memory, does not know a pair."""

    @model_validator(mode="after")
    def _drills_can_be_made(self) -> "QuestionDrillSettings":
        questions, style = self.environment.questions, self.environment.style
        if not isinstance(questions, CodedQuestions) or questions.words != "permuted":
            raise ValueError(
                "environment.questions are not coded with permuted words: there would be nothing "
                "to find out. Set questions.name to 'coded' and questions.words to 'permuted'."
            )
        if style is not DialogueStyle.COMPACT:
            raise ValueError(
                f"environment.style is {style.value!r}: drills are written in the compact style. "
                "Set it to 'compact'."
            )
        if self.environment.turns <= HOPS:
            raise ValueError(
                f"environment.turns is {self.environment.turns}: a question takes two searches and "
                f"an answer. Set it to {HOPS + 1} or more."
            )
        if self.first_attempts + self.reflections + self.retries > 1:
            raise ValueError(
                f"first_attempts is {self.first_attempts}, reflections {self.reflections} and "
                f"retries {self.retries}: together more than 1. Lower one of them."
            )
        return self

    def make(self, environment: Environment) -> "QuestionDrills":
        """The drills; the run's own `environment` is not among their tasks."""
        return QuestionDrills(self)


class QuestionDrills(Drills):
    """Drills, each with a fresh question and meaning."""

    _environment: HotpotQA

    def __init__(self, settings: QuestionDrillSettings) -> None:
        self._settings = settings
        super().__init__(settings.environment.make())
        assert isinstance(settings.environment.questions, CodedQuestions)
        self._relations = RELATIONS[: settings.environment.questions.relations]

    def kinds(self) -> Sequence[tuple[float, MakeDrill]]:
        """Kinds of drills whose continuation is searches and an answer, or a rulebook."""
        settings = self._settings
        return (
            (settings.first_attempts, self._first_attempt),
            (settings.reflections, self._reflection),
            (settings.retries, self._retry),
            (1.0, self._second_attempt),
        )

    def rulebook(self, task: Task) -> str:
        """The meaning of every word in `task`."""
        return self._environment.rulebook(task)

    def _first_attempt(self, task: Task, _generator: np.random.Generator) -> Demonstration:
        if not self._settings.prior:
            return drill(task.prompt, self._solution(task))
        believed = dict(zip(WORDS, self._relations, strict=False))
        _, *words = task.payload.question.split()
        relations = [believed[word] for word in words]
        said, _ = _inquiry(self._environment.start(task), task, relations)
        return drill(task.prompt, said)

    def _second_attempt(self, task: Task, generator: np.random.Generator) -> Demonstration:
        hidden = self._settings.hidden_pairs
        rulebook = partly_known(self.rulebook(task), hidden, generator)
        return drill(self._environment.guide(task, rulebook).prompt, self._solution(task))

    def _reflection(self, task: Task, generator: np.random.Generator) -> Demonstration:
        """A guess fails or not; the rulebook is what its hint and the memory tell."""
        rulebook, memory = self.rulebook(task), ""
        if generator.random() < 0.5:
            memory = partly_known(rulebook, self._settings.hidden_pairs, generator)
        record = self._guess(task, generator, memory)
        told = record.feedback.split()
        seen = [pair if pair in told else pair[0] + UNKNOWN for pair in rulebook.split()]
        written = completed(" ".join(seen), memory)
        return drill(reflection_prompt(record, ReflectionStyle.COMPACT), written)

    def _retry(self, task: Task, generator: np.random.Generator) -> Demonstration:
        """A guess fails; its record stands before the question, or the conversation goes on."""
        if generator.random() < 0.5:
            record = self._guess(task, generator)
            while record.reward == 1:
                record = self._guess(task, generator)
            prompt = task_with_record(task, record, ReflectionStyle.COMPACT).prompt
        else:
            outcome = None
            while outcome is None or outcome.terminated:
                episode = self._conversation.start(task)
                said, outcome = _inquiry(episode, task, self._guessed(generator))
            prompt = (*task.prompt, *said)
        return drill(prompt, self._solution(task))

    def _solution(self, task: Task) -> Conversation:
        relations = [title[-1] for title in task.payload.titles]
        said, outcome = _inquiry(self._environment.start(task), task, relations)
        assert outcome.reward == 1
        return said

    def _guess(self, task: Task, generator: np.random.Generator, memory: str = "") -> AttemptRecord:
        """The outcome of guessing the meaning of the words."""
        said, outcome = _inquiry(self._environment.start(task), task, self._guessed(generator))
        attempt = Trajectory(
            task_id=task.id,
            messages=(*task.prompt, *said),
            completions=(),
            reward=outcome.reward,
            feedback=outcome.feedback,
            terminated=True,
            truncated=False,
        )
        return make_record(task, attempt, memory, str)

    def _guessed(self, generator: np.random.Generator) -> list[str]:
        return [str(r) for r in generator.permutation(list(self._relations))[:HOPS]]


def _inquiry(
    episode: Episode, task: Task, relations: Sequence[str]
) -> tuple[Conversation, Outcome]:
    """Searches for each of `relations` from where the last one led, and what that leads to.

    Returns the conversation and the outcome of the answer.
    """
    reached, said = task.payload.question.split()[0], []
    for relation in relations:
        call = format_call(f"{reached} {relation}", DialogueStyle.COMPACT)
        found = check_outcome(episode.respond(call)).observation
        reached = found[0].content.split()[-1]
        said += [*answer(call), *found]
    boxed = rf"\boxed{{{reached}}}"
    outcome = check_outcome(episode.respond(boxed))
    said += [*answer(boxed), *outcome.observation]
    return tuple(said), outcome
