import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.grid_compact import revealed_rulebook
from steadyrl.environments.grid_environment import GridEnvironment
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.environments.protocol import Split, Task
from steadyrl.environments.sokoban import Sokoban, SokobanSettings
from steadyrl.policies.tokenizers import PRINTABLE

GAMES = pytest.mark.parametrize("game", ["frozen_lake", "sokoban"])


def environment(game: str, **settings: object) -> GridEnvironment:
    if game == "sokoban":
        return Sokoban(SokobanSettings.model_validate(settings))
    return FrozenLake(FrozenLakeSettings.model_validate(settings))


def boards(played: GridEnvironment, split: Split, count: int) -> list[tuple[str, ...]]:
    return [played.task(split, index).payload.game.rows for index in range(count)]


@GAMES
@pytest.mark.parametrize("rendering", ["paper", "compact"])
@pytest.mark.parametrize("choice", MeaningSource)
def test_solutions_win_under_every_rendering_and_meaning(
    game: str, rendering: str, choice: MeaningSource
):
    number = 0 if choice is MeaningSource.PAPER else 101
    played = environment(game, rendering=rendering, symbols=choice, actions=choice, meaning=number)
    for index in range(5):
        task = played.task(Split.TRAIN, index)
        episode = played.start(task)
        outcomes = [episode.respond(text) for text in played.solution(task)]
        assert [outcome.terminated for outcome in outcomes] == [False] * (len(outcomes) - 1) + [
            True
        ]
        assert sum(outcome.reward for outcome in outcomes) == 1.0


@GAMES
def test_splits_share_no_board_whatever_the_letters_mean(game: str):
    paper = environment(game, max_size=6)
    permuted = environment(game, max_size=6, symbols="permuted")
    train = set(boards(paper, Split.TRAIN, 200))
    validation = set(boards(permuted, Split.VALIDATION, 100))
    test = set(boards(paper, Split.TEST, 100))
    assert train.isdisjoint(validation | test)
    assert validation.isdisjoint(test)


def prompt(task: Task) -> str:
    return "\n".join([message.content for message in task.prompt])


def test_tasks_are_the_same_in_every_process():
    # Pinned: another board here means that every reader's runs would see other tasks.
    lake = environment("frozen_lake", rendering="compact", symbols="permuted", max_size=4)
    sokoban = environment("sokoban", rendering="compact", max_size=6)
    assert [prompt(lake.task(split, 0)) for split in Split] == [
        "DCDD\nDADD\nDDBD\nCDDD",
        "DDD\nACD\nBDD",
        "CACD\nCCAB\nCCAC\nCCCC",
    ]
    assert [prompt(sokoban.task(split, 0)) for split in Split] == [
        "EEEEEE\nEDDDDE\nECDADE\nEDBDDE\nEDDDDE\nEEEEEE",
        "EEEEEE\nEDDDDE\nEDDDDE\nEABDDE\nEDDDCE\nEEEEEE",
        "EEEEEE\nECDDDE\nEBDDAE\nEDDDDE\nEDDDDE\nEEEEEE",
    ]


@GAMES
def test_compact_prompts_are_short(game: str):
    size = 4 if game == "frozen_lake" else 6
    played = environment(game, rendering="compact", min_size=size, max_size=size)
    assert len(prompt(played.task(Split.TRAIN, 0))) == size * (size + 1) - 1
    assert len(prompt(environment("frozen_lake", min_size=4, max_size=4).task(Split.TRAIN, 0))) > 40


@GAMES
@pytest.mark.parametrize("rendering", ["paper", "compact"])
def test_small_models_have_a_token_for_every_character(game: str, rendering: str):
    played = environment(
        game, rendering=rendering, symbols="permuted", actions="permuted", show_rulebook=True
    )
    for index in range(10):
        task = played.task(Split.TRAIN, index)
        outcome = played.start(task).respond("dddrrru" if rendering == "compact" else "```down```")
        broken = played.start(task).respond("caf\u00e9 \ud800")
        read = [message.content for message in (*task.prompt, *outcome.observation)]
        text = "".join([*read, outcome.feedback, broken.feedback, *played.solution(task)])
        assert set(text) <= set(PRINTABLE)


@GAMES
@pytest.mark.parametrize("rendering", ["paper", "compact"])
def test_the_prompt_can_begin_with_the_rulebook(game: str, rendering: str):
    plain = environment(game, rendering=rendering, symbols="permuted")
    shown = environment(game, rendering=rendering, symbols="permuted", show_rulebook=True)
    task = plain.task(Split.TRAIN, 3)
    assert shown.task(Split.TRAIN, 3).prompt[0].content.startswith(plain.rulebook(task))
    assert shown.task(Split.TRAIN, 3) == plain.guide(task, plain.rulebook(task))
    assert plain.rulebook(task) not in prompt(task)


def test_a_guided_task_is_the_same_puzzle_under_any_rulebook():
    lake = environment("frozen_lake", rendering="compact")
    task = lake.task(Split.TRAIN, 0)
    guided = lake.guide(task, "holes are fine")
    assert guided.prompt[0].content == "holes are fine"
    assert guided.prompt[1:] == task.prompt
    assert (guided.id, guided.payload) == (task.id, task.payload)


def test_permuted_tasks_differ_in_meaning_and_never_have_the_numbered_one():
    fixed = environment("frozen_lake", rendering="compact", symbols="fixed", meaning=7)
    held_out = fixed.rulebook(fixed.task(Split.TRAIN, 0))
    assert {fixed.rulebook(fixed.task(Split.TEST, index)) for index in range(20)} == {held_out}
    permuted = environment("frozen_lake", rendering="compact", symbols="permuted", meaning=7)
    seen = {permuted.rulebook(permuted.task(Split.TRAIN, index)) for index in range(300)}
    # 300 draws of 23 meanings miss one of them with a probability below 23 (22/23)**300 = 4e-5.
    assert len(seen) == 23
    assert held_out not in seen


def test_a_plan_that_wins_reveals_the_player_the_goal_and_what_it_passed():
    lake = environment(
        "frozen_lake",
        rendering="compact",
        symbols="permuted",
        actions="permuted",
        min_frozen=0.9,
        max_frozen=0.9,
    )
    task = lake.task(Split.TRAIN, 1)
    (plan,) = lake.solution(task)
    feedback = lake.start(task).respond(plan).feedback
    legend = task.payload.meaning.legend
    for pair, truth in zip(
        revealed_rulebook(legend, feedback).split(), lake.rulebook(task).split(), strict=True
    ):
        assert pair in (truth, f"{truth[0]}?")
    for glyph in "@G":
        assert glyph + task.payload.meaning.letter(glyph) in revealed_rulebook(legend, feedback)


def test_a_number_without_a_meaning_is_refused():
    with pytest.raises(UserError, match="numbered from 0 to 2879, got meaning=2880"):
        environment("sokoban", symbols="fixed", actions="fixed", meaning=2880)
