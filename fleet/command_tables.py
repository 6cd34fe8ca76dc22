"""The tables of commands to devices (fleet/commands/), and of what was taken of their answers; as fleet/tables.py."""

from typing import Final

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, case, text

from fleet.schema import Large, metadata
from fleet.tables import devices
from modules.protocol.commands import TRY

# Commands that are not over.
_OPEN = text("look_at IS NOT NULL")

commands = Table(
    "commands",
    metadata,
    Column("number", Large, primary_key=True),  # in the order in which they were given
    Column("id", String(32), nullable=False, unique=True),
    Column("batch", String(32), nullable=False, index=True),  # those that were given together
    Column("device", ForeignKey(devices.c.id), nullable=False),
    Column("name", String(100), nullable=False),
    Column("slot", String(63)),
    Column("arguments", JSON, nullable=False),
    Column("issued", Large, nullable=False),
    Column("expires", Large, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("by", String(100), nullable=False),
    Column("state", String(16), nullable=False),
    Column("look_at", Float),  # when it has to be sent again, or is over; None: it is over
    Column("sent", Float),  # when the broker took it first
    Column("heard", Float),  # when an answer was taken last
    Column("ended", Float),
    Column("answers", Integer, nullable=False),  # how many parts were taken, each the next one
    Column("bytes", Integer, nullable=False),  # of their pieces together
    Column("progress", Float),
    Column("note", Text, nullable=False),
    Column("reason_code", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("content", String(100), nullable=False),
    Index("ix_commands_look_at", "look_at"),
    Index("ix_commands_open", "device", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("ix_commands_device_number", "device", "number"),
    Index("ix_commands_state_number", "state", "number"),
    Index("ix_commands_ended", "ended"),
    # Counts are read from this index alone.
    Index("ix_commands_counts", "name", "state", "device"),
)

# The envelope of a command that is over: what somebody asked a module is kept no longer than it has to be sent.
LET_GO: Final = case((commands.c.name == TRY, b""), else_=commands.c.envelope)

command_parts = Table(
    "command_parts",
    metadata,
    Column("command", ForeignKey("commands.number"), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False, index=True),
    Column("digest", String(71), nullable=False),  # of the signed document
    Column("state", String(16), nullable=False),
    Column("progress", Float),
    Column("bytes", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
