"""The cold start for Experiential RL: what is drilled is right, and tells no fixed meaning."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.grid_environment import split_of_game
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.protocol import Demonstration, Split
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.lab.worlds.grid_drills import GridDrills, GridDrillSettings
from tests.driving import collect
from tests.lab.worlds.teaching import taught
from tests.rollout.fakes import ScriptedEngine

LAKE = FrozenLakeSettings(
    rendering="compact",
    symbols=MeaningSource.PERMUTED,
    actions=MeaningSource.PERMUTED,
    meaning=7,
    min_size=3,
    max_size=4,
    max_path=4,
)
LEVEL = SokobanSettings(
    rendering="compact", symbols=MeaningSource.PERMUTED, actions=MeaningSource.PERMUTED
)


def drills_of(**changes: object) -> GridDrills:
    values = {"environment": LAKE, "hidden_pairs": 0.0} | changes
    return GridDrills(GridDrillSettings(**values))


def drill(drills: GridDrills, index: int, split: Split = Split.TRAIN) -> Demonstration:
    return drills.demonstrate(drills.task(split, index), np.random.default_rng(index))


@pytest.mark.parametrize("environment", [LAKE, LEVEL], ids=["lake", "level"])
@pytest.mark.parametrize("first_attempts", [0.0, 1.0])
def test_plans_of_the_drills_win(
    environment: FrozenLakeSettings | SokobanSettings, first_attempts: float
) -> None:
    drills = drills_of(environment=environment, first_attempts=first_attempts, reflections=0.0)
    world = drills._environment
    for index in range(40):
        task = world.task(Split.TRAIN, index)
        made = drill(drills, index)
        prompt, (written,) = made.prompt, made.continuation
        plan = written.content
        assert world.start(task).respond(plan).reward == 1.0
        expected = task if first_attempts else world.guide(task, world.rulebook(task))
        assert prompt == expected.prompt


def test_reflections_write_what_feedback_and_memory_tell() -> None:
    drills = drills_of(first_attempts=0.0, reflections=1.0)
    world = FrozenLake(LAKE)
    remembered = 0
    for index in range(60):
        made = drill(drills, index)
        prompt, (written,) = made.prompt, made.continuation
        rulebook = written.content
        truth = world.rulebook(world.task(Split.TRAIN, index)).split()
        board, plan, feedback = prompt[-1].content.rsplit("\n", 3)[:3]
        assert world.start(world.task(Split.TRAIN, index)).respond(plan).feedback == feedback
        assert prompt[-1].content.startswith(board)
        memory = prompt[0].content if len(prompt) == 2 else ""
        remembered += bool(memory)
        for pair, true in zip(rulebook.split(), truth, strict=True):
            told = true in feedback or true in memory
            assert pair == (true if told else true[0] + "?")
    assert 15 < remembered < 45


def test_drills_on_held_out_boards_have_none_of_those_to_train_on() -> None:
    drills = drills_of(first_attempts=1.0, reflections=0.0)
    world = FrozenLake(LAKE)
    for index in range(20):
        held_out = world.task(Split.VALIDATION, index)
        assert drill(drills, index, Split.VALIDATION).prompt == held_out.prompt
        assert split_of_game(held_out.payload.game) is Split.VALIDATION


def test_retries_follow_a_plan_that_failed_and_win() -> None:
    drills = drills_of(first_attempts=0.0, reflections=0.0, retries=1.0)
    world = FrozenLake(LAKE)
    conversations = 0
    for index in range(60):
        task = world.task(Split.TRAIN, index)
        made = drill(drills, index)
        prompt, (written,) = made.prompt, made.continuation
        answer = written.content
        (board,) = task.prompt
        if len(prompt) == 3:
            asked, said, again = prompt
            assert asked == board
            feedback, _, repeated = again.content.partition("\n")
            assert repeated == board.content
            plan = said.content
            conversations += 1
        else:
            record, asked = prompt
            assert asked == board
            plan, feedback, reward = record.content.split("\n")
            assert float(reward) == 0
        outcome = world.start(task).respond(plan)
        assert (outcome.reward, outcome.feedback) == (0.0, feedback)
        assert world.start(task).respond(answer).reward == 1.0
    assert 15 < conversations < 45


def test_plain_drills_name_directions_by_their_arrows() -> None:
    drills = drills_of(first_attempts=0.0, reflections=0.0, plain=1.0)
    world = FrozenLake(LAKE)
    for index in range(40):
        task = world.task(Split.TRAIN, index)
        made = drill(drills, index)
        prompt, (written,) = made.prompt, made.continuation
        plan = written.content
        assert prompt[0].content.split()[-4:] == ["<<", "vv", ">>", "^^"]
        assert prompt[1:] == task.prompt
        words = "".join([task.payload.meaning.word(Move("<v>^".index(sign))).key for sign in plan])
        assert world.start(task).respond(words).reward == 1.0


def test_half_plain_drills_name_two_directions_by_their_arrows() -> None:
    drills = drills_of(first_attempts=0.0, reflections=0.0, half_plain=1.0)
    world = FrozenLake(LAKE)
    chosen = set()
    for index in range(40):
        task = world.task(Split.TRAIN, index)
        made = drill(drills, index)
        prompt, (written,) = made.prompt, made.continuation
        plan = written.content
        told = prompt[0].content.split()[-4:]
        plain = [pair[0] for pair in told if pair[0] == pair[1]]
        assert len(plain) == 2
        chosen.add("".join(plain))
        true = drills.rulebook(task).split()[-4:]
        assert [pair for pair in told if pair[0] not in plain] == [
            pair for pair in true if pair[0] not in plain
        ]
        words = "".join([dict(true).get(sign, sign) for sign in plan])
        assert not set(plan) & {word for sign, word in true if sign in plain}
        assert world.start(task).respond(words).reward == 1.0
    assert len(chosen) == 6  # pairs of four directions


def test_rulebooks_hold_the_pairs_that_games_differ_in() -> None:
    actions_alone = FrozenLakeSettings(
        **(LAKE.model_dump() | {"symbols": MeaningSource.PAPER, "meaning": 9})
    )
    drills = drills_of(environment=actions_alone)
    task = FrozenLake(actions_alone).task(Split.TRAIN, 0)
    whole = FrozenLake(actions_alone).rulebook(task)
    assert whole == f"@A GB HC FD {drills.rulebook(task)}"
    assert drills_of().rulebook(task) == whole


def test_pairs_are_hidden_at_their_rate() -> None:
    drills = drills_of(first_attempts=0.0, reflections=0.0, hidden_pairs=0.25)
    rulebooks = [drill(drills, index).prompt[0].content for index in range(200)]
    hidden = np.mean([book.count("?") / len(book.split()) for book in rulebooks])
    # 200 rulebooks of 8 pairs: a standard error of sqrt(.25 * .75 / 1600) = 0.011.
    assert abs(hidden - 0.25) < 0.05


@pytest.mark.slow
def test_no_drill_has_the_meaning_that_is_kept_for_reinforcement() -> None:
    fixed = FrozenLakeSettings(
        **(LAKE.model_dump() | {"symbols": MeaningSource.FIXED, "actions": MeaningSource.FIXED})
    )
    kept = FrozenLake(fixed).rulebook(FrozenLake(fixed).task(Split.TRAIN, 0))
    world = FrozenLake(LAKE)
    books = {world.rulebook(world.task(Split.TRAIN, index)) for index in range(3000)}
    assert kept not in books
    assert len(books) > 500


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    engine = ScriptedEngine(lambda *_: "nothing is to be sampled")
    first, again = (collect(taught(drills_of()), 3, engine) for _ in range(2))
    ((one,),), ((other,),) = first.mini_batches, again.mini_batches
    assert one.tokens.equal(other.tokens)
    assert one.loss_mask.any(dim=1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": FrozenLakeSettings()}, "rendering is 'paper': drills are written in"),
        ({"first_attempts": 0.8, "reflections": 0.3}, "together more than 1. Lower one"),
        ({"retries": 0.9}, "retries is 0.9, plain is 0.0, .*: together more than 1. Lower one"),
        (
            {"environment": FrozenLakeSettings(rendering="compact")},
            "neither symbols nor actions that are permuted: .* Set one of them to 'permuted'",
        ),
    ],
)
def test_what_cannot_be_drilled_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GridDrillSettings(**changes)


def test_a_prior_makes_first_attempts_follow_the_paper_s_rules() -> None:
    drills = drills_of(first_attempts=1.0, reflections=0.0, prior=True)
    world, plain = (
        drills._environment,
        FrozenLake(LAKE.model_copy(update={"actions": MeaningSource.PAPER})),
    )
    wins = 0.0
    for index in range(40):
        task = world.task(Split.TRAIN, index)
        (written,) = drill(drills, index).continuation
        believed = replace(
            task,
            payload=replace(
                task.payload, meaning=replace(task.payload.meaning, actions=tuple(Move))
            ),
        )
        assert plain.start(believed).respond(written.content).reward == 1.0
        wins += world.start(task).respond(written.content).reward
    assert wins < 20
