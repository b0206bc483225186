"""Chat templates in the manner of those in use, and what they leave out."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from steadyrl.base.errors import UserError
from steadyrl.policies.tokenizers import CHAT_TEMPLATE, character_tokenizer, encode_prompts
from steadyrl.records.message import Message, Role

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token or '' }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + '</s>' }}{% endif %}{% endfor %}"
)
THINKING = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
QWEN3 = CHATML.replace(  # the last reply gets an empty thought
    "m.role + '\n' + m.content",
    "m.role + '\n' + ('<think>\n\n</think>\n\n' if m.role == 'assistant' and loop.last else '')"
    " + m.content",
)
HARMONY = (
    "{% for m in messages %}{{ '<|start|>' + m.role + ('<|channel|>final' if m.role == 'assistant'"
    " else '') + '<|message|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
VICUNA = (  # white space before a reply differs
    "{% for m in messages %}{{ ('USER: ' if m.role == 'user' else 'ASSISTANT: ') + m.content }}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '\n  ASSISTANT:' }}{% endif %}"
)
COMPLETION = "{% for m in messages %}{{ m.content }}{% endfor %}"
TOOLS = "{% for tool in tools or [] %}{{ tool.function | tojson }}{% endfor %}" + CHATML
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds passages.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}


def with_template(template: str) -> PreTrainedTokenizerFast:
    tokenizer = character_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def prompt_of(template: str, *roles: Role, tools: tuple[dict[str, Any], ...] = ()) -> str:
    tokenizer = with_template(template)
    conversation = [Message(role=role, content=str(n)) for n, role in enumerate(roles)]
    (prompt,) = encode_prompts(tokenizer, [conversation], [tools])
    return tokenizer.decode(prompt)


@pytest.mark.parametrize(
    "template",
    [CHAT_TEMPLATE, CHATML, MISTRAL, THINKING, QWEN3, HARMONY, VICUNA, COMPLETION, TOOLS],
)
def test_templates_that_show_everything_are_accepted(template: str) -> None:
    assert "0" in prompt_of(template, "user")
    assert "2" in prompt_of(template, "user", "assistant", "user")


@pytest.mark.parametrize(
    ("roles", "left_out"),
    [
        (("system", "user"), "system"),
        (("user", "assistant", "tool"), "tool"),
        (("user", "assistant", "user"), "assistant"),
    ],
)
def test_a_role_that_is_left_out_is_named(roles: tuple[Role, ...], left_out: str) -> None:
    shown = f"in messages if m.role != {left_out!r} %}}"
    template = CHATML.replace("in messages %}", shown)
    with pytest.raises(UserError, match=rf"drops messages of the role '{left_out}'"):
        prompt_of(template, *roles)


@pytest.mark.parametrize(
    ("template", "part"),
    [
        (CHATML, "names"),
        (TOOLS.replace("tool.function |", "tool.function.name |"), "descriptions"),
        (
            TOOLS.replace("tool.function |", "tool.function.name ~ tool.function.description |"),
            "parameters",
        ),
    ],
)
def test_tools_that_are_left_out_are_named(template: str, part: str) -> None:
    with pytest.raises(UserError, match=rf"drops the {part} of tools.* tool_text 'message'"):
        prompt_of(template, "user", tools=(SEARCH,))
    assert '"query"' in prompt_of(TOOLS, "user", tools=(SEARCH,))


@pytest.mark.parametrize(
    "end",
    [
        "",
        "{% if add_generation_prompt %}{{ '<|im_start|>user\n' }}{% endif %}",
        "{% if add_generation_prompt %}{{ '\n' }}{% endif %}",
    ],
)
@pytest.mark.parametrize("roles", [("user",), ("system", "user", "assistant", "tool")])
def test_a_prompt_that_ends_in_the_user_s_turn_is_refused(
    end: str, roles: tuple[Role, ...]
) -> None:
    template = CHATML.partition("{% if add_generation_prompt")[0] + end
    with pytest.raises(UserError, match=r"does not open the model's turn.*assistant\\n'\. Let it"):
        prompt_of(template, *roles)


def test_a_template_that_is_set_anew_is_proven_anew() -> None:
    tokenizer = with_template(CHATML)
    conversation = [[Message(role="user", content="1")]]
    encode_prompts(tokenizer, conversation)
    tokenizer.chat_template = "nothing"
    with pytest.raises(UserError, match="drops messages of the role 'user'"):
        encode_prompts(tokenizer, conversation)
