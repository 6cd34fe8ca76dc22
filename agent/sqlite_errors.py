"""What SQLite's errors mean for the device: the file itself, the disk under it, or another program."""

import sqlite3
from typing import Final

_HELD: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DISK: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR})


def _code(error: Exception) -> int | None:
    """SQLite's own, without its refinements."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def is_damage(error: Exception) -> bool:
    """Whether what is in the file is to blame (a table that is missing, too), and not the disk or its rights."""
    if isinstance(error, sqlite3.OperationalError):
        return _code(error) == sqlite3.SQLITE_ERROR
    return isinstance(error, sqlite3.DatabaseError)


def is_held(error: Exception) -> bool:
    """Whether another program has it locked."""
    return _code(error) in _HELD


def remedy(error: Exception) -> str:
    """What an operator can do where a write failed."""
    if is_held(error):
        return "end the program that holds the database"
    if _code(error) in _DISK:
        return "look at the disk, and whether the agent's user may write there"
    return "free disk space"
