"""What a pod is told about its module, and what it may fetch with it: ``modules/protocol/content.py`` from this side.

A pod shows no certificate, so it brings a token: an HMAC by a key that follows from its endpoint's secret, for one
module, until it expires. What stands in a pod's Secret changes when the metadata does or half of a token's life is
over, and not with each look, so that nothing is written into a cluster for nothing.
"""

import hashlib
import hmac
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection
from tuf.api.metadata import Metadata, Root

from fleet import metadata_files
from fleet.clock import Clock
from fleet.db import Database
from fleet.refusals import Busy, Missing, Unauthorised
from fleet.registry import Registry
from fleet.targets.contract import Job, Module
from fleet.targets.endpoints import REMOVING, Endpoints, wish_of
from fleet.targets.jobs import ACTIVE, BatchJobs
from modules import access_tokens
from modules.errors import BadSettings, Untrusted
from modules.names import Digest, ModuleRef, Slug, metadata_role
from modules.protocol.content import Content, RoleSeen
from modules.trust import roles

_PATH: Final = "/api/v1/content"  # fleet/api/content.py
_JOBS_PATH: Final = "/api/v1/batch-content"
# A Secret is written anew when half of it is over: a cluster that cannot be reached for a day harms nobody.
LIFE_S: Final = 2 * 86400
_HALF: Final = LIFE_S // 2
_KNOWN: Final = 64
# Blobs on their way at a time, to the pods of one endpoint and to all; whoever comes beyond it comes again.
OF_ONE: Final = 8
OF_ALL: Final = 64


class Places:
    """How many blobs are on their way; used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, whose: str) -> None:
        """One more.

        Raises:
            Busy: there are as many as may be.
        """
        with self._lock:
            if self._taken[whose] >= OF_ONE or self._taken.total() >= OF_ALL:
                raise Busy("as many blobs as may be are on their way", element="content", remedy="ask again")
            self._taken[whose] += 1

    def give_back(self, whose: str) -> None:
        with self._lock:
            self._taken[whose] -= 1
            if not self._taken[whose]:
                del self._taken[whose]


class Contents:
    """Used from any thread.

    Args:
        database: with endpoints and trust metadata.
        registry: of signed modules.
        wished: who can open an endpoint's secrets.
        clock: the server's.
        url: of this server, as pods reach it unless a target says otherwise.
        ca: the PEM of the authorities behind it; empty: the system's.
    """

    def __init__(
        self, *, database: Database, registry: Registry, wished: Endpoints, clock: Clock, url: str, ca: str
    ) -> None:
        self._database, self._wished, self._clock = database, wished, clock
        self._url, self._ca = url, ca
        self.places = Places()
        self._names: Callable[[Digest], frozenset[Digest]] = lru_cache(_KNOWN)(lambda one: _named(registry, one))

    def of(
        self,
        endpoint: Slug,
        token_secret: bytes,
        module: Module,
        *,
        keys: tuple[str, ...],
        url: str = "",
        room_bytes: int = 0,
        within_s: float = 300.0,
    ) -> Content:
        """What stands in the Secret of an endpoint's pods, now.

        Args:
            endpoint: its name.
            token_secret: its secret.
            module: what the pods serve.
            keys: what lets clients of their scoring servers in.
            url: the address of this server as pods of that cluster reach it; empty: ``public_url``.
            room_bytes: as in :class:`Content`.
            within_s: as in :class:`Content`.

        Raises:
            BadSettings: pods cannot reach this server by TLS.
            Conflict: the fleet has no root of trust.
        """
        return self._written(
            f"{_PATH}/{endpoint}/{module.digest}",
            _secret(token_secret, endpoint, module.digest),
            module,
            keys=keys,
            url=url,
            room_bytes=room_bytes,
            within_s=within_s,
        )

    def of_job(self, job: Job, *, url: str = "", room_bytes: int = 0, within_s: float = 300.0) -> Content:
        """What stands in the Secret of a batch job's pods, now; as :meth:`of`."""
        secret = self._wished.secret_of_job(job.mark)
        return self._written(
            f"{_JOBS_PATH}/{job.name}/{job.module.digest}",
            _secret_of_job(secret, job.name, job.module.digest),
            job.module,
            # Nobody is to ask its scoring servers, which listen at no port.
            keys=(hmac.new(secret, b"key 1", hashlib.sha256).hexdigest(),),
            url=url,
            room_bytes=room_bytes,
            within_s=within_s,
        )

    def _written(
        self,
        path: str,
        secret: bytes,
        module: Module,
        *,
        keys: tuple[str, ...],
        url: str,
        room_bytes: int,
        within_s: float,
    ) -> Content:
        at = (url or self._url).rstrip("/")
        if not at.startswith("https://"):
            raise BadSettings(
                "pods fetch their module over TLS alone", element=at, remedy="set public_url to an https address"
            )
        began = int(self._clock() // _HALF * _HALF)
        with self._database.read() as connection:
            root, _ = metadata_files.founded(connection)
            seen = dict(_seen(connection, root, module.manifest.ref))
        return Content(
            url=f"{at}{path}",
            ca=self._ca,
            token=access_tokens.make(secret, expires=began + LIFE_S),
            module=str(module.manifest.ref),
            digest=module.digest,
            root=root,
            roles=seen,
            written=float(began),
            keys=keys,
            room_bytes=room_bytes,
            within_s=within_s,
        )

    def admit(self, endpoint: Slug, module: Digest, token: str) -> ModuleRef:
        """Which module it is that the bearer of the token may fetch.

        Raises:
            Unauthorised: it is no token of this endpoint for this module, or has expired; or the endpoint does not
                serve the module any more.
        """
        with self._database.read() as connection:
            try:
                row = self._wished.row(connection, endpoint)
            except Missing as error:
                raise _stranger() from error
        self._check(_secret(self._wished.opened(row).token_secret, endpoint, module), token)
        served = {one.digest: one.module for one in wish_of(row).versions.values()}
        if row.state == REMOVING or module not in served:
            raise Unauthorised("the endpoint does not serve this module any more", element="Authorization")
        return ModuleRef.parse(served[module])

    def admit_job(self, job: Slug, module: Digest, token: str) -> ModuleRef:
        """The same for a batch job.

        Raises:
            Unauthorised: it is no token of this job for this module, or has expired; or the job has ended.
        """
        with self._database.read() as connection:
            try:
                row = BatchJobs.row(connection, job)
            except Missing as error:
                raise _stranger() from error
        self._check(_secret_of_job(self._wished.secret_of_job(row.mark), job, module), token)
        if row.state not in ACTIVE or row.digest != module:
            raise Unauthorised("the batch job has ended", element="Authorization")
        return ModuleRef.parse(row.module)

    def _check(self, secret: bytes, token: str) -> None:
        try:
            access_tokens.check(secret, token, now=self._clock())
        except Untrusted as error:
            raise Unauthorised(error.message, element=error.element, remedy=error.remedy) from error

    def check_blob(self, module: Digest, blob: Digest) -> None:
        """Whether the blob is the module's manifest, one of its files, or the block index of one.

        Raises:
            Missing: it is not; images come from a registry.
        """
        if blob not in self._names(module):
            raise Missing("there is no such blob", element=blob)


def check_metadata(ref: ModuleRef, name: str) -> None:
    """Whether the file of trust metadata is one that this module rests on.

    Raises:
        Missing: it is another team's.
        Invalid: no file of trust metadata is called so.
    """
    role = metadata_role(name)
    if role not in roles.TOP_LEVEL and roles.team_of(role) != ref.team:
        raise Missing("there is no such metadata file", element=name[:100])


def _stranger() -> Unauthorised:
    """As for a token that is none, so that nobody learns which endpoints there are."""
    return Unauthorised("this is not a token of this endpoint", element="Authorization")


def _secret(token_secret: bytes, endpoint: Slug, module: Digest) -> bytes:
    """The key of tokens for one module: none that lets a client in is one of them."""
    return hmac.new(token_secret, f"content 1 {endpoint} {module}".encode(), hashlib.sha256).digest()


def _secret_of_job(secret: bytes, job: Slug, module: Digest) -> bytes:
    return hmac.new(secret, f"batch content 1 {job} {module}".encode(), hashlib.sha256).digest()


def _named(registry: Registry, module: Digest) -> frozenset[Digest]:
    manifest = registry.manifest(module)
    return frozenset({module, *(name for one in manifest.files for name in (one.sha256, one.blocks))})


def _seen(connection: Connection, root_file: bytes, ref: ModuleRef) -> Iterator[tuple[str, RoleSeen]]:
    """The versions of all roles that a module rests on, and whose keys may sign each, as a device remembers them."""
    root = Metadata[Root].from_bytes(root_file).signed
    for role in roles.TOP_LEVEL:
        if (data := metadata_files.read(connection, role)) is not None:
            yield role, RoleSeen(metadata_files.version(data), tuple(sorted(root.roles[role].keyids)))
    delegator = metadata_files.listing(metadata_files.read(connection, roles.TARGETS) or b"")
    for role in (roles.team_role(ref.team), roles.bin_of(ref.team, ref.target)):
        if (data := metadata_files.read(connection, role)) is None:
            return  # of a team without bins there is no more
        file = metadata_files.listing(data)
        yield role, RoleSeen(file.version, tuple(sorted(delegator.get_delegated_role(role).keyids)))
        delegator = file
