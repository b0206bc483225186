"""Continuous batching over a Hugging Face model with a key-value cache.

One `step` of the engine:

    admit   waiting sequences take free slots; each distinct prompt is prefilled once
    decode  one forward pass writes one token to every running sequence
    retire  finished sequences leave, and the last running ones close the gaps
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from steadyrl.engines.engine_model import EngineModel, recorded_routings
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.sampler import sample
from steadyrl.engines.scheduler import Slots, Ticket, WaitingLine
from steadyrl.engines.slot_cache import SlotCache
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.errors import UserError
from steadyrl.records.routing import Routing


class LocalEngine:
    """A rollout engine in this process.

    Args:
        model: The engine's copy of the policy.
        max_running: Sequences written at the same time.

    Raises:
        UserError: the model keeps a state that is not keys and values, or takes no positions.
    """

    def __init__(self, model: EngineModel, *, max_running: int) -> None:
        self._model = model
        self._max_running = max_running
        try:
            self._masks = AttentionMasks(model.model)
        except UserError as error:
            raise UserError(f"{error} Use the engine 'reference' for it.") from error

    @property
    def policy_version(self) -> int:
        """Version of the weights loaded last."""
        return self._model.policy_version

    @property
    def max_positions(self) -> int | None:
        """Tokens that a prompt and its answer may have together."""
        return self._model.max_positions

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Takes over the trainer's weights. No keys or values outlive a `generate`."""
        self._model.load_weights(weights, version)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each request, in order."""
        self._model.check(requests, sampling)
        # Leaving inference mode turns gradients on again: no_grad is the inner one.
        with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
            return self._generate(requests, sampling)

    def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        waiting = WaitingLine(requests, sampling)
        if not len(waiting):
            return [[] for _ in requests]
        batch = _Batch(self._model, self._masks, requests, sampling, self._slots(len(waiting)))
        while len(waiting) or batch.slots.running:
            batch.admit(waiting)
            batch.decode()
        return batch.completions()

    def _slots(self, sequences: int) -> int:
        return min(self._max_running, sequences)


class _Batch:
    """The sequences of one `generate`."""

    def __init__(
        self,
        model: EngineModel,
        masks: AttentionMasks,
        requests: Sequence[Request],
        sampling: Sampling,
        slots: int,
    ) -> None:
        capacity = max(len(r.prompt_ids) for r in requests) + sampling.max_new_tokens
        self._model = model
        self._masks = masks
        self._requests = requests
        self._sampling = sampling
        self._max_running = slots
        self._cache = SlotCache(slots, capacity)
        self._ends = torch.tensor(sorted(model.end_token_ids), device=model.device)
        self._done: dict[Ticket, Completion] = {}
        self.slots = Slots(slots, capacity, sampling.max_new_tokens, model.device)

    def completions(self) -> list[list[Completion]]:
        """What was written, by request."""
        return [
            [self._done[Ticket(request=n, sample=i)] for i in range(request.num_completions)]
            for n, request in enumerate(self._requests)
        ]

    def admit(self, waiting: WaitingLine) -> None:
        """Fills free slots, prefills the new prompts and draws their first tokens."""
        first = self.slots.running
        tickets = waiting.take(self._max_running - first)
        if not tickets:
            return
        numbers = sorted({ticket.request for ticket in tickets})
        source = torch.tensor([numbers.index(ticket.request) for ticket in tickets])
        for ticket, uniform in zip(tickets, waiting.uniforms(tickets), strict=True):
            self.slots.admit(ticket, self._requests[ticket.request].prompt_ids, uniform)
        rows = slice(first, self.slots.running)
        self._sample(rows, self._prefill(numbers, source.to(self._model.device), rows))

    def decode(self) -> None:
        """Feeds the last token of every running sequence and draws the next."""
        slots = self.slots
        if not slots.running:
            return
        rows = slice(0, slots.running)
        positions = slots.lengths[rows] - 1
        visible = int(positions.max()) + 1
        fed = slots.tokens[rows].gather(1, positions[:, None])
        columns = torch.arange(visible, device=positions.device)
        self._cache.begin_step(positions, visible)
        logits, experts = self._forward(
            input_ids=fed,
            position_ids=positions[:, None],
            attention_mask=self._masks.of(positions[:, None], columns[None]),
            past_key_values=self._cache,
        )
        if experts is not None:
            slots.record(rows, positions, fed[:, 0], experts[:, 0])
        self._sample(rows, logits[:, 0])

    def _prefill(
        self, numbers: list[int], source: Int[Tensor, " N"], rows: slice
    ) -> Float[Tensor, "N V"]:
        """Computes each distinct prompt once; returns the logits after it for every new row."""
        prompts = [self._requests[number].prompt_ids for number in numbers]
        tokens = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(self._model.device)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=tokens.device)
        kept, place = ends.unique(return_inverse=True)
        cache = DynamicCache()
        # Padding is on the right: causality alone keeps it from every real token.
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        logits, experts = self._forward(
            input_ids=tokens,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=kept,
        )
        self._cache.admit(cache, source, rows.start)
        if experts is not None:
            self.slots.record(rows, slice(0, tokens.shape[1]), tokens[source], experts[source])
        return logits[torch.arange(len(prompts), device=tokens.device), place][source]

    def _forward(self, **inputs: object) -> tuple[Tensor, Tensor | None]:
        """Logits and, when recorded, the experts that every fed token chose."""
        model, hook = self._model.model, self._model.hook
        if hook is None:
            return model(**inputs, use_cache=True).logits, None
        shape = tuple(inputs["input_ids"].shape)  # type: ignore[attr-defined]
        with hook.watch(shape) as watch:
            logits = model(**inputs, use_cache=True).logits
        return logits, watch.experts().to(hook.dtype)

    def _sample(self, rows: slice, logits: Float[Tensor, "N V"]) -> None:
        """Draws one token for each of `rows`, then retires the sequences that it ends."""
        slots = self.slots
        written = slots.lengths[rows] - slots.prompt_lengths[rows]
        uniform = slots.uniforms[rows].gather(1, written[:, None]).squeeze(1)
        tokens, logprobs = sample(logits, uniform, self._sampling)
        slots.append(rows, tokens, logprobs)
        stopped = torch.isin(tokens, self._ends)
        finished = stopped | (written + 1 == self._sampling.max_new_tokens)
        if bool(finished.any()):
            self._retire(rows.start, finished, stopped)

    def _retire(
        self, first: int, finished: Bool[Tensor, " N"], stopped: Bool[Tensor, " N"]
    ) -> None:
        slots = self.slots
        indices = finished.nonzero().flatten()
        rows = (indices + first).tolist()
        self._complete(rows, stopped[indices].tolist())
        movers, holes = slots.release(rows)
        if holes:
            self._cache.move(torch.tensor(movers), torch.tensor(holes))

    @torch.inference_mode(False)  # a trainer may use it under autograd
    @torch.no_grad()
    def _complete(self, rows: list[int], stopped: list[bool]) -> None:
        """Notes what the sequences in `rows` have written."""
        slots = self.slots
        lengths = slots.lengths[rows].cpu()
        tokens, logprobs = slots.tokens[rows].cpu(), slots.logprobs[rows].cpu()
        routings: list[Routing | None] = [None] * len(rows)
        if slots.experts is not None:
            fed, experts = slots.fed[rows].cpu(), slots.experts[rows].cpu()
            routings = [*recorded_routings(fed, experts, lengths - 1)]
        for number, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            ticket = slots.tickets[row]
            prompt = self._requests[ticket.request].prompt_ids
            self._done[ticket] = Completion(
                prompt_ids=prompt,
                token_ids=tokens[number, len(prompt) : length],
                logprobs=logprobs[number, : length - len(prompt)],
                finish_reason=FinishReason.STOP if stopped[number] else FinishReason.LENGTH,
                policy_version=self._model.policy_version,
                routing=routings[number],
            )
