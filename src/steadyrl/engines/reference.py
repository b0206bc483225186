"""The oracle: one sequence at a time, the whole sequence recomputed for every token.

Slow and plain, so that it can be read against the definition of sampling. Fast engines are tested
against it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.sampler import sample, uniforms
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing


class ReferenceEngine:
    """A rollout engine without cache and without batches."""

    def __init__(self, model: EngineModel, *, progress: Progress = NO_PROGRESS) -> None:
        self._model = model
        self._progress = progress

    @property
    def policy_version(self) -> int:
        """Version of the weights loaded last."""
        return self._model.policy_version

    @property
    def max_positions(self) -> int | None:
        """Tokens that a prompt and its answer may have together."""
        return self._model.max_positions

    @property
    def reach(self) -> Reach | None:
        """What arrived of the trainer's movement between the last two loads."""
        return self._model.reach

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Takes over the trainer's weights."""
        self._model.load_weights(weights, version)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each request, in order."""
        self._model.check(requests, sampling)
        answers: list[list[Completion]] = [[] for _ in requests]
        total = sum(request.num_completions for request in requests)
        done = tokens = 0
        for request, written in zip(requests, answers, strict=True):
            for row in uniforms(request, sampling):
                written.append(self._complete(request, row, sampling))
                done, tokens = done + 1, tokens + len(written[-1].token_ids)
                most_tokens = total * sampling.max_new_tokens
                self._progress.advance(
                    "answers", done, total, tokens=tokens, most_tokens=most_tokens
                )
        return answers

    @torch.no_grad()
    def _complete(self, request: Request, uniform: Tensor, sampling: Sampling) -> Completion:
        device = self._model.device
        tokens = request.prompt_ids.to(device)
        logprobs = []
        finish_reason = FinishReason.LENGTH
        for number in uniform.to(device):
            logits, experts = self._forward(tokens)
            token, logprob = sample(logits, number[None], sampling)
            fed, tokens = tokens, torch.cat([tokens, token])
            logprobs.append(logprob)
            if int(token) in self._model.end_token_ids:
                finish_reason = FinishReason.STOP
                break
        routing = None
        if experts is not None:
            known = torch.ones(1, len(fed), dtype=torch.bool)
            routing = Routing.of(experts[None].cpu(), known, fed[None].cpu())
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tokens[len(request.prompt_ids) :].cpu(),
            logprobs=torch.cat(logprobs).cpu(),
            finish_reason=finish_reason,
            policy_version=self.policy_version,
            routing=routing,
        )

    def _forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits after the last of `tokens`, and the experts every token chose."""
        model, hook = self._model.model, self._model.hook
        if hook is None:
            return model(input_ids=tokens[None], use_cache=False).logits[:, -1], None
        with hook.watch((1, len(tokens))) as watch:
            logits = model(input_ids=tokens[None], use_cache=False).logits[:, -1]
        return logits, watch.experts()[0].to(hook.dtype)
