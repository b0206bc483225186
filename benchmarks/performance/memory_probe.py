"""A process that scores response tokens once, forward and backward, and says how much it took.

    python -m benchmarks.performance.memory_probe {trunk,ours,trl} TOKENS

Prints the largest resident size in bytes. `trunk` is what is subtracted from the other two: the
same model and rows, the backward pass of the trunk, and a gradient for the output head.
"""

import resource
import sys
import tempfile
from collections.abc import Callable

import torch
from benchmarks.performance.long_tail_world import END, PAD, word_tokenizer
from torch import Tensor
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from steadyrl.policies.policy import Policy

VOCABULARY = 151_936
PROMPT, RESPONSE = 8, 512

CONFIG = Qwen3MoeConfig(
    vocab_size=VOCABULARY,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    num_experts=8,
    num_experts_per_tok=2,
    moe_intermediate_size=64,
    intermediate_size=64,
    tie_word_embeddings=False,
    pad_token_id=PAD,
    eos_token_id=END,
    bos_token_id=None,
)
"""W4: a small trunk under a large vocabulary."""


def main() -> None:
    """Measures one kind."""
    torch.set_num_threads(1)
    kind, tokens = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(CONFIG).eval()
    rows = torch.randint(2, VOCABULARY, (tokens // RESPONSE, PROMPT + RESPONSE))
    backward = {"trunk": trunk, "ours": ours, "trl": trl}[kind](model)
    backward(rows)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def trunk(model: Qwen3MoeForCausalLM) -> Callable[[Tensor], None]:
    """Everything but the head: its gradient is a weight's, and so in here."""

    def backward(rows: Tensor) -> None:
        head = model.lm_head.weight
        head.grad = torch.zeros_like(head).add_(1e-9)
        model.model(input_ids=rows, use_cache=False).last_hidden_state.sum().backward()

    return backward


def ours(model: Qwen3MoeForCausalLM) -> Callable[[Tensor], None]:
    """The learner's way: `Policy.score` with its defaults."""
    policy = Policy(model, word_tokenizer(100))

    def backward(rows: Tensor) -> None:
        asked = torch.arange(rows.shape[1]).expand_as(rows) >= PROMPT
        scores = policy.score(rows, torch.ones_like(asked), asked)
        (-scores.logprobs.sum()).backward()

    return backward


def trl(model: Qwen3MoeForCausalLM) -> Callable[[Tensor], None]:
    """TRL's way: the loss of its GRPOTrainer, without Liger kernels."""
    from benchmarks.performance.peers.trl_grpo import idle_trainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = idle_trainer(model, word_tokenizer(100), folder, max_new_tokens=RESPONSE)

    def backward(rows: Tensor) -> None:
        inputs = {
            "prompt_ids": rows[:, :PROMPT],
            "prompt_mask": torch.ones_like(rows[:, :PROMPT]),
            "completion_ids": rows[:, PROMPT:],
            "completion_mask": torch.ones_like(rows[:, PROMPT:]),
            "advantages": torch.ones(len(rows)),
            "num_items_in_batch": rows[:, PROMPT:].numel(),
        }
        trainer.compute_loss(model, inputs).backward()

    return backward


if __name__ == "__main__":
    main()
