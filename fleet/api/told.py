"""What was refused to somebody who may ask becomes an event, too: a role that is none, a name that is taken."""

from collections.abc import Iterator
from contextlib import contextmanager

from fleet import events
from fleet.refusals import Forbidden, Unauthorised
from fleet.services import Services
from fleet.tokens import hidden
from modules.errors import Refused


@contextmanager
def refusals_told(use: Services, by: str) -> Iterator[None]:
    """Record what is refused inside, which wrote nothing; of each who asks the first of a minute."""
    try:
        yield
    except (Forbidden, Unauthorised):
        raise  # each denied request is an event anyway (fleet/audit/middleware.py)
    except Refused as error:
        if use.told.allows(f"refused {by}", use.clock()):
            with use.database.write() as connection:
                events.record(connection, use.clock(), "people-refused", hidden(f"{error} [{error.code}]"), by=by)
        raise
