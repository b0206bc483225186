"""What a run trained, on what, and how: model, data and algorithm in a line each."""

from collections.abc import Mapping
from typing import Any

import yaml

from steadyrl.base.wording import count, short_number

OBJECTIVES = {
    "minirl": "MiniRL",
    "grpo": "GRPO",
    "gspo": "GSPO",
    "gspo_token": "GSPO-token",
    "cispo": "CISPO",
    "dppo": "DPPO",
    "dual_clip": "dual-clip PPO",
    "reinforce": "REINFORCE",
}
"""How papers write the names of objectives."""

ALGORITHMS = {"erl": "Experiential RL"}
"""How papers write the names of algorithms other than policy gradient."""

Settings = Mapping[str, Any]


def subject_of(config: str) -> tuple[tuple[str, str], ...]:
    """Title and text of model, data and algorithm, as far as the text of a `config.yaml` says."""
    try:
        values = yaml.safe_load(config)
    except yaml.YAMLError:
        return ()  # it is shown as it is further down
    if not isinstance(values, dict):
        return ()
    parts = (
        ("Model", _model(values)),
        ("Data", _data(values)),
        ("Algorithm", _algorithm(values)),
    )
    return tuple((title, text) for title, text in parts if text)


def _model(values: Settings) -> str:
    model = _block(values, "model")
    if not model:
        return ""
    if model.get("path"):
        name = str(model["path"])
    else:
        sizes = [
            f"{key.replace('_', ' ')} {value}"
            for key, value in model.items()
            if isinstance(value, int) and not isinstance(value, bool)
        ]
        name = f"{str(model.get('name', 'model')).replace('_', ' ')} ({', '.join(sizes)})"
    dtype, numerics = (
        _block(values, block).get(key)
        for block, key in (("learner", "dtype"), ("engine", "numerics"))
    )
    learner = f"trained in {dtype}" if dtype else ""
    engine = f"sampled in {numerics}" if numerics else ""
    return _joined(name, learner, engine)


def _data(values: Settings) -> str:
    environment, evaluation = _block(values, "environment"), _block(values, "evaluation")
    if not environment:
        return ""
    source = environment.get("path") or environment.get("dataset") or ""
    name = str(environment.get("name", "")).replace("_", " ")
    held_out = ""
    if evaluation.get("tasks"):
        held_out = (
            f"measured on up to {count(int(evaluation['tasks']), 'task')} of the "
            f"{evaluation.get('split', 'held-out')} split, "
            f"{count(int(evaluation.get('samples', 1)), 'answer')} each"
        )
    return _joined(f"{name}, {source}" if source else name, held_out)


def _algorithm(values: Settings) -> str:
    credit = _block(values, "algorithm")
    if not credit:
        return ""
    objective = str(_block(credit, "objective").get("name", ""))
    name = OBJECTIVES.get(objective, objective)
    algorithm = str(credit.get("name", "policy_gradient"))
    if algorithm != "policy_gradient":
        algorithm = ALGORITHMS.get(algorithm, algorithm)
        name = f"{algorithm} with {name}" if name else algorithm
    rollout = ""
    if credit.get("prompts") and credit.get("group_size"):
        rollout = (
            f"{count(int(credit['prompts']), 'prompt')} with "
            f"{count(int(credit['group_size']), 'answer')} each a step"
        )
    updates = credit.get("mini_batches")
    rate = _block(values, "optimizer").get("learning_rate")
    return _joined(
        name,
        rollout,
        count(int(updates), "update") if updates else "",
        f"learning rate {short_number(float(rate))}" if rate is not None else "",
    )


def _block(values: Settings, name: str) -> Settings:
    block = values.get(name)
    return block if isinstance(block, dict) else {}


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
