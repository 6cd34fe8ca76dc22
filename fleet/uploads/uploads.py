"""Uploads: files of models that somebody brought, for who has the team's key to fetch, try and sign.

Nothing runs here, and nothing leads from here to a device: an order names modules, a module is a manifest that the
team's key signed, and a manifest's bytes are blobs, of which an upload is none. The publisher's own machine fetches an
upload by its digest, and registers it like any other file.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select

from fleet.clock import Clock
from fleet.db import Database
from fleet.people.scope import Scope
from fleet.refusals import Busy, Missing, TooLarge
from fleet.settings import Settings
from fleet.upload_tables import uploads
from fleet.uploads.files import Files, Incoming, Received
from modules.errors import Invalid, Transient
from modules.names import Digest, Slug, module_path

NAME: Final = 100
AT_ONCE: Final = 4
MOST: Final = 1000
_REMOVE: Final = "remove some: edgefleet uploads remove DIGEST --team TEAM"


class Uploads:
    """Rows and files together; from any thread."""

    def __init__(self, database: Database, folder: Path, clock: Clock, settings: Settings) -> None:
        self._database, self._clock, self._settings = database, clock, settings
        self._files = Files(folder)
        self._lock = threading.Lock()
        self._coming: dict[object, int] = {}

    def room(self) -> int:
        """How many bytes more are taken now."""
        with self._database.read() as connection:
            kept = _kept(connection)
        with self._lock:
            return max(0, self._settings.max_uploads_bytes - kept - sum(self._coming.values()))

    def incoming(self, said: int) -> AbstractContextManager[Incoming]:
        """Begin to take in a file, of which its sender says that it is so long (0: does not say).

        Raises:
            TooLarge: it is more than one file, or all together, may be; also while it comes.
            Busy: so many come in already.
        """
        with self._database.read() as connection:
            free = self._settings.max_uploads_bytes - _kept(connection)
        self._check(said, free)
        return self._receiving(free)

    @contextmanager
    def _receiving(self, free: int) -> Iterator[Incoming]:
        ours = object()

        def allow(more: int) -> None:
            with self._lock:
                self._coming[ours] += more
                others = sum(self._coming.values()) - self._coming[ours]
                self._check(self._coming[ours], free - others)

        with self._lock:
            if len(self._coming) >= AT_ONCE:
                raise Busy(f"{AT_ONCE} files come in already", element="upload")
            self._coming[ours] = 0
        try:
            with self._files.incoming(allow) as incoming:
                yield incoming
        finally:
            with self._lock:
                del self._coming[ours]

    def keep(self, team: Slug, name: str, received: Received, *, by: str) -> tuple[bool, dict[str, Any]]:
        """Note whose it is and until when; the same bytes again are kept as long as if they were new.

        Raises:
            TooLarge: all together would be more than the server keeps.
            Transient: the file was forgotten meanwhile.
        """
        now = self._clock()
        key = {"team": team, "digest": received.digest}
        row = {"name": name, "length": received.length, "created": now, "by": by}
        mine = (uploads.c.team == team) & (uploads.c.digest == received.digest)
        with self._database.write() as connection:
            if not self._files.has(received.digest):
                raise Transient("it was forgotten while it came", element=name, remedy="send it again")
            new = connection.execute(delete(uploads).where(mine)).rowcount == 0
            try:
                self._expect_room(connection, received)
            except TooLarge:
                self._discard(connection, received.digest)
                raise
            values = key | row | {"expires": now + self._settings.keep_uploads_s}
            connection.execute(insert(uploads).values(values))
        return new, key | row | {"expires": values["expires"]}

    def view(self, team: Slug, name: Digest) -> dict[str, Any]:
        """One upload as the API shows it.

        Raises:
            Missing: the team has none with this digest, or not any more.
        """
        with self._database.read() as connection:
            row = connection.execute(
                select(uploads).where(uploads.c.team == team, uploads.c.digest == name)
            ).one_or_none()
        if row is None or row.expires <= self._clock() or not self._files.has(name):
            raise Missing("there is no such upload, or no longer", element=name)
        return _shown(row)

    def view_all(self, scope: Scope) -> list[dict[str, Any]]:
        """Those of a scope's teams, the newest first."""
        mine = (scope.of_team_column(uploads.c.team), uploads.c.expires > self._clock())
        with self._database.read() as connection:
            rows = connection.execute(select(uploads).where(*mine).order_by(uploads.c.created.desc())).all()
        return [_shown(row) for row in rows]

    def named(self, team: Slug, names: Collection[str]) -> dict[str, Digest]:
        """The newest upload of each of these names, by name."""
        mine = (uploads.c.team == team) & uploads.c.name.in_(names) & (uploads.c.expires > self._clock())
        with self._database.read() as connection:
            rows = connection.execute(select(uploads.c.name, uploads.c.digest).where(mine).order_by(uploads.c.created))
            return {row.name: Digest(row.digest) for row in rows}

    def path(self, name: Digest) -> Path:
        return self._files.path(name)

    def remove(self, team: Slug, name: Digest) -> None:
        """Forget one.

        Raises:
            Missing: the team has none with this digest.
        """
        mine = (uploads.c.team == team) & (uploads.c.digest == name)
        with self._database.write() as connection:
            if connection.execute(delete(uploads).where(mine)).rowcount == 0:
                raise Missing("there is no such upload", element=name)
        # Once the row is gone for good, and while no other can be written.
        with self._database.write() as connection:
            self._discard(connection, name)

    def forget_old(self) -> bool:
        """Remove what nobody signed in time, and files without a row, which a crash leaves; always one whole pass."""
        with self._database.write() as connection:
            connection.execute(delete(uploads).where(uploads.c.expires <= self._clock()))
        with self._database.read() as connection:
            known = set(connection.scalars(select(uploads.c.digest)))
        for name in [one for one in self._files.settled() if one not in known]:
            with self._database.write() as connection:
                self._discard(connection, name)
        return False

    def _discard(self, connection: Connection, name: Digest) -> None:
        if not connection.scalar(select(func.count()).where(uploads.c.digest == name)):
            self._files.remove(name)

    def _expect_room(self, connection: Connection, received: Received) -> None:
        kept, count = _kept(connection), connection.scalar(select(func.count()).select_from(uploads)) or 0
        if count >= MOST:
            raise TooLarge(f"{MOST} uploads are here already", element="upload", remedy=_REMOVE)
        self._check(received.length, self._settings.max_uploads_bytes - kept)

    def _check(self, length: int, room: int) -> None:
        if length > (largest := self._settings.max_blob_bytes):
            raise TooLarge(
                f"more than {largest} bytes", element="upload", remedy="the setting max_blob_bytes bounds it"
            )
        if length > room:
            raise TooLarge(f"for uploads there are {max(room, 0)} bytes left", element="upload", remedy=_REMOVE)


def file_name(text: str) -> str:
    """A file's name as a module may have it.

    Raises:
        Invalid: it is empty, long, or has characters that no file of a module has.
    """
    if len(text) > NAME or "/" in text:
        raise Invalid(f"the name is longer than {NAME}, or has a slash", element="name", remedy="rename the file")
    return module_path(text)


def _kept(connection: Connection) -> int:
    """The bytes of all uploads; what two teams have counts twice."""
    return int(connection.scalar(select(func.coalesce(func.sum(uploads.c.length), 0))) or 0)


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("team", "digest", "name", "length", "created", "by", "expires")}
