"""Faults are named from tokens that were really drawn that way; sound set-ups are left alone."""

from collections.abc import Callable

import pytest
import torch
from tests.analysis.diagnosed_runs import SOUND, sound, stage
from torch import Tensor

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.faults import fault_of
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.sampler import sample
from steadyrl.objectives import mismatch_diagnostics, sampling_diagnostics, temperature_diagnostics

SETTINGS = RunSettings()
TOKENS, VOCABULARY = 4000, 20

Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def drawn(draw: Draw, steps: int = 3) -> Stage:
    """Steps of a trainer whose logits the engine sees with rounding noise, and draws from."""
    rows: dict[str, list[float]] = {}
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        logits = 2 * torch.randn(TOKENS, VOCABULARY, generator=generator)
        noise = 0.05 * torch.randn(TOKENS, VOCABULARY, generator=generator)
        uniform = torch.rand(TOKENS, generator=generator, dtype=torch.float64)
        tokens, rollout_logprobs = draw(logits + noise, uniform)
        every = logits.log_softmax(dim=-1)
        logprobs = every.gather(-1, tokens[:, None]).squeeze(-1)
        entropy = -(every.exp() * every).sum(dim=-1)
        metrics = {
            "entropy": entropy.mean().item(),
            **mismatch_diagnostics(rollout_logprobs, logprobs),
            **sampling_diagnostics(rollout_logprobs, logprobs, entropy),
            **temperature_diagnostics(rollout_logprobs, logprobs, entropy),
        }
        for name, value in metrics.items():
            rows.setdefault(name, []).append(value)
    return stage(**rows)


def reported(sampling: Sampling) -> Draw:
    def draw(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        drawn = sample(logits, uniform, sampling)
        return drawn.tokens, drawn.logprobs

    return draw


def unreported(sampling: Sampling) -> Draw:
    """Draws by `sampling`, and reports probabilities without it."""

    def draw(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        tokens = sample(logits, uniform, sampling).tokens
        return tokens, logits.log_softmax(dim=-1).gather(-1, tokens[:, None]).squeeze(-1)

    return draw


def named(run: Stage, settings: RunSettings = SETTINGS) -> CauseName | None:
    fault = fault_of(run, settings)
    return None if fault is None else fault.cause.name


@pytest.mark.parametrize("top_p", [1.0, 0.99, 0.95, 0.7, 0.3])
def test_top_p_that_the_engine_reports_is_no_fault(top_p: float) -> None:
    assert named(drawn(reported(Sampling(top_p=top_p)))) is None


@pytest.mark.parametrize("top_p", [0.9, 0.7, 0.3])
def test_top_p_left_out_of_the_log_probabilities_is_named(top_p: float) -> None:
    assert named(drawn(unreported(Sampling(top_p=top_p)))) is CauseName.SAMPLING


@pytest.mark.parametrize("temperature", [0.7, 1.4])
def test_a_temperature_left_out_of_the_log_probabilities_is_named(temperature: float) -> None:
    assert named(drawn(unreported(Sampling(temperature=temperature)))) is CauseName.SAMPLING


@pytest.mark.parametrize("temperature", [0.6, 0.8, 1.25, 1.5])
def test_another_temperature_than_the_trainer_scores_at_is_named_with_its_value(
    temperature: float,
) -> None:
    fault = fault_of(drawn(reported(Sampling(temperature=temperature))), SETTINGS)

    assert fault is not None
    assert fault.cause.name is CauseName.TEMPERATURE
    assert fault.evidence.value == pytest.approx(temperature, abs=0.1)


def test_one_step_is_enough_for_what_is_wrong_from_the_start() -> None:
    assert named(drawn(unreported(Sampling(top_p=0.7)), steps=1)) is CauseName.SAMPLING


def test_a_gap_says_nothing_where_rows_were_chosen_by_their_rewards() -> None:
    settings = RunSettings(every_token_measured=False)

    assert named(drawn(unreported(Sampling(top_p=0.7))), settings) is None


def test_a_sound_run_has_no_fault() -> None:
    assert named(sound()) is None


def test_a_gap_that_is_certain_but_small_does_no_harm() -> None:
    assert named(sound(surprisal_gap=[-0.004] * 8, surprisal_gap_z=[-9.0] * 8)) is None


def test_a_temperature_that_no_setting_could_mean_is_rounding() -> None:
    assert named(sound(temperature_ratio=[1.005] * 8, temperature_share=[0.9] * 8)) is None


def test_a_large_mismatch_under_the_engines_own_routes_is_of_the_routes() -> None:
    far = {"extreme_token_fraction": [0.6] * 8, "mismatch_kl_k3": [2.0] * 8}

    assert named(sound(**far, routing_disagreement=[0.0] * 8)) is CauseName.ROUTES
    assert named(sound(**far)) is CauseName.OTHER_POLICY


def test_routes_that_differ_where_probabilities_agree_are_of_other_tokens() -> None:
    fault = fault_of(sound(routing_disagreement=[0.93] * 8), SETTINGS)

    assert fault is not None
    assert fault.cause.name is CauseName.ROUTES
    assert "93% of the positions, although their probabilities agree" in fault.cause.reason


GROWING = [0.002, 0.002, 0.002, 0.006, 0.01, 0.015, 0.02, 0.03]
SLOPING = [0.0, 0.01, 0.02, 0.06, 0.1, 0.15, 0.2, 0.3]
SHARPENING = [1.0, 1.01, 1.02, 1.04, 1.08, 1.1, 1.15, 1.2]


def test_a_mismatch_that_grows_as_the_policy_learns_is_of_stale_weights() -> None:
    fault = fault_of(
        sound(mismatch_kl_k3=GROWING, temperature_share=SLOPING, temperature_ratio=SHARPENING),
        SETTINGS,
    )

    # Medians of three at step 6: 0.01 > 3 * 0.002, 0.1 > 0.01 + 0.05, and 1.08 > 1.01 + 0.05.
    assert fault is not None
    assert (fault.cause.name, fault.evidence.step) == (CauseName.STALE_ENGINE, 6)
    assert "5 times as large by step 6" in fault.cause.reason


@pytest.mark.parametrize("metric", ["mismatch_kl_k3", "temperature_share", "temperature_ratio"])
def test_stale_weights_are_not_named_without_all_of_their_signs(metric: str) -> None:
    signs = {
        "mismatch_kl_k3": GROWING,
        "temperature_share": SLOPING,
        "temperature_ratio": SHARPENING,
    }

    assert named(sound(**{**signs, metric: SOUND[metric]})) is None


def test_a_run_without_the_metrics_has_no_fault() -> None:
    assert named(stage(reward=[0.1, 0.2])) is None


def test_of_rollouts_sampled_ahead_only_those_of_equal_weights_prove_a_fault() -> None:
    # From the second step on a rollout's weights are one rollout older: N = 2 updates.
    staleness = [0.5, *[2.5] * 7]
    late = sound(extreme_token_fraction=[0.001, *[0.26] * 7], staleness=staleness)
    early = sound(extreme_token_fraction=[0.26] * 8, staleness=staleness)
    overlapped = RunSettings(mini_batches=2, max_staleness=1)
    assert fault_of(late, overlapped) is None
    for settings in (overlapped, RunSettings(mini_batches=2)):
        fault = fault_of(early, settings)
        assert fault is not None
        assert fault.cause.name is CauseName.OTHER_POLICY
    assert fault_of(late, RunSettings(mini_batches=2)) is not None
