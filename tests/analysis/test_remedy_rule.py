"""The rule of remedies: which limit holds for what is measured, and what it advises."""

import pytest

from steadyrl.analysis.remedy_rule import (
    InUse,
    Measured,
    Origin,
    RemedyRule,
    in_words,
    measured_rule,
)

RULE = RemedyRule(
    limits={
        Origin.ROUTING: {"none": 0.1, "r3": 0.1},
        Origin.NUMERICS: {"none": 0.02, "importance weights": 0.2},
        Origin.STALENESS: {"none": 0.01, "clipping": float("inf")},
        Origin.STEP_SIZE: {"none": 0.001, "clipping": 0.01},
    },
    split=(-2.0, 0.0),  # a disagreement above exp(-2), 13.5%, whatever the k3
)
PLAIN = InUse(importance_weights=False, clipping=False)


def measured(
    mismatch: float = 0.0,
    *,
    disagreement: float | None = None,
    staleness: float = 0.0,
    mini_batches: int = 4,
) -> Measured:
    return Measured(
        mismatch=mismatch,
        disagreement=disagreement,
        staleness=staleness,
        mini_batches=mini_batches,
    )


@pytest.mark.parametrize(
    ("values", "origin", "remedy"),
    [
        (measured(0.05, disagreement=0.05), Origin.NUMERICS, "importance weights"),
        (measured(0.05), Origin.NUMERICS, "importance weights"),
        (measured(0.3), Origin.NUMERICS, None),
        (measured(0.3, disagreement=0.5), Origin.ROUTING, None),
        (measured(staleness=0.012), Origin.STALENESS, "clipping"),
    ],
)
def test_the_first_sufficient_remedy_is_advised(
    values: Measured, origin: Origin, remedy: str | None
) -> None:
    (found,) = RULE.excesses(values, PLAIN)
    assert (found.origin, found.remedy) == (origin, remedy)
    assert not RULE.bears(values, PLAIN)


def test_a_mismatch_of_routing_is_not_judged_by_the_limits_of_numerics() -> None:
    assert RULE.bears(measured(0.05, disagreement=0.5), PLAIN)


def test_the_same_staleness_in_fewer_steps_is_one_of_large_steps() -> None:
    """0.009 is below the limit of staleness; over 1, 2 and 4 squared it is 0.009, 0.002, 0.0006."""
    few, some, many = (
        [each.origin for each in RULE.excesses(measured(staleness=0.009, mini_batches=n), PLAIN)]
        for n in (1, 2, 4)
    )
    assert few == some == [Origin.STEP_SIZE]
    assert many == []


def test_remedies_in_use_have_their_own_limits() -> None:
    assert RULE.bears(measured(0.05, staleness=0.02), InUse())
    replayed = InUse(replay="r3")
    assert replayed.against(Origin.STALENESS) == "clipping and replay"
    # Without a limit of its own, a remedy counts as none.
    assert not RULE.bears(measured(staleness=0.02), replayed)


def test_the_sentence_names_value_limit_and_advice() -> None:
    (numerics,) = RULE.excesses(measured(0.05), PLAIN)
    assert in_words(numerics).startswith("Numerics: a mismatch k3 of 0.05 is above 0.02, where")
    assert "use importance weights, under which" in in_words(numerics)
    (routing,) = RULE.excesses(measured(0.3, disagreement=0.5), InUse())
    assert in_words(routing).endswith("no remedy was measured to suffice, so mend the cause")


def test_the_measured_rule_is_read_back_as_it_was_written() -> None:
    rule = measured_rule()
    assert RemedyRule.of_values(rule.to_values()) == rule
    assert Origin.ROUTING in rule.limits
