"""Sequences that are written at the same time, each from its prompt to its end.

One `step` of the engine:

    admit   waiting sequences take free slots; each distinct prompt is prefilled once, with others
            of like length
    decode  one forward pass writes one token to every running sequence
    retire  finished sequences leave, and the last running ones close the gaps
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from steadyrl.engines.cache_memory import CachePlan
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.page_table import PageTable, pages_for
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.route_recorder import RouteRecorder
from steadyrl.engines.sampler import sample
from steadyrl.engines.scheduler import Slots, Ticket, WaitingLine
from steadyrl.engines.slot_cache import SlotCache, ring_positions
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.passes import PASS_COST, plan_passes
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing


def longest(requests: Sequence[Request], sampling: Sampling) -> int:
    """Tokens that the longest prompt and its answer may have together."""
    return max(len(r.prompt_ids) for r in requests) + sampling.max_new_tokens


class ContinuousBatch:
    """The sequences of one `generate`."""

    def __init__(
        self,
        model: EngineModel,
        masks: AttentionMasks,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        plan: CachePlan,
        prefill_positions: int,
    ) -> None:
        capacity = longest(requests, sampling)
        self._model = model
        self._masks = masks
        self._requests = requests
        self._sampling = sampling
        self._max_running = self._most = plan.slots
        self._prefill_positions = prefill_positions
        self._table = (
            None
            if plan.pages is None
            else PageTable(plan.slots, capacity, plan.pages, model.device)
        )
        self._cache = SlotCache(plan.slots, capacity, window_of=masks.window_of, table=self._table)
        self._ends = torch.tensor(sorted(model.end_token_ids), device=model.device)
        hook = model.hook
        self._routes = None if hook is None else RouteRecorder(rows=plan.slots, dtype=hook.dtype)
        self._done: dict[Ticket, Callable[..., Completion]] = {}
        """What each finished answer becomes, given its routing."""
        self.slots = Slots(plan.slots, capacity, sampling.max_new_tokens, model.device)

    def completions(self) -> list[list[Completion]]:
        """What was written, by request."""
        routings: Sequence[Routing | None] = [None] * len(self._done)
        if self._routes is not None:
            routings = self._routes.routings()
        done = {
            ticket: completion(routing=routing)
            for (ticket, completion), routing in zip(self._done.items(), routings, strict=True)
        }
        return [
            [done[Ticket(request=n, sample=i)] for i in range(request.num_completions)]
            for n, request in enumerate(self._requests)
        ]

    def admit(self, waiting: WaitingLine) -> None:
        """Fills free slots, prefills the new prompts and draws their first tokens."""
        first = self.slots.running
        tickets = waiting.take(self._room_for(waiting))
        if not tickets:
            return
        numbers = sorted({ticket.request for ticket in tickets})
        source = torch.tensor([numbers.index(ticket.request) for ticket in tickets])
        for ticket, uniform in zip(tickets, waiting.uniforms(tickets), strict=True):
            self.slots.admit(ticket, self._requests[ticket.request].prompt_ids, uniform)
        prompts = [self._requests[number].prompt_ids for number in numbers]
        self._sample(slice(first, self.slots.running), self._prefill(prompts, source, first))

    def _room_for(self, waiting: WaitingLine) -> int:
        """How many of the answers that wait may begin.

        Each takes the pages of its prompt and one more, as each running sequence may.
        """
        running = self.slots.running
        room = self._most - running
        if self._table is None:
            return room
        needed = accumulate(
            pages_for(len(self._requests[ticket.request].prompt_ids)) + 1
            for ticket in waiting.first(room)
        )
        count = sum(pages <= self._table.free - running for pages in needed)
        return count if running else max(1, count)

    def decode(self, waiting: WaitingLine) -> None:
        """Feeds the last token of every running sequence and draws the next.

        Where the pages do not suffice, the sequences that began last go back to the front of
        `waiting`. Their numbers are drawn from their request, so that they will be written again.
        """
        slots = self.slots
        if self._table is not None:
            self._make_way(self._table, waiting)
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
            attention_mask=self._masks.of(
                positions[:, None], columns[None], in_window=self._in_window(positions, columns)
            ),
            past_key_values=self._cache,
        )
        if self._routes is not None and experts is not None:
            self._routes.step(fed[:, 0], experts[:, 0])
        self._sample(rows, logits)

    def _in_window(
        self, positions: Int[Tensor, " N"], columns: Int[Tensor, " S"]
    ) -> Int[Tensor, "N W"] | None:
        """Positions of the keys that layers of sliding attention have."""
        window = self._masks.window
        return None if window is None else ring_positions(positions, columns[:window], window)

    def _make_way(self, table: PageTable, waiting: WaitingLine) -> None:
        """Gives up the sequences that began last until the others have the pages they need."""
        slots = self.slots
        while table.shortage(slots.lengths[: slots.running].tolist()):
            youngest = max(range(slots.running), key=lambda row: slots.tickets[row])
            waiting.put_back(slots.tickets[youngest])
            if self._routes is not None:
                self._routes.drop(youngest)
            self._release([youngest])
            self._most = slots.running  # until one ends

    def _release(self, rows: list[int]) -> None:
        movers, holes = self.slots.release(rows)
        self._cache.release(rows, movers, holes)
        if self._routes is not None:
            self._routes.move(movers, holes)

    def _prefill(
        self, prompts: list[Int[Tensor, " _P"]], source: Int[Tensor, " N"], first: int
    ) -> Float[Tensor, "N V"]:
        """Computes each of `prompts` once; returns the logits after that of every new row.

        Args:
            source: The prompt of each new row.
            first: The first of them.
        """
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        plan = plan_passes(lengths, self._prefill_positions, pass_cost=PASS_COST)
        logits = []
        for numbers in plan:
            row, place = (source[:, None] == numbers).nonzero(as_tuple=True)
            logits.append(self._prefill_pass([prompts[n] for n in numbers], place, first + row))
        places = torch.cat(plan).argsort()[source]
        return torch.cat(logits)[places.to(self._model.device)]

    def _prefill_pass(
        self,
        prompts: list[Int[Tensor, " _P"]],
        source: Int[Tensor, " n"],
        rows: Int[Tensor, " n"],
    ) -> Float[Tensor, "U V"]:
        """Computes `prompts` for `rows`, which have those of `source`; returns the logits after."""
        device = self._model.device
        tokens = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(device)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
        cache = DynamicCache()
        # Padding is on the right: causality alone keeps it from every real token.
        positions = torch.arange(tokens.shape[1], device=device)[None]
        logits, experts = self._forward(
            input_ids=tokens,
            position_ids=positions,
            past_key_values=cache,
            at=positions == ends[:, None],
        )
        source_on_device = source.to(device)
        self._cache.admit(cache, source_on_device, rows.to(device), ends[source_on_device] + 1)
        if self._routes is not None and experts is not None:
            self._routes.begin(rows.tolist(), source.tolist(), prompts, experts)
        return logits

    def _forward(
        self, *, at: Bool[Tensor, "B S"] | None = None, **inputs: Any
    ) -> tuple[Float[Tensor, "N V"], Tensor | None]:
        """Logits of the positions `at`, or of all, and the experts of every token if recorded."""
        head, hook = self._model.head, self._model.hook
        inputs["use_cache"] = True
        if hook is None:
            return head.logits(inputs, at), None
        with hook.watch(tuple(inputs["input_ids"].shape)) as watch:
            logits = head.logits(inputs, at)
        return logits, watch.experts()

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
        indices = finished.nonzero().flatten()
        rows = (indices + first).tolist()
        self._complete(rows, stopped[indices].tolist())
        self._release(rows)
        self._most = self._max_running

    @torch.inference_mode(False)  # a trainer may use it under autograd
    @torch.no_grad()
    def _complete(self, rows: list[int], stopped: list[bool]) -> None:
        """Notes what the sequences in `rows` have written."""
        slots = self.slots
        lengths = slots.lengths[rows].cpu()
        tokens, logprobs = slots.tokens[rows].cpu(), slots.logprobs[rows].cpu()
        if self._routes is not None:
            self._routes.finish(rows)
        for number, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            ticket = slots.tickets[row]
            prompt = self._requests[ticket.request].prompt_ids
            self._done[ticket] = partial(
                Completion,
                prompt_ids=prompt,
                token_ids=tokens[number, len(prompt) : length],
                logprobs=logprobs[number, : length - len(prompt)],
                finish_reason=FinishReason.STOP if stopped[number] else FinishReason.LENGTH,
                policy_version=self._model.policy_version,
            )
