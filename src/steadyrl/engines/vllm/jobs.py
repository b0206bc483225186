"""Requests of a vLLM of this process that have not ended, and what becomes of them if it fails."""

import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steadyrl.base.errors import UserError, describe_error
from steadyrl.engines.vllm.library import shut_down

_STOPPED = ("abort", "error")
"""Reasons for which vLLM ends an answer that is not at its end."""


class EngineFailure(RuntimeError):
    """vLLM gave up a request, or takes steps without ever ending one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request of vLLM's."""

    prompt_ids: list[int]
    parameters: Any
    """`vllm.SamplingParams`."""

    finish: Callable[[Any], None]
    """Takes vLLM's output when the request ends."""


class JobRunner:
    """Runs jobs in an `LLMEngine`, which is started again when it fails.

    Args:
        start: Returns an engine that has the weights of the last sync.
        restarts: Failures after which it is started again, until `reset`.
        timeout: Seconds without the end of any job that count as a failure.
    """

    def __init__(self, start: Callable[[], Any], *, restarts: int, timeout: float) -> None:
        self.llm: Any = None
        """The engine; None after a failure that was final, or a sync that broke off."""

        self.adapter: Any = None
        """The `LoRARequest` that jobs are answered with; None: the model alone."""

        self._start = start
        self._restarts, self._timeout = restarts, timeout
        self._failures = 0
        self._jobs: dict[str, Job] = {}
        self._last_end = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether a job has not ended."""
        return bool(self._jobs)

    def add(self, name: str, job: Job) -> None:
        """Begins a job."""
        if not self._jobs:
            self._last_end = time.monotonic()
        self._jobs[name] = job
        self._submit(name, job)

    def withdraw(self, names: Iterable[str]) -> None:
        """Forgets jobs, those that have ended or are unknown too."""
        known = [name for name in names if self._jobs.pop(name, None) is not None]
        if self.llm is not None and known:
            self.llm.abort_request(known)

    def pause(self) -> None:
        """Takes all jobs out of the engine, to be begun again by `resume`."""
        if self.llm is not None and self._jobs:
            self.llm.abort_request(list(self._jobs))

    def resume(self) -> None:
        """Begins all jobs again."""
        self._failures = 0
        for name, job in self._jobs.items():
            self._submit(name, job)

    def discard(self) -> None:
        """Ends the engine. Jobs stay, for the next one."""
        engine, self.llm = self.llm, None
        if engine is not None:
            with suppress(Exception):  # it may be in any state
                shut_down(engine)

    def step(self) -> None:
        """Takes one step of the engine, and hands over the jobs that end with it.

        Raises:
            UserError: the engine failed once more than it is started again.
        """
        try:
            outputs = [output for output in self.llm.step() if output.finished]
            self._check(outputs)
        except Exception as error:
            self._restart(error)
            return
        for output in outputs:
            job = self._jobs.pop(output.request_id, None)
            if job is not None:
                self._last_end = time.monotonic()
                job.finish(output)

    def _check(self, outputs: list[Any]) -> None:
        for output in outputs:
            reason = output.outputs[0].finish_reason
            if reason in _STOPPED and output.request_id in self._jobs:
                raise EngineFailure(f"vLLM ended a request with reason {reason!r}")
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
                f"vLLM failed {self._failures} times since the last sync, at last with "
                f"{describe_error(error)}. Resume the run from its checkpoint; if it fails again, "
                "lower engine.max_running, or use the engine 'local'."
            ) from error
        warnings.warn(
            f"vLLM failed ({describe_error(error)}). It was started again, and "
            f"{len(self._jobs)} requests begin anew.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.llm = self._start()
        self._last_end = time.monotonic()
        for name, job in self._jobs.items():
            self._submit(name, job)

    def _submit(self, name: str, job: Job) -> None:
        if self.llm is None:
            raise RuntimeError("The engine has no weights: its last sync broke off. Sync it again.")
        prompt = {"prompt_token_ids": job.prompt_ids}
        self.llm.add_request(name, prompt, job.parameters, lora_request=self.adapter)
