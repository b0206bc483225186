"""A tool-calling agent with the official OpenAI client, trained with MiniRL.

    pip install 'steadyrl[serve]' openai
    python examples/agent_tools.py runs/agent

A small model learns from a teacher how to call the tool `add`. The teacher only does so in half of
its answers, and guesses in the others. Reinforcement teaches the model to call the tool.
"""

import json
import ssl
import sys
from pathlib import Path
from typing import Any

import numpy as np
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from steadyrl.algorithms import PolicyGradientSettings
from steadyrl.engines import LocalEngineSettings, Sampling
from steadyrl.environments import (
    AgentSettings,
    AgentTask,
    Demonstration,
    Environment,
    Message,
    ModelAccess,
    Split,
    Task,
    Teacher,
    TeacherSettings,
)
from steadyrl.evaluation import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.tool_calls import ToolSettings
from steadyrl.run import ColdStart, RunConfig, start_run
from steadyrl.training.journal import JournalSettings

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
}


CERTIFICATES = ssl.create_default_context()
"""Shared by all clients: to load them takes longer than a call."""


def client_of(access: ModelAccess) -> AsyncOpenAI:
    """A client of the policy, for one episode."""
    http = DefaultAsyncHttpxClient(verify=CERTIFICATES)
    return AsyncOpenAI(base_url=access.base_url, api_key=access.api_key, http_client=http)


async def solve(task: AgentTask, access: ModelAccess) -> float:
    """The agent: asks, calls the tool while the model wants it, and judges the answer."""
    messages: list[Any] = list(task.messages)
    async with client_of(access) as client:
        for _ in range(3):
            reply = await client.chat.completions.create(
                model=access.model, messages=messages, tools=[ADD]
            )
            message = reply.choices[0].message
            if not message.tool_calls:
                return float(message.content == str(task.data))
            messages.append(message)
            for call in message.tool_calls:
                result = add(call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return 0.0


def add(arguments: str) -> str:
    """The tool."""
    try:
        numbers = json.loads(arguments)
        return str(int(numbers["a"]) + int(numbers["b"]))
    except (ValueError, TypeError, KeyError) as error:
        return f"error: {type(error).__name__}"


class Sums:
    """Sums of two numbers of two digits. The payload is the result."""

    def task(self, split: Split, index: int) -> Task:
        """Sum number `index` of `split`. Splits have different results."""
        draws = np.random.default_rng([list(Split).index(split), index])
        a, b = draws.integers(10, 100, size=2).tolist()
        while (a + b) % 3 != list(Split).index(split):
            a, b = draws.integers(10, 100, size=2).tolist()
        prompt = (Message(role="user", content=f"{a}+{b}"),)
        return Task(id=f"sums/{split}/{index}", prompt=prompt, payload=a + b)


class HalfTeacher:
    """Calls the tool in half of its answers, and guesses in the others."""

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str | Demonstration:
        """An answer, or a call with the answer after it."""
        if generator.random() < 0.5:
            return str(task.payload + int(generator.integers(-5, 6)))
        a, b = map(int, task.prompt[0].content.split("+"))
        call = json.dumps({"name": "add", "arguments": {"a": a, "b": b}}, separators=(",", ":"))
        turns = [("assistant", call), ("tool", str(a + b)), ("assistant", str(a + b))]
        return Demonstration(
            prompt=task.prompt,
            continuation=tuple(Message(role=role, content=text) for role, text in turns),
        )


class HalfTeacherSettings(TeacherSettings):
    """The teacher."""

    def make(self, environment: Environment) -> Teacher:
        """The teacher."""
        return HalfTeacher()


def configuration(**changes: Any) -> RunConfig:
    """The run."""
    values: dict[str, Any] = {
        "threads": 1,
        "model": SmallMoE(max_positions=256),
        "environment": AgentSettings(
            program="agent_tools:solve",
            tasks="agent_tools:Sums",
            tools=ToolSettings(shown="none", calls="json"),
        ),
        "cold_start": ColdStart(
            teacher=HalfTeacherSettings(),
            steps=400,
            batch_size=64,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        "algorithm": PolicyGradientSettings(prompts=16, group_size=8, max_turns=4),
        "steps": 20,
        "sampling": Sampling(max_new_tokens=56),
        "engine": LocalEngineSettings(numerics=Numerics.FLOAT32),
        "optimizer": OptimizerSettings(learning_rate=6e-4, schedule="linear", warmup_steps=3),
        "evaluation": EvaluationSettings(tasks=64, samples=2),
        "evaluate_every": 10,
        "journal": JournalSettings(checkpoint_every=5),
    }
    return RunConfig(**{**values, **changes})


if __name__ == "__main__":
    import agent_tools  # its classes are found by this name when the run is resumed

    start_run(agent_tools.configuration(), Path(sys.argv[1]))
