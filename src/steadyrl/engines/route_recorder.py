"""Routes of the sequences that are being written, each of them stored once.

    prompt      one piece, shared by all answers to it
    step        a column of a block, for all running sequences at once
    block full  its rows become pieces of the sequences they belong to, on the CPU
    retired     a sequence takes its part of the block, and is a list of pieces

So the accelerator holds one block, and what is kept grows with what is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steadyrl.records.routing import Routing, fed_tokens_checksum

BLOCK_BYTES = 1 << 14
"""Routes of one sequence in a full block: so many that a tensor for them costs little."""


@dataclass(slots=True, kw_only=True)
class _Record:
    """What one sequence was fed, and the experts chosen for it: first of the prompt."""

    fed: list[Int[Tensor, " _S"]]
    experts: list[Integer[Tensor, "_S L K"]]

    first_step: int
    """Its first column of the present block."""


@dataclass(slots=True, kw_only=True)
class _Block:
    """What was fed and chosen in the last `steps` steps, by row."""

    fed: Int[Tensor, "B S"]
    experts: Integer[Tensor, "B S L K"]
    steps: int = 0

    @property
    def is_full(self) -> bool:
        return self.steps == self.fed.shape[1]


@dataclass(slots=True, kw_only=True)
class RouteRecorder:
    """Records the routes of up to `rows` sequences at a time, by the rows they are written in."""

    rows: int
    dtype: torch.dtype
    block_bytes: int = BLOCK_BYTES
    _records: dict[int, _Record] = field(default_factory=dict)
    _finished: list[_Record] = field(default_factory=list)
    _block: _Block | None = None

    @torch.inference_mode(False)  # a trainer may use the routes under autograd
    def begin(
        self,
        rows: Sequence[int],
        source: Sequence[int],
        prompts: Sequence[Int[Tensor, " _P"]],
        experts: Integer[Tensor, "U P L K"],
    ) -> None:
        """Sequences begin in `rows`, each with the prompt number `source` of `prompts`."""
        experts = experts.to("cpu", self.dtype)
        pieces = [experts[n, : len(prompt)].clone() for n, prompt in enumerate(prompts)]
        tokens = [prompt.int().cpu() for prompt in prompts]
        first_step = 0 if self._block is None else self._block.steps
        for row, number in zip(rows, source, strict=True):
            self._records[row] = _Record(
                fed=[tokens[number]], experts=[pieces[number]], first_step=first_step
            )

    def step(self, fed: Int[Tensor, " N"], experts: Integer[Tensor, "N L K"]) -> None:
        """The sequences in rows 0 to `N` - 1 were fed one token each."""
        block = self._block
        if block is None:
            block = self._block = self._new_block(fed, experts)
        block.fed[: len(fed), block.steps] = fed
        block.experts[: len(fed), block.steps] = experts
        block.steps += 1
        if block.is_full:
            self._take_parts(list(self._records))
            block.steps = 0
            for record in self._records.values():
                record.first_step = 0

    @torch.inference_mode(False)
    def finish(self, rows: Sequence[int]) -> None:
        """The sequences in `rows` end."""
        self._take_parts(rows)
        self._finished += [self._records.pop(row) for row in rows]

    def drop(self, row: int) -> None:
        """Forgets the sequence in `row`, which will begin again."""
        del self._records[row]

    @torch.inference_mode(False)
    def routings(self) -> list[Routing]:
        """The routing of each sequence that has ended, in the order in which they did."""
        fed = [torch.cat(record.fed) for record in self._finished]
        if not fed:
            return []
        lengths = torch.tensor([len(tokens) for tokens in fed])
        padded = pad_sequence(fed, batch_first=True)
        known = torch.arange(padded.shape[1]) < lengths[:, None]
        checksums = fed_tokens_checksum(padded, known).split(1)
        everywhere = torch.ones(1, padded.shape[1], dtype=torch.bool)
        return [
            Routing(
                experts=(tuple(record.experts),),
                known=everywhere[:, : len(tokens)],
                fed_tokens=checksum,
            )
            for record, tokens, checksum in zip(self._finished, fed, checksums, strict=True)
        ]

    def move(self, movers: Sequence[int], holes: Sequence[int]) -> None:
        """The sequences in the rows `movers` go on in the rows `holes`."""
        block = self._block
        if block is not None and holes:
            for values in (block.fed, block.experts):
                values[holes, : block.steps] = values[movers, : block.steps]
        for mover, hole in zip(movers, holes, strict=True):
            self._records[hole] = self._records.pop(mover)

    def _new_block(self, fed: Int[Tensor, " N"], experts: Integer[Tensor, "N L K"]) -> _Block:
        of_token = experts[0].numel() * self.dtype.itemsize
        shape = (self.rows, max(1, self.block_bytes // of_token))
        return _Block(
            fed=fed.new_empty(shape, dtype=torch.int32),
            experts=experts.new_empty(*shape, *experts.shape[1:], dtype=self.dtype),
        )

    @torch.inference_mode(False)
    def _take_parts(self, rows: Sequence[int]) -> None:
        """Gives the sequences in `rows` what the block holds of them."""
        block = self._block
        if block is None:
            return
        parts = (values[rows, : block.steps].cpu() for values in (block.fed, block.experts))
        for row, fed, experts in zip(rows, *(part.unbind() for part in parts), strict=True):
            record = self._records[row]
            first = record.first_step
            if first == block.steps:
                continue
            # What others of its row have written before is not to stay with it.
            record.fed.append(fed[first:].clone() if first else fed)
            record.experts.append(experts[first:].clone() if first else experts)
