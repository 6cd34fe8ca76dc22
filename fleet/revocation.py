"""Certificates that hold no more: every one that was issued is known by its serial number; a list names the revoked.

The list (an X.509 CRL, signed by the fleet's CA) lies in the data folder, and beside the broker's configuration where
that was written on this machine; there the broker is told to read it again, too.
"""

import logging
import os
import signal
from pathlib import Path
from typing import Final

from cryptography import x509
from sqlalchemy import Connection, insert, select, update

from fleet import joins
from fleet.authority import Authority
from fleet.folder import Folder, replace_file
from fleet.refusals import Forbidden
from fleet.tables import certificates, devices
from modules.names import DeviceId

log = logging.getLogger(__name__)

FILE: Final = "revoked.pem"
PID_FILE: Final = "mosquitto.pid"
TOLD: Final = "the broker refuses its certificate"
UNTOLD: Final = (
    "the broker has to be told to refuse its certificate: run edgefleet-fleet broker-config again for the folder of "
    "its configuration, and send mosquitto SIGHUP"
)


def issued(connection: Connection, device: DeviceId, certificate: str) -> None:
    """Remember a certificate, so that it can be revoked one day."""
    one = x509.load_pem_x509_certificate(certificate.encode())
    expires = one.not_valid_after_utc.timestamp()
    connection.execute(insert(certificates).values(serial=f"{one.serial_number:x}", device=device, expires=expires))


def check(connection: Connection, now: float, device: str, serial: int) -> None:
    """See that a certificate which TLS has let in holds: it was issued here, to this device, and not taken back.

    Raises:
        Forbidden: it does not.
    """
    columns = (certificates.c.device, certificates.c.expires, certificates.c.revoked, devices.c.removed)
    both = select(*columns).join_from(certificates, devices)
    row = connection.execute(both.where(certificates.c.serial == f"{serial:x}")).one_or_none()
    if row is None or row.device != device:
        raise Forbidden("this certificate was not issued here", element=device, remedy="enrol again")
    if row.revoked is not None or row.removed is not None:
        raise Forbidden("this certificate is revoked", element=device, remedy="enrol again, if the operator agrees")
    if row.expires <= now:
        raise Forbidden("this certificate has expired", element=device, remedy="enrol again")


def revoke(connection: Connection, now: float, device: DeviceId) -> None:
    """Revoke every certificate of a device; :meth:`Revocations.publish` tells the broker, after the commit."""
    mine = (certificates.c.device == device) & certificates.c.revoked.is_(None)
    connection.execute(update(certificates).where(mine).values(revoked=now))


class Revocations:
    """Writes the list where the broker reads it."""

    def __init__(self, authority: Authority, folder: Folder) -> None:
        self._authority, self._folder = authority, folder

    def publish(self, connection: Connection, now: float) -> bool:
        """Write the list for what the database has; False if a broker has to be told of it by a person."""
        held = select(certificates.c.serial, certificates.c.revoked)
        rows = connection.execute(held.where(certificates.c.revoked.is_not(None), certificates.c.expires > now))
        listed = {int(row.serial, 16): row.revoked for row in rows} | joins.revoked_serials(connection, now)
        data = self._authority.revocations(listed)
        replace_file(self._folder.revoked, data)
        if not self._folder.broker_place.exists():
            return False  # the broker is elsewhere
        try:
            place = Path(self._folder.broker_place.read_text().strip())
            replace_file(place / FILE, data)
        except OSError as error:
            log.warning("the broker's list of revoked certificates cannot be written: %s", error)
            return False
        return _reload(place)


def _reload(place: Path) -> bool:
    """Tell the mosquitto that runs with this configuration to read its files again."""
    try:
        number = int((place / PID_FILE).read_text())
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        # A number may have gone to another program since.
        if b"mosquitto" not in command[0] or os.fsencode(place / "mosquitto.conf") not in command:
            return False
        os.kill(number, signal.SIGHUP)
    except (OSError, ValueError) as error:
        log.info("the broker was not told to read its files again: %s", error)
        return False
    return True
