"""Rewards that an environment assigns to a whole group."""

from collections.abc import Iterable
from dataclasses import replace

from steadyrl.base.concurrency import await_if_needed, is_being_cancelled
from steadyrl.base.errors import safe_repr
from steadyrl.environments.protocol import Outcome, SupportsGroupScores, as_reward
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.records.truncation import ENVIRONMENT_FAILED
from steadyrl.rollout.tasks import failure_reason

_NO_REWARD = f"{ENVIRONMENT_FAILED}: score_group returned None for it"


async def apply_group_scores(environment: SupportsGroupScores, group: Group) -> Group:
    """`group` with the rewards of `environment.score_group`.

    If the environment raises, all episodes of the group fail.
    """
    played = group.played
    if not played.trajectories:
        return group
    try:
        scores = iter(await score_group(environment, played))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if is_being_cancelled(error):
            raise
        reason = failure_reason(error)
        failed = [_fail(t, reason) if t.was_played else t for t in group.trajectories]
        return replace(group, trajectories=tuple(failed))
    updated = [_with_score(t, next(scores)) if t.was_played else t for t in group.trajectories]
    return replace(group, trajectories=tuple(updated))


async def score_group(
    environment: SupportsGroupScores, group: Group
) -> list[float | Outcome | None]:
    """Calls `environment.score_group` and validates the result.

    Raises:
        TypeError: the result is not an iterable of rewards. Exceptions of the environment are
            passed through.
        ValueError: a reward is not finite, or the number of rewards is wrong.
    """
    given = await await_if_needed(environment.score_group(group))
    if not isinstance(given, Iterable):
        raise TypeError(f"score_group returned {safe_repr(given)}, which is not a list of rewards")
    scores = [
        score if score is None or isinstance(score, Outcome) else as_reward(score)
        for score in given
    ]
    if len(scores) != len(group.trajectories):
        raise ValueError(
            f"score_group returned {len(scores)} rewards for {len(group.trajectories)} trajectories"
        )
    return scores


def _with_score(trajectory: Trajectory, score: float | Outcome | None) -> Trajectory:
    if score is None:
        return _fail(trajectory, _NO_REWARD)
    if isinstance(score, Outcome):
        return replace(trajectory, reward=score.reward, reward_parts=score.reward_parts)
    return replace(trajectory, reward=score)


def _fail(trajectory: Trajectory, reason: str) -> Trajectory:
    return replace(trajectory, terminated=False, truncated=True, truncation_reason=reason)
