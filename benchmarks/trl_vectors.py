"""Records what TRL's loss says about the tokens that verl was asked about: a second opinion.

In an environment of its own, without steadyrl, on the CPU:

    python -m venv oracle
    oracle/bin/pip install torch==2.13.0 trl==1.16.0
    oracle/bin/python benchmarks/trl_vectors.py \
        tests/objectives/vectors/verl.json tests/objectives/vectors/trl.json

`tests/objectives/test_vectors.py` compares our objectives with it. Nothing of TRL is in the file:
only its answers, in float64. TRL's loss is a method of its trainer, which is called here without
one: on what the method reads of it.
"""

import argparse
import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

CASES: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "epsilon_low": 0.2, "epsilon_high": 0.27},
    "dapo": {"loss_type": "dapo", "epsilon_low": 0.2, "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "epsilon_low": 0.2, "epsilon_high": 0.2},
    "gspo": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon_low": 3e-4,
        "epsilon_high": 4e-4,
    },
    "cispo": {"loss_type": "cispo", "epsilon_low": 0.0, "epsilon_high": 1.27},
    "reference_kl": {"loss_type": "grpo", "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.1},
    "minirl": {"loss_type": "dr_grpo", "epsilon_low": 0.2, "epsilon_high": 0.27, "use_vllm": True},
}
"""What the trainer is set to. `use_vllm` weighs each token by pi_old / mu_old, at most 5."""


def trainer(logprobs: Tensor, case: dict[str, Any]) -> Any:
    """What `GRPOTrainer._compute_loss` reads of its trainer."""
    settings = {
        "importance_sampling_level": "token",
        "beta": 0.0,
        "use_vllm": False,
        "vllm_importance_sampling_correction": True,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": logprobs.shape[1],
        "_entropy_bonus_enabled": False,
    }
    return SimpleNamespace(
        **settings | case,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda values: values, reduce=lambda values, **_: values
        ),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            logprobs,
            torch.zeros_like(logprobs.detach()),
            None,
        ),
    )


def loss_and_gradient(given: dict[str, Tensor], case: dict[str, Any]) -> dict[str, Any]:
    """What one setting answers. The rollout policy stands in for a reference as well."""
    logprobs = given["logprobs"].clone().requires_grad_()
    mask, old = given["loss_mask"], given["old_logprobs"]
    nothing = torch.zeros(len(mask), 0, dtype=torch.long)
    batch = {
        "prompt_ids": nothing,
        "prompt_mask": nothing,
        "completion_ids": mask.long(),
        "completion_mask": mask.double(),
        "advantages": given["advantages"],
        "old_per_token_logps": old,
        "ref_per_token_logps": given["rollout_logprobs"],
        "importance_sampling_ratio": (old - given["rollout_logprobs"]).exp().clamp(max=5.0),
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer(logprobs, case), None, batch)
    loss.backward()
    return {"options": case, "loss": loss.item(), "gradient": logprobs.grad.tolist()}


def main() -> None:
    """Writes answers and versions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("asked", type=Path, help="the file whose inputs are asked about")
    parser.add_argument("out", type=Path)
    paths = parser.parse_args()
    asked = json.loads(paths.asked.read_text(encoding="utf-8"))["inputs"]
    given = {
        name: torch.tensor(values, dtype=torch.float64 if name != "loss_mask" else torch.bool)
        for name, values in asked.items()
    }
    content = {
        "versions": {name: version(name) for name in ("trl", "torch")},
        "losses": {name: loss_and_gradient(given, case) for name, case in CASES.items()},
    }
    paths.out.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
