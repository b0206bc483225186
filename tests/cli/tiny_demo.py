"""The demo in a second, as options of the command line."""

from collections.abc import Callable

SIZES = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.kv-heads": 1,
    "model.head-dim": 8,
    "model.experts": 4,
    "model.expert-width": 8,
    "environment.operands": 2,
    "environment.max-operand": 4,
    "environment.max-result": 5,
    "cold-start.steps": 6,
    "cold-start.batch-size": 32,
    "cold-start.optimizer.learning-rate": 0.1,
    "cold-start.optimizer.warmup-steps": 0,
    "algorithm.prompts": 4,
    "algorithm.group-size": 4,
    "steps": 2,
    "sampling.max-new-tokens": 4,
    "evaluation.tasks": 4,
    "evaluation.samples": 2,
    "journal.checkpoint-every": 2,
}


def options(sizes: dict[str, float]) -> list[str]:
    return [word for name, value in sizes.items() for word in (f"--{name}", str(value))]


TINY = options(SIZES)

Steady = Callable[..., tuple[int, str, str]]
"""Runs a command; gives exit code, output and errors."""
