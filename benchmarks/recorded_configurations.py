"""Gives every record of a finished run the configuration that it was made with.

    python benchmarks/recorded_configurations.py

For records that older versions wrote without one. The studies are listed by the code of the commit
that each record names, taken from the history, so that the configuration is what that code
resolved: its defaults, not today's. A run made with changes that were not yet committed is looked
up in the commits that follow. Needs the whole history of the repository. Changes nothing when every
record has its configuration.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.lab.configurations import finite_json
from steadyrl.records.run_folder import write_atomically

SOURCE = "src"

LIST_RUNS = """
import json
from steadyrl.policies.numerics import Numerics
from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.records import digest_of

runs = {}
for make in STUDIES.values():
    for study in map(make, Numerics):
        for form in (study, study.quick()):
            for condition in form.conditions:
                for seed in range(form.seeds[0], form.seeds[0] + SEEDS):
                    config = condition.run(seed)
                    runs[digest_of(config)] = config.model_dump(mode="json")
print(json.dumps(runs))
"""
"""Prints the configuration of every run of every study at every level, whole and in its small form,
by the name of its record. Runs with the code of each commit."""


class Options(Settings):
    """Add to records of finished runs the configurations that they lack."""

    records: Annotated[Path, Positional()] = Path("results/runs")
    """Where the records are."""

    seeds: int = 10
    """How many seeds of each study to list."""

    again: bool = False
    """Look up the configurations that are there already, too."""


def add_configurations(
    lacking: Mapping[str, dict[str, Any]], runs: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The records among `lacking` that `runs` have, with the configuration that these have.

    Both are by the record's name.
    """
    return {
        name: record | {"configuration": finite_json(runs[name]), "changes": 0}
        for name, record in lacking.items()
        if name in runs
    }


def later_commits(commit: str) -> Iterator[str]:
    """`commit` and those after it that change the source, oldest first."""
    yield commit
    arguments = ("rev-list", "--reverse", "--ancestry-path", f"{commit}..HEAD", "--", SOURCE)
    yield from git(*arguments).decode().split()


def runs_at(commit: str, seeds: int) -> dict[str, dict[str, Any]]:
    """The configuration of every run of the studies at `commit`, by the name of its record.

    Empty where that code does not run, with the reason printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = git("archive", commit, SOURCE)
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        listed = subprocess.run(
            [sys.executable, "-c", f"SEEDS = {seeds}\n{LIST_RUNS}"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(folder) / SOURCE)},
            capture_output=True,
            text=True,
        )
    if listed.returncode:
        reason = listed.stderr.strip().splitlines()[-1]
        print(f"The studies of {commit[:7]} cannot be listed: {reason}")
        return {}
    runs: dict[str, dict[str, Any]] = json.loads(listed.stdout)
    return runs


def git(*arguments: str) -> bytes:
    """What a git command prints."""
    return subprocess.run(["git", *arguments], check=True, capture_output=True).stdout


def main(options: Options) -> None:
    """Adds what is found, and prints how many records each commit explains."""
    records = {path.stem: json.loads(path.read_text()) for path in options.records.glob("*.json")}
    lacking = {
        name: record
        for name, record in records.items()
        if options.again or "configuration" not in record
    }
    print(f"{len(records)} records, {len(lacking)} to look up")
    for made_at, count in Counter(record["commit"] for record in lacking.values()).items():
        left = {name: record for name, record in lacking.items() if record["commit"] == made_at}
        for commit in later_commits(made_at):
            found = add_configurations(left, runs_at(commit, options.seeds))
            for name, record in found.items():
                write_atomically(options.records / f"{name}.json", json.dumps(record) + "\n")
                del left[name]
            print(f"{made_at[:7]}: {len(found)} of {count} by the code of {commit[:7]}")
            if not left:
                break
        for name in left:
            print(f"{made_at[:7]}: {name} is in no study of this commit or a later one")


if __name__ == "__main__":
    main(script_options(Options))
