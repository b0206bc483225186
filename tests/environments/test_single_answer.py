"""One answer, cut out of a response and judged."""

import pytest

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.protocol import Episode
from steadyrl.environments.single_answer import CheckResult, SingleAnswerEpisode
from tests.driving import respond


@pytest.mark.parametrize("awaits", [False, True])
def test_an_answer_earns_what_its_verdict_says_and_none_earns_nothing(awaits: bool) -> None:
    asked: list[str] = []

    def check(answer: str) -> CheckResult:
        asked.append(answer)
        return answer == "4", f"heard {answer}"

    async def check_later(answer: str) -> CheckResult:
        return check(answer)

    episode = SingleAnswerEpisode(AnswerFormat.TAG, check_later if awaits else check)
    assert isinstance(episode, Episode)
    texts = ["so <answer> 4 </answer>", "<answer>5</answer>", "4", "<answer> </answer>"]
    outcomes = [respond(episode, text) for text in texts]
    assert [outcome.reward for outcome in outcomes] == [1.0, 0.0, 0.0, 0.0]
    assert all(outcome.terminated and not outcome.observation for outcome in outcomes)
    missing = "no answer was found in the tag format"
    assert [outcome.feedback for outcome in outcomes] == ["heard 4", "heard 5", missing, missing]
    assert asked == ["4", "5"]
