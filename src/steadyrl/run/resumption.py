"""Resumes of a run: what is lost, which settings may change, and the record of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.learners.optimizer import learning_rate
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig
from steadyrl.run.data_digests import Digests
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import latest_checkpoint

CHANGEABLE = (
    "steps",
    "evaluate_every",
    "journal",
    "trackers",
    "threads",
    "engine.max_running",
    "engine.cache_memory",
    "learner.micro_batch_tokens",
    "learner.pass_cost",
    "learner.logits_memory",
    "learner.activation_checkpointing",
)
"""Settings that may change in a resumed run: its length, intervals of evaluations and checkpoints,
and the size of passes. Settings that affect sampling, rewards or training are fixed."""


def check_changes(old: RunConfig, new: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """The settings that differ, as `{"steps": [20, 30]}`.

    Raises:
        UserError: one of them may not change, or fewer steps are asked for than are done.
    """
    changes = dict(_differences(old.model_dump(mode="json"), new.model_dump(mode="json")))
    fixed = [name for name in changes if not _may_change(name, old)]
    if fixed:
        names = ", ".join(_option(name) for name in fixed)
        raise UserError(
            f"{names} cannot change when a run is resumed: what a run learns, and from what, stays "
            f"as it began. These can: {', '.join(map(_option, CHANGEABLE))}. To go on with other "
            "settings, begin a new run with --model and this run's last checkpoint."
        )
    done = max((row["step"] for row in folder.read_metrics() if row["stage"] == "rl"), default=0)
    if new.steps < done:
        raise UserError(
            f"--steps is {new.steps}, but {done} steps of {folder.path} are done. Give {done} or "
            "more."
        )
    return changes


def resolve_from(config: RunConfig, began: RunConfig) -> RunConfig:
    """`config`, in which what the run decided for itself when it `began` is as it was decided."""
    engine = config.engine.resolve_from(began.engine)
    config = config.model_copy(update={"engine": engine})
    date = getattr(began.model, "template_date", None)
    if date is not None and getattr(config.model, "template_date", date) is None:
        model = config.model.model_copy(update={"template_date": date})
        config = config.model_copy(update={"model": model})
    return config


def changes_in_words(old: RunConfig, new: RunConfig, changes: Mapping[str, Any]) -> str:
    """A sentence about the settings that a resume changes, and what becomes of the learning rate.

    Where it depends on the number of steps, it is from now on that of a run of the new number.
    """
    told = ", ".join(
        f"{name} from {_in_words(before)} to {_in_words(after)}"
        for name, (before, after) in changes.items()
    )
    text = f"Resumed with {told}."
    if old.steps != new.steps and old.optimizer.schedule != "constant" and old.steps > 0:
        step = old.steps
        before = learning_rate(old.optimizer, step - 1, old.steps)
        after = learning_rate(new.optimizer, step, new.steps)
        text += (
            f" The {old.optimizer.schedule} schedule now ends at step {new.steps}: after step "
            f"{step}, where the learning rate was to end at {before:.3g}, it is {after:.3g}."
        )
    return text


def _in_words(value: Any) -> str:
    """A setting; of a list of variants, their names."""
    if isinstance(value, list):
        return ", ".join(
            str(v["name"] if isinstance(v, dict) and "name" in v else v) for v in value
        )
    return str(value)


def lost_rows(folder: RunFolder) -> tuple[int, float]:
    """Steps on record since the last checkpoint, which a resumed run takes again, and their time.

    Raises:
        UserError: a checkpoint is damaged.
    """
    rows, checkpoint = folder.read_metrics(), latest_checkpoint(folder)
    if checkpoint is not None:
        stage, _, step = checkpoint.name.rpartition("-")
        places = [(row["stage"], row["step"]) for row in rows]
        kept = (stage, int(step))
        rows = rows[places.index(kept) + 1 :] if kept in places else []
    seconds = [row.get("seconds", 0.0) + row.get("evaluation_seconds", 0.0) for row in rows]
    return sum(row["step"] > 0 for row in rows), sum(seconds, 0.0)


def resume_record(
    config: RunConfig, folder: RunFolder, changes: Mapping[str, Any], data: Digests
) -> dict[str, Any]:
    """Entry of `resumes.jsonl` for one resume: position, lost steps, and environment.

    Args:
        changes: Of settings and of data.
        data: Digests of the data that it goes on with.
    """
    checkpoint = latest_checkpoint(folder)
    steps, seconds = lost_rows(folder)
    return {
        "checkpoint": None if checkpoint is None else checkpoint.name,
        "lost_steps": steps,
        "lost_seconds": round(seconds, 1),
        "changes": dict(changes),
        **manifest(config.seed, data),
    }


def _may_change(name: str, config: RunConfig) -> bool:
    if config.engine.steps_ahead and name == "journal.checkpoint_every":
        return False  # rollouts are not sampled ahead of a checkpoint
    return any(name == known or name.startswith(f"{known}.") for known in CHANGEABLE)


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, list[Any]]]:
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name}", [before, after]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
