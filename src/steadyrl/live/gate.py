"""The gate between training and serving: a held-out score, and the likelihood of a drift set."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Engine
from steadyrl.evaluation.drift import DriftProbe, mean_loglikelihood
from steadyrl.learners.protocol import Scorer
from steadyrl.live.settings import GateSettings
from steadyrl.records.message import Conversation, Message
from steadyrl.records.run_folder import read_json_lines
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.stage import Stage

SCORE, LOGLIKELIHOOD = "score", "loglikelihood"
SERVED, BEGUN = "served_", "begun_"
"""Prefixes of the numbers of the policy that is served, and of the one that the loop began with."""


class Gate:
    """Measures policies and decides which one is served.

    Raises:
        UserError: the drift set cannot be read.
    """

    def __init__(
        self, settings: GateSettings, evaluator: Evaluator, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._settings = settings
        self._evaluator = evaluator
        self._probe = evaluator.drift
        if settings.texts is not None:
            self._probe = DriftProbe(tokenizer, read_drift_texts(settings.texts))

    async def measure(
        self, stage: Stage, number: int, engine: Engine, scorer: Scorer
    ) -> dict[str, float]:
        """Numbers of the policy of generation `number`, which engine and scorer hold.

        Raises:
            UserError: no held-out task could be judged.
        """
        accuracy = await self._evaluator.evaluate(stage, number, engine)
        assert accuracy is not None, "every generation is evaluated"
        accuracy.require_measured()
        numbers = {SCORE: accuracy.score}
        interval = accuracy.interval
        if interval is not None:
            numbers |= {"score_low": interval.low, "score_high": interval.high}
        if self._probe is not None:
            scores = await self._probe.measure(scorer)
            if scores:
                numbers[LOGLIKELIHOOD] = mean_loglikelihood(scores)
        return numbers

    def promotes(
        self, trained: Mapping[str, float], promoted: Sequence[Mapping[str, float]]
    ) -> bool:
        """Whether the trained policy is served from now on. See `is_promoted`."""
        return is_promoted(self._settings, trained, promoted)


def is_promoted(
    limits: GateSettings,
    trained: Mapping[str, float],
    promoted: Sequence[Mapping[str, float]],
) -> bool:
    """Whether a trained policy is promoted. One that diverged has no numbers, and is not.

    Args:
        promoted: Numbers of all policies that were promoted, from the first. The score is compared
            with the best of them, so that small losses do not add up.
    """
    if SCORE not in trained:
        return False
    if trained[SCORE] < max(numbers[SCORE] for numbers in promoted) - limits.margin:
        return False
    begun = promoted[0]
    if LOGLIKELIHOOD not in trained or LOGLIKELIHOOD not in begun:
        return True
    return trained[LOGLIKELIHOOD] >= begun[LOGLIKELIHOOD] - limits.max_drift


def read_drift_texts(path: Path) -> list[tuple[Conversation, str]]:
    """Prompts and answers of a drift set.

    Raises:
        UserError: there is none, or a line is not valid.
    """
    if not path.is_file():
        raise UserError(f"gate.texts is {path}, where there is no file. Give JSON Lines.")
    texts = [_drift_text(line, path) for line in read_json_lines(path)]
    if not texts:
        raise UserError(f"{path} has no texts. Give lines with 'prompt' and 'answer'.")
    return texts


def _drift_text(line: object, path: Path) -> tuple[Conversation, str]:
    try:
        assert isinstance(line, dict)
        prompt, answer = line["prompt"], line["answer"]
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        messages = tuple(Message(role=each["role"], content=each["content"]) for each in prompt)
        if not messages or not isinstance(answer, str) or not answer:
            raise ValueError("prompt or answer is empty")
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} has the line {json.dumps(line)[:80]}, which is not a drift text. Give an "
            "object with 'prompt', a text or messages, and 'answer', a text."
        ) from error
    return messages, answer
