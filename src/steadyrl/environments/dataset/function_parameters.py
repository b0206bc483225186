"""Parameters of custom reward functions."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Named parameters of a function.

    Example:
        Parameters(names=frozenset({"completions"}), required=frozenset(), takes_all=True)
    """

    names: frozenset[str]
    required: frozenset[str]

    takes_all: bool
    """Whether it takes any other keyword argument."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Parameters":
        """The parameters of `function`."""
        parameters = inspect.signature(function).parameters.values()
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return cls(
            names=frozenset(p.name for p in named),
            required=frozenset(p.name for p in named if p.default is p.empty),
            takes_all=any(p.kind is p.VAR_KEYWORD for p in parameters),
        )

    @property
    def one_by_one(self) -> bool:
        """Whether it takes a single completion."""
        return "completion" in self.names

    @property
    def takes_completions(self) -> bool:
        """Whether it receives the completions at all."""
        known = {"completion", "completions", "completion_ids"}
        return self.takes_all or not known.isdisjoint(self.names)
