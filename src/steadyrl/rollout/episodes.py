"""Episodes as coroutines: each continues as soon as it can, independently of the others.

group     one request for the first turn of all its episodes, which share a prompt pass
episode   environment responds -> next prompt -> request -> environment responds -> ... -> over
group     may be scored as a whole when all its episodes are over

Agent programs run their episodes themselves: `agent_episodes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.concurrency import concurrently, is_being_cancelled
from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.environments.agents import RunsAgents
from steadyrl.environments.protocol import Environment, Episode, SupportsGroupScores, Task
from steadyrl.policies.response_text import response_text
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.records.truncation import PROMPT_TOO_LONG
from steadyrl.rollout.agent_episodes import play_agents
from steadyrl.rollout.group_scores import apply_group_scores
from steadyrl.rollout.prompts import encode_each
from steadyrl.rollout.routes import drop_repeated_routes
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import failure_reason, respond, start_episode


@dataclass(slots=True, kw_only=True)
class _RunningEpisode:
    """State of an episode."""

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
    def of(cls, environment: Environment, task: Task) -> "_RunningEpisode":
        """A new attempt at `task`, already failed if the environment raises."""
        play = cls(task=task, episode=None, messages=list(task.prompt))
        try:
            play.episode = start_episode(environment, task)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an environment is foreign code: its failure is data
            play.fail(error)
        return play

    def fail(self, error: BaseException) -> None:
        """Ends the episode with an exception of the environment."""
        self.truncation_reason = failure_reason(error)

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


async def play_groups(
    environment: Environment,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    group_size: int,
    sampling: Sampling,
    seed: int,
    first: int = 0,
    max_turns: int = 32,
    progress: Progress = NO_PROGRESS,
) -> list[Group]:
    """Runs `group_size` episodes of each task, and returns the groups in order.

    An episode is truncated, with the reason, if a turn exceeds its token budget, if the
    conversation leaves no room for a response or is rejected by the chat template, or if the
    environment raises. Failed tasks are data too. The tokens of a turn depend only on `seed` and on
    the indices of group, episode and turn.

    Args:
        first: Index of the first group.

    Raises:
        UserError: none of several prompts leaves room for a response.
    """
    if isinstance(environment, RunsAgents):
        assert first == 0, "agent programs play all groups of a step together"
        return await play_agents(
            environment,
            engine,
            tokenizer,
            tasks,
            group_size=group_size,
            sampling=sampling,
            seed=seed,
            max_calls=max_turns,
            progress=progress,
        )
    plays = [[_RunningEpisode.of(environment, task) for _ in range(group_size)] for task in tasks]
    total = sum(map(len, plays))
    progress.advance("episodes", 0, total)
    rollout = _Rollout(
        environment=environment,
        engine=engine,
        tokenizer=tokenizer,
        sampling=sampling,
        seed=seed,
        max_turns=max_turns,
        progress=progress,
        total=total,
    )
    prompts = _first_prompts(plays, rollout)
    return await concurrently(
        rollout.group(number, task, group, prompt)
        for number, (task, group, prompt) in enumerate(
            zip(tasks, plays, prompts, strict=True), start=first
        )
    )


@dataclass(slots=True, kw_only=True)
class _Rollout:
    """Shared state of the episodes of a rollout."""

    environment: Environment
    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    seed: int
    max_turns: int
    progress: Progress
    total: int
    over: int = 0

    async def group(
        self,
        number: int,
        task: Task,
        plays: list[_RunningEpisode],
        prompt: Int[Tensor, " _P"] | None,
    ) -> Group:
        """Runs the episodes of one task from their common first prompt; None: there is none."""
        begun = [place for place, play in enumerate(plays) if play.running]
        self._end(len(plays) - len(begun))
        if prompt is not None:
            first = number * len(plays)
            completions = await self._ask(prompt, len(begun), derive_seed(self.seed, 0, number))
            await concurrently(
                self._episode(plays[place], first + place, completion)
                for place, completion in zip(begun, completions, strict=True)
            )
        group = Group(task_id=task.id, trajectories=tuple(play.trajectory() for play in plays))
        if isinstance(self.environment, SupportsGroupScores):
            return await apply_group_scores(self.environment, group)
        return group

    async def _episode(self, play: _RunningEpisode, number: int, completion: Completion) -> None:
        """Runs one episode from its first completion to its end."""
        turn = 1
        await self._take_turn(play, completion)
        while play.running:
            prompt = self._next_prompt(play, turn)
            if prompt is None:
                break
            (completion,) = await self._ask(prompt, 1, derive_seed(self.seed, turn, number))
            await self._take_turn(play, completion)
            turn += 1
        play.episode = None  # which frees what it holds, such as a session of a server
        self._end(1)

    async def _ask(
        self, prompt: Int[Tensor, " _P"], num_completions: int, seed: int
    ) -> list[Completion]:
        request = Request(
            prompt_ids=prompt, num_completions=num_completions, seed=seed, sampling=self.sampling
        )
        return await self.engine.generate(request)

    async def _take_turn(self, play: _RunningEpisode, completion: Completion) -> None:
        """Passes the model's turn to the environment, unless the turn is truncated."""
        if play.completions:
            completion = drop_repeated_routes(completion, play.completions[-1])
        play.completions.append(completion)
        text = response_text(completion, self.tokenizer)
        play.messages.append(Message(role="assistant", content=text))
        if completion.finish_reason is FinishReason.LENGTH:
            play.truncation_reason = "token budget spent"
            return
        assert play.episode is not None, "an episode that was not begun has no turns"
        try:
            outcome = await respond(play.episode, text)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if is_being_cancelled(error):
                raise
            play.fail(error)
            return
        play.rewards.append(outcome.reward)
        for name, part in outcome.reward_parts.items():
            play.reward_parts.setdefault(name, []).append(part)
        play.feedback.append(outcome.feedback)
        play.messages.extend(outcome.observation)
        play.terminated = outcome.terminated

    def _next_prompt(self, play: _RunningEpisode, turn: int) -> Int[Tensor, " _P"] | None:
        """Prompt of turn number `turn`; None ends the episode."""
        if turn == self.max_turns:
            play.truncation_reason = f"not over after {self.max_turns} turns"
            return None
        (prompt,) = encode_each(self.tokenizer, [play.messages], [play.task.tools])
        if isinstance(prompt, UserError):
            play.fail(prompt)
            return None
        if not self.engine.capabilities.has_room(len(prompt), self.sampling):
            play.truncation_reason = (
                f"conversation of {len(prompt)} tokens leaves no room to answer"
            )
            return None
        return prompt

    def _end(self, episodes: int) -> None:
        """Reports that further episodes are over."""
        if episodes:
            self.over += episodes
            self.progress.advance("episodes", self.over, self.total)


def _first_prompts(
    plays: Sequence[Sequence[_RunningEpisode]], rollout: _Rollout
) -> list[Int[Tensor, " _P"] | None]:
    """First prompt of each group; None if none of its episodes can start.

    Raises:
        UserError: none of several prompts leaves room for a response.
    """
    begun = [number for number, group in enumerate(plays) if any(play.running for play in group)]
    encoded = encode_each(
        rollout.tokenizer,
        [plays[number][0].messages for number in begun],
        [plays[number][0].task.tools for number in begun],
    )
    prompts: list[Int[Tensor, " _P"] | None] = [None] * len(plays)
    too_long: list[tuple[Task, int]] = []
    for number, prompt in zip(begun, encoded, strict=True):
        running = [play for play in plays[number] if play.running]
        if isinstance(prompt, UserError):
            for play in running:
                play.fail(prompt)
        elif rollout.engine.capabilities.has_room(len(prompt), rollout.sampling):
            prompts[number] = prompt
        else:
            too_long.append((running[0].task, len(prompt)))
            for play in running:
                play.truncation_reason = (
                    f"{PROMPT_TOO_LONG}: {len(prompt)} tokens leave no room to answer"
                )
    if len(too_long) == len(plays) > 1:
        raise _no_room(*too_long[0], len(plays), rollout)
    return prompts


def _no_room(task: Task, length: int, prompts: int, rollout: _Rollout) -> UserError:
    budget, limit = rollout.sampling.max_new_tokens, rollout.engine.capabilities.max_positions
    return UserError(
        f"None of {prompts} prompts leaves room for a response. The prompt of task {task.id!r} "
        f"has {length} tokens and needs {length + budget} positions with sampling.max_new_tokens "
        f"{budget}, but the engine has {limit}. Lower sampling.max_new_tokens, or shorten the "
        "prompts."
    )
