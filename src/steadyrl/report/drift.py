"""Fixed off-task questions before and after training."""

from dataclasses import dataclass

from steadyrl.analysis import Stage
from steadyrl.base.wording import short_number
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.rows import Row, completions_by_step, read_rows


class Answer(Row):
    """One off-task text: an answer to a question, or prose."""

    question: str
    tokens: int
    loglikelihood: float

    response: str | None = None
    """The model's answers, by step."""

    @property
    def per_token(self) -> str:
        """The log-likelihood of the right answer, in nats per token."""
        return short_number(self.loglikelihood / self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The questions of a stage, with the first and the last answer."""

    before_step: int
    after_step: int | None
    answers: list[tuple[Answer, Answer | None]]
    change: str


def read_drift(folder: RunFolder, stage: Stage) -> Drift | None:
    """The forgetting in `stage`; None if no off-task question was answered."""
    answered = []
    for step, path in completions_by_step(folder, f"drift_{stage.name}"):
        answers = read_rows(Answer, path)
        if any(answer.response is not None for answer in answers):
            answered.append((step, {a.question: a for a in answers if a.question}))
    if not answered:
        return None
    (first_step, first), (last_step, last) = answered[0], answered[-1]
    return Drift(
        before_step=first_step,
        after_step=last_step if len(answered) > 1 else None,
        answers=[(answer, last.get(question)) for question, answer in first.items()],
        change=_change(stage),
    )


def _change(stage: Stage) -> str:
    series = stage.finite("drift_loglikelihood")
    if series is None or len(series.steps) < 2:
        return ""
    drift = float(series.values[-1])
    if drift == 0:
        return "The log-likelihood of general answers and prose has not changed."
    return (
        f"The log-likelihood of general answers and prose {'fell' if drift < 0 else 'rose'} by "
        f"{short_number(abs(drift))} nats per token by step {series.steps[-1]}."
    )
