"""HotpotQA: questions that need two passages, with a search tool."""

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from steadyrl.base.concurrency import await_if_needed, concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.variants import Variants
from steadyrl.environments.answer_formats import AnswerFormat, extract_answer, format_instruction
from steadyrl.environments.answer_text import plain_text
from steadyrl.environments.hotpot_dialogue import (
    CallError,
    DialogueStyle,
    SearchCall,
    format_call,
    initial_messages,
    parse_calls,
    tool_message,
    tool_schema,
)
from steadyrl.environments.hotpot_question import Question
from steadyrl.environments.hotpot_questions import (
    AnyQuestions,
    HubQuestions,
)
from steadyrl.environments.protocol import Episode, Outcome, Split, Task
from steadyrl.environments.question_answering import answer_reward
from steadyrl.environments.retrieval import Passage, RetrieverSettings, escape_control_tokens
from steadyrl.environments.retriever_bm25 import BM25Settings
from steadyrl.environments.retriever_http import HTTPRetrieverSettings
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.message import Message

AnyRetriever = Annotated[
    RetrieverSettings,
    Variants(RetrieverSettings, "steadyrl.retrievers", BM25Settings, HTTPRetrieverSettings),
]
"""Settings of any retriever."""


class HotpotQASettings(EnvironmentSettings):
    """Questions, retriever and dialogue of HotpotQA."""

    name: Literal["hotpot_qa"] = "hotpot_qa"

    questions: AnyQuestions = HubQuestions()
    """Source of questions and paragraphs."""

    retriever: AnyRetriever = BM25Settings()
    """bm25: paragraphs of all questions, in memory. http: a retrieval server."""

    style: DialogueStyle = DialogueStyle.CHAT
    """Text form of prompts, calls and passages."""

    tool_text: Literal["message", "template"] = "template"
    """Position of the tool schema in the chat style. message: in the prompt, for chat templates
    without tools. template: in the tokenizer's chat template."""

    instruction: str | None = None
    """System message. None: the default of the style; empty: none."""

    turns: int = Field(5, ge=1)
    """Maximum number of turns per episode."""

    passages: int = Field(5, ge=1, le=50)
    """Default number of passages per search."""

    passage_length: int = Field(2000, ge=1)
    """Maximum number of characters shown per passage."""

    calls_per_turn: int = Field(4, ge=1)
    """Maximum number of searches per turn."""

    min_f1: float = Field(0.3, ge=0.0, le=1.0)
    """Minimum F1 score that earns a reward. Answers that are not exact matches earn their F1 score
    if it is at least this, else 0."""

    @model_validator(mode="after")
    def _check_tool_text(self) -> "HotpotQASettings":
        if self.style is DialogueStyle.COMPACT and self.tool_text == "message":
            raise ValueError(
                "tool_text is 'message', but the style 'compact' has no tool schema. Remove "
                "tool_text, or set style to 'chat'."
            )
        return self

    def make(self) -> "HotpotQA":
        """The environment."""
        return HotpotQA(self)

    @property
    def max_turns(self) -> int:
        """Maximum number of turns per episode."""
        return self.turns


class HotpotQA:
    r"""Reward 1 for an exact match, else the F1 score if it is at least `min_f1`, else 0.

    Each turn either calls the tool and reads its results, or ends the episode with an answer in
    \boxed{}. A split starts over after its last question.

    Source: arXiv:2602.13949, appendix B.3. Departs from the paper in the corpus, which is the
    paragraphs of the dataset under BM25 instead of all of Wikipedia with a dense index, so scores
    are not comparable; and in the answer, which only counts in \boxed{}.

    Raises:
        UserError: the questions cannot be loaded, or an optional package is not installed.
    """

    def __init__(self, settings: HotpotQASettings) -> None:
        self.settings = settings
        loaded = settings.questions.load()
        self._questions = loaded.questions
        self._retriever = settings.retriever.make(loaded.passages)

    def task(self, split: Split, index: int) -> Task:
        """Question number `index` of `split`.

        Raises:
            UserError: the split has no questions.
        """
        questions = self._questions[split]
        if not questions:
            raise UserError(
                f"The {split} split has no questions. Add questions: without a test file, about a "
                "tenth each is used for validation and testing."
            )
        question = questions[index % len(questions)]
        schema = tool_schema(self.settings.passages)
        chat = self.settings.style is DialogueStyle.CHAT
        templated = chat and self.settings.tool_text == "template"
        prompt = initial_messages(
            question.question,
            self.settings.style,
            instruction=self.settings.instruction,
            tool=None if templated else schema,
        )
        return Task(
            id=f"hotpot_qa/{question.id}",
            prompt=prompt,
            payload=question,
            tools=(schema,) if templated else (),
        )

    def distinct_tasks(self, split: Split) -> int:
        """Number of questions in `split`."""
        return len(self._questions[split])

    def start(self, task: Task) -> Episode:
        """Starts an attempt at the question of `task`."""
        return _Inquiry(self, task.payload)

    def guide(self, task: Task, rulebook: str) -> Task:
        r"""`task` with `rulebook` instead of the instructions.

        In the chat style a reminder of \boxed{} is added if `rulebook` does not mention it, since
        nothing else in the prompt does.
        """
        boxless = self.settings.style is DialogueStyle.CHAT and "boxed" not in rulebook
        reminder = f"\n\n{format_instruction(AnswerFormat.BOXED)}" if boxless else ""
        messages = [message for message in task.prompt if message.role != "system"]
        system = Message(role="system", content=rulebook + reminder)
        return replace(task, prompt=(system, *messages))

    def solution(self, task: Task) -> tuple[str, ...]:
        """Turns that search for the supporting titles and then answer correctly."""
        question: Question = task.payload
        searches = [format_call(title, self.settings.style) for title in question.titles]
        return (*searches, rf"\boxed{{{question.answer}}}")

    def find(self, call: SearchCall) -> list[Passage] | Awaitable[list[Passage]]:
        """Results of a call.

        Raises:
            RetrievalError: the retriever failed.
        """
        return self._retriever.search(call.query, call.passages or self.settings.passages)

    def rulebook(self, task: Task) -> str:
        """Hidden rules of the questions, for `guide`; empty if nothing is hidden."""
        question: Question = task.payload
        return question.rulebook

    def judge(self, question: Question, response: str) -> Outcome:
        """Outcome of a turn without a tool call. The feedback does not reveal the answer."""
        answer = extract_answer(response, AnswerFormat.BOXED)
        if not answer:
            feedback = r"the turn holds neither a tool call nor an answer in \boxed{}"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        given, gold = plain_text(answer), plain_text(question.answer)
        reward = answer_reward(given, gold, min_f1=self.settings.min_f1)
        partly = f"right in part (F1 {reward:.2f})" if reward else "wrong"
        verdict = "right" if reward == 1.0 else partly
        if self.settings.style is DialogueStyle.CHAT:
            verdict = f"the answer {_excerpt(answer)} is {verdict}"
        feedback = f"{question.hint}\n{verdict}" if question.hint else verdict
        return Outcome(reward=reward, terminated=True, feedback=feedback)


class _Inquiry:
    """Episode of searches followed by an answer."""

    def __init__(self, environment: HotpotQA, question: Question) -> None:
        self._environment = environment
        self._question = question
        self._turn = 0

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """Outcome of one turn. Calls and answers inside thinking blocks are ignored."""
        settings = self._environment.settings
        self._turn += 1
        spoken = strip_thinking(text)
        try:
            calls = parse_calls(spoken, settings.style)
        except CallError as error:
            return _fail(f"malformed tool call: {error}")
        if not calls:
            return self._environment.judge(self._question, spoken)
        if len(calls) > settings.calls_per_turn:
            most = settings.calls_per_turn
            return _fail(f"{len(calls)} tool calls in one turn, at most {most} are allowed")
        if self._turn == settings.turns:
            return _fail(f"no answer by the last turn, {settings.turns}")
        return self._search(calls)

    def _search(self, calls: tuple[SearchCall, ...]) -> Outcome | Awaitable[Outcome]:
        finds = [self._environment.find(call) for call in calls]
        found = [passages for passages in finds if not isawaitable(passages)]
        return self._found(calls, found) if len(found) == len(finds) else self._wait(calls, finds)

    async def _wait(
        self,
        calls: tuple[SearchCall, ...],
        finds: Sequence[list[Passage] | Awaitable[list[Passage]]],
    ) -> Outcome:
        """Outcome of asynchronous searches, run concurrently."""
        return self._found(calls, await concurrently(map(await_if_needed, finds)))

    def _found(self, calls: tuple[SearchCall, ...], found: Sequence[list[Passage]]) -> Outcome:
        settings = self._environment.settings
        replies = [
            tool_message(passages, settings.style, max_length=settings.passage_length)
            for passages in found
        ]
        feedback = "" if settings.style is DialogueStyle.COMPACT else _report(calls, found)
        return Outcome(reward=0.0, terminated=False, observation=tuple(replies), feedback=feedback)


def _fail(reason: str) -> Outcome:
    return Outcome(reward=0.0, terminated=True, feedback=escape_control_tokens(reason))


def _report(calls: Sequence[SearchCall], found: Sequence[list[Passage]]) -> str:
    """Titles that each search found."""
    titles = [", ".join(_excerpt(p.title) for p in passages) or "nothing" for passages in found]
    return "\n".join(
        f"the search for {_excerpt(call.query)} found {those}"
        for call, those in zip(calls, titles, strict=True)
    )


def _excerpt(text: str) -> str:
    return escape_control_tokens(repr(text if len(text) <= 60 else text[:60] + "..."))
