"""The real device's certificate as another day would have it: made by the fleet's own CA, known to the server."""

import datetime as dt
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import identity as identities
from agent.identity import PAIR
from fleet import revocation
from fleet.authority import Authority
from fleet.db import Database
from modules.names import DeviceId

DAY_S = 86_400.0
LIFE = dt.timedelta(days=90)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def pair(authority: Authority, name: str, *, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A key with its certificate, as a renewal leaves both in one file."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    return pem(own) + authority.device(DeviceId(name), own.public_key(), LIFE)


def issue_again(system, name: str, folder: Path, *, days: float) -> None:
    """Give the device a certificate for its present key that was made so many days ago."""
    own = serialization.load_pem_private_key(identities.key_of(identities.present(folder).key.read_bytes()), None)
    then = time.time() - days * DAY_S
    made = Authority.load(system.data.ca, lambda: then).device(DeviceId(name), own.public_key(), LIFE)
    (folder / PAIR).write_bytes(pem(own) + made)
    identities.tidy(folder)
    database = Database.at(system.data.database)
    with database.write() as connection:
        revocation.issued(connection, DeviceId(name), made.decode(), then)
    database.close()
