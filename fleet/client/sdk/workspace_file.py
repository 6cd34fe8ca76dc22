"""Which fleet server a script works with: a file beside the script, or else what ``edgefleet login`` keeps.

The file is ``config.json`` or ``ws_config.json``, in a folder or its ``.azureml`` or ``aml_config``, here or above.
Azure ML's own will do: its workspace name is kept, and the server is the login's. Ours has ``url`` and ``token`` too.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from fleet.client import config
from fleet.client.config import Config
from modules import canonical
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, Invalid

NAMES: Final = ("config.json", "ws_config.json")
FOLDERS: Final = ("", ".azureml", "aml_config")
TEAM: Final = "EDGEFLEET_TEAM"
KEYS: Final = "EDGEFLEET_KEYS"
_PEM: Final = "-----BEGIN CERTIFICATE-----"
_FORM: Final = 'write {"url": ..., "token": ..., "ca": FILE, "team": ..., "keys": [FOLDER]}, or Azure ML\'s own keys'


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``ca`` is a file or its text; ``team`` signs with ``keys``. The others are Azure ML's, for its own clouds."""

    workspace_name: str = ""
    url: str = ""
    token: str = ""
    ca: str | None = None
    team: str = ""
    keys: list[str] = []
    subscription_id: str = ""
    resource_group: str = ""
    workspace_region: str | None = None
    id: str | None = None
    scope: str | None = None


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a script is told of its workspace; ``keys`` are places of the team's key, none where drafts will do."""

    server: Config
    name: str
    team: str = ""
    keys: tuple[str, ...] = ()
    subscription_id: str = ""
    resource_group: str = ""


def logged_in(name: str = "", *, subscription_id: str = "", resource_group: str = "") -> Described:
    """The server of the login; ``EDGEFLEET_TEAM`` and ``EDGEFLEET_KEYS`` say who signs, and with which key.

    Raises:
        BadSettings: nobody has logged in.
    """
    server = config.load()
    keys = os.environ.get(KEYS)
    return Described(
        server=server, name=name or server.url.rpartition("//")[2], team=os.environ.get(TEAM, ""),
        keys=(keys,) if keys else (), subscription_id=subscription_id, resource_group=resource_group,
    )  # fmt: skip


def described(path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> Described:
    """What the file says; without ``path`` it is sought from here upwards, and where there is none the login decides.

    Raises:
        BadSettings: the file that was named is not there, or cannot be used; or nobody has logged in.
    """
    named = None if path is None else Path(path)
    file = _found(named or Path(), (file_name,) if file_name else NAMES, only_ours=named is None)
    if file is None and (named is not None or file_name):
        raise BadSettings(
            "there is no workspace's file", element=str(path or Path.cwd()), remedy="name the file, or its folder"
        )
    return logged_in() if file is None else _read(file)


def _found(start: Path, names: tuple[str, ...], *, only_ours: bool) -> Path | None:
    if start.is_file():
        return start
    for folder in (start.absolute(), *start.absolute().parents):
        for place in _places(folder, names):
            # What another program calls config.json is not ours to complain of, unless somebody names it.
            if place.is_file() and (not only_ours or _is_ours(place)):
                return place
    return None


def _places(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    yield from (folder / inner / name for name in names for inner in FOLDERS)


def _is_ours(file: Path) -> bool:
    try:
        keys = msgspec.json.decode(file.read_bytes(), type=dict[str, msgspec.Raw])
    except (OSError, *UNREADABLE):
        return False
    return bool({"url", "workspace_name"} & keys.keys())


def _read(file: Path) -> Described:
    try:
        found = canonical.decode(file.read_bytes(), _File, limit=config.LIMIT, what=str(file))
    except (OSError, Invalid) as error:
        raise BadSettings(f"this is not a workspace's file: {error}", element=str(file), remedy=_FORM) from error
    if not found.url:
        login = logged_in(found.workspace_name)
        server, team, keys = login.server, login.team, login.keys
    else:
        # The token of a login is never sent to an address that a file brings along.
        if not found.token:
            raise BadSettings("an address without a token", element=f"{file}: token", remedy=_FORM)
        ca = found.ca if not found.ca or _PEM in found.ca else config.read_ca(file.parent / found.ca)
        server = Config(url=config.check_url(found.url), token=config.check_token(found.token), ca=ca)
        team, keys = os.environ.get(TEAM, ""), ((os.environ[KEYS],) if os.environ.get(KEYS) else ())
    return Described(
        server=server, name=found.workspace_name or server.url.rpartition("//")[2], team=team or found.team,
        keys=keys or tuple(_place(file, one) for one in found.keys),
        subscription_id=found.subscription_id, resource_group=found.resource_group,
    )  # fmt: skip


def _place(file: Path, key: str) -> str:
    """Where a key is: below the file's folder, unless it is a signer's URI or an absolute path."""
    beside = file.absolute().parent / key
    return str(beside) if beside.exists() else key
