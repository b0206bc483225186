"""W2 and W3: random Qwen3-MoE weights, and answers whose lengths have a long tail."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.performance.end_token import set_stop_hazard
from benchmarks.performance.worlds import World
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

from steadyrl.environments.protocol import Outcome, Split, Task
from steadyrl.policies.loading import no_progress_bars
from steadyrl.records.message import Message

PAD, END = 0, 1
SPECIAL = ("<|pad|>", "<|end|>")

WORDS_OF_A_PROMPT = (64, 128)

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

W2 = Qwen3MoeConfig(
    vocab_size=32_000,
    hidden_size=256,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=32,
    num_experts=16,
    num_experts_per_tok=2,
    moe_intermediate_size=160,
    intermediate_size=160,
    norm_topk_prob=True,
    max_position_embeddings=1024,
    tie_word_embeddings=False,
    pad_token_id=PAD,
    eos_token_id=END,
    bos_token_id=None,
)

W3 = Qwen3MoeConfig(
    vocab_size=151_936,
    hidden_size=1024,
    num_hidden_layers=16,
    num_attention_heads=16,
    num_key_value_heads=2,
    head_dim=128,
    num_experts=64,
    num_experts_per_tok=8,
    moe_intermediate_size=320,
    intermediate_size=320,
    norm_topk_prob=True,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
    pad_token_id=PAD,
    eos_token_id=END,
    bos_token_id=None,
)
"""The proportions of Qwen3-30B-A3B at 1.5B parameters: wide vocabulary, many thin experts."""


def w2(work: Path, device: torch.device) -> World:
    """W2: 16 prompts x 16 answers, up to 512 tokens, in float32."""
    return World(
        name="W2",
        checkpoint=random_checkpoint(W2, work / "w2", hazard=1 / 100, device=device),
        environment=RandomWords(W2.vocab_size),
        prompts=16,
        group_size=16,
        max_new_tokens=512,
        device=device,
    )


def w3(work: Path, device: torch.device) -> World:
    """W3: 64 prompts x 16 answers, up to 4,096 tokens, in bfloat16. Wants a GPU."""
    return World(
        name="W3",
        checkpoint=random_checkpoint(W3, work / "w3", hazard=1 / 1000, device=device),
        environment=RandomWords(W3.vocab_size),
        prompts=64,
        group_size=16,
        max_new_tokens=4096,
        device=device,
        dtype=torch.bfloat16,
    )


def random_checkpoint(
    config: Qwen3MoeConfig, folder: Path, *, hazard: float, device: torch.device
) -> Path:
    """A folder with the model that seed 0 gives, and its tokenizer."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3MoeForCausalLM(config).eval()
    set_stop_hazard(model, END, hazard)
    with no_progress_bars():
        model.save_pretrained(folder)
    word_tokenizer(config.vocab_size).save_pretrained(folder)
    return folder


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` made-up words between spaces."""
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), size))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[2]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[PAD], eos_token=SPECIAL[END]
    )
    fast.chat_template = TEMPLATE
    return fast


class RandomWords:
    """Prompts of random words. Of every two groups one has signal: a coin of each answer's words.

    The other's answers all earn nothing.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def task(self, split: Split, index: int) -> Task:
        """Prompt number `index`; the splits are the same."""
        generator = np.random.default_rng(index)
        low, high = WORDS_OF_A_PROMPT
        length = int(generator.integers(low, high + 1))
        words = generator.integers(len(SPECIAL), self._vocabulary, length)
        text = " ".join(f"w{word}" for word in words)
        return Task(
            id=f"words/{index}",
            prompt=(Message(role="user", content=text),),
            payload=index % 2 == 0,
        )

    def start(self, task: Task) -> "_OneAnswer":
        """An attempt."""
        return _OneAnswer(has_signal=task.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneAnswer:
    has_signal: bool

    def respond(self, text: str) -> Outcome:
        reward = float(zlib.crc32(text.encode()) & 1) if self.has_signal else 0.0
        return Outcome(reward=reward, terminated=True)
