"""Connection to a Ray cluster, and the room that a run reserves in it."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.progress import Progress
from steadyrl.run.placement.actor_process import ActorProcess
from steadyrl.run.placement.addresses import local_cpus, port_of
from steadyrl.run.placement.versions import installed_versions
from steadyrl.run.placement.worker_actor import WorkerActor

Bundle = Mapping[str, float]
"""What an actor reserves, as {"CPU": 0.5, "GPU": 1}."""

_MOST_QUESTIONS = 1 << 16
"""Questions that an actor takes at the same time; its engine decides how many it computes."""

_REACHED_WITHIN = 10.0
"""Seconds in which a head node must accept a connection."""

ANSWERS_WITHIN = 120.0
"""Seconds in which a head node must answer, where no other limit is set."""

_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""No reports of usage, and no lower priority for actors, for which the driver waits. The user's
environment prevails."""


class RayCluster:
    """A Ray cluster. A local one ends when it is closed, or with this process.

    Args:
        address: `auto`, `HOST:PORT` or `local:CPUS`.
        timeout: Seconds in which the cluster must answer, and then have room.

    Raises:
        UserError: there is no cluster, it cannot be reached, or has other versions.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._timeout = timeout
        self._address = address
        self._group: Any = None
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            connect(address, timeout)
        self.node: str = ray.util.get_node_ip_address()
        """Address of this machine in the cluster."""

    @property
    def gpus(self) -> float:
        """GPUs of the cluster."""
        return float(ray.cluster_resources().get("GPU", 0))

    def reserve(self, bundles: Sequence[Bundle]) -> None:
        """Reserves room for an actor in each of `bundles`.

        Raises:
            UserError: the cluster has no room in time.
        """
        if local_cpus(self._address) is not None and self._is_ours:
            self._check_total(bundles)  # nothing will be added
        self._group = placement_group([dict(bundle) for bundle in bundles], strategy="PACK")
        ends = time.monotonic() + self._timeout
        while not self._group.wait(min(1.0, self._timeout)):
            if time.monotonic() >= ends:
                self._check_total(bundles)
                raise UserError(
                    f"The Ray cluster had no room for {_needed(bundles)} within {self._timeout:g} "
                    f"seconds: {_amounts(ray.available_resources())} are free. Wait until other "
                    f"work has ended, {_SMALLER}."
                )

    def start(
        self,
        bundle: int,
        worker: str,
        *,
        reserved: Bundle,
        noun: str,
        ended: Callable[[str], UserError],
        progress: Progress,
        meets_at: str | None = None,
    ) -> ActorProcess:
        """Starts an actor in a bundle. See `WorkerActor` and `ActorProcess` for the arguments."""
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        actor = (
            ray.remote(WorkerActor)
            .options(
                num_cpus=reserved["CPU"],
                num_gpus=reserved["GPU"],
                scheduling_strategy=place,
                max_restarts=0,
                max_concurrency=_MOST_QUESTIONS,
            )
            .remote(worker, noun, installed_versions(), _module_folders(), meets_at)
        )
        return ActorProcess(actor, ended=ended, progress=progress)

    def close(self) -> None:
        """Gives back what is reserved, and ends the connection and a local cluster.

        What is reserved ends with the connection. Giving it back waits for the head node: if that
        has died, until Ray ends this process.
        """
        if self._is_ours:
            ray.shutdown()
        elif self._group is not None:
            with suppress(RayError):
                remove_placement_group(self._group)

    def _check_total(self, bundles: Sequence[Bundle]) -> None:
        total = ray.cluster_resources()
        for kind in ("CPU", "GPU"):
            needed, held = sum(bundle[kind] for bundle in bundles), total.get(kind, 0)
            if needed > held:
                raise UserError(
                    f"The run needs {_needed(bundles)}, but the Ray cluster has "
                    f"{_amounts(total)}. Add nodes, {_SMALLER}."
                )


_SMALLER = (
    "or set lower placement.engines, placement.cpus, placement.gpus_per_engine or learner.ranks"
)


def _module_folders() -> list[str]:
    """Where this process finds modules, also for a process that runs in another folder."""
    return [str(Path(folder).absolute()) for folder in sys.path]


def _needed(bundles: Sequence[Bundle]) -> str:
    totals = {kind: sum(bundle[kind] for bundle in bundles) for kind in ("CPU", "GPU")}
    return f"{_amounts(totals)} for its {len(bundles)} engines and ranks"


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))


def connect(address: str, timeout: float = ANSWERS_WITHIN) -> None:
    """Connects this process to a cluster, or starts a local one.

    Args:
        timeout: Seconds in which a head node at HOST:PORT must answer.

    Raises:
        UserError: there is no cluster, it cannot be reached, or has other versions.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "configure_logging": False}
    cpus = local_cpus(address)
    options: dict[str, Any] = {"address": address}
    if cpus is not None:
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    else:
        remote = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
        if port_of(remote) is not None:
            require_head_node(remote, timeout)
    try:
        with _sigterm_kept_from_ray():
            ray.init(**options, **quiet)
    except BaseException as error:
        ray.shutdown()  # ends what has been started
        if not isinstance(error, Exception):
            raise
        raise UserError(refusal(address, error)) from error


@contextmanager
def _sigterm_kept_from_ray() -> Iterator[None]:
    """Context in which Ray may set a handler of SIGTERM and start processes.

    The handler that is set stays, since Ray's leaves the process without a word. Processes that are
    started block SIGTERM: they outlive a signal to all processes of a run, until this process has
    closed the cluster, for which it needs them. Ray itself does the same with Ctrl-C.
    """
    handler = signal.getsignal(signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    left: SystemExit | None = None
    try:
        yield
    except SystemExit as by_handler_of_ray:
        left = by_handler_of_ray
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if left is not None:
        signal.raise_signal(signal.SIGTERM)
        raise left


_ASK_HEAD_NODE = """
import sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def require_head_node(address: str, timeout: float) -> None:
    """Returns if a head node of Ray answers at HOST:PORT.

    Another process asks: Ray waits without a limit for a server that is not one of its own, or ends
    the process that asks.

    Raises:
        UserError: nothing accepts connections there, or it does not answer as a head node.
    """
    place = port_of(address)
    assert place is not None, "the address is HOST:PORT"
    try:
        socket.create_connection(place, min(timeout, _REACHED_WITHIN)).close()
    except OSError as error:
        raise UserError(
            f"The Ray cluster at {address} cannot be reached: {describe_error(error)}. Check the "
            "address and that 'ray start --head' runs there, or use --placement.address local:2."
        ) from error
    program = [sys.executable, "-c", _ASK_HEAD_NODE, address]
    try:
        asked = subprocess.run(program, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(_no_head_node(address, f"within {timeout:g} seconds")) from error
    said = asked.stderr.decode(errors="replace")
    if asked.returncode == 1 and "Version mismatch" in said:
        raise UserError(refusal(address, RuntimeError(said)))
    if asked.returncode != 0:
        raise UserError(_no_head_node(address, "when it was asked"))


def _no_head_node(address: str, when: str) -> str:
    return (
        f"What listens at {address} did not answer as the head node of a Ray cluster {when}. Give "
        "the port of 'ray start --head', which is 6379 unless --port names another, not that of "
        "its dashboard or client server, or use --placement.address local:2."
    )


def refusal(address: str, error: Exception) -> str:
    """The sentence for what Ray raised on connecting."""
    text = " ".join(str(error).split())
    if "Version mismatch" in text:
        return (
            f"The Ray cluster has other versions than this process: {text}. Install the same "
            "versions of Ray and Python on all nodes."
        )
    if isinstance(error, ConnectionError) and address == "auto":
        return (
            "No Ray cluster runs on this machine. Start one with 'ray start --head', name one by "
            "--placement.address HOST:PORT, or use --placement.address local:2."
        )
    if local_cpus(address) is not None:
        remedy = (
            "Set RAY_TMPDIR to a folder with a short path that this run can write, such as /tmp."
            if isinstance(error, OSError)  # names of sockets have at most 107 bytes
            else "Try again when the machine is less busy."
        )
        return f"Ray could not be started on this machine: {describe_error(error)}. {remedy}"
    return (
        f"The Ray cluster at {address} cannot be used: {describe_error(error)}. Check that its "
        "version is that of this machine and that it accepts connections."
    )
