"""Unfinished requests of vLLM in this process, and their resubmission after a failure."""

import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steadyrl.base.errors import UserError, describe_error
from steadyrl.engines.vllm.library import shut_down

_STOPPED = ("abort", "error")
"""Finish reasons of requests that vLLM gave up."""


class EngineFailure(RuntimeError):
    """vLLM gave up a request, or stopped making progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One vLLM request."""

    prompt_ids: list[int]
    parameters: Any
    """`vllm.SamplingParams`."""

    finish: Callable[[Any], None]
    """Receives vLLM's output when the request has finished."""

    report: Callable[[Any], None] | None = None
    """Receives vLLM's output after every step, the last one too; None: nobody does."""


class JobRunner:
    """Runs jobs in an `LLMEngine` and restarts it after failures.

    Args:
        start: Returns an engine with the weights of the last sync.
        restarts: Maximum number of restarts between two syncs.
        timeout: Seconds without a finished job that count as a failure.
    """

    def __init__(self, start: Callable[[], Any], *, restarts: int, timeout: float) -> None:
        self.llm: Any = None
        """The engine; None after a final failure or a failed sync."""

        self.adapter: Any = None
        """The `LoRARequest` of all jobs; None: the base model."""

        self._start = start
        self._restarts, self._timeout = restarts, timeout
        self._failures = 0
        self._jobs: dict[str, Job] = {}
        self._last_end = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether there are unfinished jobs."""
        return bool(self._jobs)

    def add(self, name: str, job: Job) -> None:
        """Submits a job."""
        if not self._jobs:
            self._last_end = time.monotonic()
        self._jobs[name] = job
        self._submit(name, job)

    def withdraw(self, names: Iterable[str]) -> None:
        """Cancels jobs. Finished and unknown ones are ignored."""
        known = [name for name in names if self._jobs.pop(name, None) is not None]
        if self.llm is not None and known:
            self.llm.abort_request(known)

    def pause(self) -> None:
        """Aborts all jobs in the engine; `resume` submits them again."""
        if self.llm is not None and self._jobs:
            self.llm.abort_request(list(self._jobs))

    def resume(self) -> None:
        """Submits all jobs again."""
        self._failures = 0
        for name, job in self._jobs.items():
            self._submit(name, job)

    def discard(self) -> None:
        """Shuts the engine down. Jobs are kept for the next engine."""
        engine, self.llm = self.llm, None
        if engine is not None:
            with suppress(Exception):  # the engine may be in any state
                shut_down(engine)

    def step(self) -> None:
        """Runs one step of the engine and completes the jobs that finish with it.

        Raises:
            UserError: the engine failed more often than it may be restarted.
        """
        try:
            reported = self.llm.step()
            outputs = [output for output in reported if output.finished]
            self._check(outputs)
        except Exception as error:
            self._restart(error)
            return
        for output in reported:
            job = self._jobs.get(output.request_id)
            if job is not None and job.report is not None:
                job.report(output)
        for output in outputs:
            job = self._jobs.pop(output.request_id, None)
            if job is not None:
                self._last_end = time.monotonic()
                job.finish(output)

    def _check(self, outputs: list[Any]) -> None:
        for output in outputs:
            reason = output.outputs[0].finish_reason
            if reason in _STOPPED and output.request_id in self._jobs:
                raise EngineFailure(f"vLLM finished a request with reason {reason!r}")
        waited = time.monotonic() - self._last_end
        if not outputs and waited > self._timeout:
            raise EngineFailure(
                f"vLLM finished none of {len(self._jobs)} requests in {waited:.0f} s"
            )

    def _restart(self, error: Exception) -> None:
        self._failures += 1
        self.discard()
        if self._failures > self._restarts:
            raise UserError(
                f"vLLM failed {self._failures} times since the last sync, most recently with "
                f"{describe_error(error)}. Resume the run from its checkpoint; if it fails again, "
                "lower engine.max_running, or use the engine 'local'."
            ) from error
        warnings.warn(
            f"vLLM failed ({describe_error(error)}). It was restarted, and {len(self._jobs)} "
            "requests were resubmitted.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.llm = self._start()
        self._last_end = time.monotonic()
        for name, job in self._jobs.items():
            self._submit(name, job)

    def _submit(self, name: str, job: Job) -> None:
        if self.llm is None:
            raise RuntimeError("The engine has no weights: its last sync failed. Sync it again.")
        prompt = {"prompt_token_ids": job.prompt_ids}
        self.llm.add_request(name, prompt, job.parameters, lora_request=self.adapter)
