"""Log-probabilities of the tokens that `generate` samples, taken from the passes that sample them.

They are those of the rollout policy mu: of the same kernels, key-value cache and padding. Scoring
the finished text would give those of the trainer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel


class SampledLogprobs:
    """Context that records log mu of the tokens that `model.generate` samples inside it.

    Only one step's logits are kept. The distribution is softmax(logits / temperature), so filters
    such as top-p must be off.

    Example:
        with SampledLogprobs(model, temperature=1.0) as sampled:
            tokens = model.generate(prompts, do_sample=True, top_k=0)
        logprobs = sampled.of(tokens[:, prompts.shape[1]:].tolist())
    """

    def __init__(self, model: PreTrainedModel, *, temperature: float) -> None:
        self._model = model
        self._temperature = temperature
        self._logits: Float[Tensor, "B V"] | None = None
        self._tokens: list[Int[Tensor, " B"]] = []
        self._logprobs: list[Float[Tensor, " B"]] = []

    def __enter__(self) -> "SampledLogprobs":
        self._handle = self._model.register_forward_hook(self._after_pass, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def of(self, completion_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of each token of each completion.

        Raises:
            RuntimeError: other tokens were sampled.
        """
        fed = len(self._tokens)
        last = [ids[fed] if len(ids) > fed else 0 for ids in completion_ids]
        assert self._logits is not None
        self._sampled(torch.tensor(last, device=self._logits.device))
        tokens, logprobs = torch.stack(self._tokens, dim=1), torch.stack(self._logprobs, dim=1)
        found = [row[: len(ids)] for row, ids in zip(tokens.tolist(), completion_ids, strict=True)]
        wrong = [row for row, ids in enumerate(completion_ids) if found[row] != list(ids)]
        if wrong:
            raise RuntimeError(
                f"The completions {wrong} are not the tokens that were sampled. Typical causes are "
                "swapped rows, beams, an assistant model and prefill in chunks."
            )
        rows = zip(logprobs.tolist(), completion_ids, strict=True)
        return [row[: len(ids)] for row, ids in rows]

    def _after_pass(
        self, _model: Any, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if self._logits is not None:
            self._sampled(kwargs["input_ids"][:, 0])
        self._logits = output.logits[:, -1].detach().float() / self._temperature

    def _sampled(self, tokens: Int[Tensor, " B"]) -> None:
        assert self._logits is not None
        chosen = self._logits.log_softmax(dim=-1).gather(-1, tokens[:, None])
        self._tokens.append(tokens)
        self._logprobs.append(chosen.squeeze(-1))
