"""Scores of a canary's probes by a learner, wherever its policy is."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.learners.protocol import Scorer
from steadyrl.records.token_batch import TokenBatch


def probe_scores(learner: Scorer, probes: Sequence[Int[Tensor, " T"]]) -> Float[Tensor, " N"]:
    """Log-probabilities of the tokens of the probes, except for the first of each."""
    tokens = torch.stack(list(probes))
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    scored = everywhere.clone()
    scored[:, 0] = False
    rows = torch.arange(len(tokens))
    batch = TokenBatch(
        tokens=tokens,
        attention_mask=everywhere,
        loss_mask=scored,
        group_ids=rows,
        response_ids=rows,
        advantages=torch.zeros(tokens.shape),
        temperature=1.0,
    )
    logprobs = learner.score(batch).old_logprobs
    assert logprobs is not None, "what is scored has scores"
    return logprobs[:, 1:].flatten().float()
