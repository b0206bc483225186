"""Playing episodes: every running episode takes one turn per call of the engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import fsum

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError, in_words, shown
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Request, RolloutEngine, Sampling, has_room
from steadyrl.environments.protocol import Environment, Episode, Outcome, Task
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.trajectory import ENVIRONMENT_FAILED, PROMPT_TOO_LONG, Group, Trajectory
from steadyrl.rollout.prompts import encode_each
from steadyrl.rollout.routes import without_repeats
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import begin, submit


@dataclass(slots=True, kw_only=True)
class _Play:
    """An episode under way."""

    task: Task
    episode: Episode | None
    messages: list[Message]
    completions: list[Completion] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    reward_parts: dict[str, list[float]] = field(default_factory=dict)
    feedback: list[str] = field(default_factory=list)
    terminated: bool = False
    truncation_reason: str = ""

    @property
    def running(self) -> bool:
        return not (self.terminated or self.truncation_reason)

    @classmethod
    def of(cls, environment: Environment, task: Task) -> "_Play":
        """A fresh attempt at `task`, or what became of it."""
        play = cls(task=task, episode=None, messages=list(task.prompt))
        try:
            play.episode = begin(environment, task)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an environment is foreign code: its failure is data
            play.fail(error)
        return play

    def fail(self, error: BaseException) -> None:
        """Ends it on an exception of the environment."""
        reason = str(error) if isinstance(error, UserError) else in_words(error)
        self.truncation_reason = f"{ENVIRONMENT_FAILED}: {reason}"

    def trajectory(self) -> Trajectory:
        return Trajectory(
            task_id=self.task.id,
            messages=tuple(self.messages),
            completions=tuple(self.completions),
            reward=fsum(self.rewards),  # rounded once: ten turns of 0.1 earn 1
            reward_parts={name: fsum(parts) for name, parts in self.reward_parts.items()},
            feedback="\n".join(line for line in self.feedback if line),
            terminated=self.terminated,
            truncated=bool(self.truncation_reason),
            truncation_reason=self.truncation_reason,
        )


def play_groups(
    environment: Environment,
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    group_size: int,
    sampling: Sampling,
    seed: int,
    max_turns: int = 32,
    progress: Progress = NO_PROGRESS,
) -> list[Group]:
    """`group_size` episodes of each of `tasks`, in order.

    Turns that stay over budget, conversations that leave no room to answer or that the chat
    template refuses, and exceptions of the environment end an episode as truncated, with the
    reason: they are data. So are tasks that failed. Every turn's tokens are drawn from `seed` and
    the turn's place alone.

    Raises:
        UserError: no prompt leaves room to answer.
    """
    plays = [[_Play.of(environment, task) for _ in range(group_size)] for task in tasks]
    everyone = [play for group in plays for play in group]
    progress.advance("episodes", 0, len(everyone))
    _first_turn(plays, engine, tokenizer, sampling, seed, progress)
    for turn in range(1, max_turns):
        if not any(play.running for play in everyone):
            break
        _next_turn(everyone, engine, tokenizer, sampling, seed, turn, progress)
    for play in everyone:
        if play.running:
            play.truncation_reason = f"not over after {max_turns} turns"
    return [
        Group(task_id=task.id, trajectories=tuple(play.trajectory() for play in group))
        for task, group in zip(tasks, plays, strict=True)
    ]


def _first_turn(
    plays: list[list[_Play]],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    seed: int,
    progress: Progress,
) -> None:
    """The turn in which a whole group answers the same prompt, where that leaves room."""
    begun = [[play for play in group if play.running] for group in plays]
    numbered = [(number, group) for number, group in enumerate(begun) if group]
    prompts = _prompts(tokenizer, [group for _, group in numbered])
    requests: list[Request] = []
    asked: list[list[_Play]] = []
    written: list[Int[Tensor, " _P"]] = []
    for (number, group), prompt in zip(numbered, prompts, strict=True):
        if prompt is None:
            continue
        written.append(prompt)
        if has_room(engine.max_positions, len(prompt), sampling):
            asked.append(group)
            key = derive_seed(seed, 0, number)
            requests.append(Request(prompt_ids=prompt, num_completions=len(group), seed=key))
            continue
        for play in group:
            play.truncation_reason = (
                f"{PROMPT_TOO_LONG}: {len(prompt)} tokens leave no room to answer"
            )
    if len(written) == len(plays) > len(asked) == 0:
        task = next(g[0].task for (_, g), p in zip(numbered, prompts, strict=True) if p is not None)
        raise _no_room(task, len(written[0]), len(written), engine, sampling)
    completions = chain.from_iterable(engine.generate(requests, sampling))
    turns = list(zip(chain.from_iterable(asked), completions, strict=True))
    _take_turns(turns, tokenizer, sum(map(len, plays)), progress)


def _prompts(
    tokenizer: PreTrainedTokenizerBase, groups: Sequence[Sequence[_Play]]
) -> list[Int[Tensor, " _P"] | None]:
    """What each group reads; None where the chat template refuses it, which ends its episodes."""
    encoded = encode_each(
        tokenizer,
        [group[0].messages for group in groups],
        [group[0].task.tools for group in groups],
    )
    prompts: list[Int[Tensor, " _P"] | None] = []
    for group, prompt in zip(groups, encoded, strict=True):
        prompts.append(None if isinstance(prompt, UserError) else prompt)
        if isinstance(prompt, UserError):
            for play in group:
                play.fail(prompt)
    return prompts


def _no_room(
    task: Task, length: int, prompts: int, engine: RolloutEngine, sampling: Sampling
) -> UserError:
    return UserError(
        f"None of {prompts} prompts leaves room to answer. That of task {task.id!r} has {length} "
        f"tokens, and with sampling.max_new_tokens {sampling.max_new_tokens} needs "
        f"{length + sampling.max_new_tokens} positions; the engine has {engine.max_positions}. "
        "Lower sampling.max_new_tokens, or let the environment ask for less."
    )


def _next_turn(
    everyone: list[_Play],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    seed: int,
    turn: int,
    progress: Progress,
) -> None:
    """A turn in which every running episode answers its own conversation."""
    requests: list[Request] = []
    asked: list[_Play] = []
    running = [(number, play) for number, play in enumerate(everyone) if play.running]
    prompts = _prompts(tokenizer, [[play] for _, play in running])
    for (number, play), prompt in zip(running, prompts, strict=True):
        if prompt is None:
            continue
        if not has_room(engine.max_positions, len(prompt), sampling):
            play.truncation_reason = (
                f"conversation of {len(prompt)} tokens leaves no room to answer"
            )
            continue
        asked.append(play)
        key = derive_seed(seed, turn, number)
        requests.append(Request(prompt_ids=prompt, num_completions=1, seed=key))
    completions = chain.from_iterable(engine.generate(requests, sampling))
    turns = list(zip(asked, completions, strict=True))
    _take_turns(turns, tokenizer, len(everyone), progress)


def _take_turns(
    turns: Sequence[tuple[_Play, Completion]],
    tokenizer: PreTrainedTokenizerBase,
    episodes: int,
    progress: Progress,
) -> None:
    """Gives the model's turns to the environment, all of them before it waits for an outcome."""
    waiting = [(play, _hand_over(play, completion, tokenizer)) for play, completion in turns]
    over = episodes - len(waiting)
    for play, outcome in waiting:
        if play.running:
            _note_outcome(play, outcome)
        over += not play.running
        progress.advance("episodes", over, episodes)


def _hand_over(
    play: _Play, completion: Completion, tokenizer: PreTrainedTokenizerBase
) -> Callable[[], Outcome] | None:
    """What waits for the outcome of a turn; None where the environment does not see it."""
    if play.completions:
        completion = without_repeats(completion, play.completions[-1])
    play.completions.append(completion)
    text = response_text(completion, tokenizer)
    play.messages.append(Message(role="assistant", content=text))
    if completion.finish_reason is FinishReason.LENGTH:
        play.truncation_reason = "token budget spent"
        return None
    assert play.episode is not None, "an episode that was not begun has no turns"
    try:
        return submit(play.episode, text)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        play.fail(error)
        return None


def _note_outcome(play: _Play, wait: Callable[[], Outcome] | None) -> None:
    assert wait is not None, "a running episode was not asked"
    try:
        outcome = wait()
        if not isinstance(outcome, Outcome):
            raise TypeError(f"respond gives {shown(outcome)}, which is no Outcome")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        play.fail(error)
        return
    play.rewards.append(outcome.reward)
    for name, part in outcome.reward_parts.items():
        play.reward_parts.setdefault(name, []).append(part)
    play.feedback.append(outcome.feedback)
    play.messages.extend(outcome.observation)
    play.terminated = outcome.terminated


def response_text(completion: Completion, tokenizer: PreTrainedTokenizerBase) -> str:
    """What the model wrote, to the letter, without its end token. Other special tokens stay."""
    ids = completion.token_ids
    if completion.finish_reason is FinishReason.STOP:
        ids = ids[:-1]
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
