"""Episodes that are over with one answer, which is right or wrong."""

from collections.abc import Awaitable, Callable

from steadyrl.base.concurrency import apply_when_done
from steadyrl.environments.answer_formats import AnswerFormat, extract_answer
from steadyrl.environments.protocol import Outcome
from steadyrl.environments.thinking import strip_thinking

CheckResult = tuple[bool, str]
"""Whether an answer is right, and the feedback that says so."""


class SingleAnswerEpisode:
    """An attempt at a question with one right answer.

    Args:
        answer_format: How the answer is cut out of the response.
        check: Judges an answer. Its feedback does not tell the right answer.
    """

    def __init__(
        self,
        answer_format: AnswerFormat,
        check: Callable[[str], CheckResult | Awaitable[CheckResult]],
    ) -> None:
        self._answer_format = answer_format
        self._check = check

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """The outcome of the response: 1 for a right answer, and 0 for another or none."""
        answer = extract_answer(strip_thinking(text), self._answer_format)
        if not answer:
            feedback = f"no answer was found in the {self._answer_format} format"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        return apply_when_done(self._check(answer), _outcome)


def _outcome(verdict: CheckResult) -> Outcome:
    right, feedback = verdict
    return Outcome(reward=float(right), terminated=True, feedback=feedback)
