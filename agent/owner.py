"""Commands of root act as the owner of the state folder, so that the service finds nothing there that is root's."""

import contextlib
import os
import pwd
from pathlib import Path
from typing import Final

from modules.errors import BadSettings

# Whom deploy/agent makes for the service.
SERVICE_USER: Final = "edgefleet"


def act_as_owner(state: Path, *, make: bool = False) -> None:
    """Where root runs a command, go on as the user that the state folder belongs to, with all of that user's groups.

    With ``make``, a state folder that is missing is made first, for the service's user where the system has one.

    Raises:
        BadSettings: the folder cannot be made.
    """
    if os.geteuid() != 0:
        return
    try:
        if not state.exists():
            if not make:
                return
            state.mkdir(mode=0o750, parents=True)
            if user := _service_user():
                os.chown(state, user.pw_uid, user.pw_gid)
        found = state.stat()
    except OSError as error:
        raise BadSettings(
            f"the state folder cannot be made: {error.strerror}", element=str(state), remedy="name another with: state"
        ) from error
    if found.st_uid != 0:
        _become(found.st_uid, found.st_gid)


def foreign(state: Path) -> Path | None:
    """The first of what lies below the state folder that belongs to somebody else than the folder itself."""
    owner = state.stat().st_uid
    for place, folders, files in os.walk(state):
        for name in (*folders, *files):
            path = Path(place, name)
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_uid != owner:
                    return path
    return None


def give_back(state: str) -> str:
    """The command that gives everything below the state folder to the folder's owner."""
    return f"chown -R --reference={state} {state}"


def _service_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None


def _become(uid: int, gid: int) -> None:
    try:
        user = pwd.getpwuid(uid)
        os.initgroups(user.pw_name, user.pw_gid)
        gid = user.pw_gid
    except KeyError:  # a number without a name has no further groups
        os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
