"""A population of users with rules that no one tells the model: they ask, judge and sometimes help.

A user sends a request in code words, which have one hidden meaning. Users differ in what they do
with the answer:

    answer is right     a thumb up
    answer is wrong     those who write correct it, the others give a thumb down
    some users          say nothing, correct it wrongly, or do not agree to training
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import numpy as np

from steadyrl.environments.protocol import Split
from steadyrl.gateway.recording import CONSENT_HEADER
from steadyrl.lab.worlds.code_words import CodeWordSettings, judge
from steadyrl.lab.worlds.coded_questions import RELATIONS
from steadyrl.rollout.seeds import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How many users do what.

    Example:
        Habits(write=0.5)
    """

    write: float = 0.5
    """Share of users who correct a wrong answer."""

    mistaken: float = 0.1
    """Share of those who correct it wrongly."""

    silent: float = 0.2
    """Share of users who give no feedback."""

    consent: float = 0.9
    """Share of users who agree to training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one user did.

    Example:
        Visit(session="0-7", consents=True, succeeded=False, feedback={"thumb": "down"})
    """

    session: str
    consents: bool
    succeeded: bool
    feedback: dict[str, Any]
    """Empty: the user was silent."""


class Population:
    """Users who ask through the gateway.

    Args:
        seed: Decides who does what, and what they ask.
    """

    def __init__(self, settings: CodeWordSettings, habits: Habits, *, seed: int) -> None:
        self._meaning = settings.meaning()
        self._requests = settings.make()
        self._habits = habits
        self._seed = seed

    async def visit(self, url: str, model: str, generation: int, users: int) -> list[Visit]:
        """`users` new users ask at the same time. `url` is that of the server."""
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            asking = [
                self._ask(client, model, f"{generation}-{user}", generation * users + user)
                for user in range(users)
            ]
            return list(await asyncio.gather(*asking))

    async def _ask(self, client: httpx.AsyncClient, model: str, session: str, number: int) -> Visit:
        habits = self._habits
        draws = np.random.default_rng(derive_seed(self._seed, number))
        shares = (habits.write, habits.mistaken, habits.silent, habits.consent)
        writes, mistaken, silent, consents = (bool(draws.random() < share) for share in shares)
        place = int(draws.integers(10**6))
        request = self._requests.task(Split.TRAIN, place).prompt[-1].content
        reply = await client.post(
            f"/sessions/{session}/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": request}]},
            headers={CONSENT_HEADER: str(consents).lower()},
        )
        reply.raise_for_status()
        text = reply.json()["choices"][0]["message"]["content"]
        outcome = judge(request, text, self._meaning)
        succeeded = outcome.reward >= 1
        feedback: dict[str, Any] = {"thumb": "up" if succeeded else "down"}
        if writes and not succeeded:
            other = f"{request[0]}={draws.choice(list(RELATIONS))}"
            feedback = {"text": other if mistaken else outcome.feedback}
        if silent:
            feedback = {}
        else:
            said = await client.post(f"/sessions/{session}/feedback", json=feedback)
            said.raise_for_status()
        return Visit(session=session, consents=consents, succeeded=succeeded, feedback=feedback)
