"""Which agent this is among all that may use the same container engine: one installation for each state folder.

Neither a device's name nor a fleet's is enough: two fleets may name a device alike, and share a machine. So each state
folder has an id of its own, made at random when an agent first runs on it, in a file beside the identity: it outlives
the database, and a rejoin under another name.

A container is an installation's if its label says so, or if the module that it runs lies in the installation's state
folder. The second is for containers of an agent from before there were labels of installations, and for a state folder
that has lost its id: what runs is found again, and nothing of it is left to itself.
"""

import logging
import os
import re
import secrets
from pathlib import Path
from typing import Final

import msgspec

from agent.identity import write_private
from agent.settings import Settings

FILE: Final = "installation"
_ID: Final = re.compile(r"[0-9a-f]{12}")
_log = logging.getLogger(__name__)


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is 12 hex digits, or empty where no agent has run here yet; ``modules`` is the folder of its modules."""

    id: str
    modules: Path

    def runs_from_here(self, source: str) -> bool:
        """Whether this folder of the host, which a container has mounted, is one of our modules."""
        # Not as text alone: a state folder may have been reached through a link, then or now.
        return Path(os.path.realpath(source)).is_relative_to(os.path.realpath(self.modules))


def look(settings: Settings) -> Installation:
    """The installation as it is; nothing is made."""
    return Installation(id=_read(Path(settings.state) / FILE), modules=settings.modules)


def ensure(settings: Settings) -> Installation:
    """The installation, with an id: it is made where there is none, or a damaged one.

    On a disk that cannot be written the id is for this run only, and the next one finds what runs by its modules.
    """
    found = look(settings)
    if found.id:
        return found
    made = secrets.token_hex(6)
    path = Path(settings.state) / FILE
    try:
        write_private(path, f"{made}\n".encode())
    except OSError as error:
        _log.warning("%s cannot be written (%s): another id is made at the next start", path, error.strerror)
    return msgspec.structs.replace(found, id=made)


def _read(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _ID.fullmatch(text) else ""
