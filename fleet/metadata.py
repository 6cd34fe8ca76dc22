"""The fleet's trust metadata: kept as the bytes that were signed, checked before it is taken, tied together online.

The server signs snapshot and timestamp, which say what is newest, and orders. What is published, and by whom, is signed
with keys that it never has; it takes such metadata only if it verifies and only if the modules that it lists are here.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, Key
from sqlalchemy import Connection, delete, func, insert, select
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata as Envelope
from tuf.api.metadata import Root, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleet import events, orders
from fleet.blobs import Blobs
from fleet.clock import Clock
from fleet.db import Database
from fleet.directors import Directors
from fleet.folder import ONLINE_ROLES, Folder
from fleet.half_life import HalfLife
from fleet.online_keys import OnlineKeys
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.rollouts import auto
from fleet.tables import tuf_metadata
from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import Digest, ModuleRef, Slug
from modules.signing import decode_keys
from modules.trust import publication, roles, succession

RENEW_AFTER: Final = dt.timedelta(days=1)
# A device that began to refresh a moment ago still asks for the versions of that moment.
KEPT: Final = 20
_NAME: Final = re.compile(r"(?:([0-9]{1,9})\.)?([a-z0-9-]{1,80})\.json")


class Metadata:
    """Every metadata file by role and version, and the online keys."""

    def __init__(self, database: Database, blobs: Blobs, registry: Registry, folder: Folder, clock: Clock) -> None:
        self._database, self._blobs, self._registry, self._clock = database, blobs, registry, clock
        self._keys, self._half_life = OnlineKeys(folder), HalfLife()
        self._directors = Directors(self._keys, blobs)
        self._settle()

    @property
    def director(self) -> CryptoSigner:
        """Who signs orders, as far as this process has heard; :meth:`director_in` asks."""
        return self._keys.present("director")

    def director_in(self, connection: Connection) -> CryptoSigner:
        """Who signs orders from this transaction on: the key that the owner's newest targets metadata names.

        Raises:
            BadSettings: it names none that this server has.
        """
        return self._directors.named(connection)

    @property
    def due(self) -> tuple[str, ...]:
        """Offline roles that are past half of their life, in words; as the one that leads last saw it."""
        return self._half_life.notes

    def online_keys(self) -> dict[str, dict[str, Any]]:
        """The public parts of the online keys by role, with their ids."""
        return {role: _shown(self._keys.present(role).public_key) for role in ONLINE_ROLES}

    def staged_keys(self) -> dict[str, dict[str, Any]]:
        """As :meth:`online_keys`, those that wait until the owner names them."""
        return {role: _shown(key) for role, key in self._keys.staged().items()}

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
                self._sign_modules(connection, data)
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
        """Take a team's new metadata; returns the modules that became signed.

        Raises:
            Conflict: there is no root yet.
            Invalid: it is not metadata, drops or changes what was published, or lists what is not a draft here.
            Untrusted: it is not signed by a team that targets names, or is not the next version.
        """
        role = roles.team_role(team)
        with self._database.write() as connection:
            root, targets = self._founded(connection)
            old = _read(connection, role)
            if data == old:
                return []  # sent again, because the answer was lost
            publication.check_team_update(root=root, targets=targets, team=team, old=old, new=data, now=self._now())
            _write(connection, role, _version(data), data)
            signed = self._sign_modules(connection, data)
            self._publish(connection)
            events.record(
                connection, self._clock(), "team-published", f"{role}: {', '.join(signed) or 'no new module'}"
            )
        return signed

    def succeed(
        self,
        *,
        root: bytes | None,
        targets: bytes | None,
        director: bytes | None,
        teams: Mapping[Slug, bytes],
        skip: bool = False,
        by: str = "",
    ) -> list[str]:
        """Take what the owner and the teams signed anew, all or nothing and only forward; returns the changed roles.

        A new online key that it names is used from here on, and with a new director every order is signed again.

        Args:
            root: the next root metadata.
            targets: the next targets metadata.
            director: the list of director keys, where targets names a new one.
            teams: the next metadata of teams.
            skip: after a restored backup: targets and teams may skip versions.
            by: the principal who sent it.

        Raises:
            Conflict: there is no root yet.
            Invalid: something is not metadata, or changes what must stay.
            Untrusted: something is not signed as it must be, or is not the next version.
        """
        try:
            return self._succeed(root, targets, director, teams, skip=skip, by=by)
        except (Invalid, Untrusted) as error:
            with self._database.write() as connection:
                events.record(connection, self._clock(), "metadata-refused", str(error), by=by)
            raise

    def _succeed(
        self,
        root: bytes | None,
        targets: bytes | None,
        director: bytes | None,
        teams: Mapping[Slug, bytes],
        *,
        skip: bool,
        by: str,
    ) -> list[str]:
        if director is not None:
            self._blobs.put(director)
        with self._database.write() as connection:
            root_now, targets_now = self._founded(connection)
            sent = {roles.ROOT: root, roles.TARGETS: targets}
            sent |= {roles.team_role(team): data for team, data in teams.items()}
            new = {role: data for role, data in sent.items() if data is not None and data != _read(connection, role)}
            if roles.ROOT in new:
                succession.check_root(old=root_now, new=new[roles.ROOT], now=self._now())
            after = new.get(roles.ROOT, root_now), new.get(roles.TARGETS, targets_now)
            if roles.TARGETS in new:
                succession.check_targets(
                    root=after[0], old=targets_now, new=after[1], director=director, teams=teams, now=self._now(),
                    skip=skip,
                )  # fmt: skip
            for team, data in teams.items():
                if (role := roles.team_role(team)) in new:
                    publication.check_team_update(
                        root=after[0], targets=after[1], team=team, old=_read(connection, role), new=data,
                        now=self._now(), skip=skip,
                    )  # fmt: skip
                    self._sign_modules(connection, data)
            for role, data in new.items():
                _write(connection, role, _version(data), data)
            if new:
                self._follow(connection, director if roles.TARGETS in new else None)
                said = ", ".join(f"{role} {_version(data)}" for role, data in new.items())
                events.record(connection, self._clock(), "metadata-replaced", said, by=by)
        self._half_life.again()
        self._settle()
        return sorted(new)

    def _follow(self, connection: Connection, director: bytes | None) -> None:
        """Sign for what is named now: snapshot and timestamp at once, orders one after the other."""
        try:
            self._publish(connection)
            if director is not None:
                self.director_in(connection)
        except BadSettings as error:
            raise Invalid(error.message, element=error.element, remedy=error.remedy) from error
        if director is not None:
            orders.renew_all(connection)

    def _settle(self) -> None:
        """The files follow what is named: after the commit, and again where a stop came in between."""
        with self._database.read() as connection:
            data = _read(connection, roles.ROOT)
            if data is None:
                return
            root = Envelope[Root].from_bytes(data).signed
            for role in (roles.SNAPSHOT, roles.TIMESTAMP):
                self._keys.settle(role, root.roles[role].keyids)
            self._keys.settle("director", [self.director_in(connection).public_key.keyid])

    def renew(self) -> None:
        """Sign the online metadata again if it is a day old, so that it never expires while the server lives.

        Says, too, once for each, which offline metadata is past half of its life.

        Raises:
            Untrusted: offline metadata expired or does not verify; a person must bring new.
            BadSettings: root no longer names the online keys.
        """
        with self._database.write() as connection:
            data = _read(connection, roles.TIMESTAMP)
            if data is None:
                return
            if not self._half_life.waits(self._now()):
                self._half_life.look(connection, _present(connection), self._now())
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
        """Sign snapshot and timestamp for what the database has now."""
        present = _present(connection)
        named = Envelope[Root].from_bytes(present[roles.ROOT]).signed.roles
        signers = {
            role: self._keys.named(role, named[role].keyids) or self._keys.present(role)
            for role in (roles.SNAPSHOT, roles.TIMESTAMP)
        }
        snapshot, timestamp = present.get(roles.SNAPSHOT), present.get(roles.TIMESTAMP)
        prefix = roles.team_role(Slug(""))
        online = publication.publish_online(
            root=present[roles.ROOT],
            targets=present[roles.TARGETS],
            teams={Slug(role.removeprefix(prefix)): data for role, data in present.items() if role.startswith(prefix)},
            previous=publication.Online(snapshot, timestamp) if snapshot and timestamp else None,
            snapshot_signer=signers[roles.SNAPSHOT],
            timestamp_signer=signers[roles.TIMESTAMP],
            now=self._now(),
        )
        _write(connection, roles.SNAPSHOT, _version(online.snapshot), online.snapshot)
        _write(connection, roles.TIMESTAMP, _version(online.timestamp), online.timestamp)

    def _sign_modules(self, connection: Connection, data: bytes) -> list[str]:
        """Mark every module that a team's metadata lists; returns those that were drafts."""
        signed = []
        for path, target in _targets(data).targets.items():
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


def _shown(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _present(connection: Connection) -> dict[str, bytes]:
    """The newest of every role."""
    found = {role: _read(connection, role) for role in connection.scalars(select(tuf_metadata.c.role).distinct())}
    return {role: data for role, data in found.items() if data}


def _read(connection: Connection, role: str, version: int | None = None) -> bytes | None:
    """One version, or the newest."""
    chosen = select(tuf_metadata.c.data).where(tuf_metadata.c.role == role)
    if version is not None:
        chosen = chosen.where(tuf_metadata.c.version == version)
    return connection.execute(chosen.order_by(tuf_metadata.c.version.desc()).limit(1)).scalar_one_or_none()


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
