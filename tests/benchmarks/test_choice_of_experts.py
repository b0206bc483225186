"""The rule by which a model is chosen, on numbers small enough for paper."""

import json
from pathlib import Path

import pytest
from benchmarks.choice_of_experts import CANDIDATES, described, replayable, summary

from steadyrl.lab.catalog import MORE_EXPERTS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "choice_of_experts.json"


def row(routing: float, stale: float, k3: float) -> dict[str, object]:
    order = {"routing": {"share": routing}, "stale_routing": {"share": stale}}
    other = {"routing": {"share": routing}, "stale_routing": {"share": 0.0}}
    return {
        "orders": {"routes_last": order, "routes_first": other},
        "whole": {"kl_k3": k3},
        "replayed": {"r2": {"kl_k3": k3 / 2}, "r3": {"kl_k3": k3 / 4}},
    }


def test_what_replay_can_remove_is_the_mean_over_samplings_and_orders() -> None:
    rows = [row(0.1, 0.3, 4e-2), row(0.2, 0.2, 8e-2)]
    assert replayable(rows) == pytest.approx([0.4, 0.1, 0.4, 0.2])
    found = summary(CANDIDATES[0], rows)
    assert found["replayable"] == pytest.approx(0.275)
    assert found["replayable_span"] == "10% to 40%"
    assert found["k3"]["r3"] == "1.0e-02 to 2.0e-02"


def test_the_study_s_model_is_the_one_that_was_chosen() -> None:
    published = json.loads(RESULTS.read_text())
    shares = {one["model"]: one["replayable"] for one in published["candidates"]}
    assert shares.keys() == {described(model) for model in CANDIDATES}
    assert published["choice"] == max(shares, key=lambda name: shares[name])
    assert described(MORE_EXPERTS) == published["choice"]
    assert MORE_EXPERTS in CANDIDATES
