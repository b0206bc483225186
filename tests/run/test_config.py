"""A configuration is complete, survives YAML, and refuses what cannot work in a sentence."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.published import PUBLISHED
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.base.errors import UserError
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.lab.worlds.second_chance import SecondChanceSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.objectives import (
    CISPO,
    GRPO,
    Aggregation,
    MiniRL,
    Objective,
    Reinforce,
    Truncation,
)
from steadyrl.policies.model_settings import Pretrained, SmallDense, SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.recipes import RECIPES, find_recipe
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig, from_yaml, parse, to_yaml
from steadyrl.training.journal import JournalSettings
from tests.run.tiny import tiny_experiential_run, tiny_run


def reread(config: RunConfig) -> RunConfig:
    return parse(yaml.safe_load(to_yaml(config)), "test")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_survives_yaml(recipe: str, tmp_path: Path) -> None:
    config = RECIPES[recipe]()
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")

    assert from_yaml(file) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_algorithm_survives_yaml(name: str) -> None:
    config = tiny_run(algorithm=PUBLISHED[name])

    assert reread(config) == config


BOUND = st.floats(1e-6, 100) | st.just(math.inf)


@settings(deadline=None, max_examples=25)
@given(
    objective=st.builds(MiniRL, clip_low=BOUND, clip_high=BOUND, weight_cap=BOUND)
    | st.builds(GRPO, clip_low=BOUND, clip_high=BOUND)
    | st.builds(CISPO, clip_low=BOUND, clip_high=BOUND)
    | st.just(Reinforce()),
    model=st.sampled_from(
        [SmallMoE(), SmallDense(width=32), Pretrained(path="somewhere/übung: #1")]
    ),
    constant_length=st.none() | st.integers(1, 100),
    seed=st.integers(0, 2**63),
)
def test_yaml_keeps_every_value_infinity_included(
    objective: Any, model: Any, constant_length: int | None, seed: int
) -> None:
    gradient = PolicyGradientSettings(
        objective=objective,
        constant_length=constant_length,
        aggregation=Aggregation.TOKEN_SUM if constant_length is None else Aggregation.CONSTANT,
    )
    changes = {"algorithm": gradient, "model": model, "seed": seed}
    config = tiny_run(routing_replay=RoutingReplay.NONE, **changes)

    assert reread(config) == config


def test_yaml_writes_every_field_out() -> None:
    config = tiny_run()
    written = yaml.safe_load(to_yaml(config))

    assert set(written) == set(RunConfig.model_fields)
    for part in ("model", "cold_start", "engine", "learner", "optimizer", "sampling", "journal"):
        assert set(written[part]) == set(type(getattr(config, part)).model_fields), part
    assert written["algorithm"]["objective"] == {
        "name": "minirl",
        "clip_low": 0.2,
        "clip_high": 0.27,
        "weight_cap": 5.0,
        "correct_mismatch": True,
    }


# Refusals.


def changed(path: str, value: Any) -> dict[str, Any]:
    """The tiny run as plain values, with one of them changed."""
    values = tiny_run().model_dump(mode="json")
    *parents, name = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[name] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("steps", -1, "steps: got -1, expected: whole number, at least 0"),
        ("seed", -1, "seed: got -1, expected: whole number, at least 0"),
        ("threads", 0, "threads: got 0, expected: whole number, at least 1"),
        ("evaluate_every", 0, "evaluate_every: got"),
        ("engine.numerics", "fp7", "got 'fp7', expected: float32, bfloat16, fp8, int8, int4"),
        (
            "engine.name",
            "vast",
            "engine.name: unknown name, got 'vast'. Known names: local, reference, sglang, vllm",
        ),
        ("engine.max_running", 0, "engine.max_running: got 0, expected: .*, at least 1, auto"),
        ("engine.cache_memory", "all", "engine.cache_memory: got 'all', expected: .*, auto"),
        ("learner.dtype", "float16", "learner.dtype: got 'float16', expected: float32, bfloat16"),
        ("learner.micro_batch_tokens", 0, "learner.micro_batch_tokens: got 0"),
        ("journal.keep_checkpoints", 0, "journal.keep_checkpoints: got 0"),
        ("sampling.top_p", 0.0, "sampling.top_p: got 0"),
        (
            "optimizer.learning_rate",
            "fast",
            "optimizer.learning_rate: got 'fast', expected: number",
        ),
        ("cold_start.batch_size", 0, "cold_start.batch_size: got 0"),
        (
            "model.name",
            "large_moe",
            "model.name: unknown name, got 'large_moe'. Known names: small_moe",
        ),
        ("routing_replay", "r4", "routing_replay: got 'r4', expected: none, r2, r3, auto"),
        ("stepz", 3, "stepz: unknown setting, got 3. Did you mean 'steps'"),
        ("engine.numeric", "fp8", "engine.numeric: .* got 'fp8'. Did you mean 'numerics'"),
        (
            "algorithm.group_size",
            1,
            "algorithm: group_size is 1, .* Set group_size to 2 or more",
        ),
        (
            "algorithm.aggregation",
            "constant",
            "aggregation is 'constant' and constant_length is None. Set",
        ),
        (
            "sampling.temperature",
            0.0,
            "temperature is 0: every answer .* the same, .* Set a temperature above 0",
        ),
        ("sampling.temperature", math.inf, "sampling.temperature: Input should be a finite number"),
        ("evaluation.temperature", math.inf, "evaluation.temperature: Input .* a finite number"),
        ("optimizer.learning_rate", math.inf, "optimizer.learning_rate: Input .* finite number"),
        ("optimizer.weight_decay", math.inf, "optimizer.weight_decay: Input .* finite number"),
        ("sampling.top_k", 1, "top_k is 1: every answer .* the same, .* Set top_k to 2 or more"),
        (
            "model.experts_per_token",
            5,
            "experts_per_token is 5, but .* 4 experts. .* lower experts_per_token",
        ),
        ("model.kv_heads", 3, r"heads is 2 and kv_heads is 3. .* multiple of kv_heads"),
        ("model.head_dim", 7, r"head_dim is 7. .* even"),
    ],
)
def test_what_cannot_work_is_refused_with_what_was_got_and_what_to_do(
    path: str, value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        parse(changed(path, value), "my.yaml")
    assert str(refusal.value).startswith("The configuration of my.yaml is not valid: ")
    assert "\n" not in str(refusal.value)


def test_replay_of_a_small_dense_model_is_refused() -> None:
    for replay in ("r2", "r3"):
        with pytest.raises(
            ValidationError, match=f"routing_replay is '{replay}', but the model 'small_dense' is"
        ):
            tiny_run(model=SmallDense(), routing_replay=RoutingReplay(replay))


def test_r2_with_one_mini_batch_is_refused() -> None:
    settings = PolicyGradientSettings(prompts=4, group_size=4, mini_batches=1)
    with pytest.raises(ValidationError, match=r"'r2' with mini_batches 1: .* Use 'none' or 'r3'"):
        tiny_run(routing_replay=RoutingReplay.R2, algorithm=settings)
    assert tiny_run(routing_replay=RoutingReplay.R3, algorithm=settings)


def test_every_wrong_field_is_named_at_once() -> None:
    values = changed("engine.numerics", "fp7") | {"steps": -1}

    with pytest.raises(UserError, match=r"steps: .*; engine\.numerics: "):
        parse(values, "my.yaml")


def test_a_missing_environment_is_named() -> None:
    values = tiny_run().model_dump(mode="json")
    del values["environment"]

    with pytest.raises(UserError, match=r"environment: required. Set environment in "):
        parse(values, "my.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"steps: [1", r"my\.yaml is not YAML: while parsing .* Correct it, or write it anew"),
        (b"\xff\xfe\x00", r"my\.yaml is not YAML: .*decode.* Correct it, or write it anew"),
        (b"", r"my\.yaml is not valid: Input should be a valid dictionary .*got None"),
        (b"- 1", r"my\.yaml is not valid: Input should be a valid dictionary .*got \[1\]"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "my.yaml").write_bytes(content)

    with pytest.raises(UserError, match=message) as refusal:
        from_yaml(tmp_path / "my.yaml")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no configuration at .*none\.yaml\. Give a YAML file"):
        from_yaml(tmp_path / "none.yaml")


def test_other_environments_are_settings_of_the_same_field() -> None:
    config = tiny_run(environment=ReasoningGymSettings(dataset="basic_arithmetic"), cold_start=None)

    assert reread(config) == config


# One algorithm at a time.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"algorithm": ExperientialSettings(), "routing_replay": RoutingReplay.R2},
            "'r2' with mini_batches 1: .* set algorithm.mini_batches to 2 or more",
        ),
    ],
)
def test_experiential_rl_refuses_what_it_does_not_read(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny_experiential_run(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"numerics": "float32", "weight_scaling": "block"},
            "engine: weight_scaling is 'block', but numerics are 'float32', .* no scales. Leave",
        ),
        (
            {"name": "reference", "max_running": 3},
            "engine.max_running: unknown setting, got 3",
        ),
        (
            {"numerics": "float32", "head_dtype": "float32"},
            "engine: head_dtype is 'float32', but so are numerics: .* Leave head_dtype out, or",
        ),
        (
            {"numerics": "fp8", "head_dtype": "float32"},
            "engine.head_dtype is 'float32', but under engine.numerics 'fp8' the head computes in "
            "learner.dtype, which is 'float32' already. Leave head_dtype out, or set learner.dtype",
        ),
    ],
)
def test_settings_that_the_engine_does_not_read_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        parse(changed("engine", changes), "my.yaml")
    for kept in (
        {"weight_scaling": "block", "numerics": "fp8"},
        {"name": "reference"},
        {"head_dtype": "float32"},
    ):
        assert parse(changed("engine", kept), "my.yaml")


def test_a_float32_head_on_what_is_float32_is_refused() -> None:
    with pytest.raises(UserError, match=r"learner: head_dtype is 'float32', but so is dtype: .*"):
        parse(changed("learner", {"head_dtype": "float32"}), "my.yaml")
    learner = LocalLearnerSettings(dtype="bfloat16", head_dtype="float32")
    lowered = LocalEngineSettings(numerics=Numerics.FP8, head_dtype="float32")
    assert reread(tiny_run(learner=learner, engine=lowered)).engine.head_dtype == "float32"


OVERLAP = LocalEngineSettings(overlap=True)


AHEAD = LocalEngineSettings(max_staleness=1)


@pytest.mark.parametrize("objective", [GRPO(), MiniRL(correct_mismatch=False)])
@pytest.mark.parametrize(
    ("engine", "cause", "remedy"),
    [
        (OVERLAP, r"overlap is true, but", r"or set engine\.overlap to false"),
        (AHEAD, r"max_staleness is 1, but", r"or set engine\.max_staleness to 0"),
    ],
)
def test_staleness_needs_an_objective_that_reads_the_ratio_to_the_engine(
    objective: Objective, engine: LocalEngineSettings, cause: str, remedy: str
) -> None:
    blind = PolicyGradientSettings(objective=objective)
    correct = r"Set algorithm\.correction to 'truncation'"
    with pytest.raises(ValidationError, match=f"engine\\.{cause} .*{correct}.*{remedy}"):
        tiny_run(algorithm=blind, engine=engine)
    with pytest.raises(ValidationError, match=correct):
        tiny_experiential_run(algorithm=ExperientialSettings(objective=objective), engine=engine)
    corrected = blind.model_copy(update={"correction": Truncation()})
    assert tiny_run(algorithm=corrected, engine=engine).engine == engine
    assert tiny_run(algorithm=PolicyGradientSettings(), engine=engine).engine == engine


def test_staleness_needs_more_steps_between_checkpoints() -> None:
    every = JournalSettings(checkpoint_every=1)
    with pytest.raises(ValidationError, match=r"checkpoint_every 1: .* to 2 or more, or engine"):
        tiny_run(engine=OVERLAP, journal=every)
    assert tiny_run(journal=every).journal == every
    three, every = LocalEngineSettings(max_staleness=3), JournalSettings(checkpoint_every=3)
    with pytest.raises(
        ValidationError,
        match=r"max_staleness is 3 with .* none would be 3 steps ahead\. Set .* to 4 or more, or "
        r"engine\.max_staleness to 0",
    ):
        tiny_run(engine=three, journal=every)
    assert tiny_run(engine=three, journal=JournalSettings(checkpoint_every=4)).engine == three


def test_overlap_samples_one_step_ahead_unless_told_otherwise() -> None:
    assert [
        LocalEngineSettings(overlap=overlap, max_staleness=ahead).steps_ahead
        for overlap, ahead in ((False, None), (True, None), (False, 2), (True, 3))
    ] == [0, 1, 2, 3]
    with pytest.raises(ValidationError, match=r"overlap is true with max_staleness 0: .* to 1 or"):
        LocalEngineSettings(overlap=True, max_staleness=0)


def test_generation_continues_only_beside_the_updates() -> None:
    with pytest.raises(ValidationError, match=r"in_flight is 'continue', but overlap is false"):
        LocalEngineSettings(in_flight="continue")
    with pytest.raises(ValidationError, match=r"late_groups is 'drop', but in_flight is 'finish'"):
        LocalEngineSettings(overlap=True, late_groups="drop")
    both = LocalEngineSettings(overlap=True, in_flight="continue", late_groups="drop")
    every = JournalSettings(checkpoint_every=1)  # which holds what is sampled ahead
    assert tiny_run(engine=both, journal=every).journal == every


def test_rescoring_needs_tokens_sampled_as_they_are_scored() -> None:
    engine = LocalEngineSettings(rescored_groups=2)
    assert tiny_run(engine=engine).engine == engine
    for sampling in (Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(top_k=5)):
        with pytest.raises(ValidationError, match=r"rescored_groups is 2, but tokens are not"):
            tiny_run(engine=engine, sampling=sampling)


def test_the_trainer_s_log_probabilities_are_an_engine_s_that_rounds_otherwise_alone() -> None:
    learner = LocalLearnerSettings(rollout_logprobs="trainer")
    exact = LocalEngineSettings(numerics=Numerics.FLOAT32)
    assert tiny_run(engine=exact, learner=learner).learner == learner
    for changes in (
        {"engine": LocalEngineSettings(numerics=Numerics.FP8)},
        {"engine": exact.model_copy(update={"routing_noise": 0.1})},
        {"engine": exact.model_copy(update={"max_staleness": 1})},
        {"learner": learner.model_copy(update={"dtype": "bfloat16"})},
    ):
        with pytest.raises(ValidationError, match=r"rollout_logprobs is 'trainer', which is true"):
            tiny_run(**{"engine": exact, "learner": learner, **changes})


def test_episodes_that_would_be_cut_short_are_refused() -> None:
    lake = FrozenLakeSettings(moves=9)
    gradient = PolicyGradientSettings(max_turns=8)
    with pytest.raises(ValidationError, match=r"algorithm.max_turns is 8, .* at least 9"):
        tiny_run(environment=lake, cold_start=None, algorithm=gradient)
    with pytest.raises(ValidationError, match=r"evaluation.max_turns is 4, .* at least 9"):
        tiny_run(environment=lake, cold_start=None, evaluation=EvaluationSettings(max_turns=4))
    compact = lake.model_copy(update={"rendering": "compact"})
    assert tiny_run(environment=compact, cold_start=None, algorithm=gradient)
    both = SecondChanceSettings(max_turns=17)
    with pytest.raises(ValidationError, match="may take 18 turns in both attempts"):
        tiny_run(environment=lake, cold_start=None, algorithm=both)


@pytest.mark.parametrize("name", ["erl-frozenlake-tiny", "erl-questions-tiny"])
def test_drills_must_leave_out_the_meaning_that_the_run_hides(name: str) -> None:
    values = find_recipe(name)().model_dump()
    holder = values["environment"].get("questions", values["environment"])
    holder["meaning"] += 1
    with pytest.raises(UserError, match="they teach what the run should discover"):
        parse(values, name)


def test_a_nested_block_in_part_keeps_what_the_recipe_language_documents() -> None:
    values = tiny_experiential_run().model_dump()
    objective = {"name": "grpo", "clip_low": 0.1}
    values["algorithm"] = {"name": "erl", "objective": objective, "mini_batches": 2}
    values["algorithm"]["reflection"] = {"name": "policy", "sampling": {"max_new_tokens": 512}}
    values["cold_start"]["optimizer"] = {"learning_rate": 3e-3}
    config = parse(values, "a test")
    assert isinstance(config.algorithm, ExperientialSettings)
    assert config.algorithm.objective == GRPO(clip_low=0.1, clip_high=0.28)
    assert isinstance(config.algorithm.reflection, PolicyReflection)
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=512)
    assert config.algorithm.reflection.sampling == sampling
    assert config.cold_start is not None
    assert config.cold_start.optimizer.schedule == "cosine"


def test_a_second_chance_takes_two_turns() -> None:
    with pytest.raises(ValidationError, match=r"algorithm\.max_turns is 1, .* at least 2"):
        tiny_run(algorithm=SecondChanceSettings(max_turns=1))


def test_experiential_rl_survives_yaml_and_says_how_it_credits() -> None:
    config = tiny_experiential_run()
    assert reread(config) == config
    assert config.algorithm.gradient_steps == 2
    sequential = ExperientialSettings(updates="sequential")
    updated = tiny_experiential_run(algorithm=sequential, routing_replay=RoutingReplay.R2)
    assert updated.algorithm.gradient_steps == 3
    assert tiny_run().algorithm.gradient_steps == 2


def test_trackers_survive_yaml_by_name_and_with_their_settings(tmp_path: Path) -> None:
    config = tiny_run(trackers=["tensorboard", {"name": "wandb", "tags": ["a", "b"]}])
    assert [tracker.name for tracker in config.trackers] == ["jsonl", "tensorboard", "wandb"]
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    assert from_yaml(tmp_path / "run.yaml") == config
