"""The command that tries every Mixture-of-Experts family, on ten of them."""

import json

import pytest
from moe_families import (
    DOCUMENT,
    RESULTS,
    candidates,
    check,
    measure,
    small_model,
    table,
    with_table,
)
from moe_family_trials import TRIALS, YES

from steadyrl.run.manifest import manifest

SAMPLE = {
    "afmoe": "AfmoeForCausalLM",  # its router takes states of three axes
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "gemma4_text": "Gemma4ForCausalLM",  # keeps neither top_k nor num_experts
    "granitemoe": "GraniteMoeForCausalLM",
    "hy_v3": "HYV3ForCausalLM",  # its router takes a bias beside the states
    "inkling_text": "InklingForCausalLM",  # returns four values
    "lfm2_moe": "Lfm2MoeForCausalLM",
    "longcat_flash": "LongcatFlashForCausalLM",  # chooses among experts that do nothing, too
    "minimax_m2": "MiniMaxM2ForCausalLM",
    "solar_open": "SolarOpenForCausalLM",  # limits a token to groups, of which it has one
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_routes_of_these_families_are_replayed(name: str) -> None:
    model = small_model(name, SAMPLE[name])
    assert model is not None
    assert TRIALS["replay"](model) == YES


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_what_is_measured_is_what_the_results_say(name: str) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    if results["packages"] != manifest(0)["packages"]:
        pytest.skip("measured with other versions")
    assert measure(name, SAMPLE[name]) == results["families"][name]


def test_the_document_has_the_table_of_the_results() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(text, table(results["families"], results)) == text


@pytest.mark.slow
def test_the_table_is_of_the_installed_versions_and_misses_no_family() -> None:
    assert SAMPLE.items() <= candidates().items()
    if json.loads(RESULTS.read_text())["packages"] == manifest(0)["packages"]:
        assert check() == 0


def test_a_reason_that_families_share_stands_once() -> None:
    facts = {"packages": {"transformers": "5", "torch": "2"}, "machine": "A", "commit": None}
    answers = dict.fromkeys(TRIALS, YES)
    rows = {
        "one": answers | {"fp8": "refused: OneForCausalLM has none. Use bfloat16."},
        "two": answers | {"fp8": "refused: TwoForCausalLM has none. Use bfloat16."},
    }
    lines = table(rows, facts).splitlines()
    assert lines[-3:] == [
        "| two | yes | yes | yes | refused (1) | yes | yes |",
        "",
        "1. The family has none. Use bfloat16.",
    ]
