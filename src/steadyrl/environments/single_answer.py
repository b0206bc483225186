"""Episodes that end with one answer, right or wrong."""

from collections.abc import Awaitable, Callable

from steadyrl.base.concurrency import apply_when_done
from steadyrl.environments.answer_formats import AnswerFormat, extract_answer
from steadyrl.environments.protocol import Outcome
from steadyrl.environments.thinking import strip_thinking

CheckResult = tuple[bool, str]
"""Whether the answer is correct, and the feedback."""


class SingleAnswerEpisode:
    """Attempt at a question with one correct answer.

    Args:
        answer_format: Format in which the response states its answer.
        check: Checks an answer. Its feedback does not reveal the correct answer.
    """

    def __init__(
        self,
        answer_format: AnswerFormat,
        check: Callable[[str], CheckResult | Awaitable[CheckResult]],
    ) -> None:
        self._answer_format = answer_format
        self._check = check

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """Outcome of the response: reward 1 for the correct answer, else 0."""
        answer = extract_answer(strip_thinking(text), self._answer_format)
        if not answer:
            feedback = f"no answer was found in the {self._answer_format} format"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        return apply_when_done(self._check(answer), _outcome)


def _outcome(verdict: CheckResult) -> Outcome:
    right, feedback = verdict
    return Outcome(reward=float(right), terminated=True, feedback=feedback)
