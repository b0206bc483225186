"""Check whether drills reveal the meaning that a run should discover."""

from typing import Any

from steadyrl.environments.frozen_lake_board import FROZEN_LAKE
from steadyrl.environments.grid_environment import GridSettings
from steadyrl.environments.grid_meaning import Meaning, MeaningSource, allowed_meanings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.environments.sokoban_board import SOKOBAN
from steadyrl.lab.worlds.coded_questions import CodedQuestions, coded_meanings


def teaches_what_is_hidden(drilled: Any, hidden: Any) -> bool:
    """Whether tasks of the settings `drilled` may have the meaning that those of `hidden` have.

    Games of two kinds share no symbols, so that only their actions are compared, if they are not
    the paper's. Words are compared as far as the hidden ones go. Where tasks of `hidden` have
    several meanings, none of them is to be found out.

    Raises:
        UserError: there is no meaning with the number that one of them gives.
    """
    drilled, hidden = (getattr(world, "questions", world) for world in (drilled, hidden))
    if isinstance(drilled, GridSettings) and isinstance(hidden, GridSettings):
        return _shares_game(drilled, hidden)
    if isinstance(drilled, CodedQuestions) and isinstance(hidden, CodedQuestions):
        words = coded_meanings(hidden)
        known = {meaning[: hidden.relations] for meaning in coded_meanings(drilled)}
        return len(words) == 1 and words[0] in known
    return False


def _shares_game(drilled: GridSettings, hidden: GridSettings) -> bool:
    meanings = _meanings(hidden)
    if len(meanings) > 1:
        return False
    (target,) = meanings
    if type(drilled) is type(hidden):
        return (target.shown, target.actions) in {(m.shown, m.actions) for m in _meanings(drilled)}
    told = hidden.actions is MeaningSource.PAPER
    return not told and target.actions in {meaning.actions for meaning in _meanings(drilled)}


def _meanings(settings: GridSettings) -> list[Meaning]:
    legend = SOKOBAN if isinstance(settings, SokobanSettings) else FROZEN_LAKE
    return allowed_meanings(legend, settings.symbols, settings.actions, settings.meaning)
