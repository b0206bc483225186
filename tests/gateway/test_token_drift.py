"""A tool conversation keeps its tokens in the gateway; rendered anew, it does not."""

from typing import Any

import pytest
import torch
from benchmarks.token_drift import talk
from benchmarks.trained_tokenizers import TOKENIZERS

from steadyrl.engines.driver import drive


@pytest.mark.parametrize("name", TOKENIZERS)
def test_sampled_tokens_are_continued_where_rendering_anew_drifts(name: str) -> None:
    tokenizer: Any = TOKENIZERS[name]()

    held = drive(talk(tokenizer, turns=20, seed=1))

    assert held.in_gateway == 0
    assert held.rendered_anew == 20
    (row,) = held.session.rows
    sampled = torch.cat([turn.completion.token_ids for turn in row])
    assert torch.equal(sampled, torch.cat(held.engine.sampled))
    assert len(sampled) > held.written_anew
