"""Which module versions exist: reserved, draft (complete, nobody vouches for it), signed by the team's key.

The server never changes a manifest's bytes; they are a blob like any other, and the digest decides.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from fleet.blobs import Blobs
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.tables import modules
from modules import manifest as manifests
from modules import samples
from modules.digests import sha256
from modules.errors import Invalid
from modules.manifest import Manifest, SecretFile, named_blobs
from modules.names import Digest, ModuleRef, Slug, Version

RESERVED, DRAFT, SIGNED, REMOVED = "reserved", "draft", "signed", "removed"
_SHOWN = 20
_DECLARED = 1000


class Registry:
    """Module versions in the database, their bytes in the blob store."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._declared: OrderedDict[Digest, dict[str, SecretFile]] = OrderedDict()
        self._lengths: dict[Digest, int] = {}
        self._files: dict[Digest, frozenset[Digest]] = {}

    def reserve(self, connection: Connection, now: float, team: Slug, name: Slug) -> Version:
        """The next whole number above every version of this model, kept free for the caller."""
        mine = (modules.c.team == team) & (modules.c.name == name)
        taken = [Version.parse(text).numbers[0] for text in connection.scalars(select(modules.c.version).where(mine))]
        version = Version.parse(str(max(taken, default=0) + 1))
        connection.execute(
            insert(modules).values(team=team, name=name, version=str(version), state=RESERVED, created=now)
        )
        return version

    def draft(self, connection: Connection, now: float, ref: ModuleRef, data: bytes) -> bool:
        """Take a manifest; True if it is new, False if these very bytes are here already.

        Raises:
            Invalid: no manifest, another module's, or blobs that it names are missing (it lists them).
            Conflict: the version exists with other bytes, or was removed.
        """
        manifest = manifests.decode(data)
        if str(manifest.ref) != str(ref):
            raise Invalid(f"the manifest is {manifest.ref}'s", element=str(ref))
        row = self._find(connection, ref)
        if row is not None and row.state == REMOVED:
            raise Conflict("this version was removed", element=str(ref), remedy="register a new version")
        if row is not None and row.digest is not None:
            if row.digest != sha256(data):
                raise Conflict("this version has another content", element=str(ref), remedy="register a new version")
            return False
        if missing := self._blobs.missing(named_blobs(manifest)):
            shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if missing[_SHOWN:] else "")
            raise Invalid(f"blobs are missing: {shown}", element=str(ref), remedy="upload them first")
        blob = self._blobs.put(data)
        values = {"digest": blob.sha256, "length": blob.length, "state": DRAFT, "created": now}
        if row is None:
            key = {"team": ref.team, "name": ref.name, "version": str(ref.version)}
            connection.execute(insert(modules).values(**key, **values))
        else:
            connection.execute(update(modules).where(modules.c.id == row.id).values(**values))
        return True

    def sign(self, connection: Connection, ref: ModuleRef, digest: Digest, length: int) -> bool:
        """Mark a module as listed in its team's metadata; False if it was already.

        Raises:
            Invalid: the metadata lists a module that is not a draft here, or other bytes.
        """
        row = self._find(connection, ref)
        if row is None or row.digest is None:
            raise Invalid("it is signed, but no such draft is here", element=str(ref), remedy="upload the module first")
        if (row.digest, row.length) != (digest, length):
            raise Invalid(f"what was signed is {digest}, the draft is {row.digest}", element=str(ref))
        if row.state == REMOVED:  # the team's metadata lists it for ever
            return False
        connection.execute(update(modules).where(modules.c.id == row.id).values(state=SIGNED))
        return bool(row.state != SIGNED)

    def view(self, connection: Connection, ref: ModuleRef) -> dict[str, Any]:
        """One module with its manifest as the API shows it.

        Raises:
            Missing: there is no such module.
        """
        row = self._existing(connection, ref)
        return self._view(row) | {"manifest": msgspec.json.decode(self._blobs.read(row.digest))}

    def view_all(self, connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
        """Every draft and signed module of a scope's teams, newest versions first."""
        mine = (modules.c.digest.is_not(None), modules.c.state != REMOVED, scope.of_team_column(modules.c.team))
        rows = connection.execute(select(modules).where(*mine)).all()
        ordered = sorted(rows, key=lambda row: Version.parse(row.version), reverse=True)
        return [self._view(row) for row in sorted(ordered, key=lambda row: (row.team, row.name))]

    def manifest_bytes(self, connection: Connection, ref: ModuleRef) -> bytes:
        """The manifest as it was signed.

        Raises:
            Missing: there is no such module.
        """
        return self._blobs.read(self._existing(connection, ref).digest)

    def signed(self, connection: Connection, ref: ModuleRef) -> tuple[Manifest, Digest]:
        """A module that may be rolled out: its manifest and digest.

        Raises:
            Missing: there is no such module.
            Conflict: it is a draft.
        """
        row = self._existing(connection, ref)
        if row.state != SIGNED:
            raise Conflict("nobody signed this module", element=str(ref), remedy=f"run: edgefleet modules sign {ref}")
        return manifests.decode(self._blobs.read(row.digest)), Digest(row.digest)

    def manifest(self, digest: Digest) -> Manifest:
        """The manifest with this digest.

        Raises:
            Missing: it is not here.
        """
        return manifests.decode(self._blobs.read(digest))

    def digest(self, connection: Connection, ref: ModuleRef) -> Digest:
        """The digest of a module's manifest.

        Raises:
            Missing: there is no such module.
        """
        return Digest(self._existing(connection, ref).digest)

    def declared(self, digest: Digest) -> Mapping[str, SecretFile]:
        """The secrets that a module declares, by name; none where its manifest is not here. From any thread."""
        if (known := self._declared.get(digest)) is None:
            data = self._blobs.find(digest)
            known = {} if data is None else manifests.decode(data).declared
            self._declared[digest] = known
            if len(self._declared) > _DECLARED:
                self._declared.popitem(last=False)
        return known

    def signed_with(self, connection: Connection, team: Slug, files: Collection[Digest]) -> dict[Digest, list[str]]:
        """Of each of these files the signed modules of a team that have it, the newest first."""
        mine = (modules.c.team == team) & (modules.c.state == SIGNED)
        found: dict[Digest, list[str]] = {}
        for row in connection.execute(select(modules).where(mine).order_by(modules.c.id.desc())) if files else ():
            if row.digest not in self._files:
                self._files[row.digest] = frozenset(one.sha256 for one in self.manifest(row.digest).files)
            for one in self._files[row.digest].intersection(files):
                found.setdefault(one, []).append(f"{row.team}/{row.name}:{row.version}")
        return found

    def samples(self, manifest: Manifest) -> int | None:
        """How many samples a module brings along; None where it is to be proved without."""
        if manifest.proof.prove == "ready-only":
            return None
        file = manifest.file(manifest.proof.samples)
        return len(samples.decode(self._blobs.read(file.sha256)).samples)

    def remove(self, connection: Connection, ref: ModuleRef) -> None:
        """Mark a module as removed; its number is never given again.

        Raises:
            Missing: there is no such module.
        """
        row = self._existing(connection, ref)
        connection.execute(update(modules).where(modules.c.id == row.id).values(state=REMOVED))

    def discard(self, connection: Connection, removed: Digest) -> None:
        """Delete the blobs of a removed module that no other module names.

        Call it in a transaction of its own after the removal's commit: it holds the lock that a draft would need, and
        what fails half way leaves no module without its bytes.
        """
        data = self._blobs.find(removed)
        if data is None:
            return
        others = connection.scalars(
            select(modules.c.digest).where(modules.c.digest.is_not(None), modules.c.state != REMOVED)
        )
        kept: set[Digest] = set()
        for other in map(Digest, others.all()):
            if other == removed:
                return
            kept.add(other)
            kept.update(named_digests(manifests.decode(self._blobs.read(other))))
        for name in {removed, *named_digests(manifests.decode(data))} - kept:
            self._blobs.remove(name)

    def _view(self, row: Row[Any]) -> dict[str, Any]:
        ref = f"{row.team}/{row.name}:{row.version}"
        shown = {"ref": ref, "digest": row.digest, "state": row.state, "created": row.created}
        return shown | {"bytes": self._length(Digest(row.digest))}

    def _length(self, digest: Digest) -> int:
        """The bytes of all that a manifest names, each blob once."""
        if digest not in self._lengths:
            named = named_blobs(manifests.decode(self._blobs.read(digest)))
            self._lengths[digest] = sum({one.sha256: one.length for one in named}.values())
        return self._lengths[digest]

    def _existing(self, connection: Connection, ref: ModuleRef) -> Row[Any]:
        row = self._find(connection, ref)
        if row is None or row.digest is None or row.state == REMOVED:
            raise Missing("there is no such module", element=str(ref))
        return row

    @staticmethod
    def _find(connection: Connection, ref: ModuleRef) -> Row[Any] | None:
        found = (modules.c.team == ref.team) & (modules.c.name == ref.name) & (modules.c.version == str(ref.version))
        return connection.execute(select(modules).where(found)).one_or_none()


def named_digests(manifest: Manifest) -> Iterable[Digest]:
    """Those blobs, and their indexes."""
    for blob in named_blobs(manifest):
        yield blob.sha256
        yield blob.blocks
