"""A taskset of verifiers with a tool server, as a user would write it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class Adding(vf.Toolset[vf.ToolsetConfig]):
    """A tool server."""

    @vf.tool
    async def add(self, a: int, b: int) -> str:
        """Adds two numbers."""
        return str(a + b)


class SumData(vf.TaskData):
    total: int


class SumTask(vf.Task[SumData]):
    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return [Adding(vf.ToolsetConfig())]

    @vf.reward(weight=2.0)
    async def right(self, trace: vf.Trace) -> float:
        reply = trace.last_reply or ""
        if reply == "never":
            await asyncio.sleep(60)
        if reply == "crash":
            raise KeyError("no such word")
        return float("nan") if reply == "nan" else float(reply == str(self.data.total))

    @vf.metric
    async def length(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply or ""))


class SumTaskset(vf.Taskset[SumTask, vf.TasksetConfig]):
    def load(self) -> Iterator[SumTask]:
        for number in range(30):
            prompt = f"What is {number}+{number}?"
            yield SumTask(SumData(prompt=prompt, total=2 * number), self.config.task)


__all__ = ["SumTaskset"]

if __name__ == "__main__":
    Adding.run()
