"""Rows of several seeds become one line with ranges."""

from benchmarks.mismatch_sources import percent, span, table


def row(seed: int, share: float, k3: float) -> dict[str, object]:
    order = {"numerics": {"share": share}, "stale_routing": {"share": 1 - share}}
    return {
        "from": "a",
        "to": "b",
        "numerics": "fp8",
        "seed": seed,
        "orders": {"one": order, "other": order},
        "whole": {"kl_k3": k3},
        "replayed": {"r3": {"kl_k3": k3 / 2}},
    }


def test_lines_show_the_range_over_seeds_and_orders() -> None:
    lines = table([row(0, 0.25, 2e-3), row(1, 0.5, 2e-3)], ("numerics", "stale_routing"), ("r3",))
    assert lines.splitlines() == [
        "| weights | engine | numerics | stale routing | k3, live | k3, R3 |",
        "|---|---|---|---|---|---|",
        "| a to b | fp8 | 25% to 50% | 50% to 75% | 2.0e-03 | 1.0e-03 |",
    ]


def test_nothing_is_negative_by_rounding() -> None:
    assert percent(-0.001) == "0%"
    assert span([0.1, 0.104], percent) == "10%"
