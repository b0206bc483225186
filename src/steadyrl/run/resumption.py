"""Resuming a run: allowed changes, repeated steps, and the record of the resume."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

import yaml

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
    "learner.ranks",
    "learner.timeout",
    "placement",
)
"""Settings that may change when a run is resumed: its length, how often it measures and saves, and
how work is divided into passes and placed. Settings that affect tasks, rewards or training cannot
change."""


def check_changes(old: RunConfig, new: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Changed settings, as `{"steps": [20, 30]}`.

    Raises:
        UserError: a setting cannot change, or `steps` is lower than the number of completed steps.
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


def settings_digest(text: str, data: Collection[str]) -> str:
    """SHA-256 of the settings that cannot change in a configuration, from its YAML text.

    Args:
        data: Settings whose data are compared by their content, so that files may move.
    """
    kept = {
        name: value
        for name, value in _leaves(yaml.safe_load(text))
        if not _is_changeable(name) and not any(f"{each}.".startswith(f"{name}.") for each in data)
    }
    return sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def check_unedited(folder: RunFolder) -> None:
    """Checks that nobody has edited settings of the run that cannot change.

    Raises:
        UserError: the configuration is not the one that the run has written.
    """
    records: list[Mapping[str, Any]] = []
    with suppress(OSError, ValueError):
        records.append(json.loads(folder.manifest.read_text(encoding="utf-8")))
    records = [*records, *folder.read_resumes()]
    known = [each for each in records if each.get("settings") and "data" in each]
    text = folder.config.read_text(encoding="utf-8")
    if known and all(settings_digest(text, each["data"]) != each["settings"] for each in known):
        raise UserError(
            f"{folder.config} has been edited since the run wrote it, in settings that decide what "
            "the run learns. Restore it, or begin a new run from the edited file with --out."
        )


def resolve_from(config: RunConfig, began: RunConfig) -> RunConfig:
    """`config` with the automatic decisions that the run made when it `began`."""
    engine = config.engine.resolve_from(began.engine)
    config = config.model_copy(update={"engine": engine})
    date = getattr(began.model, "template_date", None)
    if date is not None and getattr(config.model, "template_date", date) is None:
        model = config.model.model_copy(update={"template_date": date})
        config = config.model_copy(update={"model": model})
    return config


def changes_in_words(old: RunConfig, new: RunConfig, changes: Mapping[str, Any]) -> str:
    """Sentences about the changed settings and their effect on the learning rate.

    A learning rate that depends on the number of steps now follows the new number. Settings that
    another variant of a block does not have are left out.
    """
    chosen = [name.removesuffix("name") for name in changes if name.endswith(".name")]
    told = ", ".join(
        f"{name} from {_in_words(before)} to {_in_words(after)}"
        for name, (before, after) in changes.items()
        if after is not None or not any(name.startswith(block) for block in chosen)
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
    """Text of a setting; for a list of variants, their names."""
    if isinstance(value, list):
        return ", ".join(
            str(v["name"] if isinstance(v, dict) and "name" in v else v) for v in value
        )
    return str(value)


def lost_rows(folder: RunFolder) -> tuple[int, float]:
    """Number of steps since the last checkpoint, which a resume repeats, and their seconds.

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
    config: RunConfig, folder: RunFolder, changes: Mapping[str, Any], data: Digests, settings: str
) -> dict[str, Any]:
    """Record of a resume in `resumes.jsonl`: its checkpoint, repeated steps, changes and machine.

    Args:
        changes: Changes of settings and data.
        data: Present digests of the data.
        settings: Digest of the settings that cannot change.
    """
    checkpoint = latest_checkpoint(folder)
    steps, seconds = lost_rows(folder)
    return {
        "checkpoint": None if checkpoint is None else checkpoint.name,
        "lost_steps": steps,
        "lost_seconds": round(seconds, 1),
        "changes": dict(changes),
        **manifest(config.seed, data, settings),
    }


def _may_change(name: str, config: RunConfig) -> bool:
    waits = config.engine.steps_ahead and config.engine.in_flight == "finish"
    if waits and name == "journal.checkpoint_every":
        return False  # rollouts are not sampled ahead of a checkpoint
    return _is_changeable(name)


def _is_changeable(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in CHANGEABLE)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings without parts, by their names in records of data."""
    parts = list(enumerate(value)) if isinstance(value, list) else value
    parts = list(parts.items()) if isinstance(parts, dict) else parts
    if not isinstance(parts, list) or not parts:
        yield prefix.removesuffix("."), value
        return
    for name, part in parts:
        yield from _leaves(part, f"{prefix}{name}.")


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
