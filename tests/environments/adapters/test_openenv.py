"""OpenEnv in both directions, with the real package and real servers in processes of their own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

pytest.importorskip("openenv.core", reason="OpenEnv is in an environment of its own")
pytestmark = [pytest.mark.adapters, pytest.mark.filterwarnings("default")]

from openenv.core import GenericEnvClient  # noqa: E402

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings  # noqa: E402
from steadyrl.base.errors import UserError  # noqa: E402
from steadyrl.engines.driver import drive  # noqa: E402
from steadyrl.engines.protocol import Sampling  # noqa: E402
from steadyrl.environments import ArithmeticSettings, FrozenLakeSettings  # noqa: E402
from steadyrl.environments.adapters.openenv_client import OpenEnvSettings  # noqa: E402
from steadyrl.environments.protocol import Split  # noqa: E402
from steadyrl.rollout.episodes import play_groups  # noqa: E402
from steadyrl.rollout.tasks import make_tasks  # noqa: E402
from steadyrl.run.execution import start_run  # noqa: E402
from tests.driving import respond  # noqa: E402
from tests.rollout.fakes import TOKENIZER, ScriptedEngine  # noqa: E402
from tests.run.tiny import tiny_run  # noqa: E402

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


@contextmanager
def served(app: str, folder: Path) -> Iterator[str]:
    """URL of a server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "error"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "the server has ended"
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The environment that `openenv init` writes, as it is: it serves one session at a time."""
    folder = tmp_path_factory.mktemp("openenv")
    subprocess.run(
        [BIN / "openenv", "init", "echo_probe"],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": str(BIN)},
    )
    with served("server.app:app", folder / "echo_probe") as url:
        yield url


@pytest.fixture(scope="module")
def lake() -> Iterator[str]:
    with served("tests.environments.adapters.openenv_lake:lake", ROOT) as url:
        yield url


def test_an_environment_of_openenv_is_played_unmodified(echo: str) -> None:
    environment = OpenEnvSettings(url=echo, turns=2).make()
    task = environment.task(Split.TRAIN, 0)
    assert task.prompt[0].content == "Message to echo back\n\nEcho Probe environment ready!"
    assert environment.distinct_tasks(Split.TRAIN) is None

    episode = environment.start(task)
    first = respond(episode, "hello")
    assert [message.content for message in first.observation] == ["hello"]
    assert (first.reward, first.terminated) == (0.5, False)
    last = respond(episode, "hi")
    assert (last.reward, last.terminated) == (pytest.approx(0.2), True)
    environment.close()


def test_episodes_share_the_only_session_of_a_server_also_if_some_are_cut_off(echo: str) -> None:
    environment = OpenEnvSettings(url=echo, turns=2).make()

    def answer(prompt: str, number: int, call: int) -> str:
        return "too long..." if call and call % 2 else "word"

    try:
        groups = drive(
            play_groups(
                environment,
                ScriptedEngine(answer),
                TOKENIZER,
                make_tasks(environment, Split.TRAIN, range(2)),
                group_size=4,
                sampling=Sampling(max_new_tokens=16),
                seed=0,
            )
        )
    finally:
        environment.close()
    reasons = [t.truncation_reason for group in groups for t in group.trajectories]
    assert set(reasons) <= {"", "token budget spent"}
    assert len(reasons) == 8


@pytest.mark.timeout(300)
def test_an_environment_of_openenv_trains_unmodified(echo: str, tmp_path: Path) -> None:
    run = tiny_run(
        environment=OpenEnvSettings(url=echo, turns=1),
        cold_start=None,
        steps=2,
        algorithm=PolicyGradientSettings(prompts=2, group_size=4),
    )
    folder = start_run(run, tmp_path / "run")
    rows = [row for row in folder.read_metrics() if row.get("stage") == "rl"]
    failed = [row["environment_failed_fraction"] for row in rows if row["step"]]
    assert failed == [0, 0]


def test_an_environment_of_ours_is_a_server_and_comes_back_as_it_was(lake: str) -> None:
    ours = FrozenLakeSettings(rendering="compact", show_rulebook=True).make()
    back = OpenEnvSettings(url=lake, sessions=8).make()
    for index in range(3):
        task, served_task = ours.task(Split.TEST, index), back.task(Split.TRAIN, index)
        (solution,) = ours.solution(ours.task(Split.TRAIN, index * 3))
        assert served_task.prompt[0].content.endswith(
            ours.task(Split.TRAIN, index * 3).prompt[-1].content
        )
        assert respond(back.start(served_task), solution).reward == 1
        assert respond(back.start(served_task), "x").reward == 0
        assert task.id
    back.close()


def test_the_official_client_plays_an_environment_of_ours(lake: str) -> None:
    ours = FrozenLakeSettings(rendering="compact", show_rulebook=True).make()
    task = ours.task(Split.VALIDATION, 5)
    (solution,) = ours.solution(task)
    with GenericEnvClient(base_url=lake).sync() as client:
        first = client.reset(split="validation", index=5)
        assert first.observation["text"] == "\n\n".join(m.content for m in task.prompt)
        result = client.step({"text": solution})
        assert (result.reward, result.done) == (1.0, True)
        with pytest.raises(RuntimeError, match="reset first"):
            client.step({"text": solution})
    assert httpx.get(f"{lake}/frozen_lake/splits").json()[0]["name"] == "train"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "http://127.0.0.1:9"}, "The OpenEnv server at http://127.0.0.1:9 cannot be rea"),
        ({"action": "say"}, "environment.action is 'say', but the server's action has message"),
        ({"observation": "sight"}, "environment.observation is 'sight', but the server's obs"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    changes: dict[str, Any], message: str, echo: str
) -> None:
    with pytest.raises(UserError, match=message):
        OpenEnvSettings(**{"url": echo, **changes}).make()


def test_settings_that_cannot_be_served_are_refused() -> None:
    from steadyrl.environments.adapters.openenv_server import openenv_app
    from steadyrl.environments.agents import AgentSettings

    with pytest.raises(UserError, match="agent cannot be served"):
        openenv_app(AgentSettings(program="math:sqrt", tasks=f"{__name__}:sums"))


def sums() -> Any:
    return ArithmeticSettings().make()
