"""The sample of `steadyrl mismatch`: answers by a run's engine, with its log-probabilities."""

from contextlib import closing
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from steadyrl.base.progress import Progress
from steadyrl.engines.driver import drive
from steadyrl.evaluation.accuracy import EvaluationSettings, measure_accuracy
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.tokenizers import padding_id
from steadyrl.records.token_batch import TokenBatch
from steadyrl.rollout.batching import token_batch
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.memory_check import require_memory_to_measure
from steadyrl.training.checkpoint import load_checkpoint


def sampled_batch(
    config: RunConfig,
    checkpoint: Path | None,
    *,
    tasks: int,
    samples: int,
    seed: int,
    progress: Progress,
) -> tuple[PreTrainedTokenizerBase, TokenBatch]:
    """The tokenizer, and answers to held-out tasks by the engine with weights of `checkpoint`.

    Raises:
        UserError: the model does not fit into memory.
    """
    tokenizer = load_tokenizer(config.model)
    require_memory_to_measure(config, tokenizer, moments=checkpoint is not None)
    assembly = Assembly.of(config, tokenizer=tokenizer, progress=progress)
    if checkpoint is not None:
        load_checkpoint(checkpoint, assembly.learner)
    drive(assembly.engine.sync(assembly.learner.publish()))
    progress.begin("rollout")
    with closing(assembly):
        measurement = measure_accuracy(
            EvaluationSettings(tasks=tasks, samples=samples, max_turns=config.evaluation.max_turns),
            environment=assembly.environment,
            engine=assembly.engine,
            tokenizer=tokenizer,
            sampling=config.sampling,
            seed=seed,
            progress=progress,
        )
        accuracy = drive(measurement)
    batch = token_batch(
        accuracy.groups,
        [torch.zeros(len(group.trajectories)) for group in accuracy.groups],
        pad_token_id=padding_id(tokenizer),
    )
    return tokenizer, batch
