"""Forward passes that compute the common prefix of several rows only once.

    prefix pass     one row per group: features, keys and values of the shared tokens
    suffix passes   the rest of each row, which attends to the keys and values of its group

The features of a token only depend on the token and those before it, so they equal the features of
a pass over the whole row, up to rounding. The gradient of shared tokens is summed over their rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from transformers import Cache

from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.passes import plan_passes
from steadyrl.records.routing import PaddedRouting

MOST_MASK_ENTRIES = 1 << 26
"""Maximum number of entries in the attention mask of a suffix pass with several rows."""

ForwardPass = Callable[[dict[str, Any], Tensor, PaddedRouting | None], tuple[Tensor, Tensor | None]]
"""Function of inputs, positions `at` (b, S) and routing to replay that returns the features at
these positions (n, D), row after row, and the experts used (b, S, L, K).
"""


def shared_lengths(
    tokens: Int[Tensor, "B T"],
    attention_mask: Bool[Tensor, "B T"],
    prefix_groups: Int[Tensor, " B"],
    replay: PaddedRouting | None = None,
) -> Int[Tensor, " B"]:
    """Length of the prefix that each row shares with all rows of its group, less than the row.

    0 for a row that is alone in its group. Padding is on the right.

    Args:
        prefix_groups: Rows with equal numbers may share a prefix.
        replay: Routing to replay, which must agree on the shared prefix as well.
    """
    _, group, sizes = prefix_groups.unique(return_inverse=True, return_counts=True)
    first = _first_of_each(group)[group]
    lengths = _leading(attention_mask & attention_mask[first] & (tokens == tokens[first]))
    lengths = torch.minimum(lengths, attention_mask.sum(dim=1) - 1)
    if replay is not None:
        columns = slice(0, int(lengths.max()))
        experts, known = replay.experts[:, columns], replay.known[:, columns]
        same_experts = (experts == experts[first]).flatten(2).all(dim=-1)
        lengths = torch.minimum(lengths, _leading(same_experts & (known == known[first])))
    least = lengths.new_full((len(sizes),), tokens.shape[1])
    least = least.scatter_reduce(0, group, lengths, "amin")
    return torch.where(sizes > 1, least, 0)[group]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows and positions that one pass computes."""

    rows: Int[Tensor, " b"]

    begin: Int[Tensor, " b"]
    """First position of each row."""

    positions: Int[Tensor, "b S"]
    """Consecutive positions from `begin`, past the end of shorter rows."""

    within: Bool[Tensor, "b S"]
    """Whether a position is before the end of its row."""

    @classmethod
    def of(cls, rows: Tensor, begin: Tensor, end: Tensor) -> "_Piece":
        """The positions from `begin` to before `end`."""
        positions = begin[:, None] + torch.arange(int((end - begin).max()), device=rows.device)
        return cls(rows=rows, begin=begin, positions=positions, within=positions < end[:, None])

    def of_rows(self, values: Tensor) -> Tensor:
        """Entries of `values` (B, T, ...) at these rows and positions."""
        last = values.shape[1] - 1
        return values[self.rows[:, None], self.positions.clamp(max=last)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefixes:
    """Plan of a prefix pass and suffix passes over rows with common prefixes."""

    tokens: Int[Tensor, "B T"]

    replay: PaddedRouting | None
    """Routing to replay."""

    prefix: _Piece
    """One row per group."""

    group: Int[Tensor, " B"]
    """Row of the prefix pass that belongs to each row's group."""

    suffixes: tuple[_Piece, ...]

    @classmethod
    def of(
        cls,
        tokens: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"],
        prefix_groups: Int[Tensor, " B"],
        replay: PaddedRouting | None,
        *,
        pass_cost: int,
    ) -> "SharedPrefixes | None":
        """Plans passes that compute common prefixes once; None if nothing is shared.

        Args:
            prefix_groups: As in `shared_lengths`.
            pass_cost: As in `plan_passes`.
        """
        shared = shared_lengths(tokens, attention_mask, prefix_groups, replay)
        if not bool(shared.any()):
            return None
        # Rows without a shared prefix form one group, whose prefix is masked for them.
        sharing = torch.where(shared > 0, prefix_groups, prefix_groups.min() - 1)
        group = sharing.unique(return_inverse=True)[1]
        first = _first_of_each(group)
        begin = torch.zeros_like(first)
        ends = attention_mask.sum(dim=1)
        most = MOST_MASK_ENTRIES // tokens.shape[1]
        plan = plan_passes((ends - shared).cpu(), most, pass_cost=pass_cost)
        passes = [rows.to(tokens.device) for rows in plan]
        return cls(
            tokens=tokens,
            replay=replay,
            prefix=_Piece.of(first, begin, begin + shared.max()),
            group=group,
            suffixes=tuple(_Piece.of(rows, shared[rows], ends[rows]) for rows in passes),
        )

    @property
    def passes(self) -> int:
        """Number of forward passes."""
        return 1 + len(self.suffixes)

    def run(
        self, forward: ForwardPass, masks: AttentionMasks, *, selected: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "N D"], Integer[Tensor, "B T L K"] | None]:
        """Features of the `selected` tokens, and the experts used if `forward` records them.

        Args:
            selected: Mask over all columns but the last.
        """
        places = self._places()
        indices = places[:, :-1][selected]
        sizes = [piece.positions.numel() for piece in (self.prefix, *self.suffixes)]
        at = selected.new_zeros(sum(sizes)).index_fill(0, indices, True)
        at_pieces = at.split(sizes)
        cache = _PrefixCache()
        outputs = [self._pass(forward, self.prefix, at_pieces[0], past_key_values=cache)]
        for suffix, at_suffix in zip(self.suffixes, at_pieces[1:], strict=True):
            group = self.group[suffix.rows]
            cache.read_by(group)
            before = self.prefix.positions[group]
            absent = before >= suffix.begin[:, None]
            mask = masks.of(
                suffix.positions,
                torch.cat([before, suffix.positions], dim=1),
                torch.cat([absent, torch.zeros_like(suffix.within)], dim=1),
            )
            inputs = {"past_key_values": cache, "attention_mask": mask}
            outputs.append(self._pass(forward, suffix, at_suffix, **inputs))
        features = torch.cat([features for features, _ in outputs])
        experts = [used.flatten(0, 1) for _, used in outputs if used is not None]
        used = torch.cat(experts)[places] if experts else None
        return features[(at.cumsum(0) - 1)[indices]], used

    def _pass(
        self, forward: ForwardPass, piece: _Piece, at: Bool[Tensor, " _"], **inputs: Any
    ) -> tuple[Tensor, Tensor | None]:
        tokens, replay = piece.of_rows(self.tokens), self.replay
        if replay is not None:
            replay = PaddedRouting(
                experts=piece.of_rows(replay.experts), known=piece.of_rows(replay.known)
            )
        inputs |= {
            "input_ids": tokens,
            "position_ids": piece.positions.clamp(max=self.tokens.shape[1] - 1),
            "use_cache": True,
        }
        return forward(inputs, at.view_as(tokens), replay)

    def _places(self) -> Int[Tensor, "B T"]:
        """Index of each token's features in those of all passes; arbitrary for padding."""
        groups, length = self.prefix.positions.shape
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        places = self.group[:, None] * length + columns
        size = groups * length
        for suffix in self.suffixes:
            entries = size + torch.arange(suffix.positions.numel(), device=columns.device)
            within = suffix.within
            rows = suffix.rows[:, None].expand_as(within)[within]
            places[rows, suffix.positions[within]] = entries.view_as(within)[within]
            size += suffix.positions.numel()
        return places.clamp(max=size - 1)


class _PrefixCache(Cache):
    """Keys and values of the prefix pass, for the suffix passes to read."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._group: Tensor | None = None

    def read_by(self, group: Int[Tensor, " b"]) -> None:
        """Lets row `i` of the next pass see the keys and values of prefix row `group[i]`."""
        self._group = group

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Float[Tensor, "b H S D"], Float[Tensor, "b H S V"]]:
        """Stores keys and values in the prefix pass; prepends them in suffix passes."""
        if self._group is None:
            self._keys.append(key_states)
            self._values.append(value_states)
            return key_states, value_states
        keys, values = self._keys[layer_idx][self._group], self._values[layer_idx][self._group]
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of cached columns before those of the pass."""
        return 0 if self._group is None else self._keys[layer_idx].shape[2]


def _first_of_each(group: Int[Tensor, " B"]) -> Int[Tensor, " _"]:
    """First row of each group; groups are numbered without gaps."""
    rows = torch.arange(len(group), device=group.device)
    first = rows.new_full((int(group.max()) + 1,), len(group))
    return first.scatter_reduce(0, group, rows, "amin")


def _leading(true: Bool[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Number of leading true entries of each row."""
    return true.long().cumprod(dim=1).sum(dim=1)
