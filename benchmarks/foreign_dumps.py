r"""How well `steadyrl compare-dumps` names faults in the dumps of each framework.

    python benchmarks/foreign_dumps.py --out benchmarks/results/foreign_dumps.json \
        --page docs/compare_dumps.md

A small Mixture-of-Experts model is trained, and sampled with engines that are sound or faulty.
Every sample is written as each framework would write it, read back from the files, and compared.
Bounds were chosen on the worlds of seeds 0, 300, 1000, 2000 and 3000.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from dump_faults import FAULTY, SOUND, Case
from dump_world import Samples, World, make_world
from dump_writers import WRITERS

from steadyrl.analysis.dumps import Comparison, compare, pair, read_content, read_dump
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest

WITH_ROUTES = frozenset({"verl", "slime", "steadyrl"})
"""Formats that record the engine's routes."""

TWO_SIDED = frozenset({"verl", "slime", "steadyrl"})
"""Formats in which engine and trainer record their own tokens, in two files."""


MARKS = ("<!-- table:begin -->", "<!-- table:end -->")


class Options(Settings):
    """Inject faults into dumps, and see what a comparison says."""

    seed: int = 700
    """Seed of the world; the samples have the seeds that follow it."""

    samples: int = 3
    """Dumps of each kind."""

    run: Path | None = None
    """Where to keep the training run; None: nowhere."""

    out: Path | None = None
    """Where to write the numbers as JSON."""

    page: Path | None = None
    """Page that gets the table, between its marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdicts on one kind of dump in one format."""

    format: str
    case: str
    cause: str | None
    """What the dump lets one name of the injected fault; None for sound dumps."""

    right: int
    of: int
    verdicts: dict[str, int]
    """How often each verdict was given."""


def compared(format: str, samples: Samples, folder: Path) -> Comparison:
    """The comparison of what a framework writes of `samples`."""
    paths = WRITERS[format](samples, folder)
    dumps = [read_dump(read_content(path), path.name) for path in paths]
    assert all(dump.format == format for dump in dumps), "formats are told apart"
    return compare(pair(*dumps))


def said(comparison: Comparison) -> str:
    """The cause of a fault, or the verdict."""
    found = comparison.finding
    return str(found.cause if found is not None and found.is_fault else comparison.verdict)


def measure(
    world: World, cases: Sequence[Case], seeds: Sequence[int], folder: Path
) -> list[Outcome]:
    """The outcome of every case in every format that can hold it."""
    verdicts: dict[tuple[str, Case], Counter[str]] = {}
    for seed in seeds:
        for case in cases:
            samples = case.make(world, seed)
            alone = samples if case.alone is None else case.alone(world, seed)
            for format in WRITERS:
                if case.needs_routes and format not in WITH_ROUTES:
                    continue
                written = samples if format in TWO_SIDED else alone
                found = compared(format, written, folder / format)
                verdicts.setdefault((format, case), Counter())[said(found)] += 1
        print(f"seed {seed}", flush=True)
    return [
        Outcome(
            format=format,
            case=case.name,
            cause=(cause := case.expected(both_sides=format in TWO_SIDED)),
            right=counts[cause or "sound"],
            of=sum(counts.values()),
            verdicts=dict(counts),
        )
        for (format, case), counts in verdicts.items()
    ]


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Cases by row, with the verdict they should get, and formats by column, as Markdown."""
    formats = list(WRITERS)
    found = {(outcome.case, outcome.format): outcome for outcome in outcomes}
    lines = [f"| case | verdict | {' | '.join(formats)} |", f"|---|---|{'---|' * len(formats)}"]
    for case in dict.fromkeys(outcome.case for outcome in outcomes):
        cells = [
            f"{found[case, format].right}/{found[case, format].of}"
            if (case, format) in found
            else "-"
            for format in formats
        ]
        named = [outcome.cause or "sound" for outcome in outcomes if outcome.case == case]
        lines.append(f"| {case} | {' or '.join(dict.fromkeys(named))} | {' | '.join(cells)} |")
    return lines


def redraw(page: Path, outcomes: Sequence[Outcome]) -> None:
    """Replaces the table between the marks of `page`."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"{MARKS[0]}\n")
    _, end, after = rest.partition(f"\n{MARKS[1]}")
    if not end:
        raise UserError(f"{page} has no {' and '.join(MARKS)}. Put them around the table.")
    text = "".join([before, begin, "\n".join(table(outcomes)), end, after])
    page.write_text(text, encoding="utf-8")


def content(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """The numbers, for JSON."""
    faulty = [outcome for outcome in outcomes if outcome.cause is not None]
    sound = [outcome for outcome in outcomes if outcome.cause is None]
    return {
        "named": sum(outcome.right for outcome in faulty),
        "faulty": sum(outcome.of for outcome in faulty),
        "false_alarms": sum(outcome.of - outcome.right for outcome in sound),
        "sound": sum(outcome.of for outcome in sound),
        "outcomes": [asdict(outcome) for outcome in outcomes],
        **manifest(seed),
    }


def publish(outcomes: Sequence[Outcome], seed: int, out: Path | None) -> None:
    """Prints the table and what was missed, and writes the numbers."""
    print("\n".join(table(outcomes)))
    for outcome in outcomes:
        if outcome.right < outcome.of:
            print(f"{outcome.format}, {outcome.case}: {outcome.verdicts}")
    if out is not None:
        write_atomically(out, json.dumps(content(outcomes, seed), indent=2) + "\n")


def main(options: Options) -> None:
    """Trains the world and compares its dumps."""
    torch.set_num_threads(1)
    seeds = range(options.seed + 1, options.seed + 1 + options.samples)
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        world = make_world(options.run or folder / "run", options.seed)
        outcomes = measure(world, (*SOUND, *FAULTY), seeds, folder)
    publish(outcomes, options.seed, options.out)
    if options.page is not None:
        redraw(options.page, outcomes)


if __name__ == "__main__":
    main(script_options(Options))
