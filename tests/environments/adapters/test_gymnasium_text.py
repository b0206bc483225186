"""Environments of Gymnasium in text: spaces, seeds, limits, and what goes wrong."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from steadyrl.base import extras
from steadyrl.base.errors import UserError
from steadyrl.environments.adapters.gymnasium_text import GymnasiumSettings, plain_text
from steadyrl.environments.adapters.sessions import OtherObservationError
from steadyrl.environments.adapters.time_limits import SlowCallError
from steadyrl.environments.protocol import Episode, Outcome, Split
from tests.driving import respond

LAKE = GymnasiumSettings(
    id="FrozenLake-v1",
    options={"is_slippery": False, "render_mode": "ansi"},
    actions=("left", "down", "right", "up"),
    instruction="Walk to G.",
)
WAY = ["down", "down", "right", "right", "Down", "right"]


class Words(gymnasium.Env[Any, Any]):
    """Reads and writes text. `nap` sleeps, `nan` earns no number."""

    observation_space = spaces.Text(100)
    action_space = spaces.Text(5)
    resets = 0

    def __init__(self, fickle: bool = False) -> None:
        self.fickle = fickle

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        Words.resets += 1
        number = Words.resets if self.fickle else self.np_random.integers(1000)
        return f"word {number}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "nap":
            time.sleep(5)
        return f"you said {action}", np.nan if action == "nan" else 0.5, action == "bye", False, {}


class Parts(Words):
    """Acts by parts, and answers with the action it understood."""

    action_space: Any = spaces.Dict(
        {
            "move": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,)))),
            "say": spaces.Text(9),
        }
    )
    observation_space: Any = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return {"move": (np.int64(0), np.zeros(2, np.float32)), "say": ""}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return action, 0.0, False, False, {}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register("Words-v0", Words, max_episode_steps=3, disable_env_checker=True)
    gymnasium.register("Parts-v0", Parts, disable_env_checker=True)
    yield
    del gymnasium.registry["Words-v0"], gymnasium.registry["Parts-v0"]


def started(settings: GymnasiumSettings, index: int = 0) -> tuple[str, Episode]:
    environment = settings.make()
    task = environment.task(Split.TRAIN, index)
    return task.prompt[-1].content, environment.start(task)


def seen(outcome: Outcome) -> str:
    (message,) = outcome.observation
    return message.content


def test_frozen_lake_is_walked_by_names_of_actions_and_shows_the_place_of_the_player() -> None:
    prompt, episode = started(LAKE)

    assert prompt == "Walk to G.\n\n[S]FFF\nFHFH\nFFFH\nHFFG"
    outcomes = [respond(episode, move) for move in WAY]
    assert seen(outcomes[0]) == "(Down)\nSFFF\n[F]HFH\nFFFH\nHFFG"
    assert [(o.reward, o.terminated) for o in outcomes] == [(0, False)] * 5 + [(1, True)]


def test_an_invalid_action_changes_nothing_and_says_what_is_valid() -> None:
    _, episode = started(LAKE)
    outcome = respond(episode, "swim")

    assert seen(outcome) == "This is not an action: write one of left, down, right, up."
    assert outcome.reward == 0
    assert [respond(episode, move).reward for move in WAY][-1] == 1
    assert respond(started(LAKE)[1], "<think>up</think>down").observation


def test_observations_and_actions_of_composite_spaces_are_json() -> None:
    prompt, episode = started(GymnasiumSettings(id="Parts-v0"))
    action = {"move": [2, [0.5, -1.0]], "say": "hi"}

    assert prompt.startswith("Answer with an action as JSON, in Dict(")
    assert prompt.endswith('{"move": [0, [0.0, 0.0]], "say": ""}')
    assert json.loads(seen(respond(episode, json.dumps(action)))) == action
    outside = {**action, "move": [7, [0.5, -1.0]]}
    for wrong in ("{", "[]", '{"move": [1, [0.5, 0.5]]}', json.dumps(outside)):
        assert seen(respond(episode, wrong)).startswith("This is not an action: ")


def test_discrete_actions_have_numbers_and_other_observations_are_json() -> None:
    prompt, episode = started(GymnasiumSettings(id="Blackjack-v1", options={"sab": True}))
    bare = gymnasium.make("Blackjack-v1", sab=True)
    observation, _ = bare.reset(seed=0)

    listed = json.dumps([int(part) for part in observation])
    assert prompt == f"Answer with one of these actions: 0, 1.\n\n{listed}"
    _, reward, terminated, *_ = bare.step(0)
    outcome = respond(episode, "0")
    assert (outcome.reward, outcome.terminated) == (reward, terminated)


def test_tasks_have_seeds_of_their_own_and_begin_alike() -> None:
    environment = GymnasiumSettings(id="Words-v0").make()
    prompts = [
        environment.task(split, index).prompt[0].content for split in Split for index in range(9)
    ]

    assert len(set(prompts)) == len(prompts)
    assert environment.task(Split.TEST, 3) == environment.task(Split.TEST, 3)


def test_an_episode_ends_by_the_limit_of_the_environment_or_of_the_settings() -> None:
    _, episode = started(GymnasiumSettings(id="Words-v0"))
    outcomes = [respond(episode, "a") for _ in range(3)]
    assert [o.terminated for o in outcomes] == [False, False, True]
    assert sum(o.reward for o in outcomes) == 1.5
    assert outcomes[-1].feedback == "the environment's own limit was reached"

    _, episode = started(GymnasiumSettings(id="Words-v0", turns=2))
    assert [respond(episode, "a").terminated for _ in range(2)] == [False, True]


def test_a_reward_that_is_no_number_fails_the_episode() -> None:
    _, episode = started(GymnasiumSettings(id="Words-v0"))
    with pytest.raises(ValueError, match="the reward is nan"):
        respond(episode, "nan")


def test_a_slow_step_fails_its_episode_alone() -> None:
    environment = GymnasiumSettings(id="Words-v0", timeout=0.1).make()
    slow, quick = (environment.start(environment.task(Split.TRAIN, index)) for index in range(2))

    async def play() -> tuple[BaseException | Outcome, BaseException | Outcome]:
        return await asyncio.gather(
            slow.respond("nap"), quick.respond("bye"), return_exceptions=True
        )

    began = time.monotonic()
    failed, finished = asyncio.run(play())
    assert isinstance(failed, SlowCallError)
    assert "more than 0.1 s" in str(failed)
    assert isinstance(finished, Outcome)
    assert finished.terminated
    assert time.monotonic() - began < 4


def test_a_task_that_begins_differently_each_time_fails() -> None:
    _, episode = started(GymnasiumSettings(id="Words-v0", options={"fickle": True}))
    with pytest.raises(OtherObservationError, match="begin a task the same way each time"):
        respond(episode, "a")


def lowered(environment: Any) -> Any:
    """A wrapper of a user."""
    text = spaces.Text(100)
    return gymnasium.wrappers.TransformObservation(environment, str.upper, text)


def test_a_wrapper_of_ones_own_may_write_the_text() -> None:
    prompt, _ = started(GymnasiumSettings(id="Words-v0", wrapper=f"{__name__}:lowered"))
    assert prompt.startswith("Answer with an action.\n\nWORD ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "FrozenLak-v1"}, "Gymnasium cannot make 'FrozenLak-v1' .*Did you mean"),
        ({"options": {"size": 3}}, "cannot make 'FrozenLake-v1' .*unexpected keyword"),
        ({"actions": ("left",)}, "names 1 actions, but FrozenLake-v1 has 4"),
        ({"id": "Words-v0", "options": {}}, "names 4 actions, but Words-v0 has the action space"),
        ({"wrapper": "my_wrappers:nothing"}, "environment.wrapper is 'my_wrappers:nothing'"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        LAKE.model_copy(update=changes).make()


def test_the_missing_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"'gymnasium' is not installed. .*'steadyrl\[gymnasium\]'"):
        LAKE.make()


def test_codes_of_terminals_do_not_reach_the_model() -> None:
    assert plain_text("\x1b[41mS\x1b[0mF\n\x1b[1;32mok\x1b[0m\x1b[2K") == "[S]F\n[ok]"
