"""Small tokenizers of the three families in use, trained in a moment, with tools in their template.

    byte BPE        as GPT-2, Llama 3 and Qwen: merges of bytes
    sentence BPE    as Llama 2 and Gemma: merges of characters, bytes for unknown ones
    unigram         as T5 and XLNet: a vocabulary with probabilities

Their control tokens are those of ChatML, of Llama 3 and of Gemma.
"""

import json
import string
from collections.abc import Callable, Sequence
from importlib.resources import files

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 800

_TOOLS = "{% if tools %}{{ B }}system\n{{ tools | tojson }}{{ E }}\n{% endif %}"
_MESSAGES = (
    "{% for message in messages %}{{ B }}{{ message['role'] }}\n{{ message['content'] }}{{ E }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ B }}assistant\n{% endif %}"
)


def corpus() -> list[str]:
    """Texts to train on."""
    text = (files("steadyrl.evaluation") / "general_texts.json").read_text(encoding="utf-8")
    calls = [f'<tool_call>\n{{"name": "add", "arguments": {{"a": {n}}}}}' for n in range(50)]
    return [text, json.dumps(json.loads(text)), string.printable, *calls]


def byte_bpe() -> PreTrainedTokenizerFast:
    """Merges of bytes, with the control tokens of ChatML."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _complete(tokenizer, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"])


def sentence_bpe() -> PreTrainedTokenizerFast:
    """Merges of characters with bytes for unknown ones, and the control tokens of Gemma."""
    spaces = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = spaces
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=list(string.printable), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    merges = [tuple(merge) for merge in learned["merges"]]
    numbered = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(numbered, merges, byte_fallback=True))
    tokenizer.pre_tokenizer = spaces
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"), decoders.Fuse()]
    )
    return _complete(tokenizer, ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"])


def unigram() -> PreTrainedTokenizerFast:
    """A vocabulary with probabilities, and the control tokens of Llama 3."""
    control = ["<|start_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "<|end_of_text|>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY,
        unk_token="<unk>",
        special_tokens=["<unk>"],
        initial_alphabet=list(string.printable),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _complete(tokenizer, control)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte BPE": byte_bpe,
    "sentence BPE": sentence_bpe,
    "unigram": unigram,
}


def _complete(tokenizer: Tokenizer, control: Sequence[str]) -> PreTrainedTokenizerFast:
    """The tokenizer with control tokens, of which the first two open and close a turn."""
    begin, end, *others = control
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=end,
        additional_special_tokens=[begin, *others],
        clean_up_tokenization_spaces=False,
    )
    template = _TOOLS + _MESSAGES
    fast.chat_template = template.replace("{{ B }}", begin).replace("{{ E }}", end)
    return fast
