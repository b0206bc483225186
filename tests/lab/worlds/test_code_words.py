"""Requests in code words: what is right, what is said of the rest, and what drills teach."""

import numpy as np

from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of
from steadyrl.lab.worlds.code_words import (
    CodeDrills,
    CodeDrillSettings,
    CodeWords,
    CodeWordSettings,
    judge,
    rule_reward,
)
from steadyrl.lab.worlds.coded_questions import RELATIONS
from steadyrl.records.message import Message

MEANING = CodeWordSettings(shift=2).meaning()  # k, the first word, means i, the third symbol


def test_the_hidden_symbol_and_the_name_are_right() -> None:
    assert judge("k A3", "i A3", MEANING).reward == 1
    assert judge("k A3", " i A3 ", MEANING).reward == 1
    for wrong in ("i A4", "a A3", "i", "", "k A3"):
        outcome = judge("k A3", wrong, MEANING)
        assert (outcome.reward, outcome.feedback) == (0.0, "k=i"), wrong
    assert rule_reward((Message(role="user", content="k A3"),), "i A3", "") == 1


def test_held_out_requests_are_about_names_that_no_user_asks_about() -> None:
    world = CodeWords(2)
    for split in Split:
        asked = [world.task(split, index).prompt[-1].content for index in range(200)]
        assert all(split_of(request.split()[1]) is split for request in asked)


def test_drills_teach_to_use_corrections_and_no_meaning() -> None:
    drills, generator = CodeDrills(CodeDrillSettings()), np.random.default_rng(0)
    meant: dict[str, set[str]] = {}
    for index in range(3000):
        shown = drills.demonstrate(drills.task(Split.TRAIN, index), generator)
        said = shown.continuation[-1].content
        first, last = shown.prompt[0].content, shown.prompt[-1].content
        if "=" in last:
            request, _guess, correction, _reward = last.splitlines()
            assert said == correction.replace("=", "")
            assert request[0] == said[0]
        elif len(shown.prompt) == 2:
            assert said == f"{first[1]} {last.split()[1]}"
        else:
            meant.setdefault(last[0], set()).add(said[0])
    assert all(symbols == set(RELATIONS) for symbols in meant.values())
