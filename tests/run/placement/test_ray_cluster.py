"""What stands in the way of a Ray cluster is said in a sentence, and within a limit."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS
from steadyrl.run.placement.settings import RayPlacement
from tests.run.tiny import tiny_run

pytest.importorskip("ray")

import ray
import torch
from ray.exceptions import RayError

from steadyrl.run.placement import cluster as clusters
from steadyrl.run.placement.actor_process import ActorProcess, reason_of
from steadyrl.run.placement.cluster import RayCluster, refusal
from steadyrl.run.placement.stored_weights import StoredWeights, put_weights

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

HALF = {"CPU": 0.5, "GPU": 0.0}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_cluster_that_is_not_there(by_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    if by_environment:
        monkeypatch.setenv("RAY_ADDRESS", address)
    placement = RayPlacement(address="auto" if by_environment else address)
    with pytest.raises(UserError, match=rf"The Ray cluster at {address} cannot be reached: .*Chec"):
        placement.open(tiny_run(), NO_PROGRESS)
    assert not ray.is_initialized()


def silent(connection: socket.socket) -> None:
    connection.recv(1 << 16)


def talkative(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("answer", [silent, talkative])
def test_a_port_of_something_else(answer: Callable[[socket.socket], None]) -> None:
    def serve() -> None:
        with suppress(OSError):
            while True:
                held.append(server.accept()[0])
                answer(held[-1])

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        placement = RayPlacement(address=address, connect_timeout=20.0)
        started = time.monotonic()
        with pytest.raises(UserError, match=f"listens at {address} did not answer as the head nod"):
            placement.open(tiny_run(), NO_PROGRESS)
    assert time.monotonic() - started < 30
    for connection in held:
        connection.close()


def test_reasons_of_ray_become_sentences() -> None:
    mismatch = RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.1")
    assert "has other versions than this process: Version mismatch" in refusal("h:1", mismatch)
    busy = refusal("local:2", Exception("The current node timed out during startup."))
    assert busy.startswith("Ray could not be started on this machine: Exception: The current node")
    assert busy.endswith("Try again when the machine is less busy.")
    long = refusal("local:2", OSError("AF_UNIX path length cannot exceed 107 bytes: /long/path"))
    assert "RAY_TMPDIR to a folder with a short path" in long
    memory = RayError("Worker exit type: NODE_OUT_OF_MEMORY Worker exit detail: ...")
    assert reason_of(memory) == "its node ran out of memory"
    node = RayError("The actor died because its node has died. Node Id: 71")
    assert reason_of(node) == "its node left the cluster"
    nowhere = refusal("auto", ConnectionError("Could not find any running Ray instance."))
    assert nowhere.startswith("No Ray cluster runs on this machine. Start one with")


class Worker:
    """A worker that answers, fails, and dies."""

    def __init__(self, progress: Any) -> None:
        self.progress = progress

    def add(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other

    def refuse(self) -> None:
        raise UserError("This is refused.")

    def fail(self) -> None:
        raise KeyError("nothing")

    def die(self) -> None:
        os._exit(3)

    def total(self, weights: StoredWeights) -> dict[str, tuple[torch.dtype, float]]:
        return {name: (weight.dtype, float(weight.sum())) for name, weight in weights.items()}


@pytest.fixture
def two(local_ray: Any) -> Iterator[RayCluster]:
    """Room for two actors."""
    cluster = RayCluster("local:2", timeout=60.0)
    cluster.reserve([HALF, HALF])
    yield cluster
    cluster.close()


def start(cluster: RayCluster, worker: str = f"{__name__}:Worker") -> ActorProcess:
    return cluster.start(
        0,
        worker,
        reserved=HALF,
        noun="part",
        ended=lambda reason: UserError(f"It ended ({reason})."),
        progress=NO_PROGRESS,
    )


def test_an_actor_answers_as_a_process_does(
    two: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = start(two)
    assert actor.ask("add", torch.arange(6.0)[::2], torch.ones(3)).result(120).tolist() == [1, 3, 5]
    with pytest.raises(UserError, match=r"^This is refused\.$"):
        actor.ask("refuse").result(60)
    with pytest.raises(RuntimeError, match=r"(?s)^The part failed.*KeyError"):
        actor.ask("fail").result(60)

    monkeypatch.setattr("steadyrl.run.placement.stored_weights.BUCKET_BYTES", 40)
    weights = {
        "a": torch.ones(2, 3),
        "b": torch.full((4,), 0.5, dtype=torch.bfloat16),
        "c": torch.arange(9.0),
        "d": torch.tensor(7),
    }
    stored = put_weights(weights.items())
    assert len(stored.buckets) == 3
    expected = {name: (weight.dtype, float(weight.sum())) for name, weight in weights.items()}
    assert actor.ask("total", stored).result(60) == expected

    answer = actor.ask("die")
    with pytest.raises(UserError, match=r"It ended \(its process died\)"):
        answer.result(60)

    monkeypatch.setattr(
        clusters, "installed_versions", lambda: {"Python": "3.0", "steadyrl": "9.9"}
    )
    with pytest.raises(UserError, match=r"other versions than this machine: .*\(here 9\.9\)"):
        start(two).ask("fail").result(120)


def test_a_worker_that_is_not_there(two: RayCluster) -> None:
    with pytest.raises(UserError, match="could not start: ModuleNotFoundError: No module named"):
        start(two, "no_such_module:Worker").ask("add").result(120)


def test_a_cluster_without_room(two: RayCluster) -> None:
    more = RayCluster("local:2", timeout=1.0)
    with pytest.raises(UserError, match=r"needs 4 CPUs and 0 GPUs for its 4 .* has 2 CPUs"):
        more.reserve([{"CPU": 1.0, "GPU": 0.0}] * 4)
    more.close()
    fast = RayCluster("local:2", timeout=1.0)
    with pytest.raises(UserError, match=r"needs 1 CPUs and 2 GPUs for its 2 .* and 0 GPUs\. Add"):
        fast.reserve([{"CPU": 0.5, "GPU": 1.0}] * 2)
    fast.close()
    busy = RayCluster("local:2", timeout=1.0)
    with pytest.raises(UserError, match=r"no room for 2 CPUs .* 1 CPUs and 0 GPUs are free\. Wai"):
        busy.reserve([{"CPU": 2.0, "GPU": 0.0}])
    busy.close()
    gpus = tiny_run().learner.model_copy(update={"device": "cuda"})
    with pytest.raises(UserError, match="the Ray cluster has no GPUs"):
        RayPlacement(address="local:2").open(tiny_run(learner=gpus), NO_PROGRESS)
