"""Continuous batching: sequences that are sampled concurrently, each from its prompt to its end.

One `step`:

    plan    if requests have arrived, memory is planned for all running and waiting sequences
    admit   waiting sequences take free slots; each distinct prompt is prefilled once, with others
            of similar length
    decode  one forward pass samples a token for every running sequence
    retire  finished sequences leave, and the last running ones fill the gaps
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.engines.cache_memory import CacheMemory, max_request_positions
from steadyrl.engines.completion_collector import CompletionCollector
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.page_table import PageTable, pages_for
from steadyrl.engines.prefill import Prefill, forward
from steadyrl.engines.protocol import Request, SampledToken, TokenListener
from steadyrl.engines.route_recorder import RouteRecorder
from steadyrl.engines.sampler import Sampled, sample_each
from steadyrl.engines.scheduler import RequestQueue, Slots
from steadyrl.engines.slot_cache import SlotCache, ring_positions
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.records.completion import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Result of a step."""

    answers: dict[int, list[Completion]]
    """Completions of the requests that this step completed, by number."""

    finished: int
    """Number of sequences that finished."""

    tokens: int


class ContinuousBatch:
    """All running and waiting sequences. Requests may arrive at any time.

    Args:
        prefill_positions: Maximum positions of a prefill pass, padding included.
    """

    def __init__(
        self,
        model: EngineModel,
        masks: AttentionMasks,
        memory: CacheMemory,
        *,
        prefill_positions: int,
    ) -> None:
        self._model = model
        self._masks = masks
        self._memory = memory
        self._requests: dict[int, Request] = {}
        self._listeners: dict[int, TokenListener] = {}
        self._queue = RequestQueue()
        self._is_planned = True
        self._max_running = 0
        self._running_limit: int | None = None
        """Number of sequences that may run until one finishes, after pages have run out."""
        self._slots = Slots(model.device, model.candidates)
        self._cache = SlotCache(0, 0, window_of=masks.window_of)
        self._ends = torch.tensor(sorted(model.end_token_ids), device=model.device)
        hook = model.hook
        self._routes = None if hook is None else RouteRecorder(rows=0, dtype=hook.dtype)
        self._collector = CompletionCollector(self._routes)
        self._prefill = Prefill(model, self._cache, self._routes, max_positions=prefill_positions)

    @property
    def is_idle(self) -> bool:
        """Whether there are no requests."""
        return not self._requests

    def add(self, number: int, request: Request) -> None:
        """Adds a request for the next step."""
        self._requests[number] = request
        self._queue.add(number, request)
        self._collector.expect(number, request)
        self._is_planned = False

    def listen(self, number: int, listener: TokenListener) -> None:
        """Reports the tokens of a request to `listener` as they are sampled."""
        self._listeners[number] = listener

    def remove(self, number: int) -> None:
        """Discards a request and its sequences."""
        self._listeners.pop(number, None)
        self._queue.remove(number)
        rows = [row for row, name in enumerate(self._slots.ids) if name.request == number]
        self._abort(rows)
        self._collector.forget(number)
        del self._requests[number]

    def renew(self, version: int) -> None:
        """Recomputes keys and values with the present weights. Running sequences go on.

        Args:
            version: Version of the weights that sampled their tokens so far.
        """
        slots = self._slots
        slots.end_version(version)
        lengths = slots.lengths[: slots.running] - 1  # the last token has not been fed yet
        fed = [slots.tokens[row, :length] for row, length in enumerate(lengths.tolist())]
        self._prefill.renew(fed)

    def step(self) -> Step:
        """Admits waiting sequences, and samples a token for each running one."""
        if self._queue and not self._is_planned:
            self._plan()
        left = len(self._queue) + self._slots.running
        begun = self._admit()
        tokens = begun + self._slots.running
        self._decode()
        finished = left - len(self._queue) - self._slots.running
        answers = self._collector.collect()
        for number in answers:
            del self._requests[number]
            self._listeners.pop(number, None)
        return Step(answers=answers, finished=finished, tokens=tokens)

    def _plan(self) -> None:
        """Plans memory for all running and waiting sequences."""
        slots, requests = self._slots, self._requests.values()
        capacity = max([slots.capacity, *map(max_request_positions, requests)])
        budget = max([request.sampling.max_new_tokens for request in requests])
        answers = slots.running + len(self._queue)
        plan = self._memory.plan_more(answers=answers, rows=slots.rows, capacity=capacity)
        slots.reserve(plan.slots, capacity, budget)
        self._cache.reserve(plan.slots, capacity)
        if self._routes is not None:
            self._routes.reserve(plan.slots)
        if plan.pages is not None:
            self._use_pages(plan.pages)
        self._max_running = plan.slots
        self._is_planned = True

    def _use_pages(self, pages: int) -> None:
        """Stores keys and values in at most `pages` pages from now on."""
        slots, table = self._slots, self._cache.table
        if table is not None:
            table.max_pages = pages
            return
        table = PageTable(slots.rows, slots.capacity, pages, self._model.device)
        self._preempt(table)
        self._cache.use_pages(table, slots.lengths[: slots.running] - 1)

    def _admit(self) -> int:
        """Fills free slots, prefills new prompts and samples their first tokens.

        Returns:
            Sequences that begin.
        """
        first = self._slots.running
        names = self._queue.take(self._admissible())
        if not names:
            return 0
        numbers = sorted({name.request for name in names})
        source = torch.tensor([numbers.index(name.request) for name in names])
        self._slots.admit(names, self._requests)
        prompts = [self._requests[number].prompt_ids for number in numbers]
        logits = self._prefill.begin(prompts, source, first)
        self._sample(slice(first, self._slots.running), logits)
        return len(names)

    def _admissible(self) -> int:
        """Number of waiting sequences that may start.

        Each takes the pages of its prompt and one more, as each running sequence may.
        """
        running, table = self._slots.running, self._cache.table
        most = (
            self._max_running
            if self._running_limit is None
            else min(self._running_limit, self._max_running)
        )
        room = max(0, most - running)
        if table is None:
            return room
        needed = accumulate(
            pages_for(len(self._requests[name.request].prompt_ids)) + 1
            for name in self._queue.first(room)
        )
        count = sum(pages <= table.free - running for pages in needed)
        return count if running else max(1, count)

    def _decode(self) -> None:
        """Feeds the last token of every running sequence and samples the next.

        If pages run out, the sequences that started last return to the front of the queue. Their
        random numbers belong to their request, so the same tokens are sampled again.
        """
        slots = self._slots
        if self._cache.table is not None:
            self._preempt(self._cache.table)
        if not slots.running:
            return
        rows = slice(0, slots.running)
        positions = slots.lengths[rows] - 1
        visible = int(positions.max()) + 1
        fed = slots.tokens[rows].gather(1, positions[:, None])
        columns = torch.arange(visible, device=positions.device)
        window = self._masks.window
        in_window = None if window is None else ring_positions(positions, columns[:window], window)
        self._cache.begin_step(positions, visible)
        logits, experts = forward(
            self._model,
            input_ids=fed,
            position_ids=positions[:, None],
            attention_mask=self._masks.of(positions[:, None], columns[None], in_window=in_window),
            past_key_values=self._cache,
        )
        if self._routes is not None and experts is not None:
            self._routes.step(fed[:, 0], experts[:, 0])
        self._sample(rows, logits)

    def _preempt(self, table: PageTable) -> None:
        """Preempts the sequences that started last until the others have enough pages."""
        slots = self._slots
        while table.shortage(slots.lengths[: slots.running].tolist()):
            youngest = max(range(slots.running), key=lambda row: slots.ids[row])
            self._queue.put_back(slots.ids[youngest])
            self._abort([youngest])
            self._running_limit = max(1, slots.running)

    def _abort(self, rows: list[int]) -> None:
        """Ends the sequences in `rows` without a completion."""
        if self._routes is not None:
            self._routes.drop(self._routes.numbers(rows))
        self._release(rows)

    def _release(self, rows: list[int]) -> None:
        movers, holes = self._slots.release(rows)
        self._cache.release(rows, movers, holes)
        if self._routes is not None:
            self._routes.move(movers, holes)

    def _sample(self, rows: slice, logits: Float[Tensor, "N V"]) -> None:
        """Samples one token for each of `rows`, then retires finished sequences."""
        slots = self._slots
        written = slots.lengths[rows] - slots.prompt_lengths[rows]
        uniform = slots.uniforms[rows].gather(1, written[:, None]).squeeze(1)
        samplings = slots.samplings(rows)
        sampled = sample_each(logits, uniform, samplings, self._model.candidates)
        slots.append(rows, sampled)
        stopped = torch.isin(sampled.tokens, self._ends)
        finished = stopped | (written + 1 == slots.budgets[rows])
        if self._listeners:
            finished |= self._report(rows, sampled, written, stopped)
        if bool(finished.any()):
            indices = finished.nonzero().flatten()
            ended = (indices + rows.start).tolist()
            version = self._model.policy_version
            self._collector.finish(slots, ended, stopped[indices].tolist(), version)
            self._release(ended)
            self._running_limit = None

    def _report(
        self,
        rows: slice,
        sampled: Sampled,
        written: Int[Tensor, " N"],
        stopped: Bool[Tensor, " N"],
    ) -> Bool[Tensor, " N"]:
        """Reports the tokens of `rows` to those who listen, without end tokens.

        Returns:
            Rows that need no further token.
        """
        over: list[bool] = []
        columns = (sampled.tokens, sampled.logprobs, written, stopped)
        values = zip(self._slots.ids[rows], *(column.tolist() for column in columns), strict=True)
        for name, token_id, logprob, position, ends in values:
            listener = self._listeners.get(name.request)
            if listener is None or ends:
                over.append(False)
                continue
            token = SampledToken(
                sample=name.sample, position=position, token_id=token_id, logprob=logprob
            )
            over.append(bool(listener(token)))
        return torch.tensor(over, device=stopped.device)
