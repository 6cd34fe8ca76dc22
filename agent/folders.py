"""The agent's own folders below state and runtime: made at its start, and looked at by doctor."""

from collections.abc import Iterable
from pathlib import Path

from agent.settings import Settings
from modules.errors import BadSettings

_ANEW = "move it away: the agent makes it anew"


def of_state(settings: Settings) -> tuple[Path, ...]:
    return settings.blobs, settings.modules, settings.trust


def of_runtime(settings: Settings) -> tuple[Path, ...]:
    return settings.instances, settings.table.parent


def make(settings: Settings) -> None:
    """Make those that are missing.

    Raises:
        BadSettings: something else has a folder's name, or it cannot be made; names it.
    """
    for folder in (*of_state(settings), *of_runtime(settings)):
        try:
            folder.mkdir(mode=0o700 if folder == settings.trust else 0o777, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise BadSettings("this is no folder", element=str(folder), remedy=_ANEW) from error
        except OSError as error:
            raise BadSettings(
                f"this folder cannot be made: {error.strerror}",
                element=str(folder),
                remedy="give the folder above it to the agent's user, and room to its disk",
            ) from error


def not_one(folders: Iterable[Path]) -> str:
    """Which of them is something else than a folder, and what to do; empty where none is."""
    found = next((one for one in folders if one.is_symlink() or one.exists() if not one.is_dir()), None)
    return f"{found} is no folder ({_ANEW})" if found else ""
