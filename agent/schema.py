"""The tables of the device's database, and how an older agent's are brought up to date."""

import sqlite3
from typing import Final

import msgspec

from agent import old_rows
from agent.slots import Placed, Slot, Target, Upkeep
from modules.names import Slug

VERSION: Final = 2
# Slots that move together have one target.
_SLOTS: Final = (
    "CREATE TABLE targets (name TEXT PRIMARY KEY, target BLOB NOT NULL) STRICT",
    """CREATE TABLE slots (slot TEXT PRIMARY KEY, target TEXT NOT NULL REFERENCES targets,
       current BLOB NOT NULL, upkeep BLOB NOT NULL, previous BLOB NOT NULL) STRICT""",
)
_OTHERS: Final = (
    "CREATE TABLE numbers (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT",
    "CREATE TABLE documents (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT",
    "CREATE TABLE failed (digest TEXT PRIMARY KEY, reason BLOB NOT NULL, at REAL NOT NULL) STRICT",
    "CREATE TABLE roles (role TEXT PRIMARY KEY, version INTEGER NOT NULL, keyids TEXT NOT NULL) STRICT",
    "CREATE TABLE refusals (at REAL NOT NULL, row BLOB NOT NULL) STRICT",
)


def version(db: sqlite3.Connection) -> int:
    """0 for an empty database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether there is no table at all."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def bring_up_to_date(db: sqlite3.Connection) -> None:
    """Make the tables, or change those of an older agent; inside the caller's transaction."""
    old: list[bytes] = []
    if version(db) == 0:
        _run(db, _OTHERS)
    else:
        old = [row[0] for row in db.execute("SELECT row FROM slots")]
        db.execute("DROP TABLE slots")
    _run(db, _SLOTS)
    for row in old:
        save(db, old_rows.read(row))
    db.execute(f"PRAGMA user_version = {VERSION}")


def save(db: sqlite3.Connection, slot: Slot) -> None:
    """Write a slot that moves alone: its target has its name."""
    parts = (slot.current, slot.upkeep, slot.previous)
    db.execute("INSERT OR REPLACE INTO targets VALUES (?, ?)", (slot.slot, msgspec.json.encode(slot.target)))
    values = (slot.slot, slot.slot, *(msgspec.json.encode(part) for part in parts))
    db.execute("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, ?)", values)


def forget(db: sqlite3.Connection, name: str) -> None:
    """Remove a slot, and a target that no slot has any more."""
    db.execute("DELETE FROM slots WHERE slot = ?", (name,))
    db.execute("DELETE FROM targets WHERE name NOT IN (SELECT target FROM slots)")


def slots(db: sqlite3.Connection) -> tuple[Slot, ...]:
    """Every slot, by name."""
    rows = db.execute(
        "SELECT slot, targets.target, current, upkeep, previous FROM slots JOIN targets ON targets.name = slots.target "
        "ORDER BY slot"
    ).fetchall()
    return tuple(_slot(*row) for row in rows)


def _slot(name: Slug, target: bytes, current: bytes, upkeep: bytes, previous: bytes) -> Slot:
    return Slot(
        slot=name,
        target=msgspec.json.decode(target, type=Target),
        current=msgspec.json.decode(current, type=Placed | None),
        upkeep=msgspec.json.decode(upkeep, type=Upkeep),
        previous=msgspec.json.decode(previous, type=Placed | None),
    )


def _run(db: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        db.execute(statement)
