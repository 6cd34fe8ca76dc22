"""Text from modules, devices, servers and engines, before a person reads it in a log line or on a terminal.

A newline makes a second log line that nobody wrote, ESC moves the cursor or changes the title, and a bidirectional mark
shows a name as another. So what is not printable is replaced, and what broke the line is shown as ``|``.
"""

import logging
from typing import Final

_BROKEN: Final = {"\n": " | ", "\r": "", "\t": " "}


def printable(text: str, limit: int | None = None) -> str:
    """One line of printable characters, of at most ``limit``."""
    cut = text if limit is None else text[:limit]
    return cut if cut.isprintable() else "".join(map(_shown, cut))[:limit]


class Lines(logging.Formatter):
    """A log line for each record, whatever text it was made of; tracebacks, which are ours, keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as the base class has it
        record.message = printable(record.message)
        return super().formatMessage(record)


def log_lines(level: str | int, layout: str) -> None:
    """Write this process's log to stderr in such lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(layout))
    logging.basicConfig(level=level, handlers=[handler])
    # At each look it names every key that need not have signed, as if something were wrong.
    logging.getLogger("tuf").setLevel(logging.WARNING)


def _shown(character: str) -> str:
    return character if character.isprintable() else _BROKEN.get(character, "\N{REPLACEMENT CHARACTER}")
