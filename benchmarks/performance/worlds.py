"""The workloads: a model, prompts to answer, and what the answers earn."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import steadyrl
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.environments.protocol import Environment, Split, Task
from steadyrl.policies.loading import load_model, load_tokenizer, no_progress_bars
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.rollout.seeds import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One workload."""

    name: str

    checkpoint: Path
    """A folder that `from_pretrained` reads: the same weights for every competitor."""

    environment: Environment
    prompts: int
    group_size: int
    max_new_tokens: int
    device: torch.device
    dtype: torch.dtype = torch.float32

    micro_batch_tokens: int = 8192
    """Positions of a pass of our learner."""

    learning_rate: float = 1e-6
    """Of the steps that are timed: so small that answers keep their lengths."""

    def model(self) -> PreTrainedModel:
        """The bare model, for a peer, with weights of its own."""
        settings = Pretrained(path=str(self.checkpoint))
        with no_progress_bars():
            model = load_model(settings, tokenizer=self.tokenizer(), seed=0, dtype=self.dtype)
        return model.to(self.device)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of every competitor."""
        return load_tokenizer(Pretrained(path=str(self.checkpoint)))

    def policy(self) -> Policy:
        """The policy, with weights of its own."""
        return Policy(self.model(), self.tokenizer())

    def engine(
        self,
        policy: Policy,
        *,
        record_routing: bool = False,
        max_running: int | None = None,
        numerics: Numerics | None = None,
    ) -> LocalEngine:
        """Our engine: all answers at once, in the type that the peers compute in, if not told."""
        own = {torch.float32: Numerics.FLOAT32, torch.bfloat16: Numerics.BFLOAT16}[self.dtype]
        model = EngineModel(
            policy,
            numerics=numerics or own,
            weight_scaling=WeightScaling.CHANNEL,
            record_routing=record_routing,
        )
        return LocalEngine(model, max_running=max_running or self.prompts * self.group_size)

    def tasks(self, batches: int = 1) -> list[Task]:
        """The tasks of so many batches."""
        return [
            self.environment.task(Split.TRAIN, number) for number in range(batches * self.prompts)
        ]

    def prompt_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
        """The prompts as tokens."""
        return encode_prompts(tokenizer, [task.prompt for task in self.tasks()])

    def requests(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[Request]:
        """The prompts, with the random numbers of `seed`."""
        return [
            Request(
                prompt_ids=ids,
                num_completions=self.group_size,
                seed=derive_seed(seed, number),
                sampling=self.sampling,
            )
            for number, ids in enumerate(self.prompt_ids(tokenizer))
        ]

    @property
    def sampling(self) -> Sampling:
        """Plain sampling, as everywhere here: temperature 1, no top-p, no top-k."""
        return Sampling(max_new_tokens=self.max_new_tokens)

    def describe(self, policy: Policy, lengths: Sequence[int]) -> dict[str, Any]:
        """What the workload is, with the quantiles of the answers' lengths."""
        points = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
        quantiles = torch.tensor(lengths, dtype=torch.float32).quantile(points).tolist()
        prompts = [len(ids) for ids in self.prompt_ids(policy.tokenizer)]
        return {
            "parameters": policy.model.num_parameters(),
            "vocabulary": policy.model.config.vocab_size,
            "prompts": self.prompts,
            "group_size": self.group_size,
            "prompt_tokens": [min(prompts), max(prompts)],
            "response_tokens": sum(lengths),
            "response_length_quantiles": dict(
                zip(("min", "0.1", "0.5", "0.9", "0.99", "max"), quantiles, strict=True)
            ),
            "dtype": str(self.dtype).removeprefix("torch."),
        }


def sources_digest() -> str:
    """A name for the state of the package's sources: what was trained by them is kept under it."""
    digest = hashlib.sha256()
    for file in sorted(Path(steadyrl.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
