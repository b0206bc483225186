"""Serving to a population of users with hidden rules, with and without learning from them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import NoMemory
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.gateway.access import SessionAccess
from steadyrl.gateway.app import GatewayApp
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.server import serving
from steadyrl.gateway.sessions import Session, SessionRules
from steadyrl.lab.worlds.code_words import CodeDrills, CodeDrillSettings, CodeWordSettings
from steadyrl.lab.worlds.live_users import Habits, Population
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.live.folder import open_live_folder, open_store
from steadyrl.live.loop import LiveLoop
from steadyrl.live.recorder import StoreRecorder
from steadyrl.live.records import Generation
from steadyrl.live.settings import GateSettings, LiveConfig
from steadyrl.objectives import MiniRL
from steadyrl.policies.model_settings import Pretrained, SmallDense
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.run.execution import start_run
from steadyrl.training.checkpoint import latest_checkpoint

MODEL = "words"

ARMS: dict[str, dict[str, Any] | None] = {
    "no learning": None,
    "live loop": {},
    "RLVR on served rewards": {"texts": False},
    "RLVR on groups scored by the rules": {
        "texts": False,
        "reward": "steadyrl.lab.worlds.code_words:rule_reward",
    },
}
"""What differs in the configuration of each arm; None: nothing is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one arm served with one seed.

    Example:
        Served(arm="live loop", seed=0, success=[0.2, 0.4], generations=[], seconds=60.0)
    """

    arm: str
    seed: int
    success: list[float]
    """Share of users, silent ones included, whose answer was right, in each generation."""

    generations: list[dict[str, Any]]
    """Verdicts and numbers of the loop."""

    seconds: float


DRILL_STEPS = 500


def world() -> tuple[RunConfig, CodeWordSettings]:
    """A recipe whose cold start knows no meaning of words, and the requests with a hidden one."""
    requests = CodeWordSettings()
    reflection = PolicyReflection(
        style=ReflectionStyle.COMPACT, max_length=16, sampling=Sampling(max_new_tokens=6)
    )
    recipe = RunConfig(
        threads=1,
        model=SmallDense(layers=3, heads=2, kv_heads=2, head_dim=32),
        environment=requests,
        cold_start=ColdStart(
            teacher=CodeDrillSettings(),
            steps=DRILL_STEPS,
            batch_size=64,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        algorithm=ExperientialSettings(
            objective=MiniRL(),
            prompts=16,
            group_size=4,
            max_turns=1,
            reflection=reflection,
            memory=NoMemory(),
        ),
        routing_replay="none",
        sampling=Sampling(max_new_tokens=6),
        engine=LocalEngineSettings(numerics=Numerics.FLOAT32),
        optimizer=OptimizerSettings(learning_rate=5e-4),
        evaluation=EvaluationSettings(tasks=128, samples=2, drift="never"),
    )
    return recipe, requests


def cold_start(work: Path, seed: int) -> Path:
    """The checkpoint that all arms begin with: drills, and none of the hidden rules."""
    recipe, _ = world()
    folder = RunFolder(work / f"cold-start-{seed}")
    if (found := latest_checkpoint(folder)) is None:
        start_run(recipe.model_copy(update={"steps": 0, "seed": seed}), folder.path)
        found = latest_checkpoint(folder)
    assert found is not None
    return found


def drift_texts(count: int) -> list[dict[str, Any]]:
    """What the drills taught, as a drift set: it should not be forgotten."""
    teacher = CodeDrills(CodeDrillSettings())
    generator = np.random.default_rng(0)
    texts = []
    for number in range(count):
        shown = teacher.demonstrate(teacher.task(Split.VALIDATION, number), generator)
        prompt = [{"role": m.role, "content": m.content} for m in shown.prompt]
        texts.append({"prompt": prompt, "answer": shown.continuation[-1].content})
    return texts


def live_config(checkpoint: Path, drift: Path, seed: int, **changes: Any) -> LiveConfig:
    """The loop that is studied."""
    recipe, _ = world()
    model = Pretrained(path=str(checkpoint))
    run = recipe.model_copy(update={"seed": seed, "model": model, "cold_start": None})
    gate = GateSettings(texts=drift, margin=0.05, max_drift=0.5)
    return LiveConfig(run=run, sessions=16, settle=0.0, gate=gate, **changes)


async def serve_population(
    arm: str,
    config: LiveConfig,
    path: Path,
    *,
    generations: int,
    users: int,
    habits: Habits,
    now: Callable[[], float],
) -> Served:
    """Serves `users` users in each generation, and learns after it unless the arm does not."""
    began, seed = now(), config.run.seed
    _, requests = world()
    population = Population(requests, habits, seed=seed)
    config = open_live_folder(config, path)
    folder = RunFolder(path)
    store, assembly = open_store(config, folder), Assembly.of(config.run)
    try:
        loop = LiveLoop(config, folder, store, assembly)
        await loop.begin()
        gateway = Gateway(
            engine=loop.engine,
            tokenizer=assembly.tokenizer,
            vocabulary_size=len(assembly.tokenizer),
            model=MODEL,
            recorder=StoreRecorder.of(config, store),
        )
        app = GatewayApp(access=SessionAccess(gateway=gateway)).starlette()
        success: list[float] = []
        async with serving(app, host="127.0.0.1", port=0) as url:
            for number in range(generations):
                gateway.sessions = {
                    name: _session(name, config, derive_seed(seed, number, user))
                    for user, name in enumerate(f"{number}-{user}" for user in range(users))
                }
                visits = await population.visit(url, MODEL, number, users)
                success.append(fmean(visit.succeeded for visit in visits))
                if ARMS[arm] is not None:
                    await loop.advance()
        return Served(
            arm=arm,
            seed=seed,
            success=success,
            generations=[_row(each) for each in store.generations()],
            seconds=now() - began,
        )
    finally:
        assembly.close()
        store.close()


def _session(name: str, config: LiveConfig, seed: int) -> Session:
    """A session whose random numbers are the study's."""
    seed_of = partial(derive_seed, seed)
    rules = SessionRules(sampling=config.run.sampling, trains=True, seed_of=seed_of)
    return Session(id=name, rules=rules)


def _row(generation: Generation) -> dict[str, Any]:
    return asdict(generation) | {"verdict": generation.verdict.value}
