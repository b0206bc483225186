"""Stored configurations: written completely, compared as the current code reads them.

A record holds every setting of its run, so a default that changes later does not change what the
record says. What became of settings since it was written is listed once, in `CHANGES`. To rename a
setting, append `renamed("old.path", "new.path")`: every older record is read under the new name.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from steadyrl.run.config import RunConfig, parse

StoredSettings = dict[str, Any]
"""Settings as nested JSON objects."""

Change = Callable[[StoredSettings], None]
"""Brings stored settings, in place, from an older form to the next. It leaves settings alone that
lack its path."""


def renamed(old: str, new: str) -> Change:
    """The change that moves a setting or block from path `old` to `new`, as in `learner.dtype`."""

    def apply(settings: StoredSettings) -> None:
        block, name = _block(settings, old)
        if block is not None and name in block:
            _set(settings, new, block.pop(name))

    return apply


def removed(path: str) -> Change:
    """The change that drops a setting whose removal affects no recorded run."""

    def apply(settings: StoredSettings) -> None:
        block, name = _block(settings, path)
        if block is not None:
            block.pop(name, None)

    return apply


def replaced(path: str, old: Any, new: Any) -> Change:
    """The change that treats the value `old` as `new`."""

    def apply(settings: StoredSettings) -> None:
        block, name = _block(settings, path)
        if block is not None and name in block and block[name] == old:
            block[name] = new

    return apply


def added(path: str, value: Any) -> Change:
    """The change that adds a setting, with the `value` that older runs behaved as."""

    def apply(settings: StoredSettings) -> None:
        block, name = _block(settings, path)
        if block is not None:
            block.setdefault(name, value)

    return apply


def _algorithm_is_one_block(settings: StoredSettings) -> None:
    """The algorithm was in one of three blocks, of which `policy_gradient` was always there."""
    if "policy_gradient" not in settings:
        return
    credit = settings.pop("policy_gradient")
    experiential, control = settings.pop("erl", None), settings.pop("second_chance", None)
    if experiential is not None:
        settings["algorithm"] = {"name": "erl"} | experiential
    elif control is not None:
        settings["algorithm"] = {"name": "second_chance"} | credit | control
    else:
        settings["algorithm"] = {"name": "policy_gradient"} | credit


CHANGES: tuple[Change, ...] = (
    # How many rows share a pass: sums of floats are taken in another order, and nothing else.
    removed("learner.logits_chunk"),
    replaced("learner.micro_batch_tokens", 16384, 8192),
    _algorithm_is_one_block,
    removed("journal.tensorboard"),
    added("trackers", [{"name": "jsonl"}]),
    renamed("environment.least_f1", "environment.min_f1"),
    renamed("cold_start.teacher.environment.least_f1", "cold_start.teacher.environment.min_f1"),
    renamed("algorithm.reflection.longest", "algorithm.reflection.max_length"),
    replaced("algorithm.reflection.name", "held", "frozen"),
)
"""Changes of settings since records were first written, oldest first. Append only: a record
holds how many of these its configuration already follows."""


def to_stored(config: RunConfig) -> StoredSettings:
    """Every setting of `config` as standard JSON, which has no infinity: it becomes a string."""
    stored = finite_json(config.model_dump(mode="json"))
    assert isinstance(stored, dict)
    return stored


def from_stored(
    settings: StoredSettings, follows: int, where: str, changes: Sequence[Change] = CHANGES
) -> RunConfig:
    """The configuration stored in `where`, as the current code reads it.

    Args:
        follows: Number of `changes` that it already follows.

    Raises:
        UserError: today's code does not know its settings.
    """
    settings = deepcopy(settings)
    for change in changes[follows:]:
        change(settings)
    return parse(settings, where)


def identity(config: RunConfig) -> str:
    """The same text for equal configurations, whatever form each was stored in."""
    return json.dumps(to_stored(config), sort_keys=True)


def identities(config: RunConfig, seeds: Iterable[int]) -> dict[str, int]:
    """Each of `seeds` by the `identity` of `config` with that seed."""
    stored = to_stored(config)
    return {json.dumps(stored | {"seed": seed}, sort_keys=True): seed for seed in seeds}


def _block(settings: StoredSettings, path: str) -> tuple[StoredSettings | None, str]:
    """The block that holds a setting, None where there is no such block; and the setting's name."""
    *parents, name = path.split(".")
    block: Any = settings
    for parent in parents:
        block = block.get(parent)
        if not isinstance(block, dict):
            return None, name
    return block, name


def _set(settings: StoredSettings, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
    settings[name] = value


def finite_json(value: Any) -> Any:
    """`value` with numbers that standard JSON lacks, the infinite ones, as strings."""
    if isinstance(value, dict):
        return {name: finite_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
