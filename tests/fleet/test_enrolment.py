"""Certificates, join tokens and first contact."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import select

from fleet import tokens
from fleet.authority import Authority, check_request
from fleet.enrolment import Enrolment
from fleet.refusals import Conflict, Unauthorised
from fleet.tables import tokens as token_rows
from modules.errors import BadSettings, Invalid
from modules.names import DeviceId
from modules.protocol.enrollment import Broker, EnrollRequest

NOW = 1_000.0


def request(key, subject="CN that nobody believes"):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def join(database):
    """Enrols a request at a time, with a token made on the way unless one is given."""
    enrolment = Enrolment(
        Authority.create("ca"), fleet="https://x", broker=Broker(host="b", port=1), certificate_life_s=86400
    )

    def enrol(csr, *, name=None, token=None, uses=1, now=NOW):
        with database.write() as connection:
            if token is None:
                token = enrolment.join_bundle(connection, NOW, root=b"root", uses=uses, life_s=60).token
        with database.write() as connection:
            return token, enrolment.enrol(connection, now, EnrollRequest(token=token, csr=csr, name=name))

    return enrol


def test_a_device_certificate_says_what_the_server_decided(join, key):
    """CN and SAN are the id, for clients only, and nothing of the request's subject."""
    _, answer = join(request(key, "service:fleet"), name=DeviceId("dev-a"))
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert certificate.subject.rfc4514_string() == "CN=dev-a"
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    ) == ["urn:edgefleet:device:dev-a"]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_device_without_a_name_gets_one_from_its_key(join, key):
    """The same key always gets the same name."""
    _, first = join(request(key))
    _, second = join(request(key))
    assert first.device == second.device
    assert first.device.startswith("device-")


def test_the_same_key_may_ask_again_with_a_used_token(join, key):
    """A lost answer costs no token and no name."""
    token, first = join(request(key), name=DeviceId("dev-a"))
    _, again = join(request(key), name=DeviceId("dev-a"), token=token)
    assert again.device == first.device


def test_a_name_belongs_to_its_first_key(join, key):
    """Another key cannot take a device's name over."""
    join(request(key), name=DeviceId("dev-a"))
    with pytest.raises(Conflict, match="another device"):
        join(request(ec.generate_private_key(ec.SECP256R1())), name=DeviceId("dev-a"))


def test_a_token_is_good_for_its_uses_and_its_time(join, key):
    """One use, one device; after its time it is nobody's."""
    token, _ = join(request(key))
    other = request(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(Unauthorised, match="used up"):
        join(other, token=token)
    with pytest.raises(Unauthorised, match="does not hold"):
        join(other, token=token, now=NOW + 61)


@pytest.mark.parametrize("token", ["", "eft_wrong", "x" * 10_000])
def test_a_token_that_was_never_given_is_refused(join, key, token):
    """What is wrong about it is not said."""
    with pytest.raises(Unauthorised, match="does not hold"):
        join(request(key), token=token)


def test_a_join_token_is_no_api_token(database):
    """A device's token opens no other door."""
    with database.write() as connection:
        token = tokens.create(connection, NOW, kind="join", role="device")
        with pytest.raises(Unauthorised):
            tokens.role(connection, NOW, token, kind="api")


def test_the_database_never_holds_a_token(database):
    """Whoever reads the database cannot use what is in it."""
    with database.write() as connection:
        token = tokens.create(connection, NOW, kind="api", role="admin")
        stored = connection.execute(select(token_rows)).one()
    assert token not in str(stored)
    assert token.removeprefix("eft_") not in str(stored)


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
