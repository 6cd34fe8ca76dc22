"""Which folders of this device a batch job may use: those that its owner has named in the agent's settings.

An order has a name and never a path, so nothing that a server says leads anywhere else. The job's container has the
folder itself mounted; a link in it leads to places of the container, not of the device.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.settings import Settings
from modules.errors import BadSettings, Invalid, NeedsOperator
from modules.names import Slug

_ANSWERS: Final = 0o2775
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A job's folder has a journal and two files of answers; a module that makes thousands there does something else.
_MOST_FILES: Final = 10_000
_BLOCK: Final = 512


def named(places: Iterable[str]) -> dict[str, Path]:
    """The folders by their names, from entries as ``images=/srv/images``."""
    return {name: Path(path) for name, _, path in (place.partition("=") for place in places)}


def allowed(settings: Settings, inputs: str, outputs: str) -> tuple[Path, Path]:
    """The two folders that an order names. Blocking.

    Raises:
        Invalid: the owner has given no folder one of these names for this use.
        NeedsOperator: one of them is not there, or is none that a job may have.
    """
    source = _folder(settings, settings.batch_inputs, inputs, "batch_inputs")
    target = _folder(settings, settings.batch_outputs, outputs, "batch_outputs")
    if target.is_relative_to(source):
        raise BadSettings(
            "answers would be among the inputs", element=f"{inputs}, {outputs}", remedy="name folders apart"
        )
    return source, target


def answers(place: Path, job: Slug, group: int) -> Path:
    """The folder of a job below a place for answers: made, and open to the job's group. Blocking.

    Raises:
        NeedsOperator: it cannot be made, or something else has its name.
    """
    folder = place / job
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, _FOLDER)
        try:
            found = os.fstat(descriptor)
            if (found.st_gid, stat.S_IMODE(found.st_mode)) != (group, _ANSWERS):
                os.fchown(descriptor, -1, group)
                os.fchmod(descriptor, _ANSWERS)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NeedsOperator(
            f"the folder of the answers cannot be made: {error.strerror}",
            element=str(folder),
            remedy="let the agent's user write to the place, and move away what has this name there",
        ) from error
    return folder


def taken(folder: Path, most: int) -> bool:
    """Whether a job's folder takes more than so many bytes of the disk, or has in it what no job makes. Blocking."""
    size = files = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    if size > most or files > _MOST_FILES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue  # not made yet, or it went meanwhile
        except OSError:
            return True  # a folder that is closed, or deeper than a path can be
    return False


def _folder(settings: Settings, places: tuple[str, ...], name: str, setting: str) -> Path:
    known = named(places)
    if name not in known:
        raise Invalid(
            "the owner of this device has given no folder this name",
            element=name,
            remedy=f"there are {', '.join(sorted(known)) or 'none'}: {setting} of the agent's settings",
        )
    try:
        folder = known[name].resolve(strict=True)
        is_folder = folder.is_dir()
    except OSError as error:
        raise NeedsOperator(
            f"its folder cannot be used: {error.strerror}", element=name, remedy=f"look at {setting}"
        ) from error
    if not is_folder:
        raise NeedsOperator("it is no folder", element=name, remedy=f"correct {setting}")
    for own in (settings.state, settings.runtime):
        mine = Path(own).resolve()
        if folder.is_relative_to(mine) or mine.is_relative_to(folder):
            raise BadSettings(
                "it has the agent's own files in it, or lies among them", element=name, remedy=f"correct {setting}"
            )
    return folder
