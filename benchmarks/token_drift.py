"""How many turns of a tool conversation drift if it is rendered anew, and through the gateway.

    python benchmarks/token_drift.py --out benchmarks/results/token_drift.json

A policy that has learned from samples writes other tokens than its tokenizer would, and JSON with
spaces of its own. In each turn, the model writes a call of a tool, cut into tokens at random. The
official client reads the call, and sends it back with the output of the tool, as agents do.

A turn drifts if the prompt of the next call does not begin with the tokens that were sampled.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from openai import AsyncOpenAI
from torch import Tensor
from trained_tokenizers import TOKENIZERS
from transformers import PreTrainedTokenizerBase

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import EngineCapabilities, Request, Sampling
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.gateway.access import SessionAccess
from steadyrl.gateway.app import GatewayApp
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.server import serving
from steadyrl.gateway.sessions import Session, SessionRules
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.run_folder import write_atomically
from steadyrl.records.tool_calls import ToolCall, ToolSettings, with_tools, write_calls
from steadyrl.records.weight_source import WeightSource
from steadyrl.run.manifest import as_json, manifest

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
}
MODEL = "policy"


class Options(Settings):
    """Count the turns whose tokens change."""

    turns: int = 20
    """Turns of the conversation."""

    seed: int = 0
    """Seed of the texts and of the cuts between tokens."""

    model: Path = Path("models/smollm2")
    """Checkpoint of another tokenizer, left out if it is missing."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


class CuttingEngine(SteppedEngine):
    """Writes calls of a tool, and cuts them into tokens at random."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        super().__init__()
        self.policy_version = 0
        self.capabilities = EngineCapabilities(
            max_positions=None, routing=False, exact_draws=True, scoring=False
        )
        self.requests: list[Request] = []
        self.sampled: list[Tensor] = []
        self._tokenizer = tokenizer
        self._draws = random.Random(seed)

    def submit(self, request: Request) -> int:
        """Adds a request."""
        self.requests.append(request)
        return len(self.requests)

    def step(self) -> dict[int, list[Completion]]:
        """Answers the last request."""
        tokens = torch.tensor([*self._tokens(self._text()), self._tokenizer.eos_token_id])
        self.sampled.append(tokens)
        completion = Completion(
            prompt_ids=self.requests[-1].prompt_ids,
            token_ids=tokens,
            logprobs=torch.zeros(len(tokens)),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        )
        return {len(self.requests): [completion]}

    async def score(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        """It has no weights."""
        raise NotImplementedError

    async def sync(self, weights: WeightSource) -> None:
        """It has no weights."""
        raise NotImplementedError

    def withdraw(self, number: int) -> None:
        """Requests are answered at once."""

    def _text(self) -> str:
        """A call with spaces and an order of its own."""
        draws = self._draws
        a, b, gap = draws.randrange(1000), draws.randrange(1000), " " * draws.randrange(3)
        arguments = [f'"a":{gap}{a}', f'"b": {b}']
        draws.shuffle(arguments)
        said = draws.choice(["", "Let me add these.\n", "The capital of France? "])
        return (
            f'{said}<tool_call>\n{{"name":{gap}"add", "arguments": {{{",".join(arguments)}}}}}'
            "\n</tool_call>"
        )

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = []
        while text:
            length = self._draws.randint(1, 6)
            piece, text = text[:length], text[length:]
            tokens += self._tokenizer(piece, add_special_tokens=False)["input_ids"]
        return tokens


@dataclass(slots=True, kw_only=True)
class Talk:
    """A conversation, as the agent holds it and as the engine saw it."""

    engine: CuttingEngine
    session: Session
    written_anew: int = 0
    """Tokens of the model's turns if their text is tokenized."""

    naive: list[Tensor] = field(default_factory=list)
    """Prompt of each call if the agent's messages were rendered anew."""

    def drifted(self, prompts: Sequence[Tensor]) -> int:
        """Number of turns whose tokens, with all before them, do not begin the next prompt."""
        tokens = [
            torch.cat([request.prompt_ids, sampled])
            for request, sampled in zip(self.engine.requests, self.engine.sampled, strict=True)
        ]
        pairs = zip(tokens, prompts[1:], strict=False)
        return sum(not torch.equal(after[: len(before)], before) for before, after in pairs)

    @property
    def in_gateway(self) -> int:
        """Turns that drift in the gateway."""
        return self.drifted([request.prompt_ids for request in self.engine.requests])

    @property
    def rendered_anew(self) -> int:
        """Turns that drift if messages are rendered anew."""
        return self.drifted(self.naive)


async def talk(tokenizer: PreTrainedTokenizerBase, *, turns: int, seed: int) -> Talk:
    """A conversation of `turns` calls with their outputs, and one more call."""
    tools = tools_of(tokenizer)
    engine = CuttingEngine(tokenizer, seed)
    gateway = Gateway(
        engine=engine,
        tokenizer=tokenizer,
        vocabulary_size=len(tokenizer),
        model=MODEL,
        rules=SessionRules(sampling=Sampling(max_new_tokens=256)),
        tools=tools,
    )
    app = GatewayApp(access=SessionAccess(gateway=gateway)).starlette()
    said: list[Any] = [{"role": "user", "content": "Add the numbers."}]
    naive: list[Tensor] = []
    async with serving(app, host="127.0.0.1", port=0) as url:
        base = f"{url}/sessions/talk/v1"
        async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
            for _ in range(turns + 1):
                naive.append(rendered(tokenizer, said, tools))
                reply = await client.chat.completions.create(
                    model=MODEL, messages=said, tools=[ADD]
                )
                message = reply.choices[0].message
                (call,) = message.tool_calls or ()
                said.append(message.model_dump(exclude_none=True))
                said.append({"role": "tool", "tool_call_id": call.id, "content": "42"})
    texts = [text_of(message, tools) for message in said if message["role"] == "assistant"]
    anew = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in texts)
    return Talk(engine=engine, session=gateway.sessions["talk"], naive=naive, written_anew=anew)


def tools_of(tokenizer: PreTrainedTokenizerBase) -> ToolSettings:
    """Tools in the chat template if it writes them, otherwise in a message."""
    writes_tools = "tools" in str(tokenizer.chat_template)
    return ToolSettings(shown="template" if writes_tools else "message")


def rendered(
    tokenizer: PreTrainedTokenizerBase, said: Sequence[Any], settings: ToolSettings
) -> Tensor:
    """Prompt of the messages, as a server without sessions makes it."""
    messages = [Message(role=m["role"], content=text_of(m, settings)) for m in said]
    shown, tools = with_tools(messages, [ADD], settings)
    (prompt,) = encode_prompts(tokenizer, [shown], [tools])
    return prompt


def text_of(message: Any, settings: ToolSettings) -> str:
    """Text of a message with its calls."""
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = [ToolCall.of(function["name"], function["arguments"]) for function in functions]
    return write_calls(message.get("content") or "", calls, settings)


def measure(options: Options) -> dict[str, dict[str, int]]:
    """Turns that drift, by tokenizer."""
    tokenizers: dict[str, PreTrainedTokenizerBase] = {
        name: make() for name, make in TOKENIZERS.items()
    }
    if (options.model / "tokenizer.json").is_file():
        tokenizers["SmolLM2"] = load_tokenizer(Pretrained(path=str(options.model)))
    found = {}
    for name, tokenizer in tokenizers.items():
        held = drive(talk(tokenizer, turns=options.turns, seed=options.seed))
        found[name] = {
            "turns": options.turns,
            "tokens_sampled": sum(map(len, held.engine.sampled)),
            "tokens_written_anew": held.written_anew,
            "rows": len(held.session.rows),
            "drifted_in_gateway": held.in_gateway,
            "drifted_rendered_anew": held.rendered_anew,
        }
    return found


def main(options: Options) -> None:
    """Prints the numbers and writes them."""
    found = {**manifest(options.seed), "tokenizers": measure(options)}
    print(as_json(found["tokenizers"]))
    if options.out is not None:
        write_atomically(options.out, as_json(found))


if __name__ == "__main__":
    main(script_options(Options))
