"""Completions of episodes that reflect, as a run writes them."""

from typing import Any

from steadyrl.records.reflected_episode import ReflectedEpisode
from steadyrl.records.run_folder import RunFolder

LAKE = " A \t D \n C \t B "
STAGE = {"stage": "rl"}


def record(number: int, **changes: Any) -> dict[str, Any]:
    return ReflectedEpisode(**{"number": number, "reflects": True, **changes}).as_field()


def row(
    part: str, episode: dict[str, Any] | None, reward: float, *said: str, **changes: Any
) -> dict[str, Any]:
    """A part in which `said` alternates between the user and the model, after a system message."""
    roles = ["user", "assistant"] * len(said)
    talk = [{"role": r, "content": text} for r, text in zip(roles, said, strict=False)]
    values = {
        **STAGE,
        "part": part,
        "task_id": "lake/3",
        "reward": reward,
        "feedback": "",
        "truncation_reason": "",
        "conversation": [{"role": "system", "content": "Be brief."}, *talk],
    }
    return values | ({} if episode is None else {"episode": episode}) | changes


def improved(number: int, **changes: Any) -> list[dict[str, Any]]:
    """An attempt that fell into a hole, what was learned from it, and one that did not."""
    told = record(number, internalized=True, **changes)
    return [
        row("first_attempt", told, 0.0, LAKE, "down", "again?", "left", feedback="C is a hole"),
        row("reflection", told, 1.0, "what happened", "Avoid C."),
        row("second_attempt", told, 1.0, LAKE, "right", feedback="won"),
    ]


def failed(number: int) -> list[dict[str, Any]]:
    """The same with no better end."""
    told = record(number)
    return [
        row("first_attempt", told, 0.0, LAKE, "down"),
        row("reflection", told, 0.0, "what happened", "Try again."),
        row("second_attempt", told, 0.0, LAKE, "down"),
    ]


def broken(number: int, reason: str = "the reflection is empty") -> list[dict[str, Any]]:
    """A reflection that is none."""
    told = record(number, failure=reason)
    return [
        row("first_attempt", told, 0.0, LAKE, "down"),
        row("reflection", told, 0.0, "what happened", truncation_reason=reason),
    ]


def solved(number: int) -> list[dict[str, Any]]:
    """Nothing to reflect on."""
    return [row("first_attempt", record(number, reflects=False), 1.0, LAKE, "right")]


def remember(folder: RunFolder, *texts: tuple[int, int, str]) -> None:
    """Writes (step, slot, text) into the record of the memory."""
    folder.append_memory(
        {**STAGE, "step": step, "slot": slot, "task_id": f"task of {text}", "text": text}
        for step, slot, text in texts
    )
