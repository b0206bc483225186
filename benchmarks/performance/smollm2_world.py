"""W5: SmolLM2-135M-Instruct on word problems, in float32 or bfloat16."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.performance.context import Context
from benchmarks.performance.worlds import World

from steadyrl.environments.protocol import Outcome, Split, Task
from steadyrl.records.message import Message

CHECKPOINT = Path("models/smollm2")
"""What `make real-model` leaves."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

SMALL = {"prompts": 2, "group_size": 4, "max_new_tokens": 16}
"""What a quick run makes of it."""

PROBLEM = (
    "{name} has {first} {things} and gets {second} more every day for {days} days. How many "
    "{things} does {name} have then? Explain your answer, and end with the number."
)
NAMES = ("Ada", "Ben", "Chen", "Dora", "Emre", "Fay", "Gus", "Hana")
THINGS = ("apples", "books", "coins", "stamps", "pencils", "shells")


def w5(dtype: str, context: Context) -> World:
    """W5: 16 prompts x 8 answers of at most 128 tokens.

    Raises:
        FileNotFoundError: the checkpoint is not there.
    """
    if not CHECKPOINT.is_dir():
        raise FileNotFoundError(f"no {CHECKPOINT}: 'make real-model' makes it")
    world = World(
        name="W5",
        checkpoint=CHECKPOINT,
        environment=WordProblems(),
        prompts=16,
        group_size=8,
        max_new_tokens=128,
        device=context.device,
        dtype=DTYPES[dtype],
        micro_batch_tokens=1024,
    )
    return replace(world, **SMALL) if context.quick else world


class WordProblems:
    """Word problems of one sum and one product.

    The reward is a coin of each answer's words, so that every group has signal: the model is hardly
    ever right before it is trained, and rows without signal cost no backward pass.
    """

    def task(self, split: Split, index: int) -> Task:
        """Problem number `index`; the splits are the same."""
        generator = np.random.default_rng(index)
        first, second, days = (int(n) for n in generator.integers(2, 10, size=3))
        text = PROBLEM.format(
            name=generator.choice(NAMES),
            things=generator.choice(THINGS),
            first=first,
            second=second,
            days=days,
        )
        return Task(
            id=f"word_problem/{index}",
            prompt=(Message(role="user", content=text),),
            payload=None,
        )

    def start(self, task: Task) -> "_OneAnswer":
        """An attempt."""
        return _OneAnswer()


class _OneAnswer:
    def respond(self, text: str) -> Outcome:
        return Outcome(reward=float(zlib.crc32(text.encode()) & 1), terminated=True)
