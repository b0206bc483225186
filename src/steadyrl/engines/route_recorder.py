"""Recorder of the routes of running sequences, each stored once.

    prompt      one piece, shared by all its completions
    step        the next entries of a block, one per running sequence
    block full  its entries are sorted by sequence on the CPU, and each sequence gets its piece
    take        pieces and remaining block entries of a finished sequence

The accelerator holds one block only, and memory grows with the number of sampled tokens. A step
costs two copies, however many sequences start, move and end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steadyrl.records.routing import Routing, fed_token_checksums, fed_tokens_checksum

BLOCK_BYTES = 1 << 14
"""Bytes of routes per row in a full block, large enough that tensor overhead is small."""


@dataclass(slots=True)
class _Recorded:
    """Routes of one sequence, starting with the prompt."""

    pieces: list[Integer[Tensor, "_S L K"]]
    length: int
    checksum: int
    """Checksum of the fed tokens, without int64 wrapping."""


@dataclass(slots=True)
class _Block:
    """Tokens and routes of the last steps, one entry per sequence and step."""

    fed: Int[Tensor, " M"]
    experts: Integer[Tensor, "M L K"]
    owners: Int[Tensor, " M"]
    """Sequence number of each entry, on the CPU."""

    used: int = 0


@dataclass(slots=True, kw_only=True)
class RouteRecorder:
    """Records the routes of up to `rows` concurrent sequences, by row.

    Sequences are numbered in the order of their start.
    """

    rows: int
    dtype: torch.dtype
    block_bytes: int = BLOCK_BYTES
    _begun: int = 0
    _recorded: dict[int, _Recorded] = field(default_factory=dict)
    """Routes by sequence number, of running sequences and finished ones not taken yet."""

    _running: Int[Tensor, " B"] = field(init=False)
    """Sequence number of each row."""

    _dropped: list[int] = field(default_factory=list)
    """Sequences whose entries in the block are no longer needed."""

    _block: _Block | None = None

    @torch.inference_mode(False)
    def __post_init__(self) -> None:
        self._running = torch.zeros(self.rows, dtype=torch.long)

    @torch.inference_mode(False)
    def reserve(self, rows: int) -> None:
        """Makes room for `rows` rows."""
        if rows > self.rows:
            self._running = torch.nn.functional.pad(self._running, (0, rows - self.rows))
            self.rows = rows
            if self._block is not None:
                self._clear_block(self._block)
                self._block = None

    @torch.inference_mode(False)  # a trainer may use the routes under autograd
    def begin(
        self,
        rows: Sequence[int],
        source: Sequence[int],
        prompts: Sequence[Int[Tensor, " _P"]],
        experts: Integer[Tensor, "U P L K"],
    ) -> None:
        """Starts sequences in `rows`, each with prompt number `source` of `prompts`."""
        lengths = [len(prompt) for prompt in prompts]
        tokens = pad_sequence(list(prompts), batch_first=True).cpu()
        known = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
        packed = experts[:, : tokens.shape[1]].to("cpu", self.dtype)[known]
        pieces, checksums = packed.split(lengths), fed_tokens_checksum(tokens, known).tolist()
        numbers = range(self._begun, self._begun + len(rows))
        for number, n in zip(numbers, source, strict=True):
            self._recorded[number] = _Recorded([pieces[n]], lengths[n], checksums[n])
        self._running[list(rows)] = torch.tensor(numbers)
        self._begun = numbers.stop

    def step(self, fed: Int[Tensor, " N"], experts: Integer[Tensor, "N L K"]) -> None:
        """Records one token for each sequence in rows 0 to `N` - 1."""
        block = self._block
        if block is None:
            block = self._block = self._new_block(fed, experts)
        elif block.used + len(fed) > len(block.fed):
            self._clear_block(block)
        entries = slice(block.used, block.used + len(fed))
        block.fed[entries] = fed
        block.experts[entries] = experts
        block.owners[entries] = self._running[: len(fed)]
        block.used = entries.stop

    def numbers(self, rows: Sequence[int]) -> list[int]:
        """Sequence numbers of `rows`."""
        return self._running[list(rows)].tolist()

    def drop(self, numbers: Sequence[int]) -> None:
        """Discards these sequences."""
        for number in numbers:
            del self._recorded[number]
        self._dropped += numbers

    def move(self, movers: Sequence[int], holes: Sequence[int]) -> None:
        """Moves the sequences in rows `movers` to rows `holes`."""
        if holes:
            self._running[list(holes)] = self._running[list(movers)]

    @torch.inference_mode(False)
    def take(self, numbers: Sequence[int]) -> list[Routing]:
        """Returns and discards the routing of these finished sequences."""
        if self._block is not None and self._block.used:
            self._take_pieces(self._block, numbers)
        recorded = [self._recorded.pop(number) for number in numbers]
        self._dropped += numbers
        everywhere = torch.ones(1, max(sequence.length for sequence in recorded), dtype=torch.bool)
        known = {length: everywhere[:, :length] for length in {s.length for s in recorded}}
        return [
            Routing(
                experts=(tuple(sequence.pieces),),
                known=known[sequence.length],
                fed_tokens=torch.tensor([_wrap_int64(sequence.checksum)]),
            )
            for sequence in recorded
        ]

    def _new_block(self, fed: Int[Tensor, " N"], experts: Integer[Tensor, "N L K"]) -> _Block:
        of_token = experts[0].numel() * self.dtype.itemsize
        size = self.rows * max(1, self.block_bytes // of_token)
        return _Block(
            fed=fed.new_empty(size, dtype=torch.int32),
            experts=experts.new_empty(size, *experts.shape[1:], dtype=self.dtype),
            owners=torch.empty(size, dtype=torch.long),
        )

    @torch.inference_mode(False)
    def _clear_block(self, block: _Block) -> None:
        """Moves all entries of `block` to their sequences."""
        self._take_pieces(block)
        self._dropped.clear()
        block.used = 0

    def _take_pieces(self, block: _Block, of: Sequence[int] | None = None) -> None:
        """Moves entries of `block` to the sequences `of`, or to all that are needed."""
        owners = block.owners[: block.used]
        if of is not None:
            entries = torch.isin(owners, torch.tensor(of)).nonzero().flatten()
        else:
            entries = (~torch.isin(owners, torch.tensor(self._dropped))).nonzero().flatten()
        order = entries[owners[entries].argsort(stable=True)]
        if not len(order):
            return
        numbers, counts = owners[order].unique_consecutive(return_counts=True)
        fed, experts = (
            values.index_select(0, order.to(values.device)).cpu()
            for values in (block.fed, block.experts)
        )
        recorded = [self._recorded[number] for number in numbers.tolist()]
        before = torch.tensor([sequence.length for sequence in recorded])
        ends = counts.cumsum(dim=0)
        shift = (before + counts - ends).repeat_interleave(counts)
        positions = torch.arange(1, len(order) + 1) + shift
        running_sum = fed_token_checksums(fed, positions).cumsum(dim=0)
        added = running_sum[ends - 1].diff(prepend=torch.tensor([0])).tolist()
        pieces = experts.split(counts.tolist())
        for sequence, piece, checksum in zip(recorded, pieces, added, strict=True):
            sequence.pieces.append(piece)
            sequence.length += len(piece)
            sequence.checksum += checksum


def _wrap_int64(number: int) -> int:
    """`number` with the wrapping of int64 arithmetic."""
    return (number + 2**63) % 2**64 - 2**63
