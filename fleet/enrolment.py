"""First contact: join tokens, join bundles, and a certificate for a device that brings a token and a key of its own."""

import datetime as dt
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, insert, select, update

from fleet import events, revocation, tokens
from fleet.authority import Authority, check_request
from fleet.refusals import Conflict, Forbidden
from fleet.tables import devices
from modules.names import DeviceId, device_id
from modules.protocol.enrollment import Broker, EnrollAnswer, EnrollRequest, JoinBundle

ROLE: Final = "device"


class Enrolment:
    """Makes join bundles and answers enrolment requests."""

    def __init__(
        self,
        authority: Authority,
        *,
        fleet: str,
        broker: Broker,
        certificate_life_s: float,
        fleet_ca: str = "",
        blob_url: str = "",
    ) -> None:
        self._authority = authority
        self._fleet, self._fleet_ca, self._blob_url = fleet, fleet_ca, blob_url
        self._broker = broker
        self._life = dt.timedelta(seconds=certificate_life_s)

    def join_bundle(
        self, connection: Connection, now: float, *, root: bytes, uses: int | None, life_s: float
    ) -> JoinBundle:
        """A bundle with a new token, good for so many devices and seconds."""
        token = tokens.create(connection, now, kind="join", role=ROLE, uses=uses, life_s=life_s)
        return JoinBundle(
            fleet=self._fleet,
            broker=self._broker,
            ca=self._authority.pem,
            root=root,
            token=token,
            fleet_ca=self._fleet_ca,
            blob_url=self._blob_url,
        )

    def enrol(self, connection: Connection, now: float, request: EnrollRequest) -> EnrollAnswer:
        """Name a device and certify its key.

        The same key asking again gets the same name, so that a lost answer costs nothing.

        Raises:
            Unauthorised: the token does not hold or is used up.
            Invalid: the request is no proper P-256 request.
            Conflict: the name belongs to another key.
            Forbidden: the device's certificates were revoked, and this key or bundle is not an answer to that.
        """
        tokens.role(connection, now, request.token, kind="join")
        key = check_request(request.csr)
        public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        device = request.name or _name_of(key)
        certificate = self._authority.device(device, key, self._life).decode()
        columns = (devices.c.public_key, devices.c.removed, devices.c.order_counter, devices.c.revoked)
        mine = devices.c.id == device
        known = connection.execute(select(*columns).where(mine)).one_or_none()
        if known is None:
            tokens.spend(connection, request.token)
            connection.execute(insert(devices).values(**_new_device(device, certificate, public, now)))
            events.record(connection, now, "enrolled", "the device joined the fleet", device=device)
        elif known.removed is not None:
            tokens.spend(connection, request.token)
            fresh = _new_device(device, certificate, public, now) | _joined_again(known.order_counter)
            connection.execute(update(devices).where(mine).values(**fresh))
            events.record(connection, now, "enrolled", "a removed device's name joined the fleet again", device=device)
        elif known.revoked is not None:
            if known.public_key == public or tokens.made(connection, request.token) <= known.revoked:
                raise Forbidden(
                    "this device's certificates were revoked",
                    element=device,
                    remedy="enrol it with a new key and a join bundle that was made since: edgefleet devices join",
                )
            tokens.spend(connection, request.token)
            fresh = {"certificate": certificate, "public_key": public, "enrolled": now} | _taken_again()
            connection.execute(update(devices).where(mine).values(**fresh))
            events.record(connection, now, "enrolled", "a revoked device was enrolled again", device=device)
        elif known.public_key == public:
            connection.execute(update(devices).where(mine).values(certificate=certificate))
        else:
            raise Conflict(
                "another device has this name",
                element=device,
                remedy="enrol under another name, or remove the other device first: edgefleet devices remove NAME",
            )
        revocation.issued(connection, device, certificate, now)
        return EnrollAnswer(device=device, certificate=certificate)


def _name_of(key: ec.EllipticCurvePublicKey) -> DeviceId:
    """A name made of the key, for a device that brings none."""
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return device_id("device-" + hashed.finalize().hex()[:16])


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


def _joined_again(counter: int) -> dict[str, object]:
    """The columns in which a device under the name of a removed one differs from a new one: orders count on."""
    numbers = {"order_counter": counter, "order_published": counter}
    epochs = {"epoch": "", "status_epoch": "", "retired_epochs": {}}
    gone = {"removed": None, "parting": False, "facts": None, "report": None, "last_seen": None}
    return numbers | epochs | gone | _taken_again() | numbers


def _taken_again() -> dict[str, object]:
    """What a device with a new key has left behind; the broker has to be given its order again."""
    keys = dict.fromkeys(("next_key", "next_certificate", "previous_key", "previous_until"))
    return keys | {"revoked": None, "parting": False, "order_published": 0}
