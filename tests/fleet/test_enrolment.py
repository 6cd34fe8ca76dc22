"""Certificates, join tokens and first contact."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import select

from fleet import enrolment, tokens
from fleet.attempts import Asked
from fleet.authority import Authority, check_request
from fleet.refusals import JoinExpired, JoinSpent, NameTaken, TooMany, Unauthorised
from fleet.tables import certificates, devices, joins
from fleet.tables import tokens as token_rows
from modules.errors import BadSettings, Invalid
from modules.names import DeviceId
from tests.doubles.door import Door, new_key, request


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def door(database):
    return Door(database)


def test_a_device_certificate_says_what_the_server_decided(door, key):
    """CN and SAN are the id, for clients only, and nothing of the request's subject and extensions."""
    asks_for_more = (
        x509.BasicConstraints(ca=True, path_length=3),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:edgefleet:device:dev-b")]),
    )
    csr = request(key, "service:fleet", extensions=asks_for_more)
    answer = door.ask(key, door.bundle(), DeviceId("dev-a"), csr=csr)
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert certificate.subject.rfc4514_string() == "CN=dev-a"
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    ) == ["urn:edgefleet:device:dev-a"]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_device_without_a_name_gets_one_from_its_key(door, key):
    """The same key always gets the same name."""
    first, second = (door.ask(key, door.bundle()) for _ in range(2))
    assert first.device == second.device
    assert first.device.startswith("device-")


def test_the_same_key_may_ask_again_with_a_used_token(door, key):
    """A lost answer costs no token, no name and no second certificate."""
    token = door.bundle()
    first = door.ask(key, token, DeviceId("dev-a"))
    assert door.ask(key, token, DeviceId("dev-a")) == first
    with door.database.read() as connection:
        assert len(connection.execute(select(certificates)).all()) == 1


def test_an_old_certificate_is_not_given_again(door, key, monkeypatch):
    """Where two thirds of its life are over, whoever asks again gets the next."""
    token = door.bundle()
    first = door.ask(key, token, DeviceId("dev-a"))
    monkeypatch.setattr(enrolment, "_FRESH", 1.1)
    assert door.ask(key, token, DeviceId("dev-a")).certificate != first.certificate


def test_a_key_that_asks_all_day_is_told_to_wait(door, key, monkeypatch):
    """So many times a day, and no more until the next; others are not concerned."""
    monkeypatch.setattr(door.enrolment, "_asked", Asked(3))
    token = door.bundle(uses=2)
    for _ in range(3):
        door.ask(key, token)
    with pytest.raises(TooMany, match="today"):
        door.ask(key, token)
    door.ask(new_key(), token)
    door.now += 86400
    with pytest.raises(JoinExpired):
        door.ask(key, token)


def test_a_name_belongs_to_its_first_key(door, key):
    """Another key cannot take a device's name over; what has it keeps its key, and the bundle its use."""
    door.ask(key, door.bundle(), DeviceId("dev-a"))
    token = door.bundle()
    with pytest.raises(NameTaken, match="another device"):
        door.ask(new_key(), token, DeviceId("dev-a"))
    with door.database.read() as connection:
        kept = serialization.load_pem_public_key(connection.scalar(select(devices.c.public_key)).encode())
    assert kept == key.public_key()
    door.ask(new_key(), token, DeviceId("dev-b"))


def test_a_token_is_good_for_its_uses_and_its_time(door, key):
    """One use, one device; after its time it is nobody's, the same key's neither."""
    token = door.bundle()
    door.ask(key, token)
    with pytest.raises(JoinSpent, match="used up"):
        door.ask(new_key(), token)
    unused = door.bundle()
    door.now += 61
    for one, given in ((new_key(), unused), (key, token)):
        with pytest.raises(JoinExpired, match="has expired"):
            door.ask(one, given)


@pytest.mark.parametrize("token", ["", "eft_wrong", "x" * 10_000])
def test_a_token_that_was_never_given_is_refused(door, key, token):
    """What is wrong about it is not said."""
    with pytest.raises(Unauthorised, match="does not hold"):
        door.ask(key, token[:500])


def test_a_join_token_is_no_api_token(door):
    """A device's token opens no other door."""
    token = door.bundle()
    with door.database.read() as connection, pytest.raises(Unauthorised):
        tokens.role(connection, door.now, token, kind="api")


def test_the_database_never_holds_a_token(database):
    """Whoever reads the database cannot use what is in it."""
    with database.write() as connection:
        token = tokens.create(connection, 0.0, kind="api", role="admin")
        stored = connection.execute(select(token_rows)).one()
    joins_with = Door(database).bundle()
    with database.read() as connection:
        stored_join = connection.execute(select(joins)).one()
    for text, row in ((token, stored), (joins_with, stored_join)):
        assert text not in str(row)
        assert text.removeprefix("eft_") not in str(row)


def test_requests_that_prove_nothing_are_refused(key):
    """Another curve, another algorithm, another signer, no PEM, and too much of it."""
    with pytest.raises(Invalid, match="P-256"):
        check_request(request(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(Invalid, match="P-256"):
        check_request(request(rsa.generate_private_key(65537, 2048)))
    der = bytearray(x509.load_pem_x509_csr(request(key).encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(Invalid, match=r"own key|not a certificate signing request"):
        check_request(forged)
    with pytest.raises(Invalid, match="not a certificate signing request"):
        check_request("hello")
    with pytest.raises(Invalid, match="more than"):
        check_request("x" * 10_000)


def test_no_authority_names_a_device_like_a_service_or_a_service_like_a_device(key):
    """The colon keeps the two apart, on both sides."""
    authority = Authority.create("ca")
    for name in ("service:fleet", "dev-a/down", "+", "#", "_shared"):
        with pytest.raises(Invalid):
            authority.device(name, key.public_key(), dt.timedelta(days=1))
    with pytest.raises(Invalid, match="colon"):
        authority.service("fleet")


def test_an_authority_survives_its_files_and_says_when_they_are_gone(tmp_path):
    """Written 0600, read back the same; a missing or foreign key is a setting to put right."""
    path = tmp_path / "ca.pem"
    authority = Authority.create("ca")
    authority.write(path)
    assert Authority.load(path).pem == authority.pem
    assert (tmp_path / "ca.key").stat().st_mode & 0o077 == 0
    with pytest.raises(BadSettings, match="init"):
        Authority.load(tmp_path / "none.pem")
