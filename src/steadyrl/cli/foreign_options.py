"""Options of other trainers, and their equivalents here."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from steadyrl.base.errors import UserError

_RANKS = "--learner fsdp --learner.ranks, one process for each GPU (docs/distributed.md)"

INSTEAD = {
    "model-name-or-path": "--model",
    "model-name": "--model",
    "pretrain": "--model",
    "checkpoint": "--model",
    "output-dir": "--out",
    "save-path": "--out",
    "resume-from-checkpoint": "train --resume RUN, without a recipe",
    "load-checkpoint": "train --resume RUN, without a recipe",
    "max-steps": "--steps",
    "total-steps": "--steps",
    "num-train-steps": "--steps",
    "num-train-epochs": "--steps: a run counts rollouts, not passes over the tasks",
    "num-episodes": "--steps: a run counts rollouts, not passes over the tasks",
    "epochs": "--steps: a run counts rollouts, not passes over the tasks",
    "max-epochs": "--steps: a run counts rollouts, not passes over the tasks",
    "total-epochs": "--steps: a run counts rollouts, not passes over the tasks",
    "learning-rate": "--optimizer.learning-rate",
    "lr": "--optimizer.learning-rate",
    "actor-learning-rate": "--optimizer.learning-rate",
    "lr-scheduler-type": "--optimizer.schedule",
    "lr-scheduler": "--optimizer.schedule",
    "warmup-steps": "--optimizer.warmup-steps",
    "warmup-ratio": "--optimizer.warmup-steps, a number of steps",
    "lr-warmup-ratio": "--optimizer.warmup-steps, a number of steps",
    "weight-decay": "--optimizer.weight-decay",
    "max-grad-norm": "--optimizer.gradient-clip",
    "max-norm": "--optimizer.gradient-clip",
    "adam-beta1": "--optimizer.betas, both of them",
    "adam-beta2": "--optimizer.betas, both of them",
    "adam-betas": "--optimizer.betas",
    "adam-epsilon": "--optimizer.eps",
    "num-generations": "--algorithm.group-size",
    "n-samples-per-prompt": "--algorithm.group-size",
    "rollout-batch-size": "--algorithm.prompts, the prompts of one optimizer step",
    "train-batch-size": "--algorithm.prompts, the prompts of one optimizer step",
    "per-device-train-batch-size": "--algorithm.prompts for what one optimizer step learns "
    "from, and --learner.micro-batch-tokens for what fits into memory",
    "micro-train-batch-size": "--learner.micro-batch-tokens",
    "gradient-accumulation-steps": "--learner.micro-batch-tokens: a step is cut into as many "
    "passes as it takes",
    "num-iterations": "--algorithm.mini-batches: each sampled batch is learned from once, "
    "in that many steps",
    "steps-per-generation": "--algorithm.mini-batches",
    "ppo-epochs": "--algorithm.mini-batches: each sampled batch is learned from once, in "
    "that many steps",
    "max-completion-length": "--sampling.max-new-tokens",
    "max-new-tokens": "--sampling.max-new-tokens",
    "generate-max-len": "--sampling.max-new-tokens",
    "max-response-length": "--sampling.max-new-tokens",
    "temperature": "--sampling.temperature",
    "top-p": "--sampling.top-p",
    "top-k": "--sampling.top-k",
    "beta": "--algorithm.reference-kl.coefficient",
    "kl-coef": "--algorithm.reference-kl.coefficient",
    "init-kl-coef": "--algorithm.reference-kl.coefficient",
    "kl-loss-coef": "--algorithm.reference-kl.coefficient",
    "epsilon": "--algorithm.objective.clip-low and .clip-high",
    "epsilon-low": "--algorithm.objective.clip-low",
    "epsilon-high": "--algorithm.objective.clip-high",
    "clip-range": "--algorithm.objective.clip-low and .clip-high",
    "eps-clip": "--algorithm.objective.clip-low and .clip-high",
    "cliprange": "--algorithm.objective.clip-low and .clip-high",
    "loss-type": "--published, or --algorithm.aggregation",
    "advantage-estimator": "--published, or --algorithm.advantage",
    "scale-rewards": "--algorithm.advantage: group_mean_std scales, group_mean does not",
    "importance-sampling-level": "--published gspo for sequences",
    "gradient-checkpointing": "--learner.activation-checkpointing true",
    "activation-checkpointing": "--learner.activation-checkpointing true",
    "lora": "--learner.lora.rank, which turns LoRA on",
    "use-peft": "--learner.lora.rank, which turns LoRA on",
    "peft": "--learner.lora.rank, which turns LoRA on",
    "lora-r": "--learner.lora.rank",
    "lora-rank": "--learner.lora.rank",
    "lora-alpha": "--learner.lora.alpha",
    "target-modules": "--learner.lora.targets",
    "lora-target-modules": "--learner.lora.targets",
    "bf16": "--learner.dtype bfloat16",
    "fp16": "--learner.dtype: float32 or bfloat16",
    "torch-dtype": "--learner.dtype",
    "cast-lm-head-to-fp32": "--learner.head-dtype float32 and --engine.head-dtype float32",
    "fp32-lm-head": "--learner.head-dtype float32 and --engine.head-dtype float32",
    "dtype": "--learner.dtype",
    "device": "--learner.device",
    "use-cpu": "--learner.device cpu",
    "no-cuda": "--learner.device cpu",
    "eval-steps": "--evaluate-every",
    "eval-strategy": "--evaluate-every",
    "evaluation-strategy": "--evaluate-every",
    "save-steps": "--journal.checkpoint-every",
    "save-freq": "--journal.checkpoint-every",
    "save-strategy": "--journal.checkpoint-every",
    "save-total-limit": "--journal.keep-checkpoints",
    "log-completions": "--journal.completions-every",
    "report-to": "--trackers jsonl tensorboard wandb, or others of its names",
    "wandb": "--trackers jsonl wandb",
    "use-wandb": "--trackers jsonl wandb",
    "wandb-project": "--trackers jsonl '{name: wandb, project: NAME}'",
    "hub-model-id": "--push-to-hub owner/name",
    "hub-private-repo": "--private, with --push-to-hub",
    "logging-dir": "--trackers tensorboard: events lie in the run folder",
    "prompt-data": "--environment dataset --environment.path FILE",
    "train-file": "--environment dataset --environment.path FILE",
    "dataset-path": "--environment dataset --environment.path FILE",
    "input-key": "--environment.columns.prompt, with --environment dataset",
    "label-key": "--environment.columns.answer, with --environment dataset",
    "dataset-name": "--environment dataset --environment.path NAME",
    "dataset": "--environment dataset --environment.path NAME",
    "reward-funcs": "--environment.rewards MODULE:FUNCTION, with --environment dataset",
    "reward-func": "--environment.rewards MODULE:FUNCTION, with --environment dataset",
    "remote-rm-url": "--environment.rewards MODULE:FUNCTION, with --environment dataset",
    "config": "the YAML file in the place of the recipe: steadyrl train FILE.yaml",
    "use-vllm": "--engine vllm",
    "vllm": "--engine vllm",
    "vllm-mode": "--engine vllm, and --engine.url for a server",
    "vllm-server-base-url": "--engine vllm --engine.url URL",
    "vllm-server-host": "--engine vllm --engine.url URL",
    "vllm-gpu-memory-utilization": "--engine vllm --engine.options '{gpu_memory_utilization: 0.4}'",
    "vllm-tensor-parallel-size": "--engine vllm --engine.url URL, of a server on several GPUs",
    "vllm-num-engines": "--placement ray --placement.engines",
    "run-name": "--out, which names the run's folder and, in trackers, the run",
    "deepspeed": _RANKS,
    "zero-stage": _RANKS,
    "fsdp": _RANKS,
    "nproc-per-node": _RANKS,
    "num-processes": _RANKS,
    "n-gpus-per-node": _RANKS,
    "actor-num-gpus-per-node": _RANKS,
    "nnodes": "--placement ray --learner fsdp, on the cluster of this node (docs/distributed.md)",
    "async-train": "--engine.overlap true",
    "async-engine": "--engine.overlap true",
}
"""Equivalents of options of TRL, OpenRLHF, verl and Transformers."""

NOT_YET = {
    "lora-dropout": "dropout in adapters, under which ratios of probabilities would be random",
    "load-in-4bit": "quantized training; --engine.numerics quantizes rollouts",
    "load-in-8bit": "quantized training; --engine.numerics quantizes rollouts",
    "tensor-parallel-size": "tensor parallelism of the learner; --learner fsdp shards weights",
    "critic-pretrain": "critics; advantages are computed within groups",
    "value-model": "critics; advantages are computed within groups",
    "gamma": "discounted rewards; the reward of an episode is the sum over its turns",
    "gae-lambda": "critics; advantages are computed within groups",
    "lambd": "critics; advantages are computed within groups",
    "reward-model": "reward models; rewards come from environments",
    "reward-pretrain": "reward models; rewards come from environments",
    "attn-implementation": "a choice of the attention kernel",
    "flash-attn": "a choice of the attention kernel",
    "optim": "optimizers other than AdamW",
    "entropy-coef": "an entropy bonus",
    "entropy-coeff": "an entropy bonus",
}
"""Features that options of other trainers request and this package lacks."""


def refuse_foreign_options(options: Sequence[str]) -> None:
    """Returns if none of `options` is one that only other trainers have.

    Raises:
        UserError: it says what to write instead, or that there is no such thing.
    """
    for before, option in pairwise(["", *options]):
        written = option.partition("=")[0]
        if not option.startswith("-"):
            is_value = before.startswith("-") and "=" not in before
            if _is_hydra(option) and not is_value:
                name, _, value = option.partition("=")
                raise UserError(
                    f"{option!r} is not an option. Options are written --NAME VALUE, such as "
                    f"--optimizer.learning-rate 1e-6; got {name!r} and {value!r}. --help shows all."
                )
            continue
        name = written.lstrip("-").replace("_", "-").replace(".", "-").lower()
        if name in INSTEAD and not _is_ours(written):
            raise UserError(f"There is no option {written}. Use {INSTEAD[name]}.")
        if name in NOT_YET and not _is_ours(written):
            raise UserError(
                f"There is no option {written}: this version has no {NOT_YET[name]}. Leave it out."
            )


def refuse_launcher(environment: Mapping[str, str]) -> None:
    """Returns if this is the only process that was launched.

    Raises:
        UserError: a launcher such as torchrun started several.
    """
    processes = environment.get("WORLD_SIZE", "1")
    if processes not in ("", "1"):
        raise UserError(
            f"A launcher started {processes} processes (WORLD_SIZE), but a run starts its own. "
            "Start it without torchrun, accelerate launch or deepspeed, and with --learner fsdp "
            f"--learner.ranks {processes} if it is to train in several processes."
        )


def _is_ours(written: str) -> bool:
    """Whether the name is qualified with a block, like ours that resemble a foreign one."""
    block = written.lstrip("-").replace("_", "-").partition(".")[0]
    return "." in written and block not in ("lora", "peft", "vllm", "fsdp", "trainer", "actor")


def _is_hydra(option: str) -> bool:
    """Whether the argument has the form `actor.optim.lr=1e-6`."""
    name, equals, _ = option.partition("=")
    return bool(equals) and "." in name and name.replace(".", "").replace("_", "").isalnum()
