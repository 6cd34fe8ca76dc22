"""First contact: who may join, under which name, and a certificate for a device that brings a key of its own.

A name belongs to its first key. Another key gets it by an operator's word alone (``edgefleet devices readmit``): then
the certificates of before hold no more, and the device's history and its number of orders go on.
"""

import datetime as dt
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, Row, insert, select, update

from fleet import events, joins, pending, revocation
from fleet.attempts import Asked
from fleet.authority import Authority, check_request
from fleet.joins import Join
from fleet.pending import Waiting
from fleet.refusals import Forbidden, KeyRejected, NameRemoved, NameTaken, WrongName
from fleet.tables import certificates, devices
from modules.fingerprint import fingerprint, spoken
from modules.names import DeviceId, device_id
from modules.protocol.enrollment import EnrollAnswer, EnrollPending, EnrollRequest

DAY_S: Final = 86400
# Of one key in a day: whoever waits for approval asks every few minutes.
ASKED_A_DAY: Final = 1000
# A certificate that an earlier answer brought is given again while so much of its life is left.
_FRESH: Final = 1 / 3
_ADDRESS: Final = 100


class Admitted(NamedTuple):
    """The answer, and whether certificates of before are to be published as revoked."""

    answer: EnrollAnswer | EnrollPending
    revoked: bool = False


class Enrolment:
    """Answers enrolment requests; how long a certificate holds, and how long a key waits for approval."""

    def __init__(self, authority: Authority, *, certificate_life_s: float, pending_life_s: float = 7 * DAY_S) -> None:
        self._authority = authority
        self._life = dt.timedelta(seconds=certificate_life_s)
        self._pending_life_s = pending_life_s
        self._asked = Asked(ASKED_A_DAY)

    def enrol(self, connection: Connection, now: float, request: EnrollRequest, *, address: str = "") -> Admitted:
        """Name a device and certify its key, or let the key wait for an operator.

        The same key asking again gets the same answer, so that a lost one costs nothing.

        Raises:
            Unauthorised: the token does not hold, has expired, is used up or was taken back.
            Invalid: the request is no proper P-256 request.
            NameTaken: the name belongs to another key.
            NameRemoved: it did, and nobody has said that another may have it.
            WrongName: the bundle is for another device.
            KeyRejected: an operator has rejected this key.
            TooMany: this key asks too often, or too many wait for approval.
        """
        join = joins.of_token(connection, request.token)
        return self.admit(connection, now, join, request.csr, name=request.name, address=address)

    def admit(
        self, connection: Connection, now: float, join: Join, csr: str, *, name: DeviceId | None, address: str
    ) -> Admitted:
        """The same, for whoever has shown a token or a claim; raises as :meth:`enrol`."""
        key, address = check_request(csr), address[:_ADDRESS]
        mark = fingerprint(_der(key))
        if join.name is not None and name not in {None, join.name}:
            raise WrongName(
                f"this bundle is for {join.name}", element=str(name), remedy="enrol without --name, or ask for another"
            )
        device = DeviceId(join.name) if join.name is not None else name or _name_of(mark)
        waits = pending.of(connection, now, mark)
        if waits is not None and waits.state == pending.REJECTED:
            raise KeyRejected(_rejected(waits), element=device, remedy="ask the operator who rejected it")
        self._asked.again(mark, now)
        known = _known(connection, device)
        _see_revoked(known, key, device)
        if waits is not None and waits.join == join.id:
            if waits.state == pending.WAITING:
                return Admitted(_pending(waits))
            # Approved: it may fetch its certificate when the bundle's own time is over.
            if (approved := _known(connection, waits.name)) is not None and _is(approved, key):
                return Admitted(self._again(connection, now, approved, key))
        if known is not None and _is(known, key):
            joins.check_time(join, now)
            return Admitted(self._again(connection, now, known, key))
        if join.approve:
            pending.forget_old(connection, now)
            join = joins.numbered(connection, join.id)
        joins.check(join, now)
        _see(known, join, device)
        if join.approve:
            more = {"join": join.id, "name": device, "fingerprint": mark, "public_key": _pem(key), "address": address}
            row = pending.add(connection, now, life_s=self._pending_life_s, **more)
            text = f"a key waits for approval, with {joins.what(join)} from {address}: {spoken(mark)}"
            events.record(connection, now, "enrolment-waits", text, device=device)
            return Admitted(_pending(row))
        joins.take_use(connection, join.id)
        return self._grant(connection, now, join, device, key)

    def approve(self, connection: Connection, now: float, name: DeviceId, mark: str, *, by: str) -> bool:
        """Let the key in that waits under a name; True if certificates of before are to be published as revoked.

        Raises:
            Missing: none waits under this name.
            Conflict: the key that waits has another fingerprint.
            NameTaken: the name has become another key's meanwhile.
            NameRemoved: it has, and that device was removed.
        """
        waits = pending.waiting(connection, now, name, mark)
        join = joins.numbered(connection, waits.join)
        _see(_known(connection, name), join, name)
        key = serialization.load_pem_public_key(waits.public_key.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - check_request let no other in
        pending.approved(connection, now, waits, by=by, life_s=self._pending_life_s)
        return self._grant(connection, now, join, name, key, by=by).revoked

    def certified(self, connection: Connection, join: Join, csr: str) -> bool:
        """Whether the device that a join is for has the key of this request; raises as :func:`check_request`."""
        known = _known(connection, join.name)
        return known is not None and _is(known, check_request(csr))

    def _grant(
        self,
        connection: Connection,
        now: float,
        join: Join,
        device: DeviceId,
        key: ec.EllipticCurvePublicKey,
        *,
        by: str = "",
    ) -> Admitted:
        """A device of this name with this key; what :func:`_see` refuses has been refused."""
        certificate = self._authority.device(device, key, self._life).decode()
        known = _known(connection, device)
        fresh = _new_device(device, certificate, _pem(key), now)
        if known is None:
            labels = {"labels": dict(join.labels)}
            connection.execute(insert(devices).values(**fresh | labels))
            said = "the device joined the fleet"
        else:
            revocation.revoke(connection, now, device)
            fresh |= _other_hardware(known, join)
            connection.execute(update(devices).where(devices.c.id == device).values(**fresh))
            before = "a removed device's name" if known.removed is not None else "the name"
            said = f"{before} was taken by another key, as an operator allowed"
        revocation.issued(connection, device, certificate, now)
        events.record(connection, now, "enrolled", f"{said}, with {joins.what(join)}", device=device, by=by)
        return Admitted(EnrollAnswer(device=device, certificate=certificate), revoked=known is not None)

    def _again(
        self, connection: Connection, now: float, known: Row[Any], key: ec.EllipticCurvePublicKey
    ) -> EnrollAnswer:
        """The certificate that the device has, or the next one where that is old: asking often makes no rows."""
        certificate = known.certificate
        if not self._fresh(connection, now, certificate):
            certificate = self._authority.device(DeviceId(known.id), key, self._life).decode()
            connection.execute(update(devices).where(devices.c.id == known.id).values(certificate=certificate))
            revocation.issued(connection, known.id, certificate, now)
        return EnrollAnswer(device=known.id, certificate=certificate)

    def _fresh(self, connection: Connection, now: float, certificate: str) -> bool:
        one = x509.load_pem_x509_certificate(certificate.encode())
        serial = certificates.c.serial == f"{one.serial_number:x}"
        revoked = connection.execute(select(certificates.c.revoked).where(serial)).scalar_one_or_none()
        return revoked is None and one.not_valid_after_utc.timestamp() - now > self._life.total_seconds() * _FRESH


def _known(connection: Connection, device: str) -> Row[Any] | None:
    columns = ("id", "public_key", "certificate", "removed", "revoked", "order_counter", "labels")
    asked = select(*(devices.c[name] for name in columns)).where(devices.c.id == device)
    return connection.execute(asked).one_or_none()


def _is(known: Row[Any], key: ec.EllipticCurvePublicKey) -> bool:
    return known.removed is None and known.public_key == _pem(key)


def _see_revoked(known: Row[Any] | None, key: ec.EllipticCurvePublicKey, device: DeviceId) -> None:
    """That this key is not the one whose certificates were taken back."""
    if known is not None and known.revoked is not None and known.public_key == _pem(key):
        raise Forbidden(
            "this device's certificates were revoked",
            element=device,
            remedy=f"let it come back with a new key: edgefleet devices readmit {device}",
        )


def _see(known: Row[Any] | None, join: Join, device: DeviceId) -> None:
    """That the name is free, or an operator has said that another key may have it."""
    if known is None or (join.readmit and join.name == device):
        return
    if known.removed is not None:
        raise NameRemoved(
            "a device of this name was taken out of the fleet",
            element=device,
            remedy=f"the operator may let it come back: edgefleet devices readmit {device}; or use another name",
        )
    raise NameTaken(
        "another device has this name",
        element=device,
        remedy="enrol under another name; if this is its new hardware, the operator may let it: "
        f"edgefleet devices readmit {device}",
    )


def _pending(row: Waiting) -> EnrollPending:
    return EnrollPending(device=row.name, fingerprint=row.fingerprint, expires=row.expires)


def _rejected(row: Waiting) -> str:
    return "an operator rejected this key" + (f": {row.reason}" if row.reason else "")


def _name_of(mark: str) -> DeviceId:
    """A name made of the key, for a device that brings none."""
    return device_id("device-" + mark[:16])


def _der(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _new_device(device: DeviceId, certificate: str, public: str, now: float) -> dict[str, object]:
    return {
        "id": device,
        "labels": {},
        "certificate": certificate,
        "public_key": public,
        "enrolled": now,
        "online": False,
        "boot": 0,
        "facts_number": 0,
        "report_number": 0,
        "telemetry_number": 0,
        "order_counter": 0,
        "order_published": 0,
    }


def _other_hardware(known: Row[Any], join: Join) -> dict[str, object]:
    """The columns in which a device with another key differs from a new one: orders count on, what it said does not.

    ``parting``: the broker has to end the other's session and to forget what it retained; the order is then published
    again (fleet/partings.py).
    """
    labels = {} if known.removed is not None else known.labels
    numbers = {"order_counter": known.order_counter, "order_published": known.order_counter}
    epochs = {"epoch": "", "status_epoch": "", "retired_epochs": {}}
    said = {"facts": None, "report": None, "last_seen": None, "removed": None, "removed_by": "", "parting": True}
    keys = dict.fromkeys(("next_key", "next_certificate", "previous_key", "previous_until", "revoked"))
    return numbers | epochs | said | keys | {"labels": labels | join.labels}
