"""The agent of agent_tools.py with the library openai-agents, which leads the loop itself.

    pip install 'steadyrl[serve]' openai-agents
    python examples/agent_library.py runs/agent-library

The library calls `/v1/responses`, runs the tool and sends its output back, until the model answers.
"""

import sys
from pathlib import Path
from typing import Any

import agent_tools
from agents import Agent, AgentsException, OpenAIResponsesModel, Runner, function_tool
from agents import set_tracing_disabled as disable_tracing

from steadyrl.environments import AgentSettings, AgentTask, ModelAccess
from steadyrl.records.tool_calls import ToolSettings
from steadyrl.run import RunConfig, start_run

disable_tracing(True)  # traces would be sent to OpenAI


@function_tool
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)


async def solve(task: AgentTask, access: ModelAccess) -> float:
    """The agent: whether the library's loop ends with the right answer."""
    question: Any = task.messages
    async with agent_tools.client_of(access) as client:
        model = OpenAIResponsesModel(model=access.model, openai_client=client)
        agent = Agent(name="adder", model=model, tools=[add])
        try:
            result = await Runner.run(agent, question, max_turns=3)
        except AgentsException:  # calls of unknown tools, or no answer after three turns
            return 0.0
    return float(result.final_output == str(task.data))


def configuration(**changes: Any) -> RunConfig:
    """The run: model, teacher and steps are those of agent_tools.py."""
    environment = AgentSettings(
        program="agent_library:solve",
        tasks="agent_tools:Sums",
        tools=ToolSettings(shown="none", calls="json"),
    )
    return agent_tools.configuration(environment=environment, **changes)


if __name__ == "__main__":
    import agent_library  # its functions are found by this name when the run is resumed

    start_run(agent_library.configuration(), Path(sys.argv[1]))
