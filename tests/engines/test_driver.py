"""Who runs when: coroutines before engines, engines before clocks."""

import asyncio
import time
from typing import Any

import pytest
import torch

from steadyrl.base.concurrency import concurrently, in_thread
from steadyrl.engines.driver import drive, engine_loop, generate_all
from steadyrl.engines.protocol import Request, Sampling
from tests.rollout.fakes import TOKENIZER, ScriptedEngine
from tests.virtual_time import drive_in_virtual_time


def request(text: str, num_completions: int = 1) -> Request:
    return Request(
        prompt_ids=torch.tensor(TOKENIZER(text)["input_ids"]),
        num_completions=num_completions,
        seed=0,
        sampling=Sampling(max_new_tokens=8),
    )


def steps_of(engine: ScriptedEngine) -> list[list[str]]:
    """The prompts that were answered in each step."""
    return [[TOKENIZER.decode(r.prompt_ids) for r in step] for step in engine.calls]


def test_a_step_comes_after_everything_that_can_run() -> None:
    engine = ScriptedEngine(lambda *_: "x")

    async def asks(name: str, pauses: int) -> None:
        for _ in range(pauses):
            await asyncio.sleep(0)  # lets the others run, and can go on at once
        await engine.generate(request(name))
        await engine.generate(request(name + name))

    drive(concurrently(asks(name, pauses) for name, pauses in (("a", 5), ("b", 0), ("c", 2))))
    assert steps_of(engine) == [["b", "c", "a"], ["bb", "cc", "aa"]]


def test_an_engine_goes_on_while_a_coroutine_waits_for_the_clock() -> None:
    engine = ScriptedEngine(lambda *_: "x")

    async def late() -> float:
        await asyncio.sleep(3)
        await engine.generate(request("late"))
        return asyncio.get_running_loop().time()

    async def soon() -> float:
        for name in "abc":
            await engine.generate(request(name))
        return asyncio.get_running_loop().time()

    times, seconds = drive_in_virtual_time(concurrently([late(), soon()]))
    assert times == [3.0, 0.0]
    assert seconds == 3.0
    assert steps_of(engine) == [["a"], ["b"], ["c"], ["late"]]


def test_two_engines_take_turns() -> None:
    order: list[str] = []

    class Slow(ScriptedEngine):
        def __init__(self, name: str) -> None:
            super().__init__(lambda *_: "x")
            self._left = 3
            self._name = name

        def step(self) -> Any:
            order.append(self._name)
            self._left -= 1
            return {} if self._left else super().step()

    one, other = Slow("one"), Slow("other")
    drive(concurrently([one.generate(request("a")), other.generate(request("b"))]))
    assert order == ["one", "other"] * 3


def test_what_a_step_raises_is_raised_to_those_who_wait_for_it_alone() -> None:
    class Breaking(ScriptedEngine):
        def answer(self, requests: Any) -> Any:
            raise ZeroDivisionError("in a step")

    breaking, sound = Breaking(lambda *_: ""), ScriptedEngine(lambda *_: "x")

    async def told() -> str:
        with pytest.raises(ZeroDivisionError, match="in a step"):
            await breaking.generate(request("a"))
        return "told"

    both = drive(concurrently([told(), told()]))
    assert both == ["told", "told"]
    assert breaking.under_way == 0
    assert len(generate_all(sound, [request("b", 2)])[0]) == 2


def test_a_request_that_nobody_waits_for_is_withdrawn() -> None:
    engine = ScriptedEngine(lambda *_: "x")

    async def main() -> None:
        asked = asyncio.ensure_future(engine.generate(request("gone")))
        await asyncio.sleep(0)
        assert engine.under_way == 1
        asked.cancel()
        await asyncio.wait([asked])
        assert engine.under_way == 0
        await engine.generate(request("kept"))

    drive(main())
    assert steps_of(engine) == [["kept"]]


def test_another_event_loop_is_refused_in_a_sentence() -> None:
    engine = ScriptedEngine(lambda *_: "x")
    with pytest.raises(RuntimeError, match=r"stepped by an EngineLoop.*engines.driver.drive"):
        asyncio.run(engine.generate(request("a")))


def test_inside_a_running_loop_another_thread_drives() -> None:
    engine = ScriptedEngine(lambda *_: "x")

    async def notebook() -> int:
        return len(generate_all(engine, [request("a", 3)])[0])

    assert asyncio.run(notebook()) == 3


def test_an_interruption_is_raised_at_once_and_leaves_nothing_behind() -> None:
    engine = ScriptedEngine(lambda *_: "x")
    cleaned: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.append("up")

    async def interrupted() -> None:
        await engine.generate(request("a"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(concurrently([waits(), interrupted()]))
    assert cleaned == ["up"]
    assert len(generate_all(engine, [request("b")])) == 1


def test_the_first_exception_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def waits(number: int) -> None:
        try:
            await asyncio.sleep(number)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        if number == 2:
            raise KeyError(number)

    with pytest.raises(KeyError):
        drive_in_virtual_time(concurrently(map(waits, range(1, 6))))
    assert cancelled == [3, 4, 5]


def test_a_call_that_never_returns_is_left_behind() -> None:
    async def gives_up() -> None:
        await asyncio.wait_for(in_thread(lambda: time.sleep(3600)), timeout=0.05)

    with pytest.raises(TimeoutError):
        drive(gives_up())


@pytest.mark.parametrize("error", [KeyError("x"), StopIteration(), SystemExit(3)])
def test_a_thread_hands_over_what_it_raises(error: BaseException) -> None:
    def fails() -> None:
        raise error

    async def meets() -> type:
        try:
            await in_thread(fails)
        except BaseException as met:
            return type(met.__cause__ or met)
        raise AssertionError

    assert drive(meets()) is type(error)


def test_a_coroutine_knows_its_loop() -> None:
    async def loop() -> str:
        return type(engine_loop()).__name__

    assert drive(loop()) == "EngineLoop"
