"""What is done on the server's machine itself, without a request: a row of the audit log in the same transaction."""

import os
import pwd

from sqlalchemy import Connection

from fleet.audit import log


def who() -> str:
    """As the history names whoever runs a command on the server's machine: by their account there."""
    try:
        return f"server: {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # an account without a name, as in a container
        return f"server: {os.getuid()}"


def add(connection: Connection, now: float, command: str, target: str = "") -> None:
    """``command`` as after ``edgefleet-fleet``."""
    log.add(connection, now, by=who(), action=f"edgefleet-fleet {command}", target=target)
