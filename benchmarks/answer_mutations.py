"""How often answers to maths problems are judged wrongly: right ones refused, wrong ones paid.

    python benchmarks/answer_mutations.py --out benchmarks/results/answer_mutations.json

Right answers of many kinds are drawn; each is rewritten in ways that must count and mutated in ways
that must not. The judge of the `math` environment is compared with math-verify alone.
"""

import json
import logging
import time
from collections import Counter
from pathlib import Path

from answer_cases import cases

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.environments.math_answers import make_agreement
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest


def math_verify_alone(gold: str, answer: str, problem: str) -> bool:
    """What math-verify says to both texts as they are."""
    from math_verify import parse, verify

    if gold.strip() == answer.strip():
        return True
    both = [parse(rf"\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
    return bool(verify(*both, timeout_seconds=None))


class Options(Settings):
    """Count answers that are judged wrongly."""

    rounds: int = 25
    """Draws of every kind."""

    seed: int = 0
    """Seed of the draws."""

    show: int = 0
    """Misjudged answers to print."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def main(options: Options) -> None:
    """Prints, for each judge, the right answers that it refuses and the wrong ones that it pays."""
    drawn = cases(options.rounds, options.seed)
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    totals = Counter("must count" if case.counts else "must not" for case in drawn)
    print(f"{len(drawn)} cases: {dict(totals)}")
    measured: dict[str, object] = {}
    for name, judge in (
        ("math environment", make_agreement()),
        ("math-verify alone", math_verify_alone),
    ):
        start = time.perf_counter()
        missed = [
            case for case in drawn if judge(case.gold, case.answer, case.problem) != case.counts
        ]
        seconds = time.perf_counter() - start
        refused, paid = [
            [case for case in missed if case.counts is counts] for counts in (True, False)
        ]
        kinds = {
            side: dict(Counter(f"{c.kind}: {c.change}" for c in side_cases).most_common())
            for side, side_cases in (("refused", refused), ("paid", paid))
        }
        measured[name] = {"right refused": len(refused), "wrong paid": len(paid), "kinds": kinds}
        print(f"{name}: {len(refused)} right refused, {len(paid)} wrong paid, {seconds:.0f} s")
        for case in missed[: options.show]:
            print("   ", case)
    if options.out is not None:
        content = {
            "cases": dict(totals),
            "seed": options.seed,
            "judges": measured,
            **manifest(options.seed),
        }
        write_atomically(options.out, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
