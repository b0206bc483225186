"""Chains of additions and subtractions, checked step by step.

    3+14-2+9=    ->    17,15,24    (other styles: see `arithmetic_styles`)

In multi-turn episodes each turn asks for one step of the chain: 3+14= -> 17, 17-2= -> 15, ...
"""

from collections.abc import Iterator
from itertools import count
from typing import Literal

import numpy as np
from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.environments.arithmetic_chain import (
    Chain,
    ChainWorld,
    chain_text,
    partial_results,
)
from steadyrl.environments.arithmetic_styles import Statement, Style, read, restatement, write
from steadyrl.environments.protocol import Episode, Outcome, Split, Task
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.splits import split_of
from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.message import Message

_SEED = 20_251_201
_DRAWS_AT_ONCE = 4
_SPLIT_NUMBERS = {split: place for place, split in enumerate(Split)}
_STYLES = '"17,15" (results), "3+14=17;17-2=15" (equations) or "3 17 15" (running)'


class ArithmeticSettings(EnvironmentSettings):
    """Size of the chains, and number of turns."""

    name: Literal["arithmetic"] = "arithmetic"

    operands: int = Field(4, ge=2)
    """Number of operands in a chain, one more than its steps."""

    max_operand: int = Field(9, ge=1)
    """Largest operand; the smallest is 1."""

    max_result: int = Field(20, ge=1)
    """Upper bound of all partial results; the lower bound is 0."""

    turns: Literal["single", "multi"] = "single"
    """single: the whole chain in one turn. multi: one step per turn."""

    def make(self) -> "Arithmetic":
        """The environment."""
        return Arithmetic(self)

    @property
    def max_turns(self) -> int:
        """One turn per step in multi-turn episodes, else 1."""
        return self.operands - 1 if self.turns == "multi" else 1


class Arithmetic:
    """Reward 1 if every step is correct and the response contains nothing else, else 0.

    Raises:
        UserError: the settings allow too few chains for every split to have one.
    """

    def __init__(self, settings: ArithmeticSettings) -> None:
        self.settings = settings
        self._world = ChainWorld(
            operands=settings.operands,
            max_operand=settings.max_operand,
            max_result=settings.max_result,
        )
        _require_every_split(self._world)

    def task(self, split: Split, index: int) -> Task:
        """Chain number `index` of `split`. Chains may repeat, but never across splits."""
        chain = self._chain(split, index)
        asked = chain if self.settings.turns == "single" else chain[:2]
        prompt = Message(role="user", content=f"{chain_text(asked)}=")
        return Task(id=f"arithmetic/{split}/{index}", prompt=(prompt,), payload=chain)

    def start(self, task: Task) -> Episode:
        """Starts an attempt at the chain of `task`."""
        if self.settings.turns == "single":
            return _WholeChain(task.payload)
        return _StepByStep(task.payload)

    def solution(self, task: Task) -> tuple[str, ...]:
        """The results of all steps, in one reply or in one for each."""
        results = partial_results(task.payload)
        if self.settings.turns == "multi":
            return tuple(map(str, results))
        return (write(Style.RESULTS, task.payload, results),)

    def _chain(self, split: Split, index: int) -> Chain:
        """First chain drawn for this index whose text belongs to `split`."""
        draws = self._draws(split, index)
        return next(chain for chain in draws if split_of(chain_text(chain)) == split)

    def _draws(self, split: Split, index: int) -> Iterator[Chain]:
        """Endless sequence of chains for this split and index."""
        size = self.settings.operands
        for block in count():
            seed = np.random.SeedSequence((_SEED, _SPLIT_NUMBERS[split], index, block))
            words = seed.generate_state(size * _DRAWS_AT_ONCE).tolist()
            for start in range(0, len(words), size):
                yield self._world.draw(words[start : start + size])


def _require_every_split(world: ChainWorld) -> None:
    missing = set(Split)
    for chain in world.chains():
        missing.discard(split_of(chain_text(chain)))
        if not missing:
            return
    raise UserError(
        f"Too few arithmetic chains: with {world.operands} operands up to {world.max_operand} and "
        f"results up to {world.max_result} no chain is left for {', '.join(sorted(missing))}. "
        "Raise operands, max_operand or max_result."
    )


def first_mistake(chain: Chain, statement: Statement) -> str:
    """Description of the first mistake in `statement`; empty if there is none."""
    truth = partial_results(chain)
    expected = restatement(statement.style, chain, truth)
    if statement.results == truth and statement.restated == expected:
        return ""
    if statement.style == Style.RUNNING and statement.restated != expected:
        return f"the chain begins with {expected[0]}, you wrote {statement.restated[0]}"
    questions = restatement(Style.EQUATIONS, chain, truth)
    for step, (question, value) in enumerate(zip(questions, truth, strict=True)):
        if step == len(statement.results):
            return f"step {step + 1}: {question} is missing"
        if statement.style == Style.EQUATIONS and statement.restated[step] != question:
            return f"step {step + 1} is {question}, you wrote {statement.restated[step]}"
        if statement.results[step] != value:
            return f"step {step + 1}: {question} is {value}, you wrote {statement.results[step]}"
    return f"the chain has {len(truth)} steps, you wrote {len(statement.results)}"


class _WholeChain:
    """Episode of one turn that states all partial results."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def respond(self, text: str) -> Outcome:
        statement = read(strip_thinking(text))
        if statement is None:
            feedback = f"malformed: write a chain like {_STYLES}, you wrote {_excerpt(text)}"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        mistake = first_mistake(self._chain, statement)
        if mistake:
            return Outcome(reward=0.0, terminated=True, feedback=mistake)
        return Outcome(reward=1.0, terminated=True, feedback="every step is right")


class _StepByStep:
    """Episode of one turn per step, which ends at the first mistake."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._step = 0
        self._value = chain[0]

    def respond(self, text: str) -> Outcome:
        self._step += 1
        question = (self._value, self._chain[self._step])
        self._value += self._chain[self._step]
        statement = read(strip_thinking(text))
        if statement is None or statement.style != Style.RESULTS or len(statement.results) != 1:
            feedback = f"step {self._step}: write one number only, you wrote {_excerpt(text)}"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        if statement.results[0] != self._value:
            truth = f"{chain_text(question)} is {self._value}"
            feedback = f"step {self._step}: {truth}, you wrote {statement.results[0]}"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        if self._step == len(self._chain) - 1:
            return Outcome(reward=1.0, terminated=True, feedback="every step is right")
        following = chain_text((self._value, self._chain[self._step + 1]))
        observation = Message(role="user", content=f"{following}=")
        return Outcome(reward=0.0, terminated=False, observation=(observation,))


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
