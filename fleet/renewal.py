"""A device's next certificate: asked for over MQTT with a new key, answered on the same way.

Whose certificate it is says the topic, which the broker lets that device alone write. The request is signed with the
key that the device has, so that a broker alone gets nobody a certificate. What is refused is answered with its reason.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy import Connection, func, select, update

from fleet import device_keys, events, revocation
from fleet.attempts import Attempts
from fleet.authority import Authority, check_request
from fleet.clock import Clock
from fleet.db import Database
from fleet.device_keys import Keys
from fleet.mishaps import Mishaps
from fleet.refusals import Conflict, Forbidden, TooMany
from fleet.tables import certificates, devices
from modules import canonical
from modules.digests import sha256
from modules.errors import Invalid, LinkLost, Refused, Untrusted
from modules.names import DeviceId, Digest
from modules.protocol.enrollment import RENEW_LIMIT, RenewAnswer, RenewRequest
from modules.protocol.report import Reason
from modules.protocol.topics import Topics
from modules.signing import RENEW_TYPE, envelope_limit, opened
from modules.words import printable

log = logging.getLogger(__name__)

DAY_S: Final = 86_400.0
# Certificates of one device within a day, its enrolment among them; more only where they live for less than a day.
A_DAY: Final = 6
_A_LIFE: Final = 4
# Devices whose requests wait; beyond it a device asks again later, as it does after silence.
WAITING: Final = 1000
_SENTENCE: Final = 2000

Send = Callable[..., Awaitable[None]]


class Renewals:
    """Takes requests, the newest of each device; ``answer`` runs in a worker thread."""

    def __init__(
        self,
        *,
        database: Database,
        authority: Authority,
        clock: Clock,
        topics: Topics,
        send: Send,
        life_s: float,
        mishaps: Mishaps,
    ) -> None:
        self._database, self._authority, self._clock = database, authority, clock
        self._topics, self._send, self._mishaps = topics, send, mishaps
        self._life, self._a_day = dt.timedelta(seconds=life_s), max(A_DAY, int(_A_LIFE * DAY_S / life_s))
        self._told = Attempts()
        self._waiting: dict[DeviceId, bytes] = {}
        self._some = asyncio.Event()

    def take(self, device: DeviceId, payload: bytes) -> None:
        """A request; it takes the place of an older one of the same device."""
        if device in self._waiting or len(self._waiting) < WAITING:
            self._waiting[device] = payload
            self._some.set()

    async def run(self, lasting: Callable[..., Awaitable[RenewAnswer | None]]) -> None:
        """Answer for ever; ``lasting`` does the database's work, again and again until it is done."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                device = next(iter(self._waiting))
                payload = self._waiting.pop(device)
                with self._mishaps.alone("renewal", device):
                    answer = await lasting(self.answer, device, payload)
                    if answer is not None:
                        await self._publish(device, answer)

    async def _publish(self, device: DeviceId, answer: RenewAnswer) -> None:
        try:
            await self._send(self._topics.renewed(device), canonical.encode(answer), qos=1)
        except LinkLost as error:
            # The device asks again and gets the same certificate.
            log.debug("the answer to %s is not sent: %s", device, error)

    def answer(self, device: DeviceId, payload: bytes) -> RenewAnswer | None:
        """The certificate for this request, or the reason for none; None where nobody could read an answer."""
        now = self._clock()
        asked: Digest | None = None
        try:
            with self._database.write() as connection:
                request = _request(connection, now, device, payload)
                asked = sha256(request.csr.encode())
                return RenewAnswer(csr=asked, certificate=self._certificate(connection, now, device, request.csr))
        except Refused as error:
            log.warning("%s gets no other certificate: %s", device, error)
            self._tell(now, device, error)
            if asked is None:
                return None  # it was no request of this device's
            return RenewAnswer(csr=asked, reason=Reason(error.code, printable(error.message, _SENTENCE)))

    def _certificate(self, connection: Connection, now: float, device: DeviceId, csr: str) -> str:
        """Raises the reason why there is none."""
        columns = (*device_keys.COLUMNS, devices.c.certificate, devices.c.next_certificate)
        row = connection.execute(select(*columns).where(devices.c.id == device)).one()
        if x509.load_pem_x509_certificate(row.certificate.encode()).not_valid_after_utc.timestamp() <= now:
            raise Forbidden("the device's certificate has expired", element=device, remedy="enrol the device again")
        key = check_request(csr)
        check_names(csr, device)
        public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        if public == row.next_key:
            return str(row.next_certificate)  # asked again: the answer was lost
        if public in {row.public_key, row.previous_key}:
            raise Conflict("a new certificate needs a new key, and the device has had this one", element="csr")
        issued = (certificates.c.device == device) & (certificates.c.issued > now - DAY_S)
        if connection.execute(select(func.count()).where(issued)).scalar_one() >= self._a_day:
            raise TooMany(
                f"the device had {self._a_day} certificates within a day", element=device, remedy="wait a day"
            )
        certificate = self._authority.device(device, key, self._life).decode()
        if row.next_certificate:  # of a renewal that was given up
            unused = certificates.c.serial == device_keys.serial_of(row.next_certificate)
            connection.execute(update(certificates).where(unused).values(revoked=now))
        changed = update(devices).where(devices.c.id == device)
        connection.execute(changed.values(next_key=public, next_certificate=certificate))
        revocation.issued(connection, device, certificate, now)
        return certificate

    def _tell(self, now: float, device: DeviceId, error: Refused) -> None:
        """An event, of which a device can make only so many a minute."""
        try:
            self._told.failed(device, now)
        except TooMany:
            return
        with self._database.write() as connection:
            known = connection.execute(select(devices.c.id).where(devices.c.id == device)).one_or_none()
            if known is not None:
                events.record(connection, now, "renewal-refused", f"{error} [{error.code}]", device=device)


def _request(connection: Connection, now: float, device: DeviceId, payload: bytes) -> RenewRequest:
    """What the device asks, if it holds and is signed with its present key; raises why not."""
    columns = (*device_keys.COLUMNS, devices.c.removed, devices.c.revoked)
    row = connection.execute(select(*columns).where(devices.c.id == device)).one_or_none()
    if row is None:
        raise Untrusted("no such device was enrolled", element=device)
    if row.removed is not None or row.revoked is not None:
        raise Forbidden("the device is removed or its certificates are revoked", element=device)
    if len(payload) > envelope_limit(RENEW_LIMIT):
        raise Invalid(f"{len(payload)} bytes are more than a request has", element="up/enroll")
    # Not the one before: what a thief of it would ask for is nothing that is still under way.
    keys = Keys.of(row)._replace(previous=None).accepted(now)
    known = [device_keys.public(pem) for pem in keys.values()]
    signed = opened(payload, payload_type=RENEW_TYPE, keys=known, limit=RENEW_LIMIT)
    request = canonical.decode(signed.payload, RenewRequest, limit=RENEW_LIMIT, what="up/enroll")
    if request.device != device:
        raise Untrusted(f"the request is {request.device}'s", element=device)
    by = {keys[keyid] for keyid in signed.keyids}
    if row.next_key in by:
        device_keys.confirm(connection, now, device, row.next_key)
    return request


def check_names(csr: str, device: DeviceId) -> None:
    """See that a signing request names nobody else; what it names is never believed, only compared.

    Raises:
        Untrusted: it names another device, or something that is no device.
    """
    request = x509.load_pem_x509_csr(csr.encode())
    named = [str(one.value) for one in request.subject]
    try:
        others = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        others = []
    except ValueError as error:
        raise Invalid("the signing request's extensions cannot be read", element="csr") from error
    own = {device, f"urn:edgefleet:device:{device}"}
    if {*named, *(str(one.value) for one in others)} - own:
        raise Untrusted("CSR identity does not match the device that asks", element=device)
