"""What a server keeps from ending: its own certificates, the broker's and the list of revoked ones.

Every server does it for its own data folder and for the broker of its own machine, whether it leads or not. A renewed
certificate is for the same key: so one file changes, in one step, and no crash leaves a pair that does not fit. Whoever
holds a file in memory is told when it has changed, whoever changed it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet import endings, events, health_counts, revocation
from fleet.authority import Authority, certified_names
from fleet.clock import Clock
from fleet.db import Database
from fleet.folder import Folder, replace_file
from fleet.mishaps import Mishaps
from fleet.revocation import Revocations
from modules.certificate_life import due_at
from modules.errors import EdgefleetError

log = logging.getLogger(__name__)

EVERY_S: Final = 15.0
# The names of the broker's copies, as fleet/broker_config.py writes them.
COPIES: Final = ("broker.pem", "broker.key")
TELL_EVERY_S: Final = 3600.0


class Upkeep:
    """``run`` is a duty of every server; ``step`` is one look, in a worker thread."""

    def __init__(
        self,
        *,
        database: Database,
        folder: Folder,
        authority: Authority,
        services: Authority,
        revocations: Revocations,
        clock: Clock,
        mishaps: Mishaps,
        leads: Callable[[], bool] = lambda: True,
        renew_metadata: Callable[[], object] = lambda: None,
    ) -> None:
        self._database, self._folder, self._clock, self._mishaps = database, folder, clock, mishaps
        self._authority, self._services, self._revocations = authority, services, revocations
        self._leads, self._renew_metadata = leads, renew_metadata
        self._told_at = -TELL_EVERY_S
        self._counted = 0.0
        self._watched: list[tuple[Path, Callable[[], Any]]] = []
        self._seen: dict[Path, bytes] = {}

    def watch(self, certificate: Path, changed: Callable[[], Any]) -> None:
        """Have ``changed`` called now, and in the event loop of :meth:`run` whenever this file has other content."""
        self._seen.setdefault(certificate, certificate.read_bytes())
        self._watched.append((certificate, changed))
        changed()  # it may have been renewed since it was read

    async def run(self, lasting: Callable[..., Awaitable[None]]) -> None:
        """Look for ever; ``lasting`` does the database's work, again and again until it is done."""
        while True:
            with self._mishaps.alone("upkeep", "certificates and the list of revoked ones"):
                await lasting(self.step)
            self.tell_watchers()
            await asyncio.sleep(EVERY_S)

    def tell_watchers(self) -> None:
        """Call those whose file has changed since they read it."""
        for path in {path for path, _ in self._watched}:
            with self._mishaps.alone("reload", path.name):
                if (data := path.read_bytes()) == self._seen[path]:
                    continue
                for watched, changed in self._watched:
                    if watched == path:
                        changed()
                self._seen[path] = data

    def step(self) -> None:
        """Renew what is due, and say what comes near."""
        now, trouble = self._clock(), []
        for path, authority in (
            (self._folder.server, self._authority),
            (self._folder.broker, self._authority),
            (self._folder.service, self._services),
        ):
            try:
                if _renew(path, authority, now):
                    self._renewed(now, path)
            except OSError as error:
                trouble.append(f"{path} cannot be renewed: {error.strerror}")
        trouble += self._hand_to_broker()
        trouble += self._revoked(now)
        if self._mishaps.warn("upkeep", trouble):
            self._event(now, "upkeep-trouble", "; ".join(trouble))
        if abs(now - self._told_at) >= TELL_EVERY_S or trouble:
            self._tell(now)
        self._count(now)

    def _revoked(self, now: float) -> list[str]:
        with self._database.read() as connection:
            due = self._revocations.is_due(connection, now)
        if due or self._revocations.trouble:
            try:
                with self._database.write() as connection:  # one list after the other
                    self._revocations.publish(connection, now)
                    revocation.forget_expired(connection, now)
            except OSError as error:
                return [f"the list of revoked certificates cannot be written: {error.strerror}"]
        return [self._revocations.trouble] if self._revocations.trouble else []

    def _hand_to_broker(self) -> list[str]:
        """Give the broker of this machine its renewed certificate, where it uses the one of this data folder."""
        if not self._folder.broker_place.exists():
            return []
        place = Path(self._folder.broker_place.read_text().strip())
        certificate, key = (place / name for name in COPIES)
        try:
            own = key.read_bytes() == self._folder.key(self._folder.broker).read_bytes()
            fresh = self._folder.broker.read_bytes()
            if not own or certificate.read_bytes() == fresh:
                return []
            replace_file(certificate, fresh)
            revocation.reload(place)
        except (FileNotFoundError, NotADirectoryError):
            return []  # the configuration was moved away, or is another machine's
        except OSError as error:
            return [f"the broker does not get its renewed certificate, at {place}: {error.strerror}"]
        log.info("the broker has its renewed certificate")
        return []

    def _tell(self, now: float) -> None:
        # What is signed anew right after weeks without a server, nobody has to be told of. Why it cannot be signed says
        # the leader, who renews it all the time.
        with contextlib.suppress(EdgefleetError, OSError):
            self._renew_metadata()
        with self._database.read() as connection:
            every = endings.found(connection, self._folder, now)
        self._mishaps.warn("endings", endings.warnings(every, now))
        if self._leads():
            with self._database.write() as connection:
                endings.tell(connection, now, every)
        self._told_at = now

    def _count(self, now: float) -> None:
        """How many devices are in which state, once in a quarter of an hour, by the server that leads."""
        quarter = now // health_counts.QUARTER_S
        if quarter != self._counted and self._leads():
            with self._database.write() as connection:
                health_counts.record(connection, now)
            self._counted = quarter

    def _renewed(self, now: float, path: Path) -> None:
        log.info("%s was renewed", path)
        text = f"the certificate of the {path.stem} was renewed"
        if path == self._folder.broker and not self._folder.broker_place.exists():
            text += "; the broker is on another machine: give it the new one with edgefleet-fleet broker-config"
        self._event(now, "certificate-renewed", text)

    def _event(self, now: float, kind: str, text: str) -> None:
        with self._database.write() as connection:
            events.record(connection, now, kind, text)


def _renew(path: Path, authority: Authority, now: float) -> bool:
    """Write the next certificate for the same names and key, if it is due; only where the fleet's own CA made it."""
    present = x509.load_pem_x509_certificate(path.read_bytes())
    begins, ends = present.not_valid_before_utc.timestamp(), present.not_valid_after_utc.timestamp()
    if now < due_at(begins, ends):
        return False
    try:
        present.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False  # the operator brought it, and brings the next one
    key = serialization.load_pem_private_key(Folder.key(path).read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return False
    if names := certified_names(path):
        made = authority.server(names, key)
    else:
        common = present.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        made = authority.service(str(common[0].value), key)
    replace_file(path, made.certificate)
    return True
