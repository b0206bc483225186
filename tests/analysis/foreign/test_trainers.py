"""The tables are complete, and a log is recognized by the names of its trainer alone."""

import pytest
from benchmarks.foreign_log_writers import LOGS, LogWriter, curves

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import READ
from steadyrl.analysis.foreign.trainers import AUTO, COLUMNS, OURS, TRAINERS, Trainer, find_trainer
from steadyrl.analysis.foreign.translation import CONVERSIONS, parse_columns, sources_of, translate
from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.base.errors import UserError
from steadyrl.cli.log_options import LogOptions

TABLES = [trainer for trainer in TRAINERS.values() if trainer not in (OURS, COLUMNS)]
REMEDIED = ("learning_rate", "staleness", "discrepancy", "no_signal", "unrecorded")


@pytest.mark.parametrize("trainer", TABLES, ids=lambda trainer: trainer.name)
def test_a_table_speaks_of_metrics_and_causes_that_there_are(trainer: Trainer) -> None:
    assert set(trainer.sources) <= set(METRIC_TEXTS)
    assert set(trainer.missing) <= set(READ)
    assert {cause.upper() for cause in trainer.remedies} <= set(CauseName.__members__)
    assert set(REMEDIED) <= set(trainer.remedies)
    assert trainer.read_from
    for sources in trainer.sources.values():
        assert {source.convert for source in sources} <= set(CONVERSIONS)
        assert all(source.convert == "same" or source.approximate for source in sources)
    for remedy in trainer.remedies.values():
        assert remedy.format(now=" (now 1e-6)").endswith(".")


def test_every_trainer_can_be_named_on_the_command_line() -> None:
    options = LogOptions.model_fields["format"].annotation

    assert set(
        options.__value__.__args__ if hasattr(options, "__value__") else options.__args__
    ) == {
        AUTO,
        *TRAINERS,
    }


@pytest.mark.parametrize("writer", LOGS.values(), ids=LOGS)
def test_a_log_is_recognized_by_its_names(writer: LogWriter) -> None:
    names = tuple(writer.rows(curves("none", seed=0))[0])

    assert find_trainer(names, AUTO, mapped=False).name == writer.trainer


@pytest.mark.parametrize(
    ("prefixed", "name"),
    [
        (("train/reward", "train/frac_reward_zero_std", "train/reward_std", "train/loss"), "trl"),
        (("train/reward", "train/ppo_clip_ratio", "train/actor_grad_norm"), "openrlhf"),
        (("train/reward", "train/gen_kl_error", "train/approx_entropy", "train/loss"), "nemo-rl"),
        (("reward", "staleness_kl_k3", "mismatch_kl_k3"), "steadyrl"),
        (("reward", "reward_std", "rewards/exact/mean", "loss", "learning_rate", "kl"), "trl"),
    ],
)
def test_names_that_trainers_share_do_not_confuse(prefixed: tuple[str, ...], name: str) -> None:
    assert find_trainer(prefixed, AUTO, mapped=False).name == name


def test_names_of_no_trainer_are_refused_unless_mapped() -> None:
    names = ("iteration", "mean_return")

    with pytest.raises(UserError, match="No known trainer logs such names: iteration, mean_return"):
        find_trainer(names, AUTO, mapped=False)
    assert find_trainer(names, AUTO, mapped=True) is COLUMNS


def test_a_log_that_several_trainers_may_have_written_is_not_guessed() -> None:
    names = ("frac_reward_zero_std", "reward_std", "ppo_clip_ratio", "actor_lr")

    with pytest.raises(UserError, match="may be of OpenRLHF or TRL"):
        find_trainer(names, AUTO, mapped=False)


def test_conversions_are_those_of_the_definitions() -> None:
    names = ("train/train_rollout_logprob_abs_diff", "train/ppo_kl")
    sources = sources_of(TRAINERS["slime"], names, {}, set())
    (row,) = translate({3: {names[0]: 0.04, names[1]: -0.002}}, sources)

    # half of 0.04^2; the size of a k1 estimate, which may be negative in a sample
    assert row["mismatch_kl_k3"] == pytest.approx(8e-4)
    assert row["staleness_kl_k3"] == pytest.approx(2e-3)
    assert row["step"] == 3


def test_an_exact_source_goes_before_an_approximate_one() -> None:
    names = ("training/rollout_probs_diff_mean", "rollout_corr/k3_kl")
    both = sources_of(TRAINERS["verl"], names, {}, set())["mismatch_kl_k3"]
    one = sources_of(TRAINERS["verl"], names[:1], {}, set())["mismatch_kl_k3"]

    assert (both.columns, both.approximate) == (("rollout_corr/k3_kl",), "")
    assert "a lower bound" in one.approximate


def test_an_entropy_of_zeros_was_not_computed() -> None:
    names = ("train/entropy_loss",)

    assert "entropy" not in sources_of(TRAINERS["miles"], names, {}, {"train/entropy_loss"})
    assert "entropy" in sources_of(TRAINERS["miles"], names, {}, set())


def test_held_out_scores_of_several_data_sets_are_averaged() -> None:
    names = ("eval/aime", "eval/math", "eval/aime-truncated_ratio", "eval/step", "eval/aime-pass@8")
    sources = sources_of(TRAINERS["slime"], names, {}, set())
    (row,) = translate(
        {0: dict.fromkeys(names, 9.0) | {"eval/aime": 0.2, "eval/math": 0.6}}, sources
    )

    assert row["score"] == pytest.approx(0.4)


def test_columns_are_mapped_one_by_one_or_with_commas() -> None:
    log = ("train/R", "it", "H")

    assert parse_columns(["reward=train/R,step=it", "entropy=H"], log) == {
        "reward": "train/R",
        "step": "it",
        "entropy": "H",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("reward", "needs METRIC=COLUMN"),
        ("rewards=R", "no metric 'rewards'. Did you mean 'reward'"),
        ("reward=train/S", "no column 'train/S'. It has train/R"),
    ],
)
def test_a_wrong_map_is_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_columns([given], ("train/R", "it"))
