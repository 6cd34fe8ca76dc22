"""``edgefleet keys``: make the owner's and the teams' offline keys, and sign with them.

They go into a folder of their own, encrypted with a passphrase, and nowhere else: whoever has two root keys, or the
targets key and the fleet server, decides what every device runs.
"""

import os
import stat
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.signer import CryptoSigner

from modules.errors import BadSettings
from modules.names import Slug
from modules.signing import signer_from_pem
from modules.trust import repository, roles
from modules.trust.repository import OnlineKeys

# The PEM format's own key stretching is weak, so the passphrase must carry the weight.
SHORTEST_PASSPHRASE: Final = 16

_LARGEST_KEY_FILE: Final = 16 * 1024

_README: Final = """\
These are the keys that decide what your devices run. Move this folder away now: to two USB sticks in two safes, or to
another machine that the fleet server cannot reach. Nothing but you keeps them apart.

root-1.pem root-2.pem root-3.pem  Two of three sign the root of trust, once a year and when a key is replaced.
                                  Keep them apart from each other. With two of them lost, every device must be
                                  enrolled again by hand.
targets.pem                       Names the teams and the director's key; signs at least every 180 days.
team-<name>.pem                   Signs that team's releases. This one belongs on the team's machine or in its CI.

{protection}
"""
_ENCRYPTED: Final = "Each file is PKCS #8 in PEM, encrypted with the passphrase that was given when they were made."
_BARE: Final = "NOT ENCRYPTED: made for a demonstration. Never enrol a device that matters under these keys."


class Initial(NamedTuple):
    """A new fleet's trust metadata, to hand to the fleet server, and root also to every join bundle."""

    root: bytes
    targets: bytes
    director: bytes
    teams: dict[Slug, bytes]


def init(
    folder: Path,
    *,
    teams: Iterable[Slug],
    online: OnlineKeys,
    passphrase: str | None,
    now: datetime,
    insecure_demo: bool = False,
) -> Initial:
    """Make three root keys, the targets key and one key per team in ``folder``, and version 1 of what they sign.

    Args:
        folder: new or empty; becomes 0700, the files in it 0600.
        teams: the publishing teams.
        online: the public keys that the fleet server made for itself.
        passphrase: encrypts every file; None only together with ``insecure_demo``.
        now: when the metadata's life begins.
        insecure_demo: leave the files unencrypted.

    Raises:
        BadSettings: the folder has something in it, or the passphrase is missing or too short.
    """
    encryption = _encryption(passphrase, insecure_demo=insecure_demo)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadSettings(
            "the folder is not empty, and keys are never overwritten",
            element=str(folder),
            remedy="name a new folder",
        )
    folder.chmod(0o700)
    try:
        _write(folder / "README.txt", _README.format(protection=_ENCRYPTED if passphrase else _BARE).encode())
        return _founded(folder, teams, online, encryption, now)
    except BaseException:
        # Nobody has seen yet what these keys have signed, and the next try takes an empty folder only.
        for file in folder.iterdir():
            file.unlink()
        raise


def _founded(
    folder: Path, teams: Iterable[Slug], online: OnlineKeys, encryption: KeySerializationEncryption, now: datetime
) -> Initial:
    root = [_make(folder / f"root-{number}.pem", encryption) for number in range(1, repository.ROOT_KEYS + 1)]
    targets = [_make(key_file(folder, roles.TARGETS), encryption)]
    team_signers = {team: _make(key_file(folder, roles.team_role(team)), encryption) for team in teams}
    _sync(folder)
    founded = repository.create(
        root_signers=root,
        targets_signers=targets,
        online=online,
        teams={team: [signer.public_key] for team, signer in team_signers.items()},
        now=now,
    )
    signed = {
        team: repository.create_team(team=team, signers=[signer], now=now) for team, signer in team_signers.items()
    }
    return Initial(founded.root, founded.targets, founded.director, signed)


def add_team_key(folder: Path, *, team: Slug, passphrase: str | None, insecure_demo: bool = False) -> CryptoSigner:
    """Make the key of one more team in ``folder``; the owner delegates to it, the team creates its metadata with it.

    Raises:
        BadSettings: the team has a key there, or the passphrase is missing or too short.
    """
    encryption = _encryption(passphrase, insecure_demo=insecure_demo)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = _make(key_file(folder, roles.team_role(team)), encryption)
    _sync(folder)
    return signer


def make_key(file: Path, *, passphrase: str | None, insecure_demo: bool = False) -> CryptoSigner:
    """Make one key in a new file, and its public half beside it.

    Raises:
        BadSettings: there is such a file already, or the passphrase is missing or too short.
    """
    encryption = _encryption(passphrase, insecure_demo=insecure_demo)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = _make(file, encryption, public_file(file))
    _sync(file.parent)
    return signer


def public_file(file: Path) -> Path:
    """Where the public half of a key file is."""
    return file.with_suffix(".pub")


def key_file(folder: Path, role: str) -> Path:
    """Where the key of ``targets`` or of a team's role is; root's are ``root-1.pem`` to ``root-3.pem``."""
    return folder / f"{role}.pem"


def load_signer(path: Path, passphrase: str | None) -> CryptoSigner:
    """Sign with a key file.

    Raises:
        BadSettings: no such file, others may read it, not one of our keys, or the wrong passphrase; names the file.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadSettings(
            f"the key cannot be read: {error.strerror}", element=str(path), remedy="name the file of the role's key"
        ) from error
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise BadSettings("this is not a plain file", element=str(path), remedy="name the file of the role's key")
        if mode & 0o077:
            raise BadSettings("others may read this key", element=str(path), remedy=f"chmod 600 {path}")
        pem = os.read(file, _LARGEST_KEY_FILE)
    finally:
        os.close(file)
    return signer_from_pem(pem, passphrase=passphrase, element=str(path))


def _encryption(passphrase: str | None, *, insecure_demo: bool) -> KeySerializationEncryption:
    if passphrase is None:
        if insecure_demo:
            return NoEncryption()
        raise BadSettings(
            "offline keys need a passphrase", element="passphrase", remedy="give one, or ask for insecure demo keys"
        )
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise BadSettings(
            "the passphrase is too short",
            element="passphrase",
            remedy=f"use at least {SHORTEST_PASSPHRASE} characters, five random words for instance",
        )
    return BestAvailableEncryption(passphrase.encode())


def _make(path: Path, encryption: KeySerializationEncryption, public: Path | None = None) -> CryptoSigner:
    private = Ed25519PrivateKey.generate()
    _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    if public is not None:
        _write(public, private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return CryptoSigner(private)


def _write(path: Path, data: bytes) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise BadSettings(
            "there is such a key already, and keys are never overwritten", element=str(path), remedy="move it away"
        ) from error
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        # Half a key would keep the next try from its name.
        path.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Make the names last as well: a key that has signed and is then lost with the power is worse than none."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
