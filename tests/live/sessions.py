"""Sessions as a gateway hands them to a store, and a loop that is small enough for a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.gateway.conversation import ChatMessage, Conversation
from steadyrl.gateway.recording import Feedback
from steadyrl.gateway.sessions import Turn
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.live.records import StoredTurn
from steadyrl.live.settings import GateSettings, LiveConfig
from steadyrl.live.store import SessionStore
from steadyrl.objectives import MiniRL
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.run.config import RunConfig
from tests.rollout.fakes import ids_of
from tests.run.checkpoints import write_checkpoint

UP, DOWN = Feedback(kind="thumb", value=1.0), Feedback(kind="thumb", value=0.0)


def completion(answer: str, prompt: str = "<user>1+2=<assistant>", version: int = 3) -> Completion:
    tokens = ids_of(answer)
    return Completion(
        prompt_ids=ids_of(prompt),
        token_ids=tokens,
        logprobs=-0.1 - 0.1 * torch.arange(len(tokens)),
        finish_reason=FinishReason.STOP,
        policy_version=version,
    )


def stored(answer: str = "3", question: str = "1+2=", version: int = 3) -> StoredTurn:
    messages = (
        Message(role="user", content=question),
        Message(role="assistant", content=answer),
    )
    return StoredTurn(messages=messages, completion=completion(answer, version=version))


def turn(question: str, answer: str) -> Turn:
    return Turn(
        conversation=Conversation(messages=(ChatMessage(role="user", text=question),)),
        reply=ChatMessage(role="assistant", text=answer),
        completion=completion(answer),
        messages=(
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        ),
    )


def fill(store: SessionStore, names: Sequence[str], *, texts: bool = True) -> None:
    """Sessions with consent: every third is corrected in words, the others get thumbs."""
    for place, name in enumerate(names):
        store.add_turns(name, [stored("3" if place % 2 else "4", version=0)], consent=True)
        given = [UP if place % 2 else DOWN]
        if texts and place % 3 == 0:
            given = [Feedback(kind="text", text="it is 3")]
        assert store.add_feedback(name, given) == 0


def tiny_live(folder: Path, **changes: Any) -> LiveConfig:
    """A loop over a model of one layer, whose generations have four sessions."""
    checkpoint = folder / "model"
    if not checkpoint.exists():
        write_checkpoint(checkpoint)
    reflection = PolicyReflection(
        style=ReflectionStyle.COMPACT, sampling=Sampling(temperature=1.0, max_new_tokens=6)
    )
    run = RunConfig(
        threads=1,
        model=Pretrained(path=str(checkpoint)),
        environment=ArithmeticSettings(operands=2, max_operand=4, max_result=5),
        algorithm=ExperientialSettings(
            objective=MiniRL(), prompts=2, group_size=2, reflection=reflection
        ),
        routing_replay="none",
        sampling=Sampling(max_new_tokens=4),
        engine=LocalEngineSettings(numerics=Numerics.FLOAT32),
        optimizer=OptimizerSettings(learning_rate=1e-2),
        evaluation=EvaluationSettings(tasks=4, samples=1, drift="never"),
    )
    values = {"sessions": 4, "max_sessions": 4, "settle": 0.0, "gate": GateSettings(margin=1.0)}
    return LiveConfig(run=run, **(values | changes))
