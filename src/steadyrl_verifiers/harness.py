"""A chat with tools in this process, for tasksets of verifiers.

verifiers' own `null` harness does the same in a process of its own for each episode, whose packages
`uv` installs.
"""

import asyncio
import json
import ssl
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

import httpx
import verifiers.v1 as vf
from openai import APIError, AsyncOpenAI, DefaultAsyncHttpxClient
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harnesses.utils.mcp import call_mcp, connect_mcp


@cache
def _certificates() -> ssl.SSLContext:
    """Certificates of authorities, read once: that takes longer than all else in an episode."""
    return httpx.create_ssl_context()


class ChatHarness(vf.Harness[vf.HarnessConfig]):
    """Asks the model until it answers without a call of a tool."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_MCP = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Runs the chat. A request that is refused ends it with exit code 1."""
        messages = self._messages(data)
        specs = {
            name: {"url": url, "timeout": self.config.tool_timeout}
            for name, url in mcp_urls.items()
        }
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                AsyncOpenAI(
                    base_url=endpoint,
                    api_key=secret,
                    max_retries=0,
                    timeout=None,
                    http_client=DefaultAsyncHttpxClient(verify=_certificates()),
                )
            )
            schemas, dispatch, servers = await connect_mcp({"mcpServers": specs}, stack)
            shown: dict[str, Any] = {"tools": schemas} if schemas else {}
            try:
                while True:
                    reply = await client.chat.completions.create(
                        model=ctx.model, messages=messages, **shown
                    )
                    message = reply.choices[0].message
                    messages.append(message.model_dump(exclude_none=True))
                    if not message.tool_calls:
                        return vf.ProgramResult(exit_code=0, stdout="", stderr="")
                    for call in message.tool_calls:
                        content = await self._result(call.function, dispatch, servers)
                        messages.append(
                            {"role": "tool", "tool_call_id": call.id, "content": content}
                        )
            except APIError as error:
                return vf.ProgramResult(exit_code=1, stdout="", stderr=str(error))

    async def _result(self, function: Any, dispatch: Any, servers: Any) -> Any:
        """What the model reads of a call."""
        try:
            arguments = json.loads(function.arguments or "{}")
        except ValueError as error:
            return f"error: the arguments are not JSON ({error})"
        if not isinstance(arguments, dict):
            return "error: the arguments are not a JSON object"
        if function.name not in dispatch:
            return f"error: there is no tool {function.name}"
        limit = self.config.tool_timeout
        async with asyncio.timeout(limit):
            return await call_mcp(servers, dispatch, function.name, arguments)

    def _messages(self, data: vf.TaskData) -> list[Any]:
        """The conversation as the chat API takes it."""
        system, prompt = self.resolve_prompt(data)
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        if isinstance(prompt, str):
            return [*messages, {"role": "user", "content": prompt}]
        return [*messages, *map(message_to_wire, prompt or ())]
