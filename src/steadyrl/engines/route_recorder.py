"""Routes of the sequences that are being written, each of them stored once.

    prompt      one piece, shared by all answers to it
    step        the next entries of a block, one for each running sequence
    block full  its entries are sorted by sequence, on the CPU; each sequence gets its piece
    finished    a sequence is a list of pieces

So the accelerator holds one block, and what is kept grows with what is written. A step costs two
copies, however many sequences begin, move and end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steadyrl.records.routing import Routing, fed_token_checksums, fed_tokens_checksum

BLOCK_BYTES = 1 << 14
"""Routes of one row in a full block: so many that a tensor for them costs little."""


@dataclass(slots=True)
class _Recorded:
    """One sequence: the experts chosen for it, first for the prompt, at so many positions."""

    pieces: list[Integer[Tensor, "_S L K"]]
    length: int


@dataclass(slots=True)
class _Block:
    """What was fed and chosen in the last steps, one entry per sequence and step."""

    fed: Int[Tensor, " M"]
    experts: Integer[Tensor, "M L K"]
    numbers: list[Int[Tensor, " _N"]] = field(default_factory=list)
    """For each step, the numbers of the sequences that its entries belong to."""

    used: int = 0


@dataclass(slots=True, kw_only=True)
class RouteRecorder:
    """Records the routes of up to `rows` sequences at a time, by the rows they are written in."""

    rows: int
    dtype: torch.dtype
    block_bytes: int = BLOCK_BYTES
    _recorded: list[_Recorded] = field(default_factory=list)
    """All sequences, by number: they are numbered as they begin."""

    _running: Int[Tensor, " B"] = field(init=False)
    """The number of the sequence in each row. Replaced, never changed: blocks refer to it."""

    _finished: list[int] = field(default_factory=list)
    _dropped: list[int] = field(default_factory=list)
    _checksums: list[tuple[Int[Tensor, " _N"], Int[Tensor, " _N"]]] = field(default_factory=list)
    """Numbers of sequences, and what was added to the checksum of each."""

    _block: _Block | None = None

    def __post_init__(self) -> None:
        self._running = torch.zeros(self.rows, dtype=torch.long)

    @torch.inference_mode(False)  # a trainer may use the routes under autograd
    def begin(
        self,
        rows: Sequence[int],
        source: Sequence[int],
        prompts: Sequence[Int[Tensor, " _P"]],
        experts: Integer[Tensor, "U P L K"],
    ) -> None:
        """Sequences begin in `rows`, each with the prompt number `source` of `prompts`."""
        lengths = [len(prompt) for prompt in prompts]
        tokens = pad_sequence(list(prompts), batch_first=True).cpu()
        known = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
        packed = experts[:, : tokens.shape[1]].to("cpu", self.dtype)[known]
        pieces = packed.split(lengths)
        numbers = torch.arange(len(self._recorded), len(self._recorded) + len(rows))
        self._recorded += [_Recorded([pieces[n]], lengths[n]) for n in source]
        self._checksums.append((numbers, fed_tokens_checksum(tokens, known)[list(source)]))
        self._replace(rows, numbers)

    def step(self, fed: Int[Tensor, " N"], experts: Integer[Tensor, "N L K"]) -> None:
        """The sequences in rows 0 to `N` - 1 were fed one token each."""
        block = self._block
        if block is None:
            block = self._block = self._new_block(fed, experts)
        elif block.used + len(fed) > len(block.fed):
            self._take_pieces(block)
        entries = slice(block.used, block.used + len(fed))
        block.fed[entries] = fed
        block.experts[entries] = experts
        block.numbers.append(self._running[: len(fed)])
        block.used = entries.stop

    def finish(self, rows: Sequence[int]) -> None:
        """The sequences in `rows` end."""
        self._finished += self._running[list(rows)].tolist()

    def drop(self, row: int) -> None:
        """Forgets the sequence in `row`, which will begin again."""
        self._dropped.append(int(self._running[row]))
        self._recorded[self._dropped[-1]].pieces.clear()

    def move(self, movers: Sequence[int], holes: Sequence[int]) -> None:
        """The sequences in the rows `movers` go on in the rows `holes`."""
        if holes:
            self._replace(holes, self._running[list(movers)])

    @torch.inference_mode(False)
    def routings(self) -> list[Routing]:
        """The routing of each sequence that has ended, in the order in which they did."""
        if not self._finished:
            return []
        if self._block is not None and self._block.used:
            self._take_pieces(self._block)
        numbers, added = (torch.cat(parts) for parts in zip(*self._checksums, strict=True))
        sums = torch.zeros(len(self._recorded), dtype=torch.long).index_add_(0, numbers, added)
        recorded = [self._recorded[number] for number in self._finished]
        lengths = {sequence.length for sequence in recorded}
        everywhere = torch.ones(1, max(lengths), dtype=torch.bool)
        known = {length: everywhere[:, :length] for length in lengths}
        return [
            Routing(
                experts=(tuple(sequence.pieces),),
                known=known[sequence.length],
                fed_tokens=checksum,
            )
            for sequence, checksum in zip(recorded, sums[self._finished].split(1), strict=True)
        ]

    def _replace(self, rows: Sequence[int], numbers: Int[Tensor, " N"]) -> None:
        self._running = self._running.clone()
        self._running[list(rows)] = numbers

    def _new_block(self, fed: Int[Tensor, " N"], experts: Integer[Tensor, "N L K"]) -> _Block:
        of_token = experts[0].numel() * self.dtype.itemsize
        size = self.rows * max(1, self.block_bytes // of_token)
        return _Block(
            fed=fed.new_empty(size, dtype=torch.int32),
            experts=experts.new_empty(size, *experts.shape[1:], dtype=self.dtype),
        )

    @torch.inference_mode(False)
    def _take_pieces(self, block: _Block) -> None:
        """Gives each sequence its piece of `block`, which is empty afterwards."""
        owners = torch.cat(block.numbers)
        order = owners.argsort(stable=True)
        if self._dropped:
            order = order[~torch.isin(owners[order], torch.tensor(self._dropped))]
        numbers, counts = owners[order].unique_consecutive(return_counts=True)
        fed, experts = (
            values[: block.used].cpu().index_select(0, order)
            for values in (block.fed, block.experts)
        )
        recorded = [self._recorded[number] for number in numbers.tolist()]
        before = torch.tensor([sequence.length for sequence in recorded])
        ends = counts.cumsum(dim=0)
        shift = (before + counts - ends).repeat_interleave(counts)
        positions = torch.arange(1, len(order) + 1) + shift
        running_sum = fed_token_checksums(fed, positions).cumsum(dim=0)
        self._checksums.append((numbers, running_sum[ends - 1].diff(prepend=torch.tensor([0]))))
        pieces = experts.split(counts.tolist())
        for sequence, piece in zip(recorded, pieces, strict=True):
            sequence.pieces.append(piece)
            sequence.length += len(piece)
        self._dropped.clear()
        block.numbers.clear()
        block.used = 0
