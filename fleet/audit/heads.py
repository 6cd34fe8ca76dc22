"""Heads of the audit log: signed by a key of their own, once an hour, into the database and a file that is shipped."""

import logging
import os
from typing import Final

from securesystemslib.signer import CryptoSigner, Key
from sqlalchemy import insert, select

from fleet.audit import log as audit_log
from fleet.audit.chain import Head, sign
from fleet.clock import Clock
from fleet.db import Database
from fleet.folder import Folder, write_secret
from fleet.tables import audit_heads
from modules.signing import signer_from_pem

EVERY_S: Final = 3600.0
log = logging.getLogger(__name__)


class Heads:
    """Signs where the chain ends; the key lies in the data folder and signs nothing else."""

    def __init__(self, database: Database, folder: Folder, clock: Clock, signer: CryptoSigner) -> None:
        self._database, self._folder, self._clock, self._signer = database, folder, clock, signer

    @property
    def key(self) -> Key:
        return self._signer.public_key

    def sign(self) -> bool:
        """Sign the newest row if no head covers it; True if there was one to sign.

        The file is written first: a head that was shipped and is not in the database is no harm.
        """
        with self._database.read() as connection:
            at, hashed = audit_log.last(connection)
            signed = connection.execute(select(audit_heads.c.row).order_by(audit_heads.c.row.desc()).limit(1)).scalar()
        if at in {0, signed}:
            return False
        now = self._clock()
        envelope = sign(Head(at=round(now, 3), id=at, hash=hashed), self._signer)
        self._ship(envelope)
        with self._database.write() as connection:
            connection.execute(insert(audit_heads).values(row=at, at=now, envelope=envelope))
        return True

    def all(self) -> list[bytes]:
        """Every head, the oldest first."""
        with self._database.read() as connection:
            return list(connection.execute(select(audit_heads.c.envelope).order_by(audit_heads.c.row)).scalars())

    def _ship(self, envelope: bytes) -> None:
        """One line more in the file, and one in the log: whichever of them leaves this machine."""
        mine = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(self._folder.audit_heads, mine, 0o600), "wb") as stream:
            stream.write(envelope + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        log.info("audit head %s", envelope.decode())


def audit_signer(folder: Folder, new_key: bytes) -> CryptoSigner:
    """The signer of heads; ``new_key`` (PEM) becomes its key where there is none, as in a fleet of before."""
    place = folder.online_key("audit")
    if not place.exists():
        write_secret(place, new_key)
    return signer_from_pem(place.read_bytes(), element=str(place))
