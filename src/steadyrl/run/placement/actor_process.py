"""An actor as the driver sees it: a process that answers questions."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.progress_reports import REPORT_EVERY
from steadyrl.run.placement.messages import pack, unpack

_PID_WITHIN = 120.0


class ActorProcess:
    """Asks an actor as a `WorkerProcess` is asked.

    Args:
        actor: Handle of a `WorkerActor`.
        ended: The error to raise if the actor has ended, for what is known of its end.
        progress: Hears of progress of the actor while this process waits for it.
    """

    def __init__(
        self,
        actor: Any,
        *,
        ended: Callable[[str], UserError],
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._actor = actor
        self._ended = ended
        self._progress = progress

    @cached_property
    def pid(self) -> int:
        """Id of the process on its node."""
        return int(ray.get(self._actor.pid.remote(), timeout=_PID_WITHIN))

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        """Asks for the result of a method of the worker.

        The future raises a `UserError` that the worker raised, or if the actor has ended, and a
        `RuntimeError` with the traceback of any other exception.
        """
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()  # nobody can cancel it
        reply = self._actor.ask.remote(*pack((question, args)))
        reply.future().add_done_callback(partial(self._settle, answer))
        return answer

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Context in which progress of the actor is reported."""
        is_over = threading.Event()
        thread = threading.Thread(target=self._report_until, args=(is_over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def close(self) -> None:
        """Ends the actor."""
        with suppress(RayError):
            ray.kill(self._actor, no_restart=True)

    def _settle(self, answer: "Future[Any]", reply: "Future[Any]") -> None:
        try:
            value, error = unpack(*reply.result())
        except RayError as end:
            value, error = None, self._ended(reason_of(end))
        except BaseException as failure:
            value, error = None, failure
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)

    def _report_until(self, is_over: threading.Event) -> None:
        """Runs in a thread beside the one that waits."""
        while not is_over.wait(REPORT_EVERY):
            with suppress(RayError, GetTimeoutError):
                for report in ray.get(self._actor.take_reports.remote(), timeout=REPORT_EVERY):
                    report.repeat(self._progress)


def reason_of(error: RayError) -> str:
    """What Ray knows of the end of an actor, in a few words."""
    text = str(error)
    if "NODE_OUT_OF_MEMORY" in text or "low on memory" in text:
        return "its node ran out of memory"
    if "creation task" in text:
        return f"it could not start: {text.strip().splitlines()[-1].strip()}"
    if "node" in text and "died" in text and "worker process has died" not in text:
        return "its node left the cluster"
    return "its process died"
