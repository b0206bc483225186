"""An event loop whose clock jumps ahead where there is nothing left to do but wait."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from steadyrl.engines.driver import EngineLoop, IdleSelector, drive

Result = TypeVar("Result")


class JumpingSelector(IdleSelector):
    """Waits by setting its clock forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | int | None = None) -> Any:
        if self.steps or timeout is None or timeout <= 0:
            return super().select(timeout)
        self.now += timeout
        return super().select(0)


class VirtualLoop(EngineLoop):
    """A loop on such a clock, which begins at 0."""

    def __init__(self) -> None:
        self.clock = JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def drive_in_virtual_time(main: Coroutine[Any, Any, Result]) -> tuple[Result, float]:
    """The result of `main`, and the seconds that have passed on its clock."""
    loops: list[VirtualLoop] = []

    def make_loop() -> VirtualLoop:
        loops.append(VirtualLoop())
        return loops[-1]

    result = drive(main, make_loop=make_loop)
    return result, loops[0].clock.now
