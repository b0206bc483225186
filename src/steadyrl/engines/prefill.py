"""Passes that compute the keys and values of many positions of a sequence at once."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.route_recorder import RouteRecorder
from steadyrl.engines.slot_cache import SlotCache
from steadyrl.policies.passes import PASS_COST, plan_passes


class Prefill:
    """Fills the slots of a cache.

    Args:
        routes: Recorder of the routes of new sequences; None: they are not recorded.
        max_positions: Maximum positions of a pass, padding included.
    """

    def __init__(
        self,
        model: EngineModel,
        cache: SlotCache,
        routes: RouteRecorder | None,
        *,
        max_positions: int,
    ) -> None:
        self._model = model
        self._cache = cache
        self._routes = routes
        self._max_positions = max_positions

    def begin(
        self, prompts: list[Int[Tensor, " _P"]], source: Int[Tensor, " N"], first: int
    ) -> Float[Tensor, "N V"]:
        """Prefills each of `prompts` once; returns the next-token logits of every new row.

        Args:
            source: Prompt index of each new row.
            first: Index of the first new row.
        """
        plan = self._plan(prompts)
        logits = []
        for numbers in plan:
            row, place = (source[:, None] == numbers).nonzero(as_tuple=True)
            passed = [prompts[number] for number in numbers]
            scores, experts = self._fill(passed, place, first + row)
            if self._routes is not None and experts is not None:
                self._routes.begin((first + row).tolist(), place.tolist(), passed, experts)
            logits.append(scores)
        places = torch.cat(plan).argsort()[source]
        return torch.cat(logits)[places.to(self._model.device)]

    def renew(self, fed: list[Int[Tensor, " _S"]]) -> None:
        """Computes keys and values of all rows anew.

        Args:
            fed: Tokens that each row has been fed, in order. Their recorded routes stay.
        """
        for rows in self._plan(fed) if fed else ():
            self._fill([fed[row] for row in rows], torch.arange(len(rows)), rows)

    def _plan(self, sequences: list[Int[Tensor, " _S"]]) -> list[Int[Tensor, " _"]]:
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        return plan_passes(lengths, self._max_positions, pass_cost=PASS_COST)

    def _fill(
        self,
        sequences: list[Int[Tensor, " _S"]],
        source: Int[Tensor, " n"],
        rows: Int[Tensor, " n"],
    ) -> tuple[Float[Tensor, "U V"], Tensor | None]:
        """Computes keys and values of `sequences` in one pass.

        Args:
            source: Sequence of each row.
            rows: Rows that get them.

        Returns:
            Logits after the last token of each, and the experts of every token if recorded.
        """
        device = self._model.device
        tokens = pad_sequence(sequences, batch_first=True).to(device)
        ends = torch.tensor([len(sequence) - 1 for sequence in sequences], device=device)
        cache = DynamicCache()
        # Padding is on the right: causality alone keeps it from every real token.
        positions = torch.arange(tokens.shape[1], device=device)[None]
        logits, experts = forward(
            self._model,
            input_ids=tokens,
            position_ids=positions,
            past_key_values=cache,
            at=positions == ends[:, None],
        )
        source_on_device = source.to(device)
        self._cache.admit(cache, source_on_device, rows.to(device), ends[source_on_device] + 1)
        return logits, experts


def forward(
    model: EngineModel, *, at: Bool[Tensor, "B S"] | None = None, **inputs: Any
) -> tuple[Float[Tensor, "N V"], Tensor | None]:
    """Logits at the positions `at`, or all, and the experts of every token if recorded."""
    inputs["use_cache"] = True
    if model.hook is None:
        return model.head.logits(inputs, at), None
    with model.hook.watch(tuple(inputs["input_ids"].shape)) as watch:
        logits = model.head.logits(inputs, at)
    return logits, watch.experts()
