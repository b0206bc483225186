"""Which sequences run in which slots."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.engines.protocol import Request
from steadyrl.engines.sampler import uniforms


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Ticket:
    """Answer number `sample` to request number `request`."""

    request: int
    sample: int


class Slots:
    """The running sequences as rows of tensors. Rows `0 .. running - 1` are in use.

    `tokens[row, :length]` is what a sequence holds so far; its last token is not yet fed.
    """

    def __init__(self, slots: int, capacity: int, budget: int, device: torch.device) -> None:
        def long(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.long, device=device)

        self.tickets: list[Ticket] = []
        self.tokens = long(slots, capacity)
        self.lengths = long(slots)
        self.prompt_lengths = long(slots)
        self.logprobs = torch.zeros(slots, budget, device=device)
        self.uniforms = torch.zeros(slots, budget, dtype=torch.float64, device=device)

    @property
    def running(self) -> int:
        """Sequences being written."""
        return len(self.tickets)

    def admit(
        self, ticket: Ticket, prompt: Int[Tensor, " P"], uniform: Float[Tensor, " R"]
    ) -> None:
        """Gives the next free row to a new sequence."""
        row = self.running
        self.tickets.append(ticket)
        self.tokens[row, : len(prompt)] = prompt
        self.lengths[row] = self.prompt_lengths[row] = len(prompt)
        self.uniforms[row] = uniform

    def append(self, rows: slice, tokens: Int[Tensor, " N"], logprobs: Float[Tensor, " N"]) -> None:
        """Adds one sampled token to each of `rows`."""
        index = torch.arange(rows.start, rows.stop, device=tokens.device)
        lengths = self.lengths[rows]
        self.tokens[index, lengths] = tokens
        self.logprobs[index, lengths - self.prompt_lengths[rows]] = logprobs
        self.lengths[rows] = lengths + 1

    def release(self, finished: list[int]) -> tuple[list[int], list[int]]:
        """Frees rows and closes the gaps with the last running ones; returns (moved from, to)."""
        remaining = self.running - len(finished)
        gone = set(finished)
        holes = [row for row in finished if row < remaining]
        movers = [row for row in range(remaining, self.running) if row not in gone]
        if holes:
            for tensor in (
                self.tokens,
                self.lengths,
                self.prompt_lengths,
                self.logprobs,
                self.uniforms,
            ):
                tensor[holes] = tensor[movers]
        for hole, mover in zip(holes, movers, strict=True):
            self.tickets[hole] = self.tickets[mover]
        del self.tickets[remaining:]
        return movers, holes


class WaitingLine:
    """Answers not yet begun, in the order of their requests."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._line = deque(
            Ticket(request=number, sample=sample)
            for number, request in enumerate(requests)
            for sample in range(request.num_completions)
        )

    def __len__(self) -> int:
        return len(self._line)

    def first(self, count: int) -> list[Ticket]:
        """The next `count` answers, or all that are left, which stay in the line."""
        return list(islice(self._line, count))

    def put_back(self, ticket: Ticket) -> None:
        """Lets an answer that was taken begin again, as the next."""
        self._line.appendleft(ticket)

    def take(self, count: int) -> list[Ticket]:
        """The next `count` answers, or all that are left."""
        return [self._line.popleft() for _ in range(min(count, len(self._line)))]

    def uniforms(self, tickets: Sequence[Ticket]) -> list[Float[Tensor, " R"]]:
        """The random numbers of each of `tickets`."""
        drawn = {
            number: uniforms(self._requests[number])
            for number in {ticket.request for ticket in tickets}
        }
        return [drawn[ticket.request][ticket.sample] for ticket in tickets]
