"""The offline keys as a command meets them: a folder, and a passphrase from the environment or the keyboard."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer
from securesystemslib.signer import Signer

from fleet.client.signing.keys import SHORTEST_PASSPHRASE, key_file, load_signer
from modules.errors import BadSettings
from modules.names import Slug
from modules.trust import roles

_VARIABLE: Final = "EDGEFLEET_PASSPHRASE"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


def new_passphrase() -> str:
    """A passphrase for new keys: ``EDGEFLEET_PASSPHRASE``, or typed twice."""
    return os.environ.get(_VARIABLE) or str(
        typer.prompt(
            f"Passphrase for the new keys (at least {SHORTEST_PASSPHRASE} characters)",
            hide_input=True,
            confirmation_prompt=True,
            err=True,
        )
    )


def team_signers(place: Path, team: Slug) -> Sequence[Signer]:
    """Sign as a team, with the key in a folder that ``edgefleet keys init`` made, or with one key file.

    Raises:
        BadSettings: no such key, others may read it, or the passphrase is wrong.
    """
    return _signers(place, roles.team_role(team), whose=f"of team {team}")


def owner_signers(place: Path) -> Sequence[Signer]:
    """Sign as the owner who names the teams, with the key ``targets.pem``.

    Raises:
        BadSettings: as :func:`team_signers`.
    """
    return _signers(place, roles.TARGETS, whose="that names the teams")


def _signers(place: Path, role: str, *, whose: str) -> Sequence[Signer]:
    file = key_file(place, role) if place.is_dir() else place
    try:
        encrypted = _ENCRYPTED in file.read_bytes()
    except OSError as error:
        raise BadSettings(
            f"the key cannot be read: {error.strerror}",
            element=str(file),
            remedy=f"name the folder that holds {file.name}, the key {whose}",
        ) from error
    return (load_signer(file, _passphrase(file) if encrypted else None),)


def _passphrase(file: Path) -> str:
    return os.environ.get(_VARIABLE) or str(typer.prompt(f"Passphrase of {file.name}", hide_input=True, err=True))
