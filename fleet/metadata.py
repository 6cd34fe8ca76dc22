"""The fleet's trust metadata: kept as the bytes that were signed, checked before it is taken, tied together online.

The server signs snapshot and timestamp, which say what is newest, and orders. What is published, and by whom, is signed
with keys that it never has; it takes such metadata only if it verifies and only if the modules that it lists are here.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from sqlalchemy import Connection, delete, func, insert, select
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata as Envelope
from tuf.api.metadata import Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleet import events
from fleet.blobs import Blobs
from fleet.clock import Clock
from fleet.db import Database
from fleet.folder import ONLINE_ROLES, Folder
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.rollouts import auto
from fleet.tables import tuf_metadata
from modules.errors import BadSettings, Invalid
from modules.names import Digest, ModuleRef, Slug
from modules.signing import decode_keys, signer_from_pem
from modules.trust import publication, roles
from modules.trust.team_update import check_team_files

RENEW_AFTER: Final = dt.timedelta(days=1)
# A device that began to refresh a moment ago still asks for the versions of that moment.
KEPT: Final = 20
_NAME: Final = re.compile(r"(?:([0-9]{1,9})\.)?([a-z0-9-]{1,80})\.json")


class Metadata:
    """Every metadata file by role and version, and the online keys."""

    def __init__(self, database: Database, blobs: Blobs, registry: Registry, folder: Folder, clock: Clock) -> None:
        self._database, self._blobs, self._registry, self._clock = database, blobs, registry, clock
        self._signers = {role: _signer(folder, role) for role in ONLINE_ROLES}

    @property
    def director(self) -> CryptoSigner:
        """Who signs orders."""
        return self._signers["director"]

    def online_keys(self) -> dict[str, dict[str, Any]]:
        """The public parts of the online keys by role, with their ids."""
        keys = {role: signer.public_key for role, signer in self._signers.items()}
        return {role: {"keyid": key.keyid, **key.to_dict()} for role, key in keys.items()}

    def file(self, name: str) -> bytes:
        """A metadata file by its published name; without a version, the newest.

        Raises:
            Missing: there is none.
        """
        match = _NAME.fullmatch(name)
        with self._database.read() as connection:
            data = match and _read(connection, match[2], int(match[1]) if match[1] else None)
        if not data:
            raise Missing("there is no such metadata file", element=name[:100])
        return data

    def newest_root(self) -> bytes:
        """What a joining device begins with.

        Raises:
            Conflict: the fleet has no root yet.
        """
        with self._database.read() as connection:
            data = _read(connection, roles.ROOT)
        if data is None:
            raise Conflict("this fleet has no root of trust yet", element="root", remedy="run: edgefleet keys init")
        return data

    def bootstrap(self, *, root: bytes, targets: bytes, director: bytes, teams: Mapping[Slug, bytes]) -> None:
        """Take the first root, targets and teams, and publish them.

        Raises:
            Conflict: there is a root already.
            Invalid: a file is not metadata, names other online keys, or ``director`` is not what targets lists.
            Untrusted: something is not signed as it must be.
        """
        self._check_director(targets, director)
        self._blobs.put(director)
        with self._database.write() as connection:
            if _read(connection, roles.ROOT) is not None:
                raise Conflict("this fleet has a root already", element="root", remedy="change it with a new version")
            _write(connection, roles.ROOT, _version(root), root)
            _write(connection, roles.TARGETS, _version(targets), targets)
            for team, data in teams.items():
                _write(connection, roles.team_role(team), _version(data), data)
                self._sign_modules(connection, _targets(data))
            try:
                self._publish(connection)
            except BadSettings as error:
                raise Invalid(error.message, element=error.element, remedy=error.remedy) from error
            events.record(connection, self._clock(), "trust-founded", f"root {_version(root)} was taken")

    def add_team(self, team: Slug, *, targets: bytes, data: bytes) -> None:
        """Take new targets metadata that names one more team, with that team's first metadata.

        Raises:
            Conflict: there is no root yet.
            Invalid: something is not metadata, or targets changes more than that.
            Untrusted: something is not signed as it must be, or is not the next version.
        """
        role = roles.team_role(team)
        with self._database.write() as connection:
            root, old = self._founded(connection)
            present = _read(connection, role)
            if (targets, data) == (old, present):
                return  # sent again, because the answer was lost
            publication.check_targets_update(root=root, old=old, new=targets, now=self._now())
            publication.check_team_update(root=root, targets=targets, team=team, old=present, new=data, now=self._now())
            _write(connection, roles.TARGETS, _version(targets), targets)
            _write(connection, role, _version(data), data)
            self._publish(connection)
            events.record(connection, self._clock(), "team-added", role)

    def update_team(self, team: Slug, data: bytes) -> list[str]:
        """As :meth:`update_team_files`, of a team's role alone."""
        return self.update_team_files(team, {roles.team_role(team): data})

    def update_team_files(self, team: Slug, files: Mapping[str, bytes]) -> list[str]:
        """Take a team's new files by role, all or none; returns the modules that became signed.

        Raises:
            Conflict: there is no root yet, or there is no room for the bins of one more team.
            Invalid: one is not metadata or not the team's, drops or changes what was published, or lists what is not a
                draft here.
            Untrusted: one is not signed by a team that targets names, or is not the next version.
        """
        role = roles.team_role(team)
        with self._database.write() as connection:
            root, targets = self._founded(connection)
            own = {role, *roles.bins(team)}
            old = {name: data for name in own & {role, *files} if (data := _read(connection, name))}
            if all(old.get(name) == data for name, data in files.items()):
                return []  # sent again, because the answer was lost
            checked = check_team_files(root=root, targets=targets, team=team, old=old, new=files, now=self._now())
            signed = []
            for name, file in checked.items():
                _write(connection, name, file.signed.version, files[name])
                signed += self._sign_modules(connection, file.signed)
            self._publish(connection)
            if any(roles.is_bin(name) and name not in old for name in files):
                _check_room(connection)
            events.record(
                connection, self._clock(), "team-published", f"{role}: {', '.join(signed) or 'no new module'}"
            )
        return signed

    def renew(self) -> None:
        """Sign the online metadata again if it is a day old, so that it never expires while the server lives.

        Raises:
            Untrusted: offline metadata expired or does not verify; a person must bring new.
            BadSettings: root no longer names the online keys.
        """
        with self._database.write() as connection:
            data = _read(connection, roles.TIMESTAMP)
            if data is None:
                return
            signed_at = Envelope[Timestamp].from_bytes(data).signed.expires - roles.life(roles.TIMESTAMP)
            if self._now() - signed_at >= RENEW_AFTER:
                self._publish(connection)

    def _founded(self, connection: Connection) -> tuple[bytes, bytes]:
        """The newest root and targets."""
        root, targets = _read(connection, roles.ROOT), _read(connection, roles.TARGETS)
        if root is None or targets is None:
            raise Conflict("this fleet has no root of trust yet", element="root", remedy="run: edgefleet keys init")
        return root, targets

    def _publish(self, connection: Connection) -> None:
        """Sign snapshot and timestamp for what the database has now; of bins that is the version alone."""
        newest = select(tuf_metadata.c.role, func.max(tuf_metadata.c.version)).group_by(tuf_metadata.c.role)
        versions = {role: int(version) for role, version in connection.execute(newest)}
        bins = {role: version for role, version in versions.items() if roles.is_bin(role)}
        present = {role: _read(connection, role) for role in versions.keys() - bins.keys()}
        snapshot, timestamp = present.get(roles.SNAPSHOT), present.get(roles.TIMESTAMP)
        prefix = roles.team_role(Slug(""))
        online = publication.publish_online(
            root=present[roles.ROOT] or b"",
            targets=present[roles.TARGETS] or b"",
            teams={
                Slug(role.removeprefix(prefix)): data
                for role, data in present.items()
                if data and role.startswith(prefix)
            },
            bins=bins,
            previous=publication.Online(snapshot, timestamp) if snapshot and timestamp else None,
            snapshot_signer=self._signers[roles.SNAPSHOT],
            timestamp_signer=self._signers[roles.TIMESTAMP],
            now=self._now(),
        )
        _write(connection, roles.SNAPSHOT, _version(online.snapshot), online.snapshot)
        _write(connection, roles.TIMESTAMP, _version(online.timestamp), online.timestamp)

    def _sign_modules(self, connection: Connection, listing: Targets) -> list[str]:
        """Mark every module that a file of a team's lists; returns those that were drafts."""
        signed = []
        for path, target in listing.targets.items():
            if roles.is_floor(path):
                continue
            ref = ModuleRef.from_target(path)
            if self._registry.sign(connection, ref, Digest("sha256:" + target.hashes["sha256"]), target.length):
                signed.append(str(ref))
                auto.signed(connection, ref)
        return signed

    def _check_director(self, targets: bytes, director: bytes) -> None:
        entry = _targets(targets).targets.get(roles.DIRECTOR_PATH)
        if entry is None:
            raise Invalid("the targets metadata names no director", element=roles.DIRECTOR_PATH)
        try:
            entry.verify_length_and_hashes(director)
        except LengthOrHashMismatchError as error:
            raise Invalid("these are not the bytes that targets lists", element=roles.DIRECTOR_PATH) from error
        if self.director.public_key.keyid not in decode_keys(director):
            raise Invalid("this server's director key is not in it", element=roles.DIRECTOR_PATH)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(int(self._clock()), dt.UTC)


def _signer(folder: Folder, role: str) -> CryptoSigner:
    path = folder.online_key(role)
    try:
        return signer_from_pem(path.read_bytes(), element=str(path))
    except OSError as error:
        raise BadSettings(str(error), element=str(path), remedy="make the data folder with: init") from error


def _read(connection: Connection, role: str, version: int | None = None) -> bytes | None:
    """One version, or the newest."""
    chosen = select(tuf_metadata.c.data).where(tuf_metadata.c.role == role)
    if version is not None:
        chosen = chosen.where(tuf_metadata.c.version == version)
    return connection.execute(chosen.order_by(tuf_metadata.c.version.desc()).limit(1)).scalar_one_or_none()


def _check_room(connection: Connection) -> None:
    """Take no further team's bins once the snapshot, which names them all, is near what devices accept.

    It grows a little with each version after that, and must never be refused, for then nothing could be published.
    """
    room = roles.limit(roles.SNAPSHOT) * 3 // 4
    if len(_read(connection, roles.SNAPSHOT) or b"") > room:
        raise Conflict(
            f"with the bins of one more team the snapshot would have more than {room} bytes",
            element=roles.SNAPSHOT,
            remedy=f"publish under a further team, whose role has room for {roles.MOST_IN_ONE_ROLE} releases",
        )


def _write(connection: Connection, role: str, version: int, data: bytes) -> None:
    """Add a version, if it is new; of all but root, old ones go."""
    newest = connection.execute(
        select(func.max(tuf_metadata.c.version)).where(tuf_metadata.c.role == role)
    ).scalar_one_or_none()
    if newest is not None and version <= newest:
        return
    connection.execute(insert(tuf_metadata).values(role=role, version=version, data=data))
    if role != roles.ROOT:
        old = (tuf_metadata.c.role == role) & (tuf_metadata.c.version <= version - KEPT)
        connection.execute(delete(tuf_metadata).where(old))


def _envelope(data: bytes) -> Envelope[Any]:
    try:
        return Envelope.from_bytes(data)
    except DeserializationError as error:
        raise Invalid("not valid trust metadata", element="metadata") from error


def _version(data: bytes) -> int:
    return int(_envelope(data).signed.version)


def _targets(data: bytes) -> Targets:
    signed = _envelope(data).signed
    if not isinstance(signed, Targets):
        raise Invalid("this is not targets metadata", element="metadata")
    return signed
