"""The loop: claim sessions, learn from them, measure, promote or roll back.

    claim     the store chooses the sessions of generation N, in the transaction that begins it
    learn     from the policy that is served; nothing is kept of a step that a kill cut short
    save      checkpoint generation-N, complete or absent
    judge     the store gets the verdict, in one transaction; a policy that failed is deleted

A loop that begins anew finds out from these how far it got. The seeds are functions of the
generation, so it learns the same from the same sessions.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steadyrl.base.errors import NonFiniteError, UserError
from steadyrl.engines.protocol import Engine
from steadyrl.live.gate import BEGUN, SERVED, Gate
from steadyrl.live.learning import LiveLearning
from steadyrl.live.records import Example, Generation, Verdict
from steadyrl.live.settings import LiveConfig
from steadyrl.live.store import SessionStore
from steadyrl.records.run_folder import RunFolder, leftover_folders, remove_folder
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.assembly import Assembly
from steadyrl.training.checkpoint import (
    checkpoint_name,
    load_checkpoint,
    read_algorithm_state,
    save_checkpoint,
    verify_checkpoint,
)
from steadyrl.training.loop import train_step
from steadyrl.training.stage import RunPosition, Stage

LEARNING = 5
"""Purpose of random numbers, beside those of `run.components`."""

STAGE = "generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The policy that is served after the last finished generation."""

    generation: int
    policy_version: int
    numbers: Mapping[str, float]


def served_of(generations: list[Generation]) -> Served | None:
    """The policy that is served; None before generation 0."""
    finished = [each for each in generations if each.policy_version is not None]
    promoted = [each for each in finished if each.verdict is Verdict.PROMOTED]
    if not promoted:
        return None
    version = finished[-1].policy_version
    assert version is not None
    last = promoted[-1]
    return Served(generation=last.number, policy_version=version, numbers=last.numbers)


class LiveLoop:
    """Learns in generations. One process at a time may do so in a folder.

    Args:
        assembly: The components of `config.run`, whose engine samples reflections and evaluations.
        note: Receives a sentence on each phase, for tests and the console.
    """

    def __init__(
        self,
        config: LiveConfig,
        folder: RunFolder,
        store: SessionStore,
        assembly: Assembly,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._store = store
        self._note = note
        self._learner = assembly.learner
        self._engine = assembly.engine
        self._gate = Gate(config.gate, assembly.evaluator, assembly.tokenizer)
        seed = derive_seed(config.run.seed, LEARNING)
        self._learning = LiveLearning(config, tokenizer=assembly.tokenizer, seed=seed)
        self._stage = Stage(
            name=STAGE,
            algorithm=self._learning,
            steps=1,
            optimizer=config.run.optimizer,
            temperature=config.run.sampling.temperature,
            evaluate_every=1,
        )

    @property
    def engine(self) -> Engine:
        """The engine with the policy that is served, between two generations."""
        return self._engine

    async def begin(self) -> None:
        """Loads the policy that is served, or measures the first one and saves it.

        Raises:
            UserError: a checkpoint is damaged or missing.
        """
        for path in leftover_folders(self._folder.checkpoints):
            shutil.rmtree(path)
        self._learner.begin_stage(self._stage.optimizer, self._stage.temperature, fresh=True)
        self._learner.load_reference(None)
        served = served_of(self._store.generations())
        if served is not None:
            self._load(served)
        await self._engine.sync(self._learner.publish())
        if served is None:
            self._note("measuring the policy that the loop begins with")
            numbers = await self._gate.measure(self._stage, 0, self._engine, self._learner)
            self._save(0)
            self._store.begin(self._learner.policy_version, numbers)

    async def advance(self) -> Generation | None:
        """Takes the generation that was begun, or begins one; returns it with its verdict.

        None: too few sessions are waiting.
        """
        generations = self._store.generations()
        served, last = served_of(generations), generations[-1]
        assert served is not None, "begin() was called"
        if last.verdict is not Verdict.CLAIMED:
            config, number = self._config, last.number + 1
            claimed = self._store.claim(
                number,
                at_least=config.sessions,
                at_most=config.max_sessions,
                settle=config.settle,
            )
            if not claimed:
                return None
            last = Generation(number=number, verdict=Verdict.CLAIMED)
        examples = self._store.examples(last.number)
        path = self._path(last.number)
        if path.exists():
            load_checkpoint(path, self._learner)
            self._load_memory(path)
        else:
            self._note(f"generation {last.number} learns from {len(examples)} answers")
            try:
                await self._learn(last.number, examples)
            except NonFiniteError as error:
                self._note(f"generation {last.number} diverged: {error}")
                return await self._judge(last, served, generations, examples, {})
            self._save(last.number)
        await self._engine.sync(self._learner.publish())
        self._note(f"generation {last.number} is measured")
        numbers = await self._gate.measure(self._stage, last.number, self._engine, self._learner)
        return await self._judge(last, served, generations, examples, numbers)

    async def _judge(
        self,
        generation: Generation,
        served: Served,
        generations: Sequence[Generation],
        examples: list[Example],
        measured: Mapping[str, float],
    ) -> Generation:
        """Stores the verdict, and goes back to the policy that is served if it says so."""
        promoted = [each.numbers for each in generations if each.verdict is Verdict.PROMOTED]
        promotes = self._gate.promotes(measured, promoted)
        version = self._learner.policy_version
        if not promotes:
            version += 1  # the weights change again, so they get another version
        finished = replace(
            generation,
            verdict=Verdict.PROMOTED if promotes else Verdict.ROLLED_BACK,
            policy_version=version,
            numbers={
                **measured,
                **_prefixed(SERVED, served.numbers, measured),
                **_prefixed(BEGUN, promoted[0], measured),
                **self._counts(generation.number, examples),
            },
        )
        self._store.finish(finished)
        if not promotes:
            self._load(replace(served, policy_version=version))
            await self._engine.sync(self._learner.publish())
        kept = {0, generation.number if promotes else served.generation}
        for number in range(generation.number + 1):
            if number not in kept and self._path(number).exists():
                remove_folder(self._path(number))
        self._note(f"generation {generation.number} is {finished.verdict}")
        return finished

    async def _learn(self, number: int, examples: list[Example]) -> None:
        """One optimizer step for every `prompts` examples."""
        learning, size = self._learning, self._config.algorithm.prompts
        prompts = {example.prompt_key for example in examples}
        learning.earlier = self._store.earlier_rewards(number, prompts)
        for step, start in enumerate(range(0, len(examples), size)):
            chunk = examples[start : start + size]
            # A generation has less than a million steps: each has a number of its own.
            plan = learning.plan_of(number * 1_000_000 + step, chunk)
            rollout = await learning.play(plan, self._engine)
            versions = [e.completion.policy_version for e in chunk if e.completion is not None]
            oldest = min([*versions, self._engine.policy_version])
            rollout = replace(rollout, policy_version=oldest)
            updates = self._learner.policy_version
            await train_step(self._stage, updates, rollout, self._learner, self._engine)

    def _counts(self, number: int, examples: list[Example]) -> dict[str, float]:
        rewards = [self._learning.reward_of(example) for example in examples]
        return {
            "sessions": float(len(self._store.sessions_of(number))),
            "answers": float(len(examples)),
            "texts": float(sum(bool(example.text) for example in examples)),
            "redacted": float(sum(example.completion is None for example in examples)),
            **({"reward": sum(rewards) / len(rewards)} if rewards else {}),
        }

    def _path(self, number: int) -> Path:
        return self._folder.checkpoints / checkpoint_name(STAGE, number)

    def _save(self, number: int) -> None:
        save_checkpoint(
            self._path(number),
            self._learner,
            RunPosition(stage=0, step=number),
            algorithm_state=self._learning.state(),
        )

    def _load(self, served: Served) -> None:
        """Loads the policy that is served, its optimizer and its memory."""
        path = self._path(served.generation)
        if not path.exists():
            raise UserError(
                f"The checkpoint {path} of the policy that is served is missing. Restore it, or "
                "begin anew with another folder and the same --store."
            )
        verify_checkpoint(path)
        self._learner.load(path, policy_version=served.policy_version)
        self._load_memory(path)

    def _load_memory(self, path: Path) -> None:
        state: Any = read_algorithm_state(path, [self._stage])
        self._learning.load_state(state)


def _prefixed(
    prefix: str, numbers: Mapping[str, float], measured: Mapping[str, float]
) -> dict[str, float]:
    """What was measured of another policy in the same way."""
    return {f"{prefix}{name}": numbers[name] for name in measured if name in numbers}
