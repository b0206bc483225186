"""Makes the rule of remedies from the borders of the doses, as `lab/rule.py` states.

    python benchmarks/remedy_rule.py            # prints it
    python benchmarks/remedy_rule.py --write    # writes it to `analysis/measured_borders.json`

`steadyrl study rule` tests what is written, on runs that no border was made of.
"""

import argparse
import json
from pathlib import Path

from steadyrl.lab.catalog import DOSE_STUDIES
from steadyrl.lab.configurations import finite_json
from steadyrl.lab.rule import made_rule
from steadyrl.lab.running import StudyPaths
from steadyrl.policies.numerics import Numerics

ROOT = Path(__file__).parents[1]
RULE = ROOT / "src" / "steadyrl" / "analysis" / "measured_borders.json"


def main() -> None:
    """Makes, prints and perhaps writes."""
    options = argparse.ArgumentParser()
    options.add_argument("--write", action="store_true")
    arguments = options.parse_args()
    study = DOSE_STUDIES["dose"](Numerics.FLOAT32)
    paths = StudyPaths(records=ROOT / "results" / "runs", folders=ROOT / "runs" / "studies")
    runs = paths.records_of(study)
    records = [run for by_seed in runs.values() for run in by_seed.values()]
    values = {
        "runs": len(records),
        "commits": sorted({str(run.commit) for run in records}),
        "machines": sorted({run.machine for run in records}),
        **made_rule(study, runs).to_values(),
    }
    text = json.dumps(finite_json(values), indent=1) + "\n"
    print(text)
    if arguments.write:
        RULE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
