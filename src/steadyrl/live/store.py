"""Durable store of sessions, and of the generations that learned from them.

Every method is one transaction. A session is claimed by exactly one generation, in the transaction
that begins the generation, so a killed process neither loses a session nor learns from it twice.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from steadyrl.gateway.recording import Feedback
from steadyrl.live.database import Database
from steadyrl.live.records import Example, Generation, StoredTurn, Verdict, prompt_key
from steadyrl.live.rows import read_example, read_generation, turn_values
from steadyrl.live.tables import FEEDBACK, GENERATIONS, METADATA, SESSIONS, TURNS

BUSY_SECONDS = 5.0
"""Seconds that a transaction waits for another process's."""


class SessionStore:
    """Sessions in the database at `url`, such as `sqlite:///sessions.sqlite`.

    Args:
        clock: Seconds since the epoch.

    Raises:
        UserError: the database cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._database = Database(url, timeout)
        with self._database.transaction() as connection:
            METADATA.create_all(connection)

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def add_turns(
        self,
        session: str,
        turns: Sequence[StoredTurn],
        *,
        consent: bool | None = None,
        parent: Sequence[tuple[str, str]] | None = None,
        earlier: Sequence[Feedback] = (),
    ) -> list[int]:
        """Stores the answers of one call; returns their numbers.

        Args:
            parent: Roles and texts of an earlier turn, on which the call gives feedback.
            earlier: That feedback.
        """
        with self._database.transaction() as connection:
            self._touch(connection, session, consent)
            if parent is not None and earlier:
                key = [list(message) for message in parent]
                rows = connection.execute(
                    select(TURNS.c.number, TURNS.c.messages)
                    .where(TURNS.c.session == session)
                    .order_by(TURNS.c.number.desc())
                )
                found = next((row.number for row in rows if row.messages == key), None)
                if found is not None:
                    _add_feedback(connection, session, found, earlier)
            first = _next_turn(connection, session)
            numbers = list(range(first, first + len(turns)))
            for number, turn in zip(numbers, turns, strict=True):
                key_of = prompt_key(turn.messages[:-1])
                values = {"session": session, "number": number, "prompt_key": key_of}
                connection.execute(insert(TURNS).values(**values, **turn_values(turn)))
            return numbers

    def add_feedback(
        self,
        session: str,
        given: Sequence[Feedback],
        *,
        turn: int | None = None,
        consent: bool | None = None,
    ) -> int | None:
        """Stores feedback on a turn, the last by default; returns its number.

        None: there is no such session or turn, and nothing was stored.
        """
        with self._database.transaction() as connection:
            last = _next_turn(connection, session) - 1
            turn = last if turn is None else turn
            if not 0 <= turn <= last:
                return None
            self._touch(connection, session, consent)
            _add_feedback(connection, session, turn, given)
            return turn

    def forget(self, session: str) -> bool:
        """Removes the content of a session; returns whether it was stored.

        Its name stays, so that a generation keeps its number of sessions.
        """
        with self._database.transaction() as connection:
            for table in (FEEDBACK, TURNS):
                connection.execute(delete(table).where(table.c.session == session))
            gone = update(SESSIONS).where(SESSIONS.c.id == session).values(consent=False)
            return connection.execute(gone).rowcount > 0

    def ready(self, *, settle: float = 0.0) -> int:
        """Number of sessions that a generation could claim.

        Args:
            settle: Seconds since the last call or feedback of a session.
        """
        with self._database.transaction() as connection:
            waiting = select(func.count()).select_from(SESSIONS).where(self._claimable(settle))
            return connection.execute(waiting).scalar_one()

    def claim(self, number: int, *, at_least: int, at_most: int, settle: float = 0.0) -> bool:
        """Begins generation `number` with the sessions that waited longest.

        Returns False, and changes nothing, if fewer than `at_least` are ready.
        """
        with self._database.transaction() as connection:
            oldest = (
                select(SESSIONS.c.id)
                .where(self._claimable(settle))
                .order_by(SESSIONS.c.touched, SESSIONS.c.id)
                .limit(at_most)
            )
            ids = list(connection.execute(oldest).scalars())
            if len(ids) < at_least:
                return False
            begun = {"number": number, "verdict": Verdict.CLAIMED.value, "numbers": {}}
            connection.execute(insert(GENERATIONS).values(**begun))
            chosen = update(SESSIONS).where(SESSIONS.c.id.in_(ids))
            connection.execute(chosen.values(generation=number))
            return True

    def examples(self, generation: int) -> list[Example]:
        """What a generation learns from, in the order of sessions and turns.

        Only of sessions with consent at this moment: it may have been withdrawn since the claim.
        """
        chosen = and_(SESSIONS.c.generation == generation, SESSIONS.c.consent)
        with self._database.transaction() as connection:
            rows = connection.execute(
                select(TURNS).join(SESSIONS).where(chosen).order_by(TURNS.c.session, TURNS.c.number)
            ).all()
            said = connection.execute(
                select(FEEDBACK).join(SESSIONS).where(chosen).order_by(FEEDBACK.c.id)
            ).all()
        by_turn: dict[tuple[str, int], list[Any]] = {}
        for row in said:
            by_turn.setdefault((row.session, row.turn), []).append(row)
        return [
            read_example(row, by_turn[row.session, row.number])
            for row in rows
            if (row.session, row.number) in by_turn
        ]

    def earlier_rewards(self, before: int, prompts: Iterable[str]) -> dict[str, list[float]]:
        """Numbers and thumbs, with consent, of generations before number `before`, by prompt."""
        wanted = sorted(set(prompts))
        found: dict[str, list[float]] = {}
        with self._database.transaction() as connection:
            for start in range(0, len(wanted), 500):
                rows = connection.execute(
                    select(TURNS.c.prompt_key, FEEDBACK.c.value)
                    .join(SESSIONS, TURNS.c.session == SESSIONS.c.id)
                    .join(
                        FEEDBACK,
                        and_(
                            FEEDBACK.c.session == TURNS.c.session,
                            FEEDBACK.c.turn == TURNS.c.number,
                        ),
                    )
                    .where(
                        SESSIONS.c.generation < before,
                        SESSIONS.c.consent,
                        FEEDBACK.c.value.is_not(None),
                        TURNS.c.prompt_key.in_(wanted[start : start + 500]),
                    )
                    .order_by(FEEDBACK.c.id)
                )
                for row in rows:
                    found.setdefault(row.prompt_key, []).append(row.value)
        return found

    def sessions_of(self, generation: int) -> list[str]:
        """Names of the sessions that a generation claimed."""
        with self._database.transaction() as connection:
            chosen = select(SESSIONS.c.id).where(SESSIONS.c.generation == generation)
            return list(connection.execute(chosen.order_by(SESSIONS.c.id)).scalars())

    def generations(self) -> list[Generation]:
        """All generations in order."""
        with self._database.transaction() as connection:
            rows = connection.execute(select(GENERATIONS).order_by(GENERATIONS.c.number)).all()
        return [read_generation(row) for row in rows]

    def begin(self, policy_version: int, numbers: Mapping[str, float]) -> None:
        """Stores generation 0: the policy that the loop begins with."""
        with self._database.transaction() as connection:
            values = {"number": 0, "verdict": Verdict.PROMOTED.value, "numbers": dict(numbers)}
            connection.execute(insert(GENERATIONS).values(policy_version=policy_version, **values))

    def finish(self, generation: Generation) -> None:
        """Stores the verdict on a generation that was claimed."""
        with self._database.transaction() as connection:
            changed = connection.execute(
                update(GENERATIONS)
                .where(
                    GENERATIONS.c.number == generation.number,
                    GENERATIONS.c.verdict == Verdict.CLAIMED.value,
                )
                .values(
                    verdict=generation.verdict.value,
                    policy_version=generation.policy_version,
                    numbers=dict(generation.numbers),
                )
            )
            assert changed.rowcount == 1, "another process has finished the generation"

    def _touch(self, connection: Connection, session: str, consent: bool | None) -> None:
        """Makes the row of a session, or notes that it was used."""
        known = update(SESSIONS).where(SESSIONS.c.id == session)
        values: dict[str, Any] = {"touched": self._clock()}
        if consent is not None:
            values["consent"] = consent
        if connection.execute(known.values(**values)).rowcount == 0:
            row = {"id": session, "consent": bool(consent), "touched": values["touched"]}
            connection.execute(insert(SESSIONS).values(**row))

    def _claimable(self, settle: float) -> ColumnElement[bool]:
        said = select(FEEDBACK.c.id).where(FEEDBACK.c.session == SESSIONS.c.id).exists()
        settled = SESSIONS.c.touched <= self._clock() - settle
        return and_(SESSIONS.c.consent, SESSIONS.c.generation.is_(None), said, settled)


def _next_turn(connection: Connection, session: str) -> int:
    highest = select(func.max(TURNS.c.number)).where(TURNS.c.session == session)
    found = connection.execute(highest).scalar_one()
    return 0 if found is None else found + 1


def _add_feedback(
    connection: Connection, session: str, turn: int, given: Sequence[Feedback]
) -> None:
    for each in given:
        row = {"kind": each.kind, "value": each.value, "text": each.text}
        connection.execute(insert(FEEDBACK).values(session=session, turn=turn, **row))
