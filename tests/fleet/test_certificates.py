"""Which device certificates hold, by what the database says of them."""

import datetime as dt
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, insert, update

from fleet import enrolment, revocation
from fleet.authority import Authority
from fleet.refusals import Forbidden
from fleet.tables import certificates, devices

NOW = time.time()
LIFE = dt.timedelta(days=1)
DEVICE = "dev-1"


@pytest.fixture
def serial(database):
    """The serial number of a certificate that was issued to a device."""
    made = Authority.create("fleet").device(DEVICE, ec.generate_private_key(ec.SECP256R1()).public_key(), LIFE).decode()
    with database.write() as connection:
        connection.execute(insert(devices).values(**enrolment._new_device(DEVICE, made, "key", NOW)))
        revocation.issued(connection, DEVICE, made, NOW)
        return int(connection.execute(certificates.select()).one().serial, 16)


def checked(database, serial, *, device=DEVICE, now=NOW):
    with database.read() as connection:
        revocation.check(connection, now, device, serial)


def test_what_was_issued_holds(database, serial):
    """To its end, and for its own device."""
    checked(database, serial)
    for given in ({"now": NOW + 2 * 86400}, {"device": "dev-2"}):
        with pytest.raises(Forbidden):
            checked(database, serial, **given)
    with pytest.raises(Forbidden, match="not issued here"):
        checked(database, serial + 1)


@pytest.mark.parametrize(
    "change",
    [
        update(certificates).values(revoked=NOW),
        update(devices).values(removed=NOW),
        delete(certificates),
    ],
    ids=["revoked", "its device removed", "forgotten"],
)
def test_what_was_taken_back_holds_no_more(database, serial, change):
    """Whichever row says so."""
    with database.write() as connection:
        connection.execute(change)
    with pytest.raises(Forbidden):
        checked(database, serial)
