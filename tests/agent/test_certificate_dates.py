"""The dates of a certificate, read from its bytes, are those that cryptography reads."""

import datetime as dt

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.certificate_dates import dates, day
from fleet.authority import Authority
from modules.certificate_life import due_at, last_from


@pytest.mark.parametrize("at", [0.0, 1_700_000_000.0, 2_500_000_000.0, 4_000_000_000.0])
@pytest.mark.parametrize("days", [1, 90, 9000])
def test_dates_of_any_year_are_read(at, days):
    """Before and after 2050, where certificates write them in another way."""
    authority = Authority.create("fleet", lambda: at)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = authority.device("dev-a", key, dt.timedelta(days=days))
    assert dates(b"a key before it\n" + pem) == (at - 600, at + days * 86400)


def test_whatever_is_damaged_is_no_certificate():
    """Cut off anywhere, or with any byte changed, it raises nothing else, and does not run for ever."""
    authority = Authority.create("fleet")
    pem = authority.device("dev-a", ec.generate_private_key(ec.SECP256R1()).public_key(), dt.timedelta(days=1))
    for at in range(len(pem)):
        for spoilt in (pem[:at], pem[:at] + b"!" + pem[at + 1 :], pem[:at] + b"B" + pem[at + 1 :]):
            try:
                dates(spoilt)
            except ValueError:
                continue


def test_devices_ask_at_different_times_and_each_at_the_same():
    """In the twelfth of the life before two thirds of it are over: whoever goes away then has a third of it left."""
    names = [f"dev-{number}" for number in range(1000)]
    times = [due_at(1000.0, 1900.0, name) for name in names]
    assert times == [due_at(1000.0, 1900.0, name) for name in names]
    assert min(times) >= 1525.0
    assert max(times) <= 1600.0 < last_from(1000.0, 1900.0)
    assert max(times) - min(times) > 70
    assert due_at(1000.0, 1900.0) == 1600.0
    assert day(0.0) == "1970-01-01"
