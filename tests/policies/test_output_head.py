"""Logits of some positions are those among the logits of all."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    ElectraConfig,
    ElectraForCausalLM,
    FalconMambaConfig,
    FalconMambaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from steadyrl.policies.output_head import OutputHead
from tests.closeness import assert_close
from tests.engines.builders import OTHER_MODELS, gemma2, qwen3
from tests.policies.families import VOCABULARY, scaled_up

AT = torch.tensor([[False, True, True, False], [True, False, True, False]])


class CountsColumns(nn.Linear):
    """Adds to each state's logits the number of its column."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states) + torch.arange(states.shape[1])[:, None]


def electra() -> PreTrainedModel:
    """Its head takes narrower states than its last ones."""
    config = ElectraConfig(
        vocab_size=VOCABULARY,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        is_decoder=True,
    )
    return ElectraForCausalLM(config).eval()


def qwen3_with_a_head_that_counts() -> PreTrainedModel:
    model = qwen3()
    model.lm_head = CountsColumns(32, VOCABULARY, bias=False)
    return model


@pytest.mark.parametrize("build", [*OTHER_MODELS.values(), qwen3_with_a_head_that_counts])
def test_logits_of_some_positions_are_those_among_the_logits_of_all(build) -> None:
    model = scaled_up(build)
    inputs = {"input_ids": torch.arange(8).view(2, 4)}
    with torch.no_grad():
        full = model(**inputs).logits
        found = OutputHead(model).logits(inputs, AT)
        everything = OutputHead(model).logits(inputs, None)
    assert_close(found, full[AT])
    assert torch.equal(everything, full.flatten(0, 1))


def test_a_head_is_plain_if_nothing_stands_behind_it() -> None:
    assert OutputHead(qwen3()).is_plain
    assert not OutputHead(gemma2()).is_plain
    assert not OutputHead(qwen3_with_a_head_that_counts()).is_plain
    assert not OutputHead(electra()).is_plain


@pytest.mark.parametrize(
    ("config", "family"),
    [(MambaConfig, MambaForCausalLM), (FalconMambaConfig, FalconMambaForCausalLM)],
)
def test_a_head_of_another_type_than_the_last_states_is_not_plain(config, family) -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    model = family(config(**sizes)).eval().bfloat16()  # residuals stay float32
    inputs = {"input_ids": torch.arange(8).view(2, 4), "use_cache": False}
    head = OutputHead(model)
    with torch.no_grad():
        assert torch.equal(head.logits(inputs, AT), model(**inputs).logits[AT])
    assert not head.is_plain
