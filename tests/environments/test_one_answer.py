"""One answer, cut out of a response and judged."""

from collections.abc import Callable

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.one_answer import OneAnswer, Verdict
from steadyrl.environments.protocol import Episode


def test_an_answer_earns_what_its_verdict_says_and_none_earns_nothing() -> None:
    asked: list[str] = []

    def check(answer: str) -> Callable[[], Verdict]:
        asked.append(answer)
        return lambda: (answer == "4", f"heard {answer}")

    episode = OneAnswer(AnswerFormat.TAG, check)
    assert isinstance(episode, Episode)
    texts = ["so <answer> 4 </answer>", "<answer>5</answer>", "4", "<answer> </answer>"]
    outcomes = [episode.respond(text) for text in texts]
    assert [outcome.reward for outcome in outcomes] == [1.0, 0.0, 0.0, 0.0]
    assert all(outcome.terminated and not outcome.observation for outcome in outcomes)
    missing = "no answer was found in the tag format"
    assert [outcome.feedback for outcome in outcomes] == ["heard 4", "heard 5", missing, missing]
    assert asked == ["4", "5"]
