"""`steadyrl study`."""

from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steadyrl.analysis.remedy_rule import measured_rule
from steadyrl.base.errors import UserError
from steadyrl.base.named_object import named_object
from steadyrl.base.settings import Settings
from steadyrl.base.wording import count
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.lab.catalog import DOSE_STUDIES, RULE_STUDIES, STUDIES
from steadyrl.lab.dose import DoseStudy
from steadyrl.lab.dose_findings import Finding
from steadyrl.lab.dose_results import in_words, write_dose_results
from steadyrl.lab.dose_running import run_doses
from steadyrl.lab.parquet import write_parquet
from steadyrl.lab.progress_bar import ProgressBar
from steadyrl.lab.results import Judgment, with_more_seeds_if_undecided, write_results
from steadyrl.lab.rule import RuleStudy
from steadyrl.lab.rule_results import write_rule_results
from steadyrl.lab.running import StudyPaths, run_studies
from steadyrl.lab.seeds import run_on_comparable_seeds
from steadyrl.lab.study import Study
from steadyrl.lab.tables import RELATIONS, rewrite_tables, update_page
from steadyrl.policies.numerics import Numerics
from steadyrl.run.manifest import machine


class StudyOptions(Settings):
    """Run the missing runs of studies, then write data, figures and verdicts.

    Without a name, lists the studies.
    """

    names: Annotated[tuple[str, ...], Positional()] = ()
    """Studies to run. module:function names a custom study."""

    all: bool = False
    """Run every study."""

    quick: bool = False
    """Two seeds and a quarter of the gradient steps; of doses, one dial and eight runs for each of
    two remedies. The verdicts mean little."""

    numerics: Numerics | None = None
    """Numerics of the rollout engine. Default: fp8, and float32 for doses, where the only mismatch
    is then the dial's. int4 is the harsher level."""

    seeds: int | None = None
    """Number of seeds. Default: those of the study, mostly 3, and 5 if a claim stays undecided; 2
    with --quick. A seed is skipped if some of its runs were finished on another machine: runs of
    a seed are compared because they share a cold start, and processors round differently. Of doses:
    the most runs under a remedy."""

    processes: int = 2
    """Maximum number of concurrent runs, each on one thread."""

    out: Path = Path("results")
    """Folder of the results."""

    work: Path = Path("runs/studies")
    """Folder of the run folders, from which interrupted runs resume."""

    page: tuple[Path, ...] = ()
    """Markdown pages with marks, whose tables are updated from all results."""

    tables: bool = False
    """Run nothing: write the tables of all studies in --out, and of --page, again from their
    data."""

    parquet: Path | None = None
    """Also write the records of all runs in --out as one Parquet file. Without a study, nothing
    else is done."""


def study_command(arguments: list[str], console: Console) -> None:
    """Runs studies and prints their verdicts."""
    options = read_options(StudyOptions, arguments, program="steadyrl study")
    _check_names(options)
    if options.tables:
        console.print(f"tables of {rewrite_tables(options.out)} studies written", markup=False)
        for page in options.page:
            update_page(page, options.out)
        return
    if not options.names and not options.all:
        if options.parquet is not None:
            _write_records(options.out, options.parquet, console)
            return
        names = (*STUDIES, *DOSE_STUDIES, *RULE_STUDIES)
        width = 2 + max(map(len, names))
        for name in names:
            line = f"{name:<{width}}{_made(name, options.numerics).title}"
            console.print(line, markup=False, soft_wrap=True)
        return
    paths = StudyPaths(records=options.out / "runs", folders=options.work)
    chosen = _chosen(options)
    for study in chosen:
        if isinstance(study, DoseStudy):
            _run_doses(study, paths, options, console)
        elif isinstance(study, RuleStudy):
            _run_rule(study, paths, options, console)
    comparisons = [study for study in chosen if not isinstance(study, DoseStudy | RuleStudy)]
    for study in _finished(comparisons, paths, options, console):
        runs = paths.records_of(study)
        folder = options.out / study.name
        judgments = write_results(study, runs, folder)
        if judgments:
            console.print(study.title, style="bold", markup=False)
            console.print(_verdicts(judgments))
        console.print(f"figure: {folder / 'figure.svg'}", markup=False, soft_wrap=True)
    for page in options.page:
        update_page(page, options.out)
    if options.parquet is not None:
        _write_records(options.out, options.parquet, console)


def _run_doses(
    study: DoseStudy, paths: StudyPaths, options: StudyOptions, console: Console
) -> None:
    """Runs what a study of doses lacks, then writes and prints its borders."""
    with ProgressBar(console) as bar:
        run_doses(study, paths, machine(), processes=options.processes, watch=bar.show)
    folder = options.out / study.name
    findings = write_dose_results(study, paths.records_of(study), folder)
    console.print(study.title, style="bold", markup=False)
    console.print(_borders(findings))
    console.print(f"figure: {folder / 'figure.svg'}", markup=False, soft_wrap=True)


def _run_rule(study: RuleStudy, paths: StudyPaths, options: StudyOptions, console: Console) -> None:
    """Runs what a test of the rule lacks, then writes its predictions and counts them."""
    with ProgressBar(console) as bar:
        run = partial(run_studies, paths=paths, processes=options.processes, watch=bar.show)
        (controls,) = run_on_comparable_seeds([study.controls], paths, machine(), run)
        (ran,) = run_on_comparable_seeds([study], paths, machine(), run)
    folder = options.out / study.name
    found = write_rule_results(
        study, measured_rule(), paths.records_of(ran), paths.records_of(controls), folder
    )
    console.print(study.title, style="bold", markup=False)
    correct = sum(each.keeps == each.kept for each in found)
    console.print(f"{correct} of {count(len(found), 'prediction')} correct", markup=False)
    console.print(f"figure: {folder / 'figure.svg'}", markup=False, soft_wrap=True)


def _borders(findings: list[Finding]) -> Table:
    """A table of borders under each remedy."""
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(
            Text(finding.effect or ""),
            Text(f"{finding.dial.name}: {finding.remedy} {finding.event} at"),
            Text(in_words(finding.border, finding.dial)),
        )
    return table


def _write_records(results: Path, file: Path, console: Console) -> None:
    runs = count(write_parquet(results, file), "run")
    console.print(f"{runs}: {file}", markup=False, soft_wrap=True)


def _check_names(options: StudyOptions) -> None:
    """Checks that all options apply.

    Raises:
        UserError: --all besides names, or options of runs without a study to run.
    """
    if options.names and options.all:
        raise UserError(
            f"Got both --all and {', '.join(options.names)}. Remove --all, or the names."
        )
    if options.tables:
        wanted = StudyOptions(tables=True, out=options.out, page=options.page)
        if options != wanted:
            raise UserError("--tables runs nothing. Give --out and --page beside it, if any.")
        return
    listed = StudyOptions(numerics=options.numerics)
    if options.parquet is not None:
        listed = StudyOptions(out=options.out, parquet=options.parquet)
    if not options.names and not options.all and options != listed:
        raise UserError(
            "Got run options but no study. Add the name of a study, or --all; 'steadyrl study' "
            "lists them."
        )


def _finished(
    studies: list[Study], paths: StudyPaths, options: StudyOptions, console: Console
) -> list[Study]:
    """Runs `studies`, with more seeds if a claim is undecided, and returns them."""
    with ProgressBar(console) as bar:
        run = partial(run_studies, paths=paths, processes=options.processes, watch=bar.show)
        studies = run_on_comparable_seeds(studies, paths, machine(), run)
        if options.seeds is not None or options.quick:
            return studies
        more = [with_more_seeds_if_undecided(study, paths.records_of(study)) for study in studies]
        return run_on_comparable_seeds(more, paths, machine(), run)


def _chosen(options: StudyOptions) -> list[Study]:
    """The studies that the options describe.

    Raises:
        UserError: there is none of that name, or a number makes no sense.
    """
    for name, value in (("seeds", options.seeds), ("processes", options.processes)):
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}. Give 1 or more.")
    every = (
        *STUDIES,
        *(name for name in DOSE_STUDIES if not name.startswith("dose-")),
        *RULE_STUDIES,
    )
    studies = [_made(name, options.numerics) for name in options.names or every]
    if options.quick:
        studies = [study.quick() for study in studies]
    if options.seeds is not None:
        studies = [study.with_seeds(options.seeds) for study in studies]
    return studies


def _made(name: str, numerics: Numerics | None) -> Study:
    """The study of that name, or the result of `module:function`.

    Raises:
        UserError: there is none, or no study is made.
    """
    if ":" in name:
        study = named_object(name, given_as="The study")(numerics or Numerics.FP8)
        if not isinstance(study, Study):
            raise UserError(f"{name} returns a {type(study).__name__}. Let it return a Study.")
        return study
    if name in DOSE_STUDIES:
        return DOSE_STUDIES[name](numerics or Numerics.FLOAT32)
    if name in RULE_STUDIES:
        return RULE_STUDIES[name](numerics or Numerics.FLOAT32)
    if name in STUDIES:
        return STUDIES[name](numerics or Numerics.FP8)
    close = get_close_matches(name, (*STUDIES, *DOSE_STUDIES, *RULE_STUDIES), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"Unknown study {name!r}.{hint} 'steadyrl study' lists them; module:function names a "
        "custom study."
    )


def _verdicts(judgments: list[Judgment]) -> Table:
    """A table of verdicts, claims and the differences behind them."""
    table = Table.grid(padding=(0, 2))
    for judgment in judgments:
        differences = [
            f"{finding.comparison.measure}: {finding.comparison.first} "
            f"{RELATIONS[finding.comparison.relation]} {finding.comparison.second}: "
            f"{finding.difference.mean:+.3f} "
            f"({finding.difference.low:+.3f} to {finding.difference.high:+.3f})"
            for finding in judgment.findings
        ]
        text = Text("\n".join([judgment.claim.text, *differences]))
        text.stylize("dim", len(judgment.claim.text))
        table.add_row(Text(judgment.verdict.value, style="bold"), text)
    return table
