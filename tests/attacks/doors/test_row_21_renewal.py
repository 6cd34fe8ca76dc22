"""Row 21: a request for a certificate that names another device, and everything that can go wrong with a renewal.

The real agent, with its module at work. tests/agent/test_renewal.py goes through each write of a renewal.
"""

import asyncio
import json
import secrets

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import identity as identities
from agent.identity import NEXT, NEXT_KEY, PAIR
from fleet.authority import Authority
from modules import canonical
from modules.names import DeviceId
from modules.protocol.enrollment import RENEW_LIMIT, RenewAnswer, RenewRequest
from modules.protocol.topics import Topics
from modules.signing import RENEW_TYPE, sign, signer_from_pem
from tests.agent.renewing import serial
from tests.attacks.doors.aged import issue_again, pair, pem
from tests.doubles.device import Device, join
from tests.parts.pace import stretched

pytestmark = pytest.mark.long

TOPICS = Topics()


@pytest.fixture
def rogue(system, tmp_path):
    """Enrolled like any other, and hostile since."""
    with system.server.client() as http:
        one = Device(tmp_path / "rogue", join(http), f"dev-rogue-{secrets.token_hex(3)}")
        assert one.enrol().is_success
    return one


@pytest.fixture
def identity(edge):
    """The device's folder, and how to have its agent find what was changed there meanwhile."""
    return edge.device.state / "identity"


def request(key, *names):
    """A signing request; the first name is its subject, all the others stand beside it."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names[1:]:
        also = x509.SubjectAlternativeName([x509.DNSName(one) for one in names[1:]])
        builder = builder.add_extension(also, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def certificate(system, name):
    return system.api(f"devices/{name}")["certificate"]["serial"]


def of(system, name, kind):
    return [one for one in system.api("events") if one["device"] == name and one["kind"] == kind]


class Answers(Topics):
    """Keeps what comes at ``down/enroll``."""

    def __init__(self, topics, device):
        super().__init__(topics.prefix)
        self.device, self.came = device, asyncio.Event()

    def parse(self, topic):
        found = super().parse(topic)
        if found.rest == ("enroll",):
            self.came.set()
        return found


@pytest.mark.parametrize(
    "names", [lambda _own, other: (other,), lambda own, other: (own, other)], ids=["as its subject", "beside its own"]
)
async def test_row_21_a_request_that_names_another_device_gets_nothing(system, edge, rogue, names):
    """Whoever asks is who the broker says: the request is refused, an event names the one who asked, and both devices
    keep the certificates that they had."""
    before = certificate(system, edge.name), certificate(system, rogue.name)
    key = ec.generate_private_key(ec.SECP256R1())
    asked = RenewRequest(device=DeviceId(rogue.name), csr=request(key, *names(rogue.name, edge.name)))
    envelope = sign(canonical.encode(asked), payload_type=RENEW_TYPE, signers=[signer_from_pem(rogue.key_pem)])
    async with rogue.connected():
        rogue.topics = answers = Answers(rogue.topics, rogue)
        await rogue.client.publish(TOPICS.renewal(DeviceId(rogue.name)), envelope, qos=1)
        async with asyncio.timeout(stretched(20)):
            await answers.came.wait()
    await asyncio.to_thread(
        edge.device.until, lambda: of(system, rogue.name, "renewal-refused"), "the refusal is an event"
    )
    assert "does not match" in json.dumps(of(system, rogue.name, "renewal-refused"))
    assert (certificate(system, edge.name), certificate(system, rogue.name)) == before
    assert not of(system, edge.name, "renewal-refused")
    edge.holds()


async def test_row_21_a_request_in_another_devices_name_is_not_delivered(system, edge, rogue, identity):
    """Neither at the other's topic, nor signed with its own key at its own: there is no certificate, no answer reaches
    the device, and no file of it changes."""
    before = certificate(system, edge.name)
    key = ec.generate_private_key(ec.SECP256R1())
    asked = RenewRequest(device=DeviceId(edge.name), csr=request(key, edge.name))
    envelope = sign(canonical.encode(asked), payload_type=RENEW_TYPE, signers=[signer_from_pem(rogue.key_pem)])
    async with rogue.connected():
        for device in (edge.name, rogue.name):
            await rogue.client.publish(TOPICS.renewal(DeviceId(device)), envelope, qos=1)
    await asyncio.to_thread(
        edge.device.until, lambda: of(system, rogue.name, "renewal-refused"), "the refusal is an event"
    )
    assert certificate(system, edge.name) == before
    assert not of(system, edge.name, "renewal-refused")
    assert not (identity / NEXT).exists()
    edge.holds()


def starts_again(edge, change):
    """Change the device's files while its agent is away."""
    edge.device.agent.stop()
    change()
    edge.device.agent.start()


def renewed(system, edge, identity, before):
    """Wait until it is known by another certificate; it is the same device to everybody, and its module never ended."""
    edge.device.until(lambda: certificate(system, edge.name) == serial(identity) != before, "another certificate")
    edge.device.until(lambda: not (identity / NEXT_KEY).exists(), "nothing is left of the renewal")
    assert not (identity / NEXT).exists()
    assert edge.commanded("ping") == "done"
    told = {one["kind"] for one in edge.events()}
    assert "certificate-renewed" in told
    assert not told & {"forged-message", "renewal-refused"}
    names = sorted(path.name for path in identity.iterdir())
    assert names == ["ca.pem", "device.json", PAIR, "root.json", "sealing.key", "sealing.pub"]
    edge.mark()
    edge.holds()


def test_row_21_a_renewal_that_is_due_waits_for_the_network(system, edge, identity):
    """Due, and no broker: nothing is written, the module answers; with the broker back it renews.

    It is the first of them, for a device that has just renewed does not do so by its dates.
    """
    system.kill_broker()
    try:
        edge.device.agent.stop()
        issue_again(system, edge.name, identity, days=70)
        before, lost = serial(identity), edge.device.agent.said().count("broker lost")
        edge.device.agent.start(ready=lambda: edge.device.agent.said().count("broker lost") > lost)
        edge.answers()
        assert not (identity / NEXT).exists()
    finally:
        system.start_broker()
    renewed(system, edge, identity, before)


def another_keys(system, edge):
    made = pair(Authority.load(system.data.ca), edge.name)
    return pem(ec.generate_private_key(ec.SECP256R1())) + identities.certificate_of(made)


# Files in the place of the next certificate, which the device cannot use.
NEXTS = {"cut off": lambda _system, _edge: b"-----BEGIN CERTIFICATE", "another key's": another_keys}


@pytest.mark.parametrize("which", NEXTS)
def test_row_21_a_next_certificate_that_cannot_be_used_is_given_up(system, edge, identity, which):
    """Corrupt, or never to be accepted: the device goes on with what it has, asks for another one, and renews."""
    before = serial(identity)
    starts_again(edge, lambda: (identity / NEXT).write_bytes(NEXTS[which](system, edge)))
    edge.answers()
    renewed(system, edge, identity, before)


def test_row_21_a_certificate_that_ended_meanwhile_stops_no_module(system, edge, identity):
    """Off for too long: the broker refuses it, the server shows it offline, and the module goes on answering; nothing
    of the identity is lost, and with a certificate that holds it is back."""
    held = (identity / PAIR).read_bytes()
    edge.device.agent.stop()
    issue_again(system, edge.name, identity, days=91)
    edge.device.agent.start(ready=lambda: "by the broker's clock it has ended" in edge.device.agent.said())
    edge.answers()
    assert not system.api(f"devices/{edge.name}")["online"]
    assert not (identity / NEXT).exists()
    starts_again(edge, lambda: (identity / PAIR).write_bytes(held))
    edge.device.until(lambda: system.api(f"devices/{edge.name}")["online"], "it is back")
    edge.holds()


def test_row_21_an_answer_that_was_never_asked_for_is_ignored(system, edge, identity):
    """Who has the broker answers a request that there was not, with a certificate of his own: nothing is written."""
    before = serial(identity)
    made = pair(Authority.create("somebody else"), edge.name).decode()
    answer = RenewAnswer(csr="sha256:" + "0" * 64, certificate=made[made.index("-----BEGIN CERT") :])
    payload = canonical.encode(answer)
    assert len(payload) < RENEW_LIMIT
    with system.wiretap(edge.name) as tap:
        tap.say("enroll", payload, retain=False)
    assert edge.commanded("ping") == "done"
    assert serial(identity) == before
    assert not (identity / NEXT).exists()
    edge.holds()
