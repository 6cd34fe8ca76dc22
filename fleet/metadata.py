"""The fleet's trust metadata: kept as the bytes that were signed, checked before it is taken, tied together online.

The server signs snapshot and timestamp, which say what is newest, and orders. What is published, and by whom, is signed
with keys that it never has; it takes such metadata only if it verifies and only if the modules that it lists are here.
"""

import datetime as dt
import re
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, Key
from sqlalchemy import Connection
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata as Envelope
from tuf.api.metadata import Root, Targets, Timestamp

from fleet import events, metadata_files, orders, succession
from fleet.blobs import Blobs
from fleet.clock import Clock
from fleet.commands import given
from fleet.db import Database
from fleet.directors import Directors
from fleet.folder import ONLINE_ROLES, Folder
from fleet.online_keys import OnlineKeys
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.rollouts import auto
from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import Digest, ModuleRef, Slug
from modules.signing import decode_keys
from modules.trust import publication, roles
from modules.trust.team_update import check_team_files

RENEW_AFTER: Final = dt.timedelta(days=1)
_NAME: Final = re.compile(r"(?:([0-9]{1,9})\.)?([a-z0-9-]{1,80})\.json")


class Metadata:
    """Every metadata file by role and version, and the online keys."""

    def __init__(self, database: Database, blobs: Blobs, registry: Registry, folder: Folder, clock: Clock) -> None:
        self._database, self._blobs, self._registry, self._clock = database, blobs, registry, clock
        self._keys = OnlineKeys(folder)
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

    def online_keys(self) -> dict[str, dict[str, Any]]:
        """The public parts of the online keys by role, with their ids."""
        return {role: _shown(self._keys.present(role).public_key) for role in ONLINE_ROLES}

    def staged_keys(self) -> dict[str, dict[str, Any]]:
        """As :meth:`online_keys`, those that wait until the owner names them."""
        return {role: _shown(key) for role, key in self._keys.staged().items()}

    def directors(self, connection: Connection) -> frozenset[str]:
        """The ids of the keys that the owner's newest targets metadata lets give orders; there has to be one."""
        targets = metadata_files.listing(metadata_files.founded(connection)[1])
        digest = Digest("sha256:" + targets.targets[roles.DIRECTOR_PATH].hashes["sha256"])
        return frozenset(decode_keys(self._blobs.read(digest)))

    def file(self, name: str) -> bytes:
        """A metadata file by its published name; without a version, the newest.

        Raises:
            Missing: there is none.
        """
        match = _NAME.fullmatch(name)
        with self._database.read() as connection:
            data = match and metadata_files.read(connection, match[2], int(match[1]) if match[1] else None)
        if not data:
            raise Missing("there is no such metadata file", element=name[:100])
        return data

    def newest_root(self) -> bytes:
        """What a joining device begins with.

        Raises:
            Conflict: the fleet has no root yet.
        """
        with self._database.read() as connection:
            data = metadata_files.read(connection, roles.ROOT)
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
            if metadata_files.read(connection, roles.ROOT) is not None:
                raise Conflict("this fleet has a root already", element="root", remedy="change it with a new version")
            metadata_files.write(connection, roles.ROOT, root)
            metadata_files.write(connection, roles.TARGETS, targets)
            for team, data in teams.items():
                metadata_files.write(connection, roles.team_role(team), data)
                self._sign_modules(connection, metadata_files.listing(data))
            try:
                self._publish(connection)
            except BadSettings as error:
                raise Invalid(error.message, element=error.element, remedy=error.remedy) from error
            events.record(connection, self._clock(), "trust-founded", f"root {metadata_files.version(root)} was taken")

    def add_team(self, team: Slug, *, targets: bytes, data: bytes) -> None:
        """Take new targets metadata that names one more team, with that team's first metadata.

        Raises:
            Conflict: there is no root yet.
            Invalid: something is not metadata, or targets changes more than that.
            Untrusted: something is not signed as it must be, or is not the next version.
        """
        role = roles.team_role(team)
        with self._database.write() as connection:
            root, old = metadata_files.founded(connection)
            present = metadata_files.read(connection, role)
            if (targets, data) == (old, present):
                return  # sent again, because the answer was lost
            publication.check_targets_update(root=root, old=old, new=targets, now=self._now())
            publication.check_team_update(root=root, targets=targets, team=team, old=present, new=data, now=self._now())
            metadata_files.write(connection, roles.TARGETS, targets)
            metadata_files.write(connection, role, data)
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
            root, targets = metadata_files.founded(connection)
            own = {role, *roles.bins(team)}
            old = {name: data for name in own & {role, *files} if (data := metadata_files.read(connection, name))}
            if all(old.get(name) == data for name, data in files.items()):
                return []  # sent again, because the answer was lost
            checked = check_team_files(root=root, targets=targets, team=team, old=old, new=files, now=self._now())
            signed = []
            for name, file in checked.items():
                metadata_files.write(connection, name, files[name])
                signed += self._sign_modules(connection, file.signed)
            self._publish(connection)
            if any(roles.is_bin(name) and name not in old for name in files):
                metadata_files.check_room(connection)
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
        bins: Mapping[str, bytes] = MappingProxyType({}),
        skip: bool = False,
        by: str = "",
    ) -> list[str]:
        """Take what the owner and the teams signed anew, all or nothing and only forward; returns the changed roles.

        A new online key that it names is used from here on; with a new director all orders and open commands are
        signed again.

        Args:
            root: the next root metadata.
            targets: the next targets metadata.
            director: the list of director keys, where targets names a new one.
            teams: the next metadata of teams.
            bins: the next ones of their bins, by name.
            skip: after a restored backup: targets and teams may skip versions.
            by: the principal who sent it.

        Raises:
            Conflict: there is no root yet.
            Invalid: something is not metadata, or changes what must stay.
            Untrusted: something is not signed as it must be, or is not the next version.
        """
        files = {roles.ROOT: root, roles.TARGETS: targets}
        files |= {roles.team_role(team): data for team, data in teams.items()} | dict(bins)
        try:
            new = self._succeed(
                {role: data for role, data in files.items() if data is not None}, director, skip=skip, by=by
            )
        except (Invalid, Untrusted) as error:
            with self._database.write() as connection:
                events.record(connection, self._clock(), "metadata-refused", str(error), by=by)
            raise
        return sorted(role for role in new if not roles.is_bin(role))

    def _succeed(self, files: Mapping[str, bytes], director: bytes | None, *, skip: bool, by: str) -> dict[str, bytes]:
        if director is not None:
            self._blobs.put(director)
        with self._database.write() as connection:
            new = succession.checked(connection, files, director, now=self._now(), skip=skip)
            for role, data in new.items():
                before = metadata_files.read(connection, role)
                metadata_files.write(connection, role, data)
                if roles.team_of(role) is not None:
                    listed = metadata_files.listing(before).targets if before else ()
                    self._sign_modules(connection, metadata_files.listing(data), but=listed)
            if new:
                self._follow(connection, director if roles.TARGETS in new else None)
                said = succession.in_words(new)
                events.record(connection, self._clock(), "metadata-replaced", said, by=by)
        self._settle()
        return new

    def _follow(self, connection: Connection, director: bytes | None) -> None:
        """Sign for what is named now: snapshot, timestamp and open commands at once, orders one after the other."""
        try:
            self._publish(connection)
            signer = self.director_in(connection)
        except BadSettings as error:
            raise Invalid(error.message, element=error.element, remedy=error.remedy) from error
        if director is not None:
            orders.renew_all(connection)
            given.renew_all(connection, signer)

    def _settle(self) -> None:
        """The files follow what is named: after the commit, and again where a stop came in between."""
        with self._database.read() as connection:
            data = metadata_files.read(connection, roles.ROOT)
            if data is None:
                return
            root = Envelope[Root].from_bytes(data).signed
            for role in (roles.SNAPSHOT, roles.TIMESTAMP):
                self._keys.settle(role, root.roles[role].keyids)
            self._keys.settle("director", [self.director_in(connection).public_key.keyid])

    def renew(self) -> None:
        """Sign the online metadata again if it is a day old, so that it never expires while the server lives.

        Raises:
            Untrusted: offline metadata expired or does not verify; a person must bring new.
            BadSettings: root no longer names the online keys.
        """
        with self._database.write() as connection:
            data = metadata_files.read(connection, roles.TIMESTAMP)
            if data is None:
                return
            signed_at = Envelope[Timestamp].from_bytes(data).signed.expires - roles.life(roles.TIMESTAMP)
            if self._now() - signed_at >= RENEW_AFTER:
                self._publish(connection)

    def _publish(self, connection: Connection) -> None:
        """Sign snapshot and timestamp for what the database has now; of bins that is the version alone."""
        versions = metadata_files.versions(connection)
        bins = {role: version for role, version in versions.items() if roles.is_bin(role)}
        present = {role: metadata_files.read(connection, role) or b"" for role in versions.keys() - bins.keys()}
        named = Envelope[Root].from_bytes(present[roles.ROOT]).signed.roles
        signers = {
            role: self._keys.named(role, named[role].keyids) or self._keys.present(role)
            for role in (roles.SNAPSHOT, roles.TIMESTAMP)
        }
        snapshot, timestamp = present.get(roles.SNAPSHOT), present.get(roles.TIMESTAMP)
        online = publication.publish_online(
            root=present[roles.ROOT],
            targets=present[roles.TARGETS],
            teams={team: data for role, data in present.items() if (team := roles.team_of(role)) is not None},
            bins=bins,
            previous=publication.Online(snapshot, timestamp) if snapshot and timestamp else None,
            snapshot_signer=signers[roles.SNAPSHOT],
            timestamp_signer=signers[roles.TIMESTAMP],
            now=self._now(),
        )
        metadata_files.write(connection, roles.SNAPSHOT, online.snapshot)
        metadata_files.write(connection, roles.TIMESTAMP, online.timestamp)

    def _sign_modules(self, connection: Connection, listing: Targets, *, but: Container[str] = ()) -> list[str]:
        """Mark every module that a file of a team's lists, ``but`` these paths; returns those that were drafts."""
        signed = []
        for path, target in listing.targets.items():
            if roles.is_floor(path) or path in but:
                continue
            ref = ModuleRef.from_target(path)
            if self._registry.sign(connection, ref, Digest("sha256:" + target.hashes["sha256"]), target.length):
                signed.append(str(ref))
                auto.signed(connection, ref)
        return signed

    def _check_director(self, targets: bytes, director: bytes) -> None:
        entry = metadata_files.listing(targets).targets.get(roles.DIRECTOR_PATH)
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
