"""The Dockerfile against the repository and the Makefile. No test builds it: that takes Docker."""

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

from steadyrl.cli.train import described

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, without comments and continued lines."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in joined if line]


def of(name: str) -> list[str]:
    return [arguments for each, arguments in instructions() if each == name]


def sources() -> list[str]:
    return [source for arguments in of("COPY") for source in shlex.split(arguments)[:-1]]


def makefile_commands(target: str) -> list[str]:
    """The commands of a target, for an image in which the packages are not in a `$(BIN)`."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rule = re.search(rf"^{re.escape(target)}:[^\n]*\n((?:\t[^\n]*\n)+)", text, re.MULTILINE)
    assert rule is not None
    return [line.strip().replace("$(BIN)/", "") for line in rule[1].splitlines()]


def test_whatever_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [pattern[1:] for pattern in ignored if pattern.startswith("!")]

    assert sorted(sources()) == sorted(kept)
    assert [source for source in sources() if not (ROOT / source).exists()] == []


def test_packages_are_installed_by_the_commands_of_the_makefile_in_their_order() -> None:
    installs = [command for command in of("RUN") if command.startswith("pip ")]
    torch = [c for c in makefile_commands("$(VENV)/torch.stamp") if c.startswith("pip ")]
    rest = [c for c in makefile_commands("$(VENV)/run.stamp") if c.startswith("pip ")]

    assert installs == [*torch, *rest]


def test_the_image_runs_the_demo_as_the_makefile_does() -> None:
    (entry,), (arguments,) = of("ENTRYPOINT"), of("CMD")
    words = json.loads(entry) + json.loads(arguments)
    (made,) = makefile_commands("demo")

    assert words[:-1] == shlex.split(made)[:-1]
    assert described(words[2:])[1].out == Path("runs/demo")


def test_the_demo_runs_as_a_user_who_may_write_its_folder() -> None:
    names = [name for name, _ in instructions()]
    (user,) = of("USER")

    assert user not in ("root", "0")
    assert names.index("USER") > max(n for n, name in enumerate(names) if name == "RUN")
    assert any(f"useradd --create-home {user}" in command for command in of("RUN"))
    assert f"mkdir runs && chown {user} runs" in of("RUN")
    assert of("WORKDIR") == ["/app"]


def test_what_the_package_needs_to_be_built_is_copied() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    readme = re.search(r'^readme = "(.+)"$', project, re.MULTILINE)
    (license_file,) = json.loads(re.search(r"^license-files = (.+)$", project, re.MULTILINE)[1])

    assert readme is not None
    for name in ("pyproject.toml", readme[1], license_file):
        assert any(fnmatch(name, source) for source in sources())
