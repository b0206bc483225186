"""Slots of running sequences, and the queue of waiting ones."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import torch
from torch import Tensor

from steadyrl.engines.growth import expand
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.sampler import Sampled, uniforms

Draw = tuple[float, float, int | None]
"""Temperature, top-p and top-k."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SampleId:
    """Completion number `sample` of request number `request`."""

    request: int
    sample: int


class Slots:
    """Running sequences as rows of tensors. Rows `0 .. running - 1` are in use.

    `tokens[row, :length]` holds a sequence so far; its last token has not been fed yet.

    Args:
        candidates: Number of most probable tokens to keep of each sampled token.
    """

    def __init__(self, device: torch.device, candidates: int = 0) -> None:
        def long(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.long, device=device)

        self.ids: list[SampleId] = []
        self.supports: list[list[Tensor]] = []
        """Supports of the sampled tokens of each sequence; empty without truncated sampling."""
        self.tokens = long(0, 0)
        self.lengths = long(0)
        self.prompt_lengths = long(0)
        self.budgets = long(0)
        """Maximum number of tokens of each completion."""
        self.logprobs = torch.zeros(0, 0, device=device)
        self.candidate_ids = torch.zeros(0, 0, candidates, dtype=torch.int32, device=device)
        self.candidate_logprobs = torch.zeros(0, 0, candidates, device=device)
        self.uniforms = torch.zeros(0, 0, dtype=torch.float64, device=device)
        self.earlier: list[tuple[tuple[int, int], ...]] = []
        """For each row, earlier versions of the weights and the numbers of tokens they sampled."""
        self._draws: list[Draw] = []
        self._running: Counter[Draw] = Counter()
        self._samplings: dict[Draw, Sampling] = {}

    @property
    def running(self) -> int:
        """Number of running sequences."""
        return len(self.ids)

    @property
    def rows(self) -> int:
        """Number of allocated rows."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Number of tokens per row."""
        return self.tokens.shape[1]

    def reserve(self, rows: int, capacity: int, budget: int) -> None:
        """Makes room for `rows` sequences of `capacity` tokens, `budget` of them sampled."""
        self.tokens = expand(self.tokens, rows, capacity)
        self.lengths = expand(self.lengths, rows)
        self.prompt_lengths = expand(self.prompt_lengths, rows)
        self.budgets = expand(self.budgets, rows)
        self.logprobs = expand(self.logprobs, rows, budget)
        kept = self.candidate_ids.shape[2]
        self.candidate_ids = expand(self.candidate_ids, rows, budget, kept)
        self.candidate_logprobs = expand(self.candidate_logprobs, rows, budget, kept)
        self.uniforms = expand(self.uniforms, rows, budget)

    def admit(self, names: Sequence[SampleId], requests: Mapping[int, Request]) -> None:
        """Assigns the next free rows to new sequences."""
        drawn = {number: uniforms(requests[number]) for number in {n.request for n in names}}
        for number, group in groupby(names, key=lambda name: name.request):
            ids, request = list(group), requests[number]
            prompt, sampling = request.prompt_ids, request.sampling
            rows = slice(self.running, self.running + len(ids))
            self.tokens[rows, : len(prompt)] = prompt
            self.lengths[rows] = self.prompt_lengths[rows] = len(prompt)
            self.budgets[rows] = sampling.max_new_tokens
            own = drawn[number][[name.sample for name in ids]]
            self.uniforms[rows, : own.shape[1]] = own
            draw = (sampling.temperature, sampling.top_p, sampling.top_k)
            self.ids += ids
            self.supports += [[] for _ in ids]
            self.earlier += [()] * len(ids)
            self._draws += [draw] * len(ids)
            self._running[draw] += len(ids)
            self._samplings[draw] = sampling

    def samplings(self, rows: slice) -> list[tuple[Sampling, list[int] | None]]:
        """Sampling parameters of `rows` and the rows that use them; None: all rows."""
        if len(self._running) == 1:
            return [(self._samplings[draw], None) for draw in self._running]
        places: dict[Draw, list[int]] = {}
        for place, draw in enumerate(self._draws[rows]):
            places.setdefault(draw, []).append(place)
        return [(self._samplings[draw], found) for draw, found in places.items()]

    def append(self, rows: slice, sampled: Sampled) -> None:
        """Appends one sampled token to each of `rows`."""
        index = torch.arange(rows.start, rows.stop, device=sampled.tokens.device)
        lengths = self.lengths[rows]
        self.tokens[index, lengths] = sampled.tokens
        written = lengths - self.prompt_lengths[rows]
        self.logprobs[index, written] = sampled.logprobs
        if sampled.candidates is not None:
            self.candidate_ids[index, written] = sampled.candidates.ids
            self.candidate_logprobs[index, written] = sampled.candidates.logprobs
        self.lengths[rows] = lengths + 1
        for support, ids in zip(self.supports[rows], sampled.support or (), strict=False):
            support += [] if ids is None else [ids]

    def end_version(self, version: int) -> None:
        """Records that other weights than those of `version` sample the following tokens."""
        written = self.lengths[: self.running] - self.prompt_lengths[: self.running]
        for row, tokens in enumerate(written.tolist()):
            before = sum(count for _, count in self.earlier[row])
            if tokens > before:
                self.earlier[row] += ((version, tokens - before),)

    def release(self, finished: list[int]) -> tuple[list[int], list[int]]:
        """Frees rows and fills the gaps with the last running ones; returns (moved from, to)."""
        remaining = self.running - len(finished)
        gone = set(finished)
        self._running -= Counter(self._draws[row] for row in finished)
        holes = [row for row in finished if row < remaining]
        movers = [row for row in range(remaining, self.running) if row not in gone]
        if holes:
            for tensor in (
                self.tokens,
                self.lengths,
                self.prompt_lengths,
                self.budgets,
                self.logprobs,
                self.candidate_ids,
                self.candidate_logprobs,
                self.uniforms,
            ):
                tensor[holes] = tensor[movers]
        for hole, mover in zip(holes, movers, strict=True):
            self.ids[hole], self._draws[hole] = self.ids[mover], self._draws[mover]
            self.supports[hole], self.earlier[hole] = self.supports[mover], self.earlier[mover]
        del self.ids[remaining:], self._draws[remaining:]
        del self.supports[remaining:], self.earlier[remaining:]
        return movers, holes


class RequestQueue:
    """Waiting completions in the order of their requests."""

    def __init__(self) -> None:
        self._waiting: deque[SampleId] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, number: int, request: Request) -> None:
        """Appends all completions of a request."""
        self._waiting.extend(
            SampleId(request=number, sample=sample) for sample in range(request.num_completions)
        )

    def remove(self, number: int) -> None:
        """Removes the completions of a request."""
        self._waiting = deque(name for name in self._waiting if name.request != number)

    def first(self, count: int) -> list[SampleId]:
        """The next `count` completions, or all, without removing them."""
        return list(islice(self._waiting, count))

    def put_back(self, name: SampleId) -> None:
        """Returns a completion to the front of the queue."""
        self._waiting.appendleft(name)

    def take(self, count: int) -> list[SampleId]:
        """Removes and returns the next `count` completions, or all."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
