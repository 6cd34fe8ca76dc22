"""The first run: certificates, online keys, database and operator token in a new data folder."""

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet import tokens
from fleet.authority import Authority
from fleet.clock import Clock
from fleet.db import Database
from fleet.folder import ONLINE_ROLES, Folder, write_secret
from modules.errors import BadSettings

SERVICE: Final = "service:fleet"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def initialise(folder: Folder, clock: Clock, *, names: Sequence[str] = (), broker_names: Sequence[str] = ()) -> str:
    """Make the data folder and return the operator's token, which is also in its file.

    ``names`` and ``broker_names`` are the DNS names and addresses under which devices reach the server and the broker,
    besides this machine's own.

    Raises:
        BadSettings: the folder was made before.
    """
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.root.chmod(0o700)
    if any(path.exists() for path in (folder.ca, folder.database)):
        raise BadSettings("this folder was made before", element=str(folder.root), remedy="use it, or name another")
    authority = Authority.create("edgefleet devices and servers")
    authority.write(folder.ca)
    authority.server([*names, *LOOPBACK]).write(folder.server)
    authority.server([*broker_names, *LOOPBACK]).write(folder.broker)
    services = Authority.create("edgefleet services")
    services.write(folder.service_ca)
    services.service(SERVICE).write(folder.service)
    for role in ONLINE_ROLES:
        write_secret(folder.online_key(role), _new_online_key())
    database = Database.at(folder.database)
    try:
        database.migrate()
        with database.write() as connection:
            token = tokens.create(connection, clock(), kind="api", role="admin")
    finally:
        database.close()
    folder.database.chmod(0o600)
    write_secret(folder.operator_token, token.encode() + b"\n")
    return token


def _new_online_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
