"""Engines and environments that do what a script says."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.environments.protocol import Outcome, Split, Task
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.routing import Routing
from steadyrl.records.weight_source import WeightSource
from tests.driving import FakeEngine

TOKENIZER = character_tokenizer()
LAYERS, CHOSEN = 2, 2

Answer = Callable[[str, int, int], str]
"""What is written after a prompt's text, as answer number `i` of its request, in step number `n`.

An answer that ends with "..." has spent its budget.
"""


def ids_of(text: str) -> Tensor:
    return torch.tensor(TOKENIZER(text, add_special_tokens=False)["input_ids"], dtype=torch.long)


class ScriptedEngine(FakeEngine):
    """Writes what `answer` says.

    The token at position `p` of its whole sequence has log-probability -(100 n + p) in step `n`,
    and went through expert 10 n + p (both of the two chosen ones, in both layers), so that each
    value says where it comes from.
    """

    def __init__(
        self, answer: Answer, *, max_positions: int | None = None, records_routing: bool = True
    ) -> None:
        super().__init__()
        self.policy_version = 7
        self.capabilities = EngineCapabilities(
            max_positions=max_positions, routing=records_routing, exact_draws=True, scoring=False
        )
        self.calls: list[list[Request]] = []
        self._answer = answer
        self._records_routing = records_routing

    async def sync(self, weights: WeightSource) -> None:
        self.policy_version = weights.version

    async def score(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        raise NotImplementedError

    def answer(self, requests: Sequence[Request]) -> list[list[Completion]]:
        self.calls.append(list(requests))
        return [
            [self._complete(request.prompt_ids, i) for i in range(request.num_completions)]
            for request in requests
        ]

    def _complete(self, prompt: Tensor, number: int) -> Completion:
        call = len(self.calls) - 1
        text = self._answer(TOKENIZER.decode(prompt), number, call)
        stopped = not text.endswith("...")
        tokens = ids_of(text.removesuffix("..."))
        if stopped:
            tokens = torch.cat([tokens, torch.tensor([TOKENIZER.eos_token_id])])
        positions = torch.arange(len(prompt), len(prompt) + len(tokens))
        return Completion(
            prompt_ids=prompt,
            token_ids=tokens,
            logprobs=-(100.0 * call + positions),
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            policy_version=self.policy_version,
            routing=self._routing(torch.cat([prompt, tokens])[:-1], call),
        )

    def _routing(self, fed: Tensor, call: int) -> Routing | None:
        if not self._records_routing:
            return None
        known = torch.ones(1, len(fed), dtype=torch.bool)
        experts = (10 * call + torch.arange(len(fed))).to(torch.uint8)
        experts = experts[None, :, None, None].expand(1, -1, LAYERS, CHOSEN)
        return Routing.of(experts, known, fed[None])


class Quiz:
    """Asks for a word, `turns` times. `right` earns 1 a turn, `bad` ends it, `crash` fails."""

    def __init__(self, *, turns: int = 1) -> None:
        self.turns = turns

    def task(self, split: Split, index: int) -> Task:
        prompt = Message(role="user", content=f"q{index}")
        return Task(id=f"quiz/{split}/{index}", prompt=(prompt,), payload=index)

    def start(self, task: Task) -> "QuizEpisode":
        return QuizEpisode(self.turns)


class ShortQuiz(Quiz):
    """Has so many tasks in each split."""

    def __init__(self, count: Any) -> None:
        super().__init__()
        self._count = count

    def distinct_tasks(self, split: Split) -> Any:
        return self._count


class TenthsQuiz(Quiz):
    """Asks ten times. Each answer earns 0.1, whatever it is."""

    def __init__(self) -> None:
        super().__init__(turns=10)

    def start(self, task: Task) -> "QuizEpisode":
        return TenthsEpisode(self.turns)


class LongQuiz(Quiz):
    """Asks for more than 100 tokens at the numbers `long`."""

    def __init__(self, *long: int) -> None:
        super().__init__()
        self._long = long

    def task(self, split: Split, index: int) -> Task:
        task = super().task(split, index)
        if index not in self._long:
            return task
        return replace(task, prompt=(Message(role="user", content=f"q{index}" + "x" * 100),))


class Hopeless(Quiz):
    """Has no task to give."""

    def task(self, split: Split, index: int) -> Task:
        raise IndexError(index)


class Unreliable(Quiz):
    """Fails at tasks and starts: `task` gives none of the numbers, `start` fails as often."""

    def __init__(self, *, tasks: Sequence[int] = (), starts: int = 0, turns: int = 1) -> None:
        super().__init__(turns=turns)
        self._tasks = tasks
        self._starts = starts

    def task(self, split: Split, index: int) -> Task:
        if index in self._tasks:
            raise IndexError(f"no task {index}")
        return super().task(split, index)

    def start(self, task: Task) -> "QuizEpisode":
        self._starts -= 1
        if self._starts >= 0:
            raise ConnectionError("no service")
        return super().start(task)


class QuizEpisode:
    """One attempt at a quiz."""

    def __init__(self, turns: int) -> None:
        self._left = turns

    def respond(self, text: str) -> Outcome:
        if text == "crash":
            raise KeyError("no such word")
        self._left -= 1
        over = self._left == 0 or text == "bad"
        return Outcome(
            reward=1.0 if text == "right" else 0.0,
            terminated=over,
            observation=() if over else (Message(role="user", content="next"),),
            feedback=f"you wrote {text}" if text else "",
        )


class TenthsEpisode(QuizEpisode):
    """One attempt at a `TenthsQuiz`."""

    def respond(self, text: str) -> Outcome:
        return replace(super().respond(text), reward=0.1, reward_parts={"tenth": 0.1})


def some_tasks(environment: Quiz, count: int) -> list[Task]:
    return [environment.task(Split.TRAIN, number) for number in range(count)]
