"""The reference policy of a stage: the weights with which it began.

    references/rl/weights.safetensors     every weight once, in the trainer's dtype
    references/rl/sha256.json             its SHA-256

They are written when the stage begins and never again, so a resumed run has the same reference.
Where an adapter is trained, its weights alone are written.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.digest import sha256_of
from steadyrl.base.errors import UserError
from steadyrl.policies.loading import model_from_config
from steadyrl.policies.policy import Policy
from steadyrl.policies.weights import copy_weights
from steadyrl.records.run_folder import write_folder_atomically

WEIGHTS, CHECKSUM = "weights.safetensors", "sha256.json"


def save_reference(path: Path, policy: Policy) -> None:
    """Writes the weights of `policy` to the folder `path`, all or nothing."""
    write_reference(path, _weights(policy.model))


def load_reference(path: Path, policy: Policy) -> Policy:
    """A policy like `policy`, in the same arithmetic, with the weights in `path`; never trained.

    Raises:
        UserError: they are missing, damaged, or those of another model.
    """
    model = model_from_config(policy.model, policy.model.dtype, policy.head_dtype)
    read_reference(path, _weights(model))
    return Policy(
        model.requires_grad_(False),
        policy.tokenizer,
        hook_routing=policy.hook is not None,
        logits_memory=policy.logits_memory,
    )


def write_reference(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes `weights` and their checksum to the folder `path`, all or nothing."""

    def write(draft: Path) -> None:
        save_file({name: w.detach().contiguous() for name, w in weights.items()}, draft / WEIGHTS)
        checksum = {WEIGHTS: sha256_of(draft / WEIGHTS)}
        (draft / CHECKSUM).write_text(json.dumps(checksum), encoding="utf-8")

    write_folder_atomically(path, write)


def read_reference(path: Path, own: Mapping[str, Tensor]) -> None:
    """Copies the weights in the folder `path` into a model's `own` weights.

    Raises:
        UserError: they are missing, damaged, or those of another model.
    """
    saved = _verified(path)
    try:
        copy_weights(saved, own)
    except ValueError as error:
        raise UserError(
            f"The reference {path} holds another model than the run's configuration describes. "
            f"{error} Resume a run with the configuration it began with."
        ) from error


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Every weight and saved buffer under one name; tied ones would share their storage."""
    once = dict([*model.named_parameters(), *model.named_buffers()])
    return {name: weight for name, weight in model.state_dict().items() if name in once}


def _verified(path: Path) -> dict[str, Tensor]:
    """The weights in `path`, after their checksum was verified."""
    try:
        expected = json.loads((path / CHECKSUM).read_text(encoding="utf-8"))[WEIGHTS]
        whole = sha256_of(path / WEIGHTS) == expected
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(path, f"{type(error).__name__} while reading it") from error
    if not whole:
        raise _unusable(path, f"{WEIGHTS} has changed since it was written")
    return load_file(path / WEIGHTS)


def _unusable(path: Path, reason: str) -> UserError:
    return UserError(
        f"The reference {path}, the weights with which this stage began, is missing or damaged: "
        f"{reason}. Put back the folder that the run wrote, or start the run anew."
    )
