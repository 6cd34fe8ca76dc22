"""The offline keys as a command meets them: folders, files, signer URIs; passphrases typed or from the environment."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import typer
from securesystemslib.signer import Key, Signer

from fleet.client.signing import signer_uris
from fleet.client.signing.keys import SHORTEST_PASSPHRASE, key_file, load_signer
from modules.errors import BadSettings
from modules.names import Slug
from modules.signing import key_from_pem
from modules.trust import roles

# What commands say of their option.
KEYS: Final = "Folder of the offline keys, a key file, or a signer URI; may be repeated."

_VARIABLE: Final = "EDGEFLEET_PASSPHRASE"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_PUBLIC: Final = b"-----BEGIN PUBLIC KEY-----"


class NewKey(NamedTuple):
    """A key that is to be named; ``signer`` is None where only its public half is here."""

    public: Key
    signer: Signer | None


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


def team_signers(places: Sequence[str], team: Slug) -> Sequence[Signer]:
    """Sign as a team: with key files or signer URIs, or with the key in a folder that ``edgefleet keys init`` made.

    Raises:
        BadSettings: no such key, others may read it, or the passphrase is wrong.
    """
    return [_of_role(place, roles.team_role(team), whose=f"of team {team}") for place in places]


def owner_signers(places: Sequence[str]) -> Sequence[Signer]:
    """Sign as the owner who names the teams, with the key ``targets.pem`` of a folder, key files or signer URIs.

    Raises:
        BadSettings: as :func:`team_signers`.
    """
    return [_of_role(place, roles.TARGETS, whose="that names the teams") for place in places]


def signers(places: Sequence[str]) -> list[Signer]:
    """Sign with these key files and signer URIs.

    Raises:
        BadSettings: as :func:`team_signers`.
    """
    return [signer(place) for place in places]


def signer(place: str) -> Signer:
    """Sign with one key file or signer URI.

    Raises:
        BadSettings: as :func:`team_signers`.
    """
    if signer_uris.is_uri(place) and not place.startswith("file2:"):
        return signer_uris.load(place)
    return _of_file(signer_uris.file_of(place) if signer_uris.is_uri(place) else Path(place))


def new_key(place: str) -> NewKey:
    """A key that is to be named: a key file, a signer URI, or a PEM file of the public half alone.

    Raises:
        BadSettings: as :func:`team_signers`.
        Invalid: no key of a kind that devices verify.
    """
    if not signer_uris.is_uri(place):
        data = _read(Path(place), "name the file of the new key, or of its public half")
        if _PUBLIC in data:
            return NewKey(key_from_pem(data, element=place), None)
    found = signer(place)
    return NewKey(found.public_key, found)


def _of_role(place: str, role: str, *, whose: str) -> Signer:
    if signer_uris.is_uri(place):
        return signer(place)
    file = key_file(Path(place), role) if Path(place).is_dir() else Path(place)
    return _of_file(file, f"name the folder that holds {file.name}, the key {whose}")


def _of_file(file: Path, remedy: str = "name the file of the role's key") -> Signer:
    encrypted = _ENCRYPTED in _read(file, remedy)
    return load_signer(file, _passphrase(file) if encrypted else None)


def _read(file: Path, remedy: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSettings(f"the key cannot be read: {error.strerror}", element=str(file), remedy=remedy) from error


def _passphrase(file: Path) -> str:
    return os.environ.get(_VARIABLE) or str(typer.prompt(f"Passphrase of {file.name}", hide_input=True, err=True))
