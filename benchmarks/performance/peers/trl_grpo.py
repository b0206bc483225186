"""TRL's GRPOTrainer, with the settings that make it do what our step does.

MiniRL without mismatch and on-policy is Dr. GRPO without scaling: the same gradient, divided by the
longest length allowed. So the norm at which gradients are clipped and AdamW's epsilon are divided
by that length as well, and the two take the same steps.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.performance.peers.transformers_generate import continuous_settings
from benchmarks.performance.timing import Sample
from benchmarks.performance.worlds import World
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from steadyrl.environments.protocol import Split
from steadyrl.learners.optimizer import OptimizerSettings, learning_rate
from steadyrl.rollout.tasks import check_outcome

Reward = Callable[..., list[float]]

LONGEST_PROMPT = 128
"""Tokens, in every workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a sweep over TRL's own settings tries."""

    micro_batch: int
    """Sequences in one forward and backward pass."""

    continuous: bool
    """Write answers by Transformers' continuous batching, or by `generate`."""

    def __str__(self) -> str:
        way = "continuous batching" if self.continuous else "generate"
        return f"micro-batches of {self.micro_batch}, {way}"


def trainer_for(
    world: World,
    choice: Choice,
    *,
    steps: int,
    optimizer: OptimizerSettings,
    callbacks: Sequence[TrainerCallback],
    folder: Path,
    count: "TokenCount | None" = None,
) -> GRPOTrainer:
    """A trainer on the world's tasks, in their order, that takes `steps` optimiser steps."""
    model, tokenizer = world.model(), world.tokenizer()
    tasks = world.tasks(batches=steps)
    dataset = Dataset.from_list(
        [
            {
                "prompt": [{"role": m.role, "content": m.content} for m in task.prompt],
                "number": number,
            }
            for number, task in enumerate(tasks)
        ]
    )
    adamw = torch.optim.AdamW(
        model.parameters(),
        lr=optimizer.learning_rate,
        betas=optimizer.betas,
        eps=optimizer.eps / world.max_new_tokens,
        weight_decay=optimizer.weight_decay,
        fused=True,
    )
    schedule = LambdaLR(
        adamw, lambda step: learning_rate(optimizer, step, steps) / optimizer.learning_rate
    )
    return _trainer(
        model,
        tokenizer,
        _config(
            str(folder),
            max_new_tokens=world.max_new_tokens,
            sequences=world.prompts * world.group_size,
            group_size=world.group_size,
            choice=choice,
            steps=steps,
            max_grad_norm=optimizer.gradient_clip / world.max_new_tokens,
        ),
        reward=environment_reward(world, tokenizer, count or TokenCount()),
        dataset=dataset,
        optimizers=(adamw, schedule),
        callbacks=callbacks,
    )


def fastest(
    world: World, choices: Sequence[Choice], *, optimizer: OptimizerSettings, folder: Path
) -> tuple[Choice, dict[str, float]]:
    """The best of `choices` by one step of each, and what each took in seconds."""
    seconds: dict[Choice, float] = {}
    for choice in choices:
        alone = InTurn(lambda _step, _model: False)
        trainer_for(
            world, choice, steps=1, optimizer=optimizer, callbacks=[alone], folder=folder
        ).train()
        seconds[choice] = alone.samples[0].seconds
    best = min(choices, key=lambda choice: seconds[choice])
    return best, {str(choice): taken for choice, taken in seconds.items()}


def idle_trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str, *, max_new_tokens: int
) -> GRPOTrainer:
    """A trainer that is asked for its loss alone."""
    config = _config(
        folder,
        max_new_tokens=max_new_tokens,
        sequences=2,
        group_size=2,
        choice=Choice(micro_batch=2, continuous=False),
        steps=1,
        max_grad_norm=1.0,
    )
    dataset = Dataset.from_list([{"prompt": [{"role": "user", "content": "w2"}]}] * 2)
    trainer = _trainer(model, tokenizer, config, reward=_nothing, dataset=dataset)
    trainer.current_gradient_accumulation_steps = 1
    return trainer


class TokenCount:
    """Response tokens that a reward function has seen since they were taken last."""

    def __init__(self) -> None:
        self.tokens = 0

    def take(self) -> int:
        """The number, which begins at 0 again."""
        taken, self.tokens = self.tokens, 0
        return taken


def environment_reward(
    world: World, tokenizer: PreTrainedTokenizerBase, count: TokenCount
) -> Reward:
    """What the world's environment gives; 0 to answers that were cut short, as our episodes do."""

    def reward(completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        rewards = []
        for ids, index in zip(completion_ids, number, strict=True):
            count.tokens += len(ids)
            earned = 0.0
            if ids[-1] == tokenizer.eos_token_id:
                episode = world.environment.start(world.environment.task(Split.TRAIN, index))
                text = tokenizer.decode(ids[:-1], skip_special_tokens=False)
                earned = check_outcome(episode.respond(text)).reward
            rewards.append(earned)
        return rewards

    return reward


class InTurn(TrainerCallback):
    """Times each of TRL's steps, from the end of what was done between them to its end.

    Args:
        between: Is called after each step, with the number of steps taken; its time counts for
            nobody. It may end the training by returning True.
        count: Counts the tokens of each step's responses; None: a step counts as one.
    """

    def __init__(
        self, between: Callable[[int, PreTrainedModel], bool], count: TokenCount | None = None
    ) -> None:
        self._between = between
        self._count = count
        self._wall = self._processor = 0.0
        self.samples: list[Sample] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Starts the clocks."""
        self._start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops them, and starts them again after what comes between."""
        self.samples.append(
            Sample(
                seconds=time.perf_counter() - self._wall,
                processor_seconds=time.process_time() - self._processor,
                tokens=1 if self._count is None else self._count.take(),
            )
        )
        if self._between(state.global_step, kwargs["model"]):
            control.should_training_stop = True
        self._start()

    def _start(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()


def _nothing(completions: list[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def _config(
    folder: str,
    *,
    max_new_tokens: int,
    sequences: int,
    group_size: int,
    choice: Choice,
    steps: int,
    max_grad_norm: float,
) -> GRPOConfig:
    """One optimiser step for each rollout of `sequences`; in float32, on the CPU."""
    return GRPOConfig(
        output_dir=folder,
        loss_type="dr_grpo",
        scale_rewards="none",
        epsilon=0.2,
        epsilon_high=0.27,
        beta=0.0,
        router_aux_loss_coef=0.0,
        num_iterations=1,
        num_generations=group_size,
        per_device_train_batch_size=choice.micro_batch,
        gradient_accumulation_steps=sequences // choice.micro_batch,
        use_transformers_continuous_batching=choice.continuous,
        transformers_continuous_batching_config=continuous_settings(
            LONGEST_PROMPT + max_new_tokens, sequences, torch.device("cpu")
        ),
        max_completion_length=max_new_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        shuffle_dataset=False,
        max_steps=steps,
        max_grad_norm=max_grad_norm,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=0,
    )


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: GRPOConfig,
    *,
    reward: Reward,
    dataset: Dataset,
    optimizers: tuple[Any, Any] = (None, None),
    callbacks: Sequence[TrainerCallback] = (),
) -> GRPOTrainer:
    trainer = GRPOTrainer(
        model,
        reward_funcs=reward,
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
        optimizers=optimizers,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
