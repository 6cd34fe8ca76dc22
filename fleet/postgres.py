"""What PostgreSQL needs to keep the promises that SQLite keeps: one writer at a time, reads of one state, plain words.

Its driver is an extra of its own (``edgefleet[postgres]``) and is loaded only where a server's settings name such a
database.
"""

from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DataError, OperationalError

from modules.errors import BadSettings, Invalid

# Advisory locks of a fleet's database: whoever writes, and the one server that leads.
_FLEET: Final = 0x65666C74
WRITERS: Final = (_FLEET, 1)
LEADER: Final = (_FLEET, 2)
# How long a writer waits for another one.
PATIENCE_S: Final = 5
# A server or a network that is gone is noticed within seconds, on both sides of the connection.
_NOTICES: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "edgefleet-fleet",
}
# A commit that returned survives a power cut, whatever this PostgreSQL does for others.
_SESSION: Final = (
    "SET client_encoding = 'UTF8'; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2;"
    " SET tcp_keepalives_count = 3;"
    " SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
# The database itself, whatever class the driver gives them: a read-only standby, rights that are missing.
_ITS_OWN: Final = frozenset({"25006", "42501"})
# psycopg's numbers of isolation levels, without loading it.
_READ_COMMITTED: Final = 2
_REPEATABLE_READ: Final = 3
# By the beginning of PostgreSQL's own code; a failure to connect has no code, but words.
_WORDS: Final = (
    ("53100", "No space left", "the database's disk is full ({said}): free disk space on PostgreSQL's server"),
    ("55P03", "lock timeout", "the database is locked by another program ({said}): end that program"),
    ("25006", "read-only", "the database is read-only ({said}): name the primary server, or make it writable"),
    ("42501", "permission denied", "the database refuses it ({said}): give the fleet's user its rights back"),
    (
        "28",
        "authentication failed",
        "PostgreSQL refuses the user or its password ({said}): correct its address",
    ),
    ("3D000", "does not exist", "the database is not there ({said}): make it, or correct its address"),
    ("53300", "too many clients", "PostgreSQL has no connection left ({said}): raise its max_connections"),
)


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql:", "postgresql+psycopg:"))


def engine(url: str) -> Engine:
    """An engine whose transactions behave as those of SQLite.

    Raises:
        BadSettings: the driver is missing, or it is no such address. The address is never repeated: a password stands
            in it.
    """
    try:
        made = create_engine(_address(url), pool_pre_ping=True, connect_args=_NOTICES)
    except ModuleNotFoundError as error:
        raise BadSettings(
            "PostgreSQL's driver is missing", element="database", remedy="pip install 'edgefleet[postgres]'"
        ) from error
    event.listen(made, "connect", _prepare)
    event.listen(made, "begin", _begin)
    event.listen(made, "handle_error", _whose, retval=True)
    return made


def _address(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise BadSettings(
            "not an address of a database",
            element="database",
            remedy="give postgresql://USER:PASSWORD@HOST/NAME, with %40 for an @ in the password",
        ) from None


def _prepare(connection: Any, _record: object) -> None:
    connection.autocommit = True
    connection.execute(_SESSION)
    connection.autocommit = False


def _begin(connection: Connection) -> None:
    """Readers see one state; writers, one after the other, see what the one before has committed.

    So writers take their lock before they look: a state of before the lock would be an old one.
    """
    options = connection.get_execution_options()
    raw: Any = connection.connection.dbapi_connection
    writes = options.get("write", False)
    raw.isolation_level = _READ_COMMITTED if writes else _REPEATABLE_READ
    raw.read_only = not writes
    if writes:
        patience = int(options.get("patience_s", PATIENCE_S))
        first, second = WRITERS
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = '{patience}s'; SELECT pg_advisory_xact_lock({first}, {second})",
            execution_options={"no_parameters": True},
        )


def _whose(context: ExceptionContext) -> Exception | None:
    """A failure of the database itself is one for whoever waits for it; a text that it cannot hold is the sender's."""
    error = context.original_exception
    state = getattr(error, "sqlstate", None)
    if isinstance(context.sqlalchemy_exception, DataError) and state is None:
        return Invalid(f"the database cannot hold it: {error}", element="text")
    if state in _ITS_OWN:
        return OperationalError(context.statement, None, error)
    return None


def in_words(error: BaseException) -> str:
    """A failure of PostgreSQL, as an operator reads it; the driver's words name places and users, never passwords."""
    said = str(error).strip().replace("\n", " ")
    state = str(getattr(error, "sqlstate", None) or "")
    for code, words, meaning in _WORDS:
        if state.startswith(code) if state else words in said:
            return meaning.format(said=said)
    return f"PostgreSQL cannot be reached ({said}): look whether it runs, and at its log"
