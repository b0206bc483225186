"""Layers, sizes, and documents that say what is there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.generator import outdated

from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.objectives import Masking
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import start_run
from tests.run.tiny import tiny_experiential_run, tiny_run

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "steadyrl"
MODULES = sorted(SOURCE.rglob("*.py"))


def test_no_layer_imports_a_higher_one() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


def test_every_package_has_its_place_among_the_layers() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("\n]")[0]
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}

    assert set(re.findall(r"steadyrl\.(\w+)", contract)) == packages


def imported(file: Path) -> set[str]:
    """Names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def private_names(file: Path) -> set[str]:
    """Names with one underscore that a file reads, writes or imports, also through a string."""
    names: list[object] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr=name):
                names.append(name)
            case ast.ImportFrom(module=module, names=aliases):
                names += [*(module or "").split("."), *(alias.name for alias in aliases)]
            case ast.Import(names=aliases):
                names += [part for alias in aliases for part in alias.name.split(".")]
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr")):
                names += [part.value for part in node.args if isinstance(part, ast.Constant)]
            case ast.Subscript(value=ast.Call(func=ast.Name(id="vars")), slice=ast.Constant(name)):
                names.append(name)
    return {name for name in names if isinstance(name, str) and re.match(r"_[A-Za-z]", name)}


def own_private_names(file: Path) -> set[str]:
    """Names with one underscore that a file defines: in a class, by a `def`, or on `self`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Attribute(attr=name, value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                names.add(name)
    return names


def test_private_names_of_other_packages_are_in_one_module() -> None:
    known = {"_exit", "_replace", "_fields", "_asdict"}  # documented by the standard library
    known |= set().union(*map(own_private_names, MODULES))
    used = {file.name: private_names(file) - known for file in MODULES}
    compat = used.pop("compat.py")

    assert {name: names for name, names in used.items() if names} == {}
    assert "_can_record_outputs" in compat  # so that the search finds them


def test_objectives_know_torch_jaxtyping_pydantic_records_and_base_only() -> None:
    allowed = {"torch", "jaxtyping", "pydantic", *sys.stdlib_module_names}
    for file in (SOURCE / "objectives").glob("*.py"):
        for name in imported(file):
            ours = name.startswith(("steadyrl.objectives", "steadyrl.records", "steadyrl.base"))
            assert ours or name.partition(".")[0] in allowed, f"{file.name} imports {name}"


def test_engines_policies_and_objectives_know_no_rewards() -> None:
    for package in ("objectives", "policies", "engines"):
        for file in (SOURCE / package).glob("*.py"):
            names = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            used = {node.attr for node in names if isinstance(node, ast.Attribute)}
            assert not used & {"reward"}, f"{file} reads a reward"


def test_annotations_are_evaluated_so_that_shapes_are_checked() -> None:
    future = "from __future__ import " + "annotations"
    folders = (SOURCE, ROOT / "tests", ROOT / "benchmarks")
    files = [file for folder in folders for file in folder.rglob("*.py")]

    assert [file for file in files if future in file.read_text(encoding="utf-8")] == []


def test_no_source_file_is_longer_than_300_lines() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_every_module_and_package_says_what_it_is() -> None:
    silent = [file for file in MODULES if not ast.get_docstring(ast.parse(file.read_text("utf-8")))]

    assert silent == []


# Documents.


def tree() -> list[Path]:
    """The paths that the README's tree names, relative to the root."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Files\n")[2]
    drawing = section.partition("```")[2].partition("```")[0].strip().splitlines()
    paths, top = [], Path()
    for line in drawing:
        branch, name = re.match(r"([│├└─ ]*)(\S+)", line).groups()
        if branch:
            paths.append(top / name)
        else:
            top = Path(name)
            paths.append(top)
    return paths


def test_readme_tree_names_what_exists_and_every_package() -> None:
    paths = tree()
    packages = {path.parent.relative_to(ROOT) for path in SOURCE.glob("*/__init__.py")}

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert packages - set(paths) == set()


def test_generated_pages_are_up_to_date() -> None:
    assert [path.name for path in outdated()] == [], "run `make docs`"


@pytest.mark.slow
def test_every_metric_that_a_run_writes_is_documented(tmp_path: Path) -> None:
    held = {"prompts": 4, "group_size": 4, "mini_batches": 2, "reference_kl": {"coefficient": 0.1}}
    drift = tiny_run().evaluation.model_copy(update={"drift": "always"})
    checks = {"every": 1}
    plain = tiny_run(evaluate_every=6, algorithm=held, evaluation=drift, canary=checks)
    start_run(plain, tmp_path / "plain")
    erl = tiny_experiential_run().algorithm.model_copy(update={"correction": Masking()})
    start_run(tiny_experiential_run(evaluate_every=6, algorithm=erl), tmp_path / "experiential")
    folders = [RunFolder(tmp_path / name) for name in ("plain", "experiential")]
    rows = [row for folder in folders for row in folder.read_metrics()]
    written = {name for row in rows for name in row} - {"stage", "step"}
    documented = {name for name in METRIC_TEXTS if "/" not in name}

    of_other_runs = {  # tests/training/test_staleness.py, tests/run/test_rollout_restarts.py
        "dropped_fraction",
        "dropped_response_length",
        "dropped_reward",
        "engine_restarts",
        "rollout_staleness_kl_k3",
        "staleness_oldest",
    }
    assert written - documented == set()
    assert documented - written == of_other_runs


def test_nothing_names_a_path_of_one_machine() -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    places = re.compile(r"(?<![\w.])/(?:home|Users|root|work|mnt|tmp)/\w")
    found = []
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.is_file() and file.suffix in (".py", ".md", ".toml", ".txt", ".yaml", ".json", ""):
            text = file.read_text(encoding="utf-8", errors="ignore")
            found += [f"{name}: {match.group()}" for match in places.finditer(text)]

    assert found == []
