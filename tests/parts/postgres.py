"""A real PostgreSQL of the tests' own: a cluster on a loopback port, with syncs on.

A new database takes half a second, so that most tests share one, which is emptied before each.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from fleet.db import Database
from fleet.schema import complete
from tests.parts.mosquitto import HOST, free_port
from tests.parts.pace import stretched
from tests.parts.presence import postgres_program
from tests.parts.programs import Program

USER, PASSWORD = "fleet", "spring-water"
MAKES_WITHIN_S = stretched(60)


class Postgres:
    """A running cluster; its one user has a password, and may make databases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._made = 0
        self._shared: tuple[str, Database] | None = None
        (folder / "password").write_text(PASSWORD)
        self._give_away()
        names = ("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}")
        command = [_found("initdb"), "-D", str(self.data), "-U", USER, "-E", "UTF8", "--no-locale", *names]
        subprocess.run([*_other_user(), *command], check=True, timeout=MAKES_WITHIN_S, stdout=subprocess.PIPE)
        options = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": folder, "fsync": "on"}
        given = [f"-c{name}={value}" for name, value in options.items()]
        self.program = Program(
            "postgres", [*_other_user(), _found("postgres"), "-D", self.data, *given], folder / "postgres.log"
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, name: str, *, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{name}"

    def start(self) -> None:
        self.program.start(ready=self._answers)

    def stop(self) -> None:
        """At once, as in a crash: what was committed is there when it is started again."""
        if self._shared is not None:
            self._shared[1].close()
        if self.program.runs:
            os.kill(self.program.pid, signal.SIGQUIT)
        self.program.stop()

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the cluster's user."""
        command = [_found("psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port)]
        command += ["-U", USER, "-d", database, "-c", statement]
        subprocess.run([str(part) for part in command], check=True, timeout=MAKES_WITHIN_S, stdout=subprocess.PIPE)

    def new(self) -> str:
        """A new database without tables; its address."""
        self._made += 1
        name = f"fleet{self._made}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def shared(self) -> str:
        """The database that tests share, with the newest tables and no rows; its address."""
        if self._shared is None:
            self._shared = (url := self.new()), Database.of(url, Path())
            self._shared[1].migrate()
        url, database = self._shared
        with database.write() as connection:
            for table in reversed(complete().sorted_tables):
                connection.execute(table.delete())
            sequences = connection.scalars(text("SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL"))
            for sequence in sequences.all():
                connection.execute(text(f"ALTER SEQUENCE {sequence} RESTART"))
        return url

    def _answers(self) -> bool:
        command = [_found("pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(command, check=False, timeout=MAKES_WITHIN_S).returncode == 0

    def _give_away(self) -> None:
        if os.geteuid() == 0:
            other = pwd.getpwnam("nobody")
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, other.pw_uid, other.pw_gid)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Make a cluster, start it, stop it by its process id and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="edgefleet-postgres-"))
    made = Postgres(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def _found(name: str) -> str:
    found = postgres_program(name)
    assert found is not None, "PostgreSQL is not installed: mark the test with needs('postgres')"
    return found


def _other_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    other = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={other.pw_uid}", f"--regid={other.pw_gid}", "--clear-groups", "--"]
