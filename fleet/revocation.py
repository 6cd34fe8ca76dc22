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
from sqlalchemy import Connection, delete, func, insert, select, update

from fleet import joins
from fleet.authority import Authority
from fleet.folder import Folder, replace_file
from fleet.refusals import Forbidden
from fleet.tables import certificates, devices
from modules.names import DeviceId

log = logging.getLogger(__name__)

FILE: Final = "revoked.pem"
PID_FILE: Final = "mosquitto.pid"
# Made by deploy/broker/run.sh.
WATCHED: Final = "watched"
# The list ends after 30 days (fleet/authority.py); a broker refuses everybody then.
REISSUE_S: Final = 86_400.0
FETCHED_S: Final = 60.0
# So long after their end certificates are remembered.
FORGET_S: Final = 365 * 86_400.0
TOLD: Final = "the broker refuses its certificate"
UNTOLD: Final = (
    "the broker has to be told to refuse its certificate: run edgefleet-fleet broker-config again for the folder of "
    "its configuration, and send mosquitto SIGHUP"
)


def issued(connection: Connection, device: DeviceId, certificate: str, now: float) -> None:
    """Remember a certificate, so that it can be revoked one day."""
    one = x509.load_pem_x509_certificate(certificate.encode())
    expires = one.not_valid_after_utc.timestamp()
    serial = f"{one.serial_number:x}"
    connection.execute(insert(certificates).values(serial=serial, device=device, expires=expires, issued=now))


def check(connection: Connection, now: float, device: str, serial: int) -> int:
    """See that a certificate which TLS has let in holds: it was issued here, to this device, and not taken back.

    Returns the number of the device's newest order.

    Raises:
        Forbidden: it does not.
    """
    columns = (certificates.c.device, certificates.c.expires, certificates.c.revoked)
    of_device = (devices.c.removed, devices.c.revoked.label("taken_back"), devices.c.order_counter)
    both = select(*columns, *of_device).join_from(certificates, devices)
    row = connection.execute(both.where(certificates.c.serial == f"{serial:x}")).one_or_none()
    if row is None or row.device != device:
        raise Forbidden("this certificate was not issued here", element=device, remedy="enrol again")
    if row.revoked is not None or row.removed is not None or row.taken_back is not None:
        raise Forbidden("this certificate is revoked", element=device, remedy="enrol again, if the operator agrees")
    if row.expires <= now:
        raise Forbidden("this certificate has expired", element=device, remedy="enrol again")
    return int(row.order_counter)


def revoked_serials(connection: Connection, now: float) -> list[str]:
    """Of devices' certificates that have not ended yet; hexadecimal."""
    held = select(certificates.c.serial).where(certificates.c.revoked.is_not(None), certificates.c.expires > now)
    return sorted(connection.scalars(held))


def revoke(connection: Connection, now: float, device: DeviceId) -> None:
    """Revoke every certificate of a device; :meth:`Revocations.publish` tells the broker, after the commit."""
    mine = (certificates.c.device == device) & certificates.c.revoked.is_(None)
    connection.execute(update(certificates).where(mine).values(revoked=now))


class Revocations:
    """Writes the list where the broker reads it, and hands it to brokers elsewhere."""

    def __init__(self, authority: Authority, folder: Folder) -> None:
        self._authority, self._folder = authority, folder
        #: why the broker of this machine does not have the newest list, in words; empty where it has
        self.trouble = ""
        self._published: tuple[int, float, int] | None = None
        self._published_at = 0.0
        self._made_at, self._made = 0.0, b""

    def publish(self, connection: Connection, now: float) -> bool:
        """Write the list for what the database has; False if a broker has to be told of it by a person."""
        self._published = _standing(connection, now)
        self._made_at, self._made = now, self._make(connection, now)
        replace_file(self._folder.revoked, self._made)
        self._published_at = now
        self.trouble = ""
        if not self._folder.broker_place.exists():
            return False  # the broker is elsewhere
        place = Path(self._folder.broker_place.read_text().strip())
        if not place.exists():
            return False  # of another machine that shares this data folder
        try:
            replace_file(place / FILE, self._made)
        except OSError as error:
            self.trouble = f"the broker's list of revoked certificates cannot be written to {place}: {error.strerror}"
            return False
        try:
            return reload(place)
        except PermissionError:
            self.trouble = (
                "the broker runs as another account, which this server may not tell of its new files: send mosquitto "
                "SIGHUP every day, before its list of revoked certificates lapses"
            )
            return False

    def is_due(self, connection: Connection, now: float) -> bool:
        """Whether another certificate was revoked, by whichever server, or the list is a day old."""
        return _standing(connection, now) != self._published or abs(now - self._published_at) >= REISSUE_S

    def current(self, connection: Connection, now: float) -> bytes:
        """The list for a broker that fetches it, not older than a minute."""
        if abs(now - self._made_at) >= FETCHED_S or not self._made:
            self._made_at, self._made = now, self._make(connection, now)
        return self._made

    def _make(self, connection: Connection, now: float) -> bytes:
        held = select(certificates.c.serial, certificates.c.revoked)
        rows = connection.execute(held.where(certificates.c.revoked.is_not(None), certificates.c.expires > now))
        listed = {int(row.serial, 16): row.revoked for row in rows} | joins.revoked_serials(connection, now)
        return self._authority.revocations(listed)


def forget_expired(connection: Connection, now: float) -> None:
    """Certificates that ended long ago: TLS refuses them by their date."""
    old = (certificates.c.expires < now - FORGET_S) & certificates.c.device.in_(
        select(certificates.c.device).where(certificates.c.expires >= now - FORGET_S)
    )
    connection.execute(delete(certificates).where(old))


def _standing(connection: Connection, now: float) -> tuple[int, float, int]:
    """What differs once another certificate is revoked."""
    both = select(func.count(), func.max(certificates.c.revoked))
    count, newest = connection.execute(
        both.where(certificates.c.revoked.is_not(None), certificates.c.expires > now)
    ).one()
    return int(count), float(newest or 0.0), len(joins.revoked_serials(connection, now))


def reload(place: Path) -> bool:
    """Tell the mosquitto that runs with this configuration to read its files again; False where none runs.

    One in a container looks itself whether they have changed.

    Raises:
        PermissionError: it is another account's.
    """
    if (place / WATCHED).exists():
        return True
    try:
        number = int((place / PID_FILE).read_text())
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        # A number may have gone to another program since.
        if b"mosquitto" not in command[0] or not _names(command, place / "mosquitto.conf", number):
            return False
        os.kill(number, signal.SIGHUP)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        log.info("the broker was not told to read its files again: %s", error)
        return False
    return True


def _names(command: list[bytes], file: Path, number: int) -> bool:
    """Whether the arguments of a process name a file, by a relative path, too."""
    if os.fsencode(file) in command:
        return True
    relative = [os.fsdecode(one) for one in command if one.endswith(b".conf") and not one.startswith(b"/")]
    # Only then: where a process of another account stands, nobody else may see.
    return bool(relative) and any((Path(f"/proc/{number}/cwd").readlink() / one).resolve() == file for one in relative)
