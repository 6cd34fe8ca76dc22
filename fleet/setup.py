"""The first run: certificates, online keys, database and operator token in a new data folder."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text

from fleet import tokens
from fleet.authority import Authority
from fleet.clock import Clock
from fleet.db import Database
from fleet.folder import ONLINE_ROLES, Folder, sync_folder, write_secret
from fleet.online_keys import new_online_key
from fleet.settings import Settings
from modules.errors import BadSettings

SERVICE: Final = "service:fleet"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def initialise(
    folder: Folder, clock: Clock, *, database: str = "", names: Sequence[str] = (), broker_names: Sequence[str] = ()
) -> str:
    """Make the data folder and return the operator's token, which is also in its file.

    ``database`` is its address where it is not in the folder. ``names`` and ``broker_names`` are the DNS names and
    addresses under which devices reach the server and the broker, besides this machine's own.

    Raises:
        BadSettings: the folder or the database was made before, or the database cannot hold a fleet.
    """
    rows = Database.of(database, folder.database)
    try:
        if rows.shared:
            _check_empty(rows)  # before anything is written
        return _initialise(folder, rows, clock, names, broker_names)
    finally:
        rows.close()


def opened(settings: Settings) -> Database:
    """The database of a fleet that was made.

    Raises:
        BadSettings: there is none.
    """
    folder = Folder(settings.data)
    if folder.unfinished.exists():
        raise BadSettings(
            "init broke off before this fleet was whole",
            element=str(folder.root),
            remedy="run init again, which begins anew: nothing of it was used yet",
        )
    url = settings.database.get_secret_value()
    if not (folder.ca if url else folder.database).exists():
        raise BadSettings("there is no fleet here", element=str(folder.root), remedy="make one with: init")
    database = Database.of(url, folder.database)
    if database.shared and not database.made:
        database.close()
        raise BadSettings(
            "there is no fleet in this database",
            element="database",
            remedy="correct its address, restore its backup, or make a fleet in a new data folder with: init",
        )
    return database


def _check_empty(database: Database) -> None:
    if database.made:
        raise BadSettings(
            "this database holds a fleet already", element="database", remedy="name its data folder, or a new database"
        )
    with database.read() as connection:
        plain = "SELECT getdatabaseencoding() = 'UTF8' AND 'B' < 'a' AND 'a-z' < 'ab'"
        if not connection.execute(text(plain)).scalar_one():
            raise BadSettings(
                "this database is not in UTF-8, or sorts names by a language",
                element="database",
                remedy="make it with: CREATE DATABASE ... ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0",
            )


def _initialise(
    folder: Folder, database: Database, clock: Clock, names: Sequence[str], broker_names: Sequence[str]
) -> str:
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.root.chmod(0o700)
    if folder.unfinished.exists():
        for path in folder.made_at_first:
            path.unlink(missing_ok=True)
    elif any(path.exists() for path in folder.made_at_first):
        raise BadSettings("this folder was made before", element=str(folder.root), remedy="use it, or name another")
    else:
        write_secret(folder.unfinished, b"")
    authority = Authority.create("edgefleet devices and servers", clock)
    authority.write(folder.ca)
    authority.server([*names, *LOOPBACK]).write(folder.server)
    authority.server([*broker_names, *LOOPBACK]).write(folder.broker)
    services = Authority.create("edgefleet services", clock)
    services.write(folder.service_ca)
    services.service(SERVICE).write(folder.service)
    for role in ONLINE_ROLES:
        write_secret(folder.online_key(role), new_online_key())
    database.migrate()
    with database.write() as connection:
        token = tokens.create(connection, clock(), kind="api", role="admin")
    if not database.shared:
        folder.database.chmod(0o600)
    write_secret(folder.operator_token, token.encode() + b"\n")
    folder.unfinished.unlink()
    sync_folder(folder.root)
    return token
