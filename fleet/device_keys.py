"""The keys that a device may sign with: its present one, that of a renewal which was begun, and the one before.

A device that renews goes over to its new key in one moment of its own, which the server learns by the first message
that is signed with it. Until then both count. The one before counts for a while longer: for messages that are under way
and those that the broker retains.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography import x509
from securesystemslib.signer import Key
from sqlalchemy import Connection, select, update

from fleet import events
from fleet.tables import certificates, devices
from modules.names import DeviceId
from modules.signing import key_from_pem

# For what was signed with the old key and comes after the first message with the new one.
PREVIOUS_S: Final = 86_400.0
COLUMNS: Final = (devices.c.public_key, devices.c.next_key, devices.c.previous_key, devices.c.previous_until)
# Public keys that were read last; one has about a kilobyte.
_KEYS: Final = 10_000


class Keys(NamedTuple):
    """Of one device, in PEM."""

    present: str
    next: str | None = None
    previous: str | None = None
    previous_until: float | None = None

    @classmethod
    def of(cls, row: Any) -> "Keys":
        return cls(row.public_key, row.next_key, row.previous_key, row.previous_until)

    def accepted(self, now: float) -> dict[str, str]:
        """The PEM of each key that counts now, by its id in envelopes."""
        former = self.previous if now < (self.previous_until or 0.0) else None
        return {public(pem).keyid: pem for pem in (former, self.next, self.present) if pem}


@lru_cache(_KEYS)
def public(pem: str) -> Key:
    return key_from_pem(pem.encode())


def confirm(connection: Connection, now: float, device: DeviceId, key: str) -> None:
    """The device signs with the key of its next certificate: it is the present one from now on, and older ones end."""
    columns = (devices.c.public_key, devices.c.certificate, devices.c.next_certificate)
    mine = (devices.c.id == device) & (devices.c.next_key == key)
    row = connection.execute(select(*columns).where(mine)).one_or_none()
    if row is None:
        return  # another message of the same batch said so, too
    serial = serial_of(row.next_certificate)
    connection.execute(
        update(devices)
        .where(mine)
        .values(
            public_key=key,
            certificate=row.next_certificate,
            next_key=None,
            next_certificate=None,
            previous_key=row.public_key,
            previous_until=now + PREVIOUS_S,
        )
    )
    former = (certificates.c.device == device) & (certificates.c.serial != serial) & certificates.c.revoked.is_(None)
    connection.execute(update(certificates).where(former, certificates.c.expires > now).values(revoked=now))
    text = f"it uses its certificate {serial}, and those before it are revoked"
    events.record(connection, now, "certificate-renewed", text, device=device)


def serial_of(certificate: str) -> str:
    """A PEM certificate's number, in hexadecimal."""
    return f"{x509.load_pem_x509_certificate(certificate.encode()).serial_number:x}"
