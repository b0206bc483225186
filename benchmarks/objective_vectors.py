"""Records what verl's losses say about seeded tokens, for our tests to be compared with.

In an environment of its own, without steadyrl, on the CPU:

    python -m venv oracle
    oracle/bin/pip install torch==2.13.0
    oracle/bin/pip install --no-deps verl==0.9.1
    oracle/bin/pip install "tensordict<=0.10" "transformers>=5.5.3,<5.11" ray hydra-core pandas \
        codetiming packaging
    oracle/bin/python benchmarks/objective_vectors.py tests/objectives/vectors/verl.json

`tests/objectives/test_vectors.py` compares our objectives, corrections and advantages with it.
Nothing of verl is in the file: only its answers, in float64.
"""

import argparse
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from verl.trainer.ppo import core_algos, rollout_corr_helper
from verl.workers.config import ActorConfig

ROWS, TOKENS, GROUP = 8, 6, 4


def inputs() -> dict[str, Tensor]:
    """Log-probabilities far enough apart that every branch of every loss is taken."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    old = -noise(ROWS, TOKENS).abs() - 0.2
    # The ratio of a whole response is to fall on both sides of bounds of 1e-4: rows 0 to 3 hardly
    # move, and the others do by a factor.
    scale = torch.tensor([2e-4] * (ROWS // 2) + [0.9] * (ROWS // 2), dtype=torch.float64)
    lengths = torch.tensor([6, 3, 5, 1, 4, 6, 2, 5])
    return {
        "logprobs": (old + scale[:, None] * noise(ROWS, TOKENS)).clamp(max=-0.01),
        "old_logprobs": old,
        "rollout_logprobs": (old + 0.5 * noise(ROWS, TOKENS)).clamp(max=-0.01),
        "advantages": noise(ROWS, 1).expand(ROWS, TOKENS).clone(),
        "loss_mask": torch.arange(TOKENS) < lengths[:, None],
        "rewards": noise(ROWS),
        "group_ids": torch.arange(ROWS) // GROUP,
    }


def losses(given: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Loss and gradient of each of verl's policy losses."""
    old, rollout = given["old_logprobs"], given["rollout_logprobs"]
    no_dual_clip = {"clip_ratio_c": 1e9}
    cases: dict[str, tuple[str, Tensor, str, dict[str, float]]] = {
        "grpo": ("vanilla", old, "seq-mean-token-mean", bounds(0.2, 0.27) | no_dual_clip),
        "dapo": ("vanilla", old, "token-mean", bounds(0.2, 0.28) | no_dual_clip),
        "dr_grpo": ("vanilla", old, "seq-mean-token-sum-norm", bounds(0.2, 0.2) | no_dual_clip),
        "dual_clip": ("vanilla", old, "token-mean", bounds(0.2, 0.2) | {"clip_ratio_c": 1.5}),
        "gspo": ("gspo", old, "seq-mean-token-mean", bounds(3e-4, 4e-4)),
        "cispo": ("cispo", old, "token-mean", bounds(0.2, 0.27)),
        # Anchored at the rollout policy by verl's bypass mode: it takes the place of the old one.
        "dppo_tv": (
            "dppo_tv",
            rollout,
            "seq-mean-token-sum",
            bounds(0.15, 0.15) | {"clip_ratio_c": 1.5},
        ),
        "dppo_kl": (
            "dppo_kl",
            rollout,
            "seq-mean-token-sum",
            bounds(0.05, 0.05) | {"clip_ratio_c": 1.5},
        ),
    }
    return {
        name: loss_and_gradient(given, core_algos.get_policy_loss_fn(loss), anchor, mode, options)
        for name, (loss, anchor, mode, options) in cases.items()
    }


def bounds(low: float, high: float) -> dict[str, float]:
    """Verl's names of the clip bounds."""
    return {"clip_ratio_low": low, "clip_ratio_high": high}


def loss_and_gradient(
    given: dict[str, Tensor],
    loss: Callable[..., Any],
    anchor: Tensor,
    mode: str,
    options: dict[str, float],
) -> dict[str, Any]:
    """What one loss answers, with the options that it was asked with."""
    logprobs = given["logprobs"].clone().requires_grad_()
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=GROUP,
        use_dynamic_bsz=True,
        ppo_micro_batch_size_per_gpu=1,
        **options,
    )
    value, _metrics = loss(
        old_log_prob=anchor,
        log_prob=logprobs,
        advantages=given["advantages"],
        response_mask=given["loss_mask"].double(),
        loss_agg_mode=mode,
        config=config,
    )
    value.backward()
    return {
        "options": options,
        "aggregation": mode,
        "loss": value.item(),
        "gradient": logprobs.grad.tolist(),
    }


def weights(given: dict[str, Tensor]) -> dict[str, Any]:
    """Verl's weights of the mismatch, truncated and masked, of tokens and of sequences."""
    log_mismatch = given["old_logprobs"] - given["rollout_logprobs"]
    mask = given["loss_mask"].double()
    answers = {
        f"{level}_{name}": rollout_corr_helper.compute_rollout_correction_weights(
            log_mismatch, mask, rollout_is=level, rollout_is_threshold=threshold
        )[0].tolist()
        for level, name, threshold in (
            ("token", "truncated", 1.2),
            ("token", "masked", "0.8_1.3"),
            ("sequence", "truncated", 1.2),
            ("sequence", "masked", "0.4_2.5"),
        )
    }
    kept, _metrics = rollout_corr_helper.compute_rollout_rejection_mask(
        log_mismatch, mask, rollout_rs="seq_mean_k1", rollout_rs_threshold="0.9_1.1"
    )
    return answers | {"geometric_mean_kept": kept.tolist()}


def advantages(given: dict[str, Tensor]) -> dict[str, Any]:
    """Verl's advantages of each row."""
    rewards = torch.zeros(ROWS, TOKENS, dtype=torch.float64)
    rewards[:, 0] = given["rewards"]
    arguments = {
        "token_level_rewards": rewards,
        "response_mask": torch.ones(ROWS, TOKENS, dtype=torch.float64),
        "index": np.array(given["group_ids"].tolist()),
    }
    grpo = core_algos.compute_grpo_outcome_advantage
    answers = {
        "group_mean": grpo(**arguments, norm_adv_by_std_in_grpo=False),
        "group_mean_std": grpo(**arguments, norm_adv_by_std_in_grpo=True),
        "leave_one_out": core_algos.compute_rloo_outcome_advantage(**arguments),
    }
    return {name: answer[0][:, 0].tolist() for name, answer in answers.items()}


def main() -> None:
    """Writes inputs, answers and versions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    path = parser.parse_args().out
    given = inputs()
    content = {
        "versions": {name: version(name) for name in ("verl", "torch")},
        "inputs": {name: values.tolist() for name, values in given.items()},
        "losses": losses(given),
        "weights": weights(given),
        "advantages": advantages(given),
    }
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
