"""Records what gym-sokoban does in its own rooms, for our rules to be compared with.

In an environment of its own, without steadyrl:

    python -m venv oracle
    oracle/bin/pip install gym-sokoban==0.0.6 "setuptools<81"
    oracle/bin/python benchmarks/sokoban_vectors.py tests/environments/vectors/gym_sokoban.json

`tests/environments/test_sokoban_board.py` plays the same actions and compares. The rooms have inner
walls and one to four boxes. Of each room the file has the rows, the actions (l, d, r, u), what each
of them did (a dot for nothing, m for a move, p for a push, s for the push that solved the room)
and the rows at the end.
"""

import argparse
import json
import random
import warnings
from importlib.metadata import version
from pathlib import Path

warnings.filterwarnings("ignore")  # gym warns that it is no longer maintained

import numpy as np  # noqa: E402
from gym_sokoban.envs.room_utils import generate_room  # noqa: E402
from gym_sokoban.envs.sokoban_env import SokobanEnv  # noqa: E402

ROOMS, STEPS = 300, 60
ACTIONS = {"u": 1, "d": 2, "l": 3, "r": 4}
WALL, FLOOR, GOAL, SOLVED_BOX, BOX, PLAYER = range(6)
GLYPHS = {WALL: "#", FLOOR: "-", GOAL: ".", SOLVED_BOX: "*", BOX: "$", PLAYER: "@"}


def rows(fixed: np.ndarray, state: np.ndarray) -> list[str]:
    """The room as a level file writes it."""
    text = [[GLYPHS[int(code)] for code in line] for line in state]
    for row, column in np.argwhere((fixed == GOAL) & (state == PLAYER)):
        text[row][column] = "+"
    return ["".join(line) for line in text]


def room(size: tuple[int, int], boxes: int) -> SokobanEnv:
    """An environment in a room that gym-sokoban makes."""
    env = SokobanEnv(dim_room=size, num_boxes=boxes, max_steps=10**9, reset=False)
    while True:
        try:
            env.room_fixed, env.room_state, _ = generate_room(dim=size, num_boxes=boxes)
        except (RuntimeError, RuntimeWarning):  # its generator gives up now and then
            continue
        env.player_position = np.argwhere(env.room_state == PLAYER)[0]
        env.num_env_steps, env.boxes_on_target = 0, 0
        return env


def play(env: SokobanEnv) -> dict[str, object]:
    """Random actions until the room is solved or the steps are used up."""
    before = rows(env.room_fixed, env.room_state)
    actions, effects = "", ""
    while len(actions) < STEPS and not effects.endswith("s"):
        action = random.choice("ldru")
        _, _, done, info = env.step(ACTIONS[action], observation_mode="tiny_rgb_array")
        effect = "p" if info["action.moved_box"] else "m" if info["action.moved_player"] else "."
        actions += action
        effects += "s" if done else effect
    after = rows(env.room_fixed, env.room_state)
    return {"rows": before, "actions": actions, "effects": effects, "end": after}


def main() -> None:
    """Writes the rooms, what was played in them, and versions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    path = parser.parse_args().out
    random.seed(0)
    np.random.seed(0)
    played = [
        play(room((random.randint(6, 10), random.randint(6, 10)), random.randint(1, 4)))
        for _ in range(ROOMS)
    ]
    content = {
        "versions": {name: version(name) for name in ("gym-sokoban", "gym", "numpy")},
        "rooms": played,
    }
    lines = json.dumps(content).replace('{"rows"', '\n{"rows"')
    path.write_text(lines + "\n", encoding="utf-8")
    steps = "".join([str(one["effects"]) for one in played])
    counts = {effect: steps.count(effect) for effect in ".mps"}
    print(f"{len(steps)} steps in {ROOMS} rooms: {counts}")


if __name__ == "__main__":
    main()
