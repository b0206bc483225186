"""`steadyrl compare-dumps`."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from steadyrl.analysis.dumps import (
    Comparison,
    Dump,
    compare,
    pair,
    read_content,
    read_dump,
    to_text,
)
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options


class CompareDumpsOptions(Settings):
    """Say from token-level dumps of one rollout why engine and trainer differ."""

    first: Annotated[Path, Positional()]
    """Dump of the engine, or one with the log-probabilities of both sides."""

    second: Annotated[Path | None, Positional()] = None
    """Dump of the trainer."""

    format: str = "auto"
    """Layout: auto, verl, slime, trl, openrlhf, prime-rl, nemo-rl or steadyrl."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Names that the files use for the columns of our layout."""

    quantized_engine: bool = False
    """The engine rounds its weights to 8 bits or fewer, so that a shift of the logits of a token
    after all texts is not taken for stale weights."""

    json_: bool = False
    """Print JSON instead of text."""


def compare_dumps_command(arguments: list[str], console: Console) -> None:
    """Prints the verdict, the shares of the mismatch, and the tokens that carry most of it."""
    options = read_options(CompareDumpsOptions, arguments, program="steadyrl compare-dumps")
    first = _read(options.first, options)
    second = None if options.second is None else _read(options.second, options)
    comparison = compare(pair(first, second), quantized_engine=options.quantized_engine)
    name = first.name if second is None else f"{first.name} and {second.name}"
    if options.json_:
        values = {"dumps": name, "format": first.format, **comparison.to_values()}
        console.print(json.dumps(values, indent=2), markup=False, soft_wrap=True)
        return
    console.print(to_text(comparison, name), markup=False, soft_wrap=True)
    if comparison.shares:
        console.print(_table_of_shares(comparison))
        console.print(_table_of_tokens(comparison))


def _read(path: Path, options: CompareDumpsOptions) -> Dump:
    notes: list[str] = []
    content = read_content(path, notes)
    return read_dump(
        content, path.name, format=options.format, columns=options.columns, notes=notes
    )


def _table_of_shares(comparison: Comparison) -> Table:
    table = Table(box=SIMPLE, title="where the mismatch is", title_justify="left")
    table.add_column("part")
    for name in ("tokens", "squared log-ratio"):
        table.add_column(name, justify="right")
    for share in comparison.shares:
        table.add_row(share.part, f"{share.tokens:.1%}", f"{share.mismatch:.1%}")
    return table


def _table_of_tokens(comparison: Comparison) -> Table:
    table = Table(box=SIMPLE, title="tokens with the largest log-ratios", title_justify="left")
    names = ("row", "response token", "id", "engine", "trainer", "log-ratio")
    routed = any(token.flipped_layers is not None for token in comparison.largest)
    for name in (*names, *(["layers with other experts"] if routed else [])):
        table.add_column(name, justify="right")
    for token in comparison.largest:
        difference = token.trainer_logprob - token.rollout_logprob
        table.add_row(
            str(token.row),
            str(token.position),
            str(token.token),
            f"{token.rollout_logprob:.4f}",
            f"{token.trainer_logprob:.4f}",
            f"{difference:+.4f}",
            *([str(token.flipped_layers)] if routed else []),
        )
    return table
