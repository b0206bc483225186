"""The recipes of the small worlds: what their drills and their reinforcement have in common."""

import json
from itertools import permutations
from pathlib import Path

import pytest

from steadyrl.algorithms.erl import ExperientialRL
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.environments.grid_environment import GridEnvironment
from steadyrl.environments.hotpot_qa import HotpotQA
from steadyrl.environments.protocol import Split
from steadyrl.lab.study import changed
from steadyrl.lab.worlds.grid_drills import GridDrillSettings
from steadyrl.lab.worlds.question_drills import QuestionDrillSettings
from steadyrl.policies.model_settings import SmallDense
from steadyrl.recipes import find_recipe
from steadyrl.run.config import RunConfig, from_yaml, to_yaml
from steadyrl.run.execution import start_run
from tests.algorithms.experiential import learned, texts
from tests.driving import collect
from tests.rollout.fakes import TOKENIZER, ScriptedEngine

QUESTIONS = find_recipe("erl-questions-tiny")
GRIDS = ["erl-frozenlake-tiny", "erl-sokoban-tiny"]
EVERY_GRID = pytest.mark.parametrize("name", GRIDS)
EVERY_RECIPE = pytest.mark.parametrize("name", [*GRIDS, "erl-questions-tiny"])

World = GridEnvironment | HotpotQA


def worlds(config: RunConfig) -> tuple[World, World]:
    """Where the recipe drills and where it reinforces."""
    assert config.cold_start is not None
    drills = config.cold_start.teacher
    assert isinstance(drills, GridDrillSettings | QuestionDrillSettings)
    drilled, played = (each.make() for each in (drills.environment, config.environment))
    assert isinstance(drilled, GridEnvironment | HotpotQA)
    assert isinstance(played, GridEnvironment | HotpotQA)
    return drilled, played


def questions() -> tuple[HotpotQA, HotpotQA]:
    drilled, played = worlds(QUESTIONS())
    assert isinstance(drilled, HotpotQA)
    assert isinstance(played, HotpotQA)
    return drilled, played


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "learned_book"),
    [
        ("erl-frozenlake-tiny", "<u vl >d ^r"),
        ("erl-sokoban-tiny", "<u vl >d ^r"),
        ("erl-questions-tiny", "ke li mo na"),
    ],
)
def test_no_drill_has_the_meaning_that_is_learned(name: str, learned_book: str) -> None:
    drilled, played = worlds(find_recipe(name)())
    (book,) = {played.rulebook(played.task(Split.TRAIN, index)) for index in range(50)}
    assert book.endswith(learned_book)
    books = {drilled.rulebook(drilled.task(Split.TRAIN, index)) for index in range(2000)}
    assert book not in books
    assert len(books) == 23  # all but one of the 24 meanings of four words


@EVERY_RECIPE
def test_the_recipe_survives_a_file(name: str, tmp_path: Path) -> None:
    config = find_recipe(name)()
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(config))
    assert from_yaml(path) == config


@EVERY_RECIPE
def test_reinforcement_alone_differs_in_the_algorithm_and_may_sample_as_much(name: str) -> None:
    config, alone = find_recipe(name)(), find_recipe(name.replace("erl-", "rlvr-", 1))()
    assert isinstance(config.algorithm, ExperientialSettings)
    fields = config.model_dump()
    assert {f for f, value in alone.model_dump().items() if value != fields[f]} == {"algorithm"}
    assert isinstance(alone.algorithm, PolicyGradientSettings)
    assert alone.algorithm.prompts == config.algorithm.prompts
    assert alone.algorithm.group_size == 3 * config.algorithm.group_size


# Lakes and rooms.


@EVERY_GRID
def test_drills_and_reinforcement_have_the_same_boards(name: str) -> None:
    drilled, played = worlds(find_recipe(name)())
    for split in Split:
        one, other = (world.task(split, 7).payload for world in (drilled, played))
        assert (one.game, one.moves) == (other.game, other.moves)


@EVERY_GRID
def test_plans_and_rulebooks_fit_into_their_budgets(name: str) -> None:
    config = find_recipe(name)()
    _, played = worlds(config)
    assert isinstance(config.algorithm, ExperientialSettings)
    task = played.task(Split.TRAIN, 0)
    assert task.payload.moves + 1 <= config.sampling.max_new_tokens
    assert len(played.rulebook(task)) + 1 <= config.algorithm.reflection.sampling.max_new_tokens


# Questions.


def test_drills_and_reinforcement_have_the_same_questions_and_facts() -> None:
    drilled, played = questions()
    for split in Split:
        one, other = (world.task(split, 7) for world in (drilled, played))
        assert one.prompt == other.prompt
        fact = f"search({one.prompt[0].content[:2]} a)"
        assert drilled.start(one).respond(fact) == played.start(other).respond(fact)


def test_answers_fit_into_their_budgets() -> None:
    config = QUESTIONS()
    _, played = questions()
    assert isinstance(config.algorithm, ExperientialSettings)
    for index in range(20):
        task = played.task(Split.TRAIN, index)
        for turn in played.solution(task):
            assert len(turn) + 1 <= config.sampling.max_new_tokens
        reflection = config.algorithm.reflection
        assert len(played.rulebook(task)) + 1 <= reflection.sampling.max_new_tokens
        assert len(played.rulebook(task)) <= reflection.max_length


def test_one_guess_in_twelve_is_right() -> None:
    """Of 4 x 3 ordered pairs of relations one is right; few others lead there by accident."""
    _, played = questions()
    right = guesses = 0
    for index in range(30):
        task = played.task(Split.TRAIN, index)
        name = task.prompt[0].content.split()[0]
        for first, second in permutations("aeio", 2):
            episode = played.start(task)
            found = episode.respond(f"search({name} {first})").observation[0].content[-2:]
            answer = episode.respond(f"search({found} {second})").observation[0].content[-2:]
            right += episode.respond(rf"\boxed{{{answer}}}").reward == 1.0
            guesses += 1
    assert 1 / 12 <= right / guesses < 1 / 10


def drilled_student(prompt: str, _number: int, _call: int) -> str:
    """Does what the drills teach; who has no rulebook takes k for a, l for e, and so on."""
    system, _, rest = prompt.rpartition("<|user|>")
    asked, *turns = rest.split("<|assistant|>")[:-1]
    if "\n" in asked:
        hint = asked.splitlines()[-3].split()
        told = dict(hint)
        return " ".join(word + told.get(word, "?") for word in "klmn")
    meaning = dict((system.removeprefix("<|system|>") or "ka le mi no").split())
    name, *words = asked.split()
    reached = turns[-1].split()[-1] if turns else name
    if len(turns) == len(words):
        return rf"\boxed{{{reached}}}"
    return f"search({reached} {meaning[words[len(turns)]]})"


def test_a_guess_is_reflected_on_and_what_follows_is_learned_without_the_rulebook() -> None:
    config = QUESTIONS()
    assert isinstance(config.algorithm, ExperientialSettings)
    _, played = questions()
    algorithm = ExperientialRL(
        config.algorithm.model_copy(update={"prompts": 3, "group_size": 2}),
        environment=played,
        tokenizer=TOKENIZER,
        sampling=config.sampling,
        seed=0,
    )
    experience = collect(algorithm, 0, ScriptedEngine(drilled_student, records_routing=False))
    assert experience.metrics["reward"] == 0.0
    assert experience.metrics["reward_reflected"] == 1.0
    assert experience.metrics["internalized_fraction"] == 1.0
    assert experience.metrics["memory_writes"] == 6.0
    ((*_, second, internalized),) = experience.mini_batches
    for row in range(6):
        task = played.task(Split.TRAIN, row // 2)
        turns = "".join(f"{turn}<|end|>" for turn in played.solution(task))
        assert learned(internalized)[row] == learned(second)[row] == turns
        assert texts(second)[row].startswith("<|system|>k")
        assert texts(internalized)[row].startswith(f"<|user|>{task.prompt[0].content}<|assistant|>")


def test_a_run_goes_from_drills_to_reinforcement(tmp_path: Path) -> None:
    world = QUESTIONS().model_dump()
    world["cold_start"] |= {"steps": 2, "batch_size": 4}
    world["algorithm"] |= {"prompts": 2, "group_size": 2}
    world["evaluation"] |= {"tasks": 2, "samples": 1}
    model = SmallDense(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=16)
    world["engine"] |= {"cache_memory": 64}
    config = changed(RunConfig.model_validate(world), model=model.model_dump(), steps=1)
    folder = start_run(config, tmp_path / "run")
    assert from_yaml(folder.config) == config
    stages = [json.loads(line)["stage"] for line in folder.metrics.read_text().splitlines()]
    assert stages == ["cold_start", "cold_start", "rl", "rl"]  # the third is the evaluation
