"""Whose next certificate the server makes, what it refuses and says why, and which keys count meanwhile."""

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from fleet import device_keys, events, removal, renewal, revocation
from fleet.authority import Authority
from fleet.bundles import Bundles
from fleet.device_keys import PREVIOUS_S, Keys
from fleet.enrolment import Enrolment
from fleet.ingest import Ingest, Receipt
from fleet.joins import Terms
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.refusals import Forbidden, NameTaken
from fleet.renewal import A_DAY, Renewals
from fleet.said import Inbound
from fleet.tables import certificates, devices
from modules import canonical
from modules.names import DeviceId
from modules.protocol.enrollment import Broker, EnrollRequest, RenewRequest
from modules.protocol.report import Report
from modules.protocol.topics import Topics
from modules.signing import RENEW_TYPE, REPORT_TYPE, sign, signer_from_pem

DAY_S = 86_400.0
NAME = DeviceId("dev-a")


def pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def request(key, name=NAME, *, also=()):
    """A signing request for a key; ``also`` are further names."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if also:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(also)), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Fleet:
    """One enrolled device and the parts of the server that it meets."""

    def __init__(self, database) -> None:
        self.database, self.now = database, float(int(time.time()))
        self.authority = Authority.create("fleet", self.clock)
        broker = Broker(host="localhost", port=1)
        self.bundles = Bundles(self.authority, fleet="https://f", broker=broker)
        self.enrolment = Enrolment(self.authority, certificate_life_s=90 * DAY_S)
        mishaps = Mishaps(self.clock)
        self.renewals = Renewals(
            database=database,
            authority=self.authority,
            clock=self.clock,
            topics=Topics(),
            send=None,
            life_s=90 * DAY_S,
            mishaps=mishaps,
        )
        self.ingest = Ingest(database, self.clock, mishaps, Meters())
        self.number = 0
        self.key = self.enrol()

    def clock(self):
        return self.now

    def enrol(self, device=NAME, key=None, **terms):
        key = key or ec.generate_private_key(ec.SECP256R1())
        with self.database.write() as connection:
            token = self.bundles.join(connection, self.now, Terms(life_s=DAY_S, **terms), root=b"root").token
            self.enrolment.enrol(connection, self.now, EnrollRequest(token=token, csr=request(key), name=device))
        return key

    def envelope(self, csr, *, by=None, device=NAME):
        document = canonical.encode(RenewRequest(device=device, csr=csr))
        return sign(document, payload_type=RENEW_TYPE, signers=[signer_from_pem(pem(by or self.key))])

    def ask(self, csr, **more):
        """The answer; asked on the topic of ``dev-a``."""
        return self.renewals.answer(NAME, self.envelope(csr, **more))

    def says(self, key, *, number=None):
        """A report signed with this key; what it is acknowledged with."""
        self.number += 1
        report = Report(device=NAME, number=number or self.number, issued=self.now, order=0, agent="0")
        signers = [signer_from_pem(pem(key))]
        data = sign(canonical.encode(report), payload_type=REPORT_TYPE, signers=signers)
        return self.ingest.commit([Inbound(NAME, "report", data)])

    def row(self):
        with self.database.read() as connection:
            return connection.execute(select(devices).where(devices.c.id == NAME)).one()

    def serials(self):
        """The numbers of its certificates that hold."""
        mine = (certificates.c.device == NAME) & certificates.c.revoked.is_(None) & (certificates.c.expires > self.now)
        with self.database.read() as connection:
            return set(connection.scalars(select(certificates.c.serial).where(mine)))

    def kinds(self):
        with self.database.read() as connection:
            return [one["kind"] for one in events.newest(connection)]


@pytest.fixture
def fleet(database):
    return Fleet(database)


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


def test_a_device_gets_a_certificate_for_its_new_key(fleet, key):
    """With its own name, whatever else; the one before holds on until the new one was seen in use."""
    (old,) = fleet.serials()
    answer = fleet.ask(request(key))
    made = x509.load_pem_x509_certificate(answer.certificate.encode())

    assert answer.reason is None
    assert made.public_key() == key.public_key()
    assert made.subject.rfc4514_string() == f"CN={NAME}"
    assert fleet.serials() == {old, f"{made.serial_number:x}"}
    assert fleet.says(fleet.key) == [Receipt(NAME, 1)]
    assert fleet.says(key) == [Receipt(NAME, 2)]
    assert fleet.serials() == {f"{made.serial_number:x}"}
    assert "certificate-renewed" in fleet.kinds()


def test_what_was_under_way_with_the_old_key_counts_for_a_day(fleet, key):
    """A report of before that comes after the first with the new key is acknowledged and is no forgery; a day later
    the old key says nothing any more."""
    fleet.ask(request(key))
    fleet.says(fleet.key)
    fleet.says(key)
    assert fleet.says(fleet.key, number=1) == [Receipt(NAME, 2)]
    assert fleet.says(fleet.key) == [Receipt(NAME, 4)]
    fleet.now += PREVIOUS_S
    assert fleet.says(fleet.key) == []
    assert fleet.kinds()[0] == "forged-message"
    assert fleet.says(key) == [Receipt(NAME, 6)]


def test_the_same_key_asking_again_gets_the_same_certificate(fleet, key):
    """A lost answer costs nothing, and a request that the broker brings again neither."""
    asked = fleet.envelope(request(key))
    first = fleet.renewals.answer(NAME, asked)
    assert fleet.renewals.answer(NAME, asked) == first
    assert fleet.ask(request(key)).certificate == first.certificate
    assert len(fleet.serials()) == 2


def test_a_request_that_is_replayed_after_its_renewal_changes_nothing(fleet, key):
    """It is signed with a key of before: refused, an event, and the present certificate stays the only one."""
    asked = fleet.envelope(request(key))
    fleet.renewals.answer(NAME, asked)
    fleet.says(key)
    before = fleet.row()
    assert fleet.renewals.answer(NAME, asked) is None
    assert fleet.row() == before
    assert fleet.kinds()[0] == "renewal-refused"


def p384():
    return ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("csr", "code", "words"),
    [
        (lambda key: request(key, "dev-b"), "untrusted", "CSR identity does not match"),
        (lambda key: request(key, also=[x509.DNSName("dev-b")]), "untrusted", "CSR identity does not match"),
        (
            lambda key: request(key, also=[x509.UniformResourceIdentifier("urn:edgefleet:device:dev-b")]),
            "untrusted",
            "CSR identity does not match",
        ),
        (lambda _: request(p384()), "invalid", "P-256"),
        (lambda _: "no request", "invalid", "not a certificate signing request"),
    ],
    ids=["subject", "DNS name", "URI", "another curve", "nonsense"],
)
def test_a_request_for_anybody_else_or_of_another_kind_is_refused(fleet, key, csr, code, words):
    """The answer says why, an event says so, and no certificate was made."""
    before = fleet.serials()
    answer = fleet.ask(csr(key))
    assert answer.reason.code == code
    assert words in answer.reason.message
    assert answer.certificate == ""
    assert fleet.serials() == before
    assert fleet.kinds()[0] == "renewal-refused"


def test_the_same_key_as_now_is_refused(fleet):
    """A certificate that lives for years on one key is what renewal is there to end."""
    assert fleet.ask(request(fleet.key)).reason.code == "conflict"


def test_another_device_asks_in_vain_on_this_topic(fleet, key):
    """A request that another device signed, or that names another device, gets no answer: only an event."""
    other = fleet.enrol(DeviceId("dev-b"))
    assert fleet.ask(request(key), by=other) is None
    assert fleet.ask(request(key), device="dev-b") is None
    assert fleet.renewals.answer(NAME, b"{}") is None
    assert fleet.renewals.answer(DeviceId("dev-unknown"), fleet.envelope(request(key))) is None
    assert fleet.row().next_key is None


@pytest.mark.parametrize("how", ["remove_device", "revoke_device"])
def test_a_device_that_was_removed_or_revoked_gets_none(fleet, key, how):
    """Nor does what it says count."""
    with fleet.database.write() as connection:
        getattr(removal, how)(connection, fleet.now, NAME)
    assert fleet.ask(request(key)) is None
    assert fleet.serials() == set()
    assert fleet.says(fleet.key) == []


def test_a_device_whose_certificate_has_ended_gets_none(fleet, key):
    """Whoever holds a session open over its end has to be enrolled again."""
    fleet.now += 91 * DAY_S
    assert "expired" in fleet.ask(request(key)).reason.message


def test_certificates_of_a_day_are_counted(fleet):
    """Ever new keys come to an end, with an answer; the next day there are others."""
    answers = [fleet.ask(request(ec.generate_private_key(ec.SECP256R1()))) for _ in range(A_DAY)]
    assert [one.reason is None for one in answers] == [True] * (A_DAY - 1) + [False]
    assert answers[-1].reason.code == "too-many"
    assert len(fleet.serials()) == 2  # those that were never used are revoked
    fleet.now += DAY_S + 1
    assert fleet.ask(request(ec.generate_private_key(ec.SECP256R1()))).reason is None


def test_a_device_that_went_on_before_the_server_heard_of_it_may_renew(fleet, key):
    """The request itself, signed with the next key, says that it is in use."""
    fleet.ask(request(key))
    third = ec.generate_private_key(ec.SECP256R1())
    assert fleet.ask(request(third), by=key).reason is None
    assert fleet.row().public_key == Keys.of(fleet.row()).present
    assert fleet.says(third) == [Receipt(NAME, 1)]


def test_a_revoked_device_comes_back_with_a_new_key_and_an_operators_word_alone(fleet, database):
    """Its row and its orders stay; the old key lets nobody in, whatever the bundle, and a new one by a word alone."""
    with database.write() as connection:
        removal.revoke_device(connection, fleet.now, NAME, by="me")
    fresh = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(NameTaken):
        fleet.enrol(key=fresh)
    for terms in ({}, {"name": NAME, "readmit": True}):
        with pytest.raises(Forbidden, match="revoked"):
            fleet.enrol(key=fleet.key, **terms)
    fleet.enrol(key=fresh, name=NAME, readmit=True)
    assert fleet.row().revoked is None
    assert fleet.says(fresh) == [Receipt(NAME, 1)]
    assert fleet.says(fleet.key) == []
    kinds = fleet.kinds()
    assert kinds.count("enrolled") == 2
    assert "device-revoked" in kinds


def test_old_certificates_are_forgotten_and_the_newest_is_not(fleet, key):
    """A year after its end, unless it is the only one of its device."""
    fleet.now += 1000 * DAY_S
    with fleet.database.write() as connection:
        revocation.forget_expired(connection, fleet.now)
        assert connection.execute(select(certificates)).all() != []
    fleet.enrol(key=fleet.key)
    with fleet.database.write() as connection:
        revocation.forget_expired(connection, fleet.now)
        assert len(connection.execute(select(certificates)).all()) == 1


def test_requests_of_a_flood_are_answered_once(fleet):
    """Of one device the newest counts, and a thousand devices may wait."""
    for number in range(renewal.WAITING + 10):
        fleet.renewals.take(DeviceId(f"dev-{number}"), b"1")
        fleet.renewals.take(DeviceId(f"dev-{number}"), b"2")
    assert set(fleet.renewals._waiting.values()) == {b"2"}
    assert len(fleet.renewals._waiting) == renewal.WAITING


def test_keys_of_a_device_without_a_renewal_are_one(fleet):
    """Neither a next nor a previous key counts where there is none."""
    assert list(Keys.of(fleet.row()).accepted(fleet.now)) == [device_keys.public(fleet.row().public_key).keyid]
