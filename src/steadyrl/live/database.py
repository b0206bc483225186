"""Connections to the database of the session store, with durable transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from steadyrl.base.errors import UserError, describe_error


class Database:
    """The database at a URL of SQLAlchemy.

    Args:
        timeout: Seconds that a transaction of SQLite waits for one of another process.

    Raises:
        UserError: the URL is not valid, or the driver is missing.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._engine = _open(url, timeout)
        self._shown = self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction, which is committed durably at the end of the block.

        Raises:
            UserError: the database is locked or cannot be used.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as error:
            if "locked" in str(error.orig):
                raise UserError(
                    f"The session store {self._shown} is locked by another process. Wait until it "
                    "ends, or use another store."
                ) from error
            raise _unusable(self._shown, error) from error
        except SQLAlchemyError as error:
            raise _unusable(self._shown, error) from error


def _open(url: str, timeout: float) -> Engine:
    try:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"connect_args": {"timeout": timeout}} if is_sqlite else {}
        engine = create_engine(parsed, **options)
    except ArgumentError as error:
        raise UserError(
            f"The session store is {url!r:.80}, which is not a URL of SQLAlchemy. Give one such as "
            "sqlite:///sessions.sqlite."
        ) from error
    except (ImportError, SQLAlchemyError) as error:
        raise UserError(
            f"The session store cannot be opened: {describe_error(error)}. Install the driver of "
            "that database, or use sqlite."
        ) from error
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Durable commits, readers beside a writer, and nothing left of what is removed."""
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Takes the lock of a writer at once, so that no transaction reads what another changes."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _unusable(shown: str, error: SQLAlchemyError) -> UserError:
    reason = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    return UserError(f"The session store {shown} cannot be used: {reason}. Check its URL and disk.")
