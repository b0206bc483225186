"""MiniRL with rollout routing replay (R3) in a plain loop of Transformers.

    python examples/transformers_r3.py

A small Qwen3-MoE with random weights learns to write even tokens.
"""

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from steadyrl.objectives import (
    Aggregation,
    MiniRL,
    TokenTerms,
    aggregate,
    group_mean,
    token_weights,
)
from steadyrl.policies import RoutingHook

PROMPT, ANSWER, GROUP, STEPS = 4, 8, 8, 20


def logprobs_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the answers; 0 at the prompts."""
    chosen = logits.log_softmax(-1).gather(-1, tokens[:, PROMPT:, None]).squeeze(-1)
    return torch.nn.functional.pad(chosen, (PROMPT, 0))


torch.manual_seed(0)
config = Qwen3MoeConfig(
    vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, head_dim=16,
    num_key_value_heads=1, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip
model = Qwen3MoeForCausalLM(config).eval()
hook = RoutingHook(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
group_ids = torch.arange(4).repeat_interleave(GROUP)

for step in range(1, STEPS + 1):
    prompts = torch.randint(32, (4, PROMPT)).repeat_interleave(GROUP, dim=0)
    attention_mask = torch.ones(4 * GROUP, PROMPT + ANSWER, dtype=torch.long)
    with hook.record() as rollout:
        sampled = model.generate(
            prompts, attention_mask=attention_mask[:, :PROMPT], do_sample=True, top_k=0,
            max_new_tokens=ANSWER, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    tokens, loss_mask = sampled.sequences, attention_mask.cumsum(dim=1) > PROMPT
    routing = rollout.routing(tokens, attention_mask)
    rewards = (tokens[:, PROMPT:] % 2 == 0).float().mean(dim=1)

    with hook.replay(routing, attention_mask):
        logits = model(tokens, attention_mask=attention_mask, use_cache=False).logits
    logprobs = logprobs_of(logits[:, PROMPT - 1 : -1], tokens)
    terms = TokenTerms(
        logprobs=logprobs, old_logprobs=logprobs.detach(), loss_mask=loss_mask,
        rollout_logprobs=logprobs_of(torch.stack(sampled.logits, dim=1), tokens),
        advantages=group_mean(rewards, group_ids)[:, None] * loss_mask,
    )  # fmt: skip
    weights = token_weights(loss_mask, group_ids, Aggregation.TOKEN_SUM)
    loss = aggregate(MiniRL()(terms), weights)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mismatch = terms.log_mismatch.abs().max()
    print(f"step {step}: reward {rewards.mean():.3f}, largest |log mismatch| {mismatch:.1e}")
