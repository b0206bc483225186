"""Reference engine: one sequence at a time, recomputed completely for every token.

Slow and simple, so that it can be compared with the definition of sampling. Fast engines are tested
against it.
"""

from typing import Literal

import torch
from torch import Tensor

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.engine_settings import EngineContext, ModelEngineSettings
from steadyrl.engines.model_engine import ModelEngine
from steadyrl.engines.protocol import Request
from steadyrl.engines.sampler import sample, uniforms
from steadyrl.records.candidates import Candidates
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing
from steadyrl.records.support import Support


class ReferenceEngineSettings(ModelEngineSettings):
    """Slow reference: one sequence at a time, without a cache."""

    name: Literal["reference"] = "reference"

    def make(self, context: EngineContext) -> "ReferenceEngine":
        """The engine."""
        return ReferenceEngine(self.engine_model(context), progress=context.progress)


class ReferenceEngine(ModelEngine):
    """A rollout engine without cache and batches. A step samples one completion."""

    def __init__(self, model: EngineModel, *, progress: Progress = NO_PROGRESS) -> None:
        super().__init__(model, score_positions=1, progress=progress)
        self._requests: dict[int, Request] = {}
        self._answers: dict[int, list[Completion]] = {}
        self._submitted = 0

    def submit(self, request: Request) -> int:
        """Adds a request; returns the number of its completions."""
        self._model.check(request)
        self._generated.start(request, first=not self._requests)
        number = self._submitted
        self._submitted += 1
        self._requests[number], self._answers[number] = request, []
        return number

    def step(self) -> dict[int, list[Completion]]:
        """Samples the next completion of the oldest request."""
        number, request = next(iter(self._requests.items()))
        answers = self._answers[number]
        if len(answers) < request.num_completions:
            answers.append(self._complete(request, uniforms(request)[len(answers)]))
            self._generated.report(answers=1, tokens=len(answers[-1].token_ids))
        if len(answers) < request.num_completions:
            return {}
        self.withdraw(number)
        return {number: answers}

    def withdraw(self, number: int) -> None:
        """Discards a request."""
        del self._requests[number], self._answers[number]

    @torch.no_grad()
    def _complete(self, request: Request, uniform: Tensor) -> Completion:
        device = self._model.device
        tokens = request.prompt_ids.to(device)
        sampled = []
        finish_reason = FinishReason.LENGTH
        for number in uniform.to(device):
            logits, experts = self._forward(tokens)
            wanted = self._model.candidates
            sampled.append(sample(logits, number[None], request.sampling, wanted))
            fed, tokens = tokens, torch.cat([tokens, sampled[-1].tokens])
            if int(tokens[-1]) in self._model.end_token_ids:
                finish_reason = FinishReason.STOP
                break
        supports = [ids for each in sampled for ids in each.support or ()]
        likely = [each.candidates for each in sampled if each.candidates is not None]
        routing = None
        if experts is not None:
            known = torch.ones(1, len(fed), dtype=torch.bool)
            routing = Routing.of(experts[None].cpu(), known, fed[None].cpu())
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tokens[len(request.prompt_ids) :].cpu(),
            logprobs=torch.cat([each.logprobs for each in sampled]).cpu(),
            finish_reason=finish_reason,
            policy_version=self.policy_version,
            routing=routing,
            support=Support.of(supports) if supports else None,
            candidates=Candidates.joined(likely).to("cpu") if likely else None,
        )

    def _forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits after the last of `tokens`, and the experts of every token."""
        model, hook = self._model.model, self._model.hook
        if hook is None:
            return model(input_ids=tokens[None], use_cache=False).logits[:, -1], None
        with hook.watch((1, len(tokens))) as watch:
            logits = model(input_ids=tokens[None], use_cache=False).logits[:, -1]
        return logits, watch.experts()[0].to(hook.dtype)
