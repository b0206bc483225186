import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadyrl.analysis.diagnosis import diagnose
from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.base.errors import UserError
from steadyrl.base.wording import MINUS
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report
from steadyrl.report.run_data import read_run

MakeRun = Callable[..., RunFolder]
ReadPage = Callable[[Path], Any]

ONE_STEP = {"stage": "rl", "step": 1, "reward": 0.5}


EVERY_METRIC = tuple(name for name in METRIC_TEXTS if name not in ("score", "seconds"))


def rows(steps: int, names: Sequence[str] = EVERY_METRIC) -> list[dict[str, Any]]:
    """A run with these metrics and some that a diagnosis reads, in two stages."""
    generator = np.random.default_rng(0)
    result: list[dict[str, Any]] = [{"stage": "rl", "step": 0, "score": 0.125}]
    for step in range(1, steps + 1):
        row = {name: float(generator.uniform(0.4, 0.6)) for name in names}
        row |= {"ess": 0.99, "extreme_token_fraction": 0.001}
        row |= {"environment_failed_fraction": 0.0, "score_failed_fraction": 0.0}
        row |= {"truncated_fraction": 0.1, "temperature_share": 0.01, "temperature_ratio": 1.0}
        row |= {"routing_disagreement": 0.1}
        row |= {"update_reached_fraction": 1.0, "engine_update_reached_fraction": 1.0}
        row["routing_disagreement_per_layer"] = generator.uniform(0, 1, size=4).tolist()
        result.append({"stage": "rl", "step": step, "seconds": 36.0, **row})
    result[-1]["score"] = 0.5
    return [{"stage": "cold_start", "step": 1, "loss": 2.25}, *result]


def answer(task: str, reward: float, response: str, **more: Any) -> dict[str, Any]:
    row = {"task_id": task, "sample": 0, "prompt": "What is 3+4?", "reward": reward}
    return row | {"response": response, "finish_reason": "stop", "response_tokens": 5} | more


@pytest.fixture(scope="module")
def every_metric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a long run with every metric."""
    folder = RunFolder(tmp_path_factory.mktemp("every-metric"))
    folder.config.write_text("algorithm:\n  clip_high: 0.27\n", encoding="utf-8")
    for row in rows(500):
        folder.append_metrics(row)
    return write_report(folder)


def test_the_verdict_states_score_steps_and_time(make_run: MakeRun, read_page: ReadPage) -> None:
    page = read_page(write_report(make_run(rows(100, ["entropy", "score_low", "score_high"]))))

    assert "went from 0.125 before training (step 0) to 0.5 (95% interval 0." in page.text
    assert (
        "1 step of cold start and 100 steps of reinforcement learning, in 1 h 0 min." in page.text
    )
    assert "Diagnosis: healthy." in page.text


def test_every_metric_has_its_figure_and_its_meaning(
    every_metric: Path, read_page: ReadPage
) -> None:
    page = read_page(every_metric)
    labels = page.values_of("aria-label")

    for text in METRIC_TEXTS.values():
        assert text.meaning in page.text
        drawn = any(label.startswith(text.title) for label in labels)
        assert drawn or f"{text.title} = " in page.text, text.title


def test_the_panels_of_the_paper_come_first(every_metric: Path, read_page: ReadPage) -> None:
    page = read_page(every_metric)
    titles = [label.split(" over ")[0] for label in page.values_of("aria-label")]

    assert titles[:4] == ["Held-out score", "Mismatch KL (k3)", "Training reward", "Entropy"]


def test_cold_start_curves_stand_in_their_own_section(
    every_metric: Path, read_page: ReadPage
) -> None:
    text = read_page(every_metric).text
    learning, cold_start = text.split("Cold start Supervised learning from demonstrations")

    assert "2.25" in cold_start
    assert "2.25" not in learning


def test_a_metric_that_no_one_described_is_shown(make_run: MakeRun, read_page: ReadPage) -> None:
    row = {"stage": "rl", "step": 1, "a<b": 0.375}
    page = read_page(write_report(make_run([row])))

    assert "a<b last 0.375" in page.text
    assert "Other metrics" in page.text


def test_values_that_are_not_finite_are_stated(make_run: MakeRun, read_page: ReadPage) -> None:
    run = rows(20, ("gradient_norm", "entropy"))
    run[7]["gradient_norm"] = math.nan
    text = read_page(write_report(make_run(run))).text

    assert "Gradient norm: not finite at 1 of 20 steps, the first being step 6." in text
    assert "1 value not finite, first at step 6." in text
    assert "Every recorded value is finite" not in text


def test_answers_stand_side_by_side_with_mark_and_symbol(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    folder = make_run([ONE_STEP])
    wrong = answer("sum/1", 0.0, "It is 8.", feedback="Expected 7.", truncation_reason="budget")
    folder.write_completions("evaluation_rl", 0, [wrong, answer("sum/2", 0.5, "Half.")])
    right = [answer("sum/1", 1.0, "It is 7."), answer("sum/2", 0.5, "Half.")]
    folder.write_completions("evaluation_rl", 3, right)
    page = read_page(write_report(folder))

    assert "from step 0 to step 3, 1 became better, 0 worse and 1 earned the same: a" in page.text
    assert (
        "sum/1 What is 3+4? Before, step 0 ✗ wrong reward 0 · 5 tokens · finish: stop · "
        "cut short: budget It is 8. Expected 7. After, step 3 ✓ right" in page.text
    )
    assert "◐ partly right reward 0.5" in page.text
    classes = [name for name in page.values_of("class") if name.startswith("answer ")]
    assert classes == ["answer wrong", "answer right", "answer partly", "answer partly"]


def test_what_a_model_wrote_is_shown_and_never_run(make_run: MakeRun, read_page: ReadPage) -> None:
    attack = '</pre><script>alert("1")</script><img src="http://example.org/x.png" onerror="x()">'
    folder = make_run([ONE_STEP], name="<b>bold & brave")
    folder.config.write_text(f"note: {attack}\n", encoding="utf-8")
    folder.manifest.write_text(json.dumps({"machine": attack, attack: attack}), encoding="utf-8")
    row = answer(attack, 0.0, attack, prompt=attack, feedback=attack, truncation_reason=attack)
    folder.write_completions("evaluation_rl", 0, [row | {"finish_reason": attack}])
    page = read_page(write_report(folder))

    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe"}
    # Machine under the title; task, prompt, response, finish, truncation, feedback; configuration;
    # machine, a key and its value in the manifest.
    assert page.text.count('<script>alert("1")</script>') == 1 + 6 + 1 + 3
    assert "<b>bold & brave" in page.text


def test_the_page_needs_nothing_from_elsewhere(every_metric: Path, read_page: ReadPage) -> None:
    links = read_page(every_metric).values_of("src", "href", "srcset", "action")

    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert "url(http" not in every_metric.read_text(encoding="utf-8")
    assert "@import" not in every_metric.read_text(encoding="utf-8")


def test_no_id_is_used_twice_and_no_reference_is_lost(
    every_metric: Path, read_page: ReadPage
) -> None:
    page = read_page(every_metric)
    ids = page.values_of("id")
    clips = [value[5:-1] for value in page.values_of("clip-path")]
    uses = [link[1:] for link in page.values_of("href") if link.startswith("#")]

    assert len(set(ids)) == len(ids) > 0
    assert set(clips) | set(uses) <= set(ids)
    assert clips
    assert uses


def test_configuration_and_manifest_are_shown(make_run: MakeRun, read_page: ReadPage) -> None:
    folder = make_run([ONE_STEP])
    manifest = {
        "commit": "4f2c9d1",
        "command": ["steadyrl", "train"],
        "seed": 0,
        "packages": {"torch": "2.11.0"},
    }
    folder.manifest.write_text(json.dumps(manifest), encoding="utf-8")
    text = read_page(write_report(folder)).text

    assert "algorithm: clip_high: 0.27" in text
    assert "commit 4f2c9d1 command steadyrl train seed 0 packages torch 2.11.0" in text


def test_a_run_killed_in_its_cold_start_is_reported(make_run: MakeRun, read_page: ReadPage) -> None:
    folder = make_run([{"stage": "cold_start", "step": 1, "loss": 2.25}])
    with folder.metrics.open("a", encoding="utf-8") as file:
        file.write('{"stage": "cold_start", "st')
    text = read_page(write_report(folder)).text

    assert "The run has finished 1 step of cold start." in text
    assert "The run has no run.json." in text
    assert "All metrics" not in text


def test_a_panel_that_was_not_recorded_says_so(make_run: MakeRun, read_page: ReadPage) -> None:
    text = read_page(write_report(make_run([ONE_STEP]))).text

    assert text.count("not recorded in this run") == 3
    assert "This run recorded no answers to held-out tasks." in text


def test_a_long_answer_loses_its_middle_and_says_how_much(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    folder = make_run([ONE_STEP])
    response = "beginning " + "x" * 10_000 + " end"
    folder.write_completions("evaluation_rl", 0, [answer("a", 0.0, response)])
    text = read_page(write_report(folder)).text

    assert "[… 6,014 characters left out …]" in text
    assert "beginning xx" in text
    assert "xx end" in text


def test_the_same_run_gives_the_same_page(make_run: MakeRun) -> None:
    layers = {"routing_disagreement_per_layer": [0.25, 0.5]}
    folder = make_run([ONE_STEP | layers | {"step": step} for step in range(60)])
    first = write_report(folder).read_bytes()

    assert write_report(folder).read_bytes() == first


def test_no_page_is_left_of_a_folder_that_cannot_be_reported(make_run: MakeRun) -> None:
    folder = make_run([])

    with pytest.raises(UserError, match="no metrics yet"):
        write_report(folder)
    assert not folder.report.exists()


def test_the_report_of_a_long_run_stays_below_a_megabyte(every_metric: Path) -> None:
    assert every_metric.stat().st_size < 1_000_000


def test_an_environment_that_fails_asks_for_a_closer_look(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    failing = [row | {"environment_failed_fraction": 0.25} for row in rows(10, ["entropy"])]
    text = read_page(write_report(make_run(failing))).text
    assert "Diagnosis: fault since step 2. Environment that fails." in text
    assert "Diagnosis: healthy" not in text


def test_the_page_says_what_diagnose_says(make_run: MakeRun, read_page: ReadPage) -> None:
    measured = rows(10, ["entropy"])[1:]
    scores = [1 - row["step"] / 10 for row in measured]
    ends = [{"score": s, "score_low": s - 0.05, "score_high": s + 0.05} for s in scores]
    falling = [row | {"ess": 0.3} | e for row, e in zip(measured, ends, strict=True)]
    folder = make_run(falling)
    text = read_page(write_report(folder)).text
    run = read_run(folder)
    diagnosis = diagnose(run.stages, run.settings)

    assert diagnosis.heading in text
    assert diagnosis.cause is not None
    for sentence in (
        *diagnosis.findings,
        *diagnosis.remarks,
        diagnosis.cause.reason,
        diagnosis.cause.change,
    ):
        assert sentence in text
    assert "Held-out score: the last one lies below the one before training." in diagnosis.remarks


def test_model_data_and_algorithm_stand_under_the_title(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    folder = make_run([ONE_STEP])
    config = {
        "model": {"name": "pretrained", "path": "models/small-135m"},
        "environment": {"name": "math", "path": "sums.jsonl"},
        "algorithm": {"objective": {"name": "minirl"}, "prompts": 8, "group_size": 4},
        "optimizer": {"learning_rate": 1e-5},
        "evaluation": {"tasks": 48, "samples": 2, "split": "test"},
    }
    folder.config.write_text(json.dumps(config), encoding="utf-8")
    text = read_page(write_report(folder)).text

    assert (
        "Model models/small-135m Data math, sums.jsonl · measured on up to 48 tasks of the test "
        "split, 2 answers each Algorithm MiniRL · 8 prompts with 4 answers each per step · "
        "learning "
        f"rate 1e{MINUS}5 The run has finished"
    ) in text


def test_answers_stand_before_the_panels(make_run: MakeRun, read_page: ReadPage) -> None:
    folder = make_run(rows(3, ["entropy"]))
    folder.write_completions("evaluation_rl", 0, [answer("sum/1", 1.0, "7")])
    text = read_page(write_report(folder)).text

    assert text.index("Answers before and after") < text.index("The horizontal axis")


def test_what_never_changed_is_folded_into_one_list(make_run: MakeRun, read_page: ReadPage) -> None:
    constant = {"staleness": 0.0, "ess": 1.0, "routing_disagreement_per_layer": [0.5, 0.5]}
    run = [ONE_STEP | constant | {"step": step, "loss": step} for step in (1, 2, 3)]
    page = read_page(write_report(make_run(run)))

    assert "4 metrics that have not changed" in page.text
    for entry in ("Staleness = 0", "Effective sample size = 1", "by layer = 0.5"):
        assert entry in page.text
    drawn = [label.split(" over ")[0] for label in page.values_of("aria-label")]
    assert drawn == ["Training reward", "Loss"]  # the panel of the reward, and what changed


def test_the_score_is_drawn_with_its_interval(make_run: MakeRun) -> None:
    evaluated = [{"stage": "rl", "step": step, "score": 0.5} for step in (0, 1)]
    plain = write_report(make_run(evaluated, name="plain")).read_text("utf-8")
    ends = {"score_low": 0.3, "score_high": 0.7}
    told = write_report(make_run([row | ends for row in evaluated])).read_text("utf-8")

    assert "stroke-opacity: 0.22" in told
    assert "stroke-opacity: 0.22" not in plain


def test_off_task_answers_stand_side_by_side(make_run: MakeRun, read_page: ReadPage) -> None:
    drifts = [{"stage": "rl", "step": n, "drift_loglikelihood": -0.2 * n} for n in (0, 1, 2)]
    folder = make_run(drifts)
    row = {"question": "Capital of France?", "answer": "Paris.", "tokens": 2}
    prose = {"question": "", "answer": "Fog.", "tokens": 2, "loglikelihood": -4.0, "response": None}
    for step, loglikelihood, said in ((0, -1.0, "Paris."), (1, -2.0, None), (2, -5.0, "<7>")):
        told = row | {"loglikelihood": loglikelihood, "response": said}
        folder.write_completions("drift_rl", step, [told, prose])
    text = read_page(write_report(folder)).text

    assert "fell by 0.4 nats per token by step 2." in text
    assert "Before, step 0 After, step 2" in text
    assert "Capital of France? Paris. <7> \N{MINUS SIGN}0.5 → \N{MINUS SIGN}2.5" in text
    assert "Diagnosis: forgetting since step 1." in text
