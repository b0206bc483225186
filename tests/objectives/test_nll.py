import math

from steadyrl.objectives import NLL


def test_nll_is_the_log_probability_whatever_the_advantage(make_terms) -> None:
    terms = make_terms(
        [-0.5, -2.0, -3.0],
        old=[math.nan, math.nan, math.nan],
        rollout=[math.nan, math.nan, math.nan],
        advantages=[math.nan, 0.0, -1.0],
        mask=[True, True, False],
    )
    value = NLL()(terms)
    value.sum().backward()
    assert value.tolist() == [[-0.5, -2.0, 0.0]]
    assert terms.logprobs.grad.tolist() == [[1.0, 1.0, 0.0]]
