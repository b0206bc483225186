"""Notes for a run about the chat template of its checkpoint."""

from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.policies.chat_templates import frozen_date, render

_WORD = "qzwordzq"


def template_notes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Sentences about dates, white space and the start token; empty without a template."""
    if tokenizer.chat_template is None:
        return []
    try:
        prompt = render(
            tokenizer, [{"role": "user", "content": f" {_WORD}\n"}], add_generation_prompt=True
        )
    except UserError:
        return []
    notes = []
    day = frozen_date(tokenizer)
    if day is not None:
        notes.append(f"The chat template writes the date: it stays {day} for the whole run.")
    if f" {_WORD}\n" not in prompt and _WORD in prompt:
        notes.append("The chat template strips white space around the content of messages.")
    return notes + _beginning(tokenizer, prompt)


def _beginning(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[str]:
    """A note if prompts do not start with exactly one start token."""
    begin = tokenizer.bos_token_id
    if begin is None:
        return []
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if ids[:2] == [begin, begin]:
        return [f"Prompts begin with {tokenizer.bos_token!r} twice: the chat template writes both."]
    by_itself = tokenizer(_WORD)["input_ids"][:1] == [begin]
    if by_itself and ids[:1] != [begin]:
        return [
            f"Prompts do not begin with {tokenizer.bos_token!r}, with which the tokenizer begins "
            "every other text: the chat template does not write it."
        ]
    return []
