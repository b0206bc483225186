"""The processes of a learner's ranks, which answer each question together.

Every wait has a limit. A rank that dies, or does not answer in time, ends all ranks.
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.learners.fsdp.hosts import RankEndedError, RankHost


class RankGroup:
    """Processes, one for each rank. They end when they are closed, or with this process.

    Args:
        host: Starts them.
        timeout: Maximum seconds of one answer.
        progress: Hears of the progress of rank 0.
    """

    def __init__(
        self, ranks: int, host: RankHost, timeout: float, progress: Progress = NO_PROGRESS
    ) -> None:
        self.host = host
        self.timeout = timeout
        self._is_closed = False
        self._store = TCPStore(host.address, 0, is_master=True, wait_for_workers=False)
        self.processes = [host.start(rank, progress) for rank in range(ranks)]
        meeting = host.address, self._store.port
        each = [(rank, ranks, meeting, host.device_type, timeout) for rank in range(ranks)]
        try:
            self.call_each("join", each)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.processes)

    def call(self, question: str, *args: Any) -> list[Any]:
        """The answer of each rank to the same question."""
        return self.call_each(question, [args] * len(self))

    def call_each(self, question: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answer of each rank to a question with arguments of its own.

        Raises:
            UserError: a rank raised one, has ended, or does not answer in time.
            RuntimeError: a rank raised another exception.
        """
        if self._is_closed:
            raise UserError(
                "The learner's ranks have ended. Resume the run from its last checkpoint."
            )
        answers = [
            process.ask(question, *own) for process, own in zip(self.processes, args, strict=True)
        ]
        with self.processes[0].reporting():
            late = wait(answers, self.timeout, FIRST_EXCEPTION).not_done
        in_time = [answer for answer in answers if answer not in late]
        if any(answer.exception() for answer in in_time):
            late = wait(answers, self.host.grace).not_done
        elif late:
            self.close()
            raise _late(question, [answers.index(answer) for answer in late], self.timeout)
        errors = [error for each in answers if each.done() and (error := each.exception())]
        if not errors:
            return [answer.result() for answer in answers]
        error = min(errors, key=_importance)
        if late or isinstance(error, RankEndedError):
            self.close()
        raise error

    def close(self) -> None:
        """Ends the processes."""
        self._is_closed = True
        for process in self.processes:
            process.close()


def _importance(error: BaseException) -> int:
    """Lower for causes than for their effects on other ranks."""
    return 0 if isinstance(error, RankEndedError) else 1 if isinstance(error, UserError) else 2


def _late(question: str, ranks: Sequence[int], timeout: float) -> UserError:
    names = ", ".join(map(str, sorted(ranks)))
    return UserError(
        f"The learner's ranks {names} did not finish {question!r} within {timeout:g} seconds. Set "
        "a higher learner.timeout if the work takes longer, and resume the run from its last "
        "checkpoint."
    )
