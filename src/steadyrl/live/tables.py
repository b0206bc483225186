"""Tables of the session store.

sessions      one row for each; `generation` is the one that learned from it
turns         tokens, log-probabilities and policy versions of each answer
feedback      what users said about turns
generations   one row for each, whose insertion and that of its sessions are one transaction
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("consent", Boolean, nullable=False),
    Column("touched", Float, nullable=False),
    Column("generation", Integer, index=True),
)

TURNS = Table(
    "turns",
    METADATA,
    Column("session", ForeignKey("sessions.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("prompt_key", String(32), nullable=False, index=True),
    Column("messages", JSON, nullable=False),
    Column("tokens", JSON(none_as_null=True)),
)

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("session", ForeignKey("sessions.id"), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", Float),
    Column("text", Text, nullable=False),
    Index("feedback_of_turn", "session", "turn"),
)

GENERATIONS = Table(
    "generations",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("verdict", String(16), nullable=False),
    Column("policy_version", Integer),
    Column("numbers", JSON, nullable=False),
)
