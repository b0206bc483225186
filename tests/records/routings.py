"""Routings made of others."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from steadyrl.records.routing import Routing


def changed(routing: Routing, change: Callable[[Tensor], Tensor]) -> Routing:
    """`routing` with `change` applied to the choices of every sequence."""
    experts = tuple(tuple(change(piece) for piece in pieces) for pieces in routing.experts)
    return replace(routing, experts=experts)
