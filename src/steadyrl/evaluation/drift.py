"""Drift probe: measures how much a policy forgets of what it is not trained on.

The package contains a dozen questions with answers and a few paragraphs of prose. The trainer's
policy scores them by teacher forcing. The tokens are always the same, so a change of their
log-likelihood is a change of the policy, without sampling noise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.learners.protocol import Scorer
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.message import Conversation, Message
from steadyrl.records.token_batch import TokenBatch

DriftChoice = Literal["auto", "always", "never"]

GREEDY = Sampling(temperature=0.0, max_new_tokens=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralText:
    """A text to score: answer tokens after prompt tokens.

    For prose, the prompt is the first token.
    """

    question: str
    """Empty for prose."""

    answer: str
    prompt_ids: Int[Tensor, " P"]
    answer_ids: Int[Tensor, " A"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """Score of one text under a policy."""

    text: GeneralText

    loglikelihood: float
    """Sum of the log-probabilities of the answer tokens, in nats."""

    response: str | None = None
    """Greedy response of the policy to the question; None: not sampled."""

    def to_record(self) -> dict[str, Any]:
        """The JSON object stored in the run folder."""
        return {
            "question": self.text.question,
            "answer": self.text.answer,
            "loglikelihood": self.loglikelihood,
            "tokens": len(self.text.answer_ids),
            "response": self.response,
        }


class DriftProbe:
    """Scores the general texts of the package, or others, encoded by one tokenizer.

    Args:
        texts: Prompts and their answers in place of the package's texts.

    Raises:
        UserError: the chat template rejects a prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[tuple[Conversation, str]] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._texts = self._general() if texts is None else self._encoded(texts)

    def _general(self) -> list[GeneralText]:
        """The texts of the package."""
        texts = json.loads(files(__package__).joinpath("general_texts.json").read_text("utf-8"))
        questions, answers = zip(*texts["questions"], strict=True)
        asked = [(Message(role="user", content=question),) for question in questions]
        prose = [(text, self._ids(text)) for text in texts["prose"]]
        return [
            *self._encoded(list(zip(asked, answers, strict=True))),
            *(
                GeneralText(question="", answer=text, prompt_ids=ids[:1], answer_ids=ids[1:])
                for text, ids in prose
            ),
        ]

    def _encoded(self, texts: Sequence[tuple[Conversation, str]]) -> list[GeneralText]:
        """Prompts with their answers as tokens."""
        prompts = encode_prompts(self._tokenizer, [prompt for prompt, _ in texts])
        return [
            GeneralText(
                question=asked[-1].content,
                answer=answer,
                prompt_ids=ids,
                answer_ids=self._ids(answer),
            )
            for (asked, answer), ids in zip(texts, prompts, strict=True)
        ]

    @classmethod
    def create(cls, choice: DriftChoice, tokenizer: PreTrainedTokenizerBase) -> "DriftProbe | None":
        """Creates the probe, or returns None if it is disabled.

        With "auto", the probe is enabled if the tokenizer represents the texts without unknown
        tokens, as those of pretrained models do, and its chat template accepts a question.
        """
        if choice == "never":
            return None
        try:
            probe = cls(tokenizer)
        except UserError:
            if choice == "always":
                raise
            return None
        return probe if choice == "always" or probe.is_readable else None

    @property
    def is_readable(self) -> bool:
        """Whether decoding the tokens restores every text, except for white space and case."""
        return all(
            _letters(self._tokenizer.decode(self._ids(text.answer))) == _letters(text.answer)
            for text in self._texts
        )

    async def measure(self, scorer: Scorer, engine: Engine | None = None) -> list[TextScore]:
        """Log-likelihood at temperature 1 of each text that fits into the model's positions.

        Args:
            engine: Engine that responds greedily to the questions; None: no responses.
        """
        limit = scorer.max_positions
        kept = [text for text in self._texts if limit is None or _length(text) <= limit]
        scores = _scores(scorer, kept)
        return scores if engine is None else await self._with_responses(scores, engine)

    async def _with_responses(self, scores: Sequence[TextScore], engine: Engine) -> list[TextScore]:
        asked = [
            number
            for number, score in enumerate(scores)
            if score.text.question
            and engine.capabilities.has_room(len(score.text.prompt_ids), GREEDY)
        ]
        completions = await concurrently(
            engine.generate(
                Request(
                    prompt_ids=scores[number].text.prompt_ids,
                    num_completions=1,
                    seed=0,
                    sampling=GREEDY,
                )
            )
            for number in asked
        )
        answered = list(scores)
        for number, (completion,) in zip(asked, completions, strict=True):
            said = self._tokenizer.decode(completion.token_ids, skip_special_tokens=True)
            answered[number] = replace(scores[number], response=said.strip())
        return answered

    def _ids(self, text: str) -> Int[Tensor, " T"]:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.long)


def mean_loglikelihood(scores: Sequence[TextScore]) -> float:
    """Mean log-likelihood in nats per token, over all tokens of `scores`."""
    tokens = sum(len(score.text.answer_ids) for score in scores)
    return sum(score.loglikelihood for score in scores) / tokens


def _scores(scorer: Scorer, texts: Sequence[GeneralText]) -> list[TextScore]:
    """Scores all texts in one batch."""
    if not texts:
        return []
    scored = scorer.score(_as_batch(texts)).old_logprobs
    assert scored is not None
    sums = scored.double().sum(dim=1).tolist()
    return [TextScore(text=t, loglikelihood=s) for t, s in zip(texts, sums, strict=True)]


def _as_batch(texts: Sequence[GeneralText]) -> TokenBatch:
    """A batch with one row per text and the answer tokens in its loss mask."""
    rows = [torch.cat([text.prompt_ids, text.answer_ids]) for text in texts]
    lengths = torch.tensor([len(row) for row in rows])
    starts = torch.tensor([len(text.prompt_ids) for text in texts])
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    places = torch.arange(tokens.shape[1])
    attention_mask = places < lengths[:, None]
    numbers = torch.arange(len(rows))
    return TokenBatch(
        tokens=tokens,
        attention_mask=attention_mask,
        loss_mask=attention_mask & (places >= starts[:, None]),
        group_ids=numbers,
        response_ids=numbers,
        advantages=torch.zeros(tokens.shape),
        temperature=1.0,
    )


def _length(text: GeneralText) -> int:
    return len(text.prompt_ids) + len(text.answer_ids)


def _letters(text: str) -> str:
    return "".join(text.split()).lower()
