"""How devices join, with the real agent's command, a real server and a real broker: what a person at each end sees."""

import asyncio
import json
import re
import secrets
import ssl
import sys

import aiomqtt
import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from agent.claim import Claim
from agent.identity import load
from fleet import joins
from fleet.db import Database
from fleet.tables import devices
from modules import canonical
from modules.fingerprint import heard
from modules.protocol.enrollment import ClaimBundle, ClaimRequest, EnrollAnswer, claimed
from modules.protocol.topics import CLAIM, Topics
from tests.doubles.door import new_key, request
from tests.doubles.publisher import Publisher
from tests.parts.programs import CommandFailed, Program, run, until
from tests.parts.system import System

pytestmark = pytest.mark.needs("mosquitto")
SHOWN = re.compile(r"\n  ((?:[0-9a-f]{4} ){7}[0-9a-f]{4})\n  ((?:[0-9a-f]{4} ){7}[0-9a-f]{4})\n")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    fleet = System(tmp_path_factory.mktemp("joining"))
    try:
        with fleet.server.client() as operator:
            Publisher(operator).found()
        fleet.cli("login", fleet.server.url, "--token", fleet.server.token, "--ca", fleet.data.ca)
        yield fleet
    finally:
        fleet.close()


class Machine:
    """A device that has yet to join: the agent's command with folders of its own."""

    def __init__(self, system, kind):
        self.system, self.name = system, f"{kind}-{secrets.token_hex(3)}"
        self.folder = system.folder / self.name
        self.identity = self.folder / "state" / "identity"
        self.folder.mkdir()
        self.environment = {
            "EDGEFLEET_AGENT_STATE": str(self.folder / "state"),
            "EDGEFLEET_AGENT_RUNTIME": str(self.folder / "run"),
            "EDGEFLEET_AGENT_POLL_S": "0.5",
        }
        self.bundle = self.folder / "bundle.json"
        command = [sys.executable, "-m", "agent", "enroll", str(self.bundle)]
        self.waiting = Program("enroll", command, self.folder / "enroll.log", environment=self.environment)
        self.agent = Program(
            "agent", [sys.executable, "-m", "agent", "run"], self.folder / "agent.log", environment=self.environment
        )

    def bundled(self, *command):
        """The bundle that an operator's command writes."""
        self.system.cli("devices", *command, "--out", self.bundle)
        return self

    def enroll(self, *more):
        """Exit code and what it printed."""
        try:
            return 0, run("agent", "enroll", self.bundle, *more, environment=self.environment)
        except CommandFailed as error:
            return error.code, error.out + error.err

    def shows(self):
        """The fingerprint that the waiting command has printed, empty as long as it has not."""
        found = SHOWN.search(self.waiting.said())
        return heard(" ".join(found.groups())) if found else ""

    def waits(self):
        """Start the command, and return with the fingerprint that it shows."""
        self.waiting.start(ready=self.shows)
        return self.shows()

    def ended(self):
        until(lambda: not self.waiting.runs, "the command ends", within_s=60, said=self.waiting.said)
        return self.waiting.said()

    @property
    def document(self):
        return canonical.decode(self.bundle.read_bytes(), ClaimBundle, limit=1 << 20, what="claim bundle")

    def runs_once(self):
        """The agent connects with what it has got."""
        self.agent.start()
        try:
            until(lambda: self.shown()["online"], "it is online", within_s=60, said=self.agent.said)
        finally:
            self.agent.stop()

    def shown(self):
        return self.system.api(f"devices/{self.name}")


@pytest.fixture
def machine(system):
    made = []

    def make(kind="edge"):
        made.append(Machine(system, kind))
        return made[-1]

    yield make
    for one in made:
        for program in (one.waiting, one.agent):
            program.kill()


def waiting(system):
    return {one["name"]: one["fingerprint"] for one in system.cli("devices", "pending")}


def kinds(system, device):
    return [one["kind"] for one in system.cli("events") if one["device"] == device]


def test_a_device_waits_and_both_sides_show_the_same_fingerprint(system, machine):
    """Without --wait it ends with 3 and has no certificate; another fingerprint lets nobody in, the right one does."""
    device = machine().bundled("join", "--approve", "--label", "site=berlin")
    code, said = device.enroll("--name", device.name, "--no-wait")
    assert code == 3
    assert [path.name for path in device.identity.iterdir()] == ["key.pem"]
    shown = heard(" ".join(SHOWN.search(said).groups()))
    assert waiting(system)[device.name] == shown
    with pytest.raises(CommandFailed, match="another fingerprint"):
        system.cli("devices", "approve", device.name, "--fingerprint", "0" * 64)
    assert device.enroll("--name", device.name, "--no-wait")[0] == 3
    with pytest.raises(CommandFailed, match="missing"):
        system.cli("devices", "show", device.name)

    system.cli("devices", "approve", device.name, "--fingerprint", shown)
    assert device.enroll("--name", device.name)[1].startswith(f"enrolled as {device.name}")
    assert device.name not in waiting(system)
    assert device.shown()["labels"] == {"site": "berlin"}
    device.runs_once()
    assert kinds(system, device.name)[-2:] == ["enrolled", "enrolment-waits"]


@pytest.mark.long
def test_a_device_that_is_killed_while_it_waits_goes_on_with_its_key(system, machine):
    """kill -9 of the command, the server started again, approval while the device is off: it comes in all the same."""
    device = machine().bundled("join", "--approve")
    first = device.waits()
    device.waiting.kill()
    system.kill_server()
    system.start_server()
    (name,) = (name for name, mark in waiting(system).items() if mark == first)
    assert device.waits() == first
    device.waiting.kill()
    system.cli("devices", "approve", name, "--fingerprint", first)
    assert device.enroll()[1].startswith(f"enrolled as {name}")
    assert load(device.identity).device == name


@pytest.mark.long
def test_a_device_that_waits_comes_in_by_itself_though_the_server_was_away(system, machine):
    """The command waits on while nobody answers, and ends once its key is approved."""
    device = machine().bundled("join", "--approve")
    mark = device.waits()
    system.stop_server()
    system.start_server()
    (name,) = (name for name, waits in waiting(system).items() if waits == mark)
    system.cli("devices", "approve", name, "--fingerprint", mark)
    assert f"enrolled as {name}" in device.ended()


@pytest.mark.long
def test_a_rejected_device_is_told_why_and_its_key_stays_out(system, machine):
    """The waiting command ends with the reason; the key is refused with another bundle, too."""
    device = machine().bundled("join", "--approve", "--uses", "2")
    mark = device.waits()
    key = (device.identity / "key.pem").read_bytes()
    (name,) = (name for name, waits in waiting(system).items() if waits == mark)
    system.cli("devices", "reject", name, "--reason", "not one of ours")
    assert "not one of ours" in device.ended()
    assert not device.identity.exists()
    device.identity.mkdir()
    (device.identity / "key.pem").write_bytes(key)
    code, said = device.bundled("join").enroll()
    assert code == 1
    assert "rejected this key" in said
    assert "enrolment-rejected" in kinds(system, name)


def test_a_bundle_that_was_taken_back_lets_nobody_in(system, machine):
    """It is listed with what is left of it, and after the word every device is refused."""
    device = machine().bundled("join", "--uses", "5", "--expires", "7d", "--label", "site=berlin")
    newest = system.cli("devices", "joins", "list")[0]
    assert (newest["uses_left"], newest["labels"]) == (5, {"site": "berlin"})
    assert json.loads(device.bundle.read_text())["token"] not in json.dumps(newest)
    system.cli("devices", "joins", "revoke", str(newest["id"]))
    code, said = device.enroll()
    assert (code, "took this join bundle back" in said) == (1, True)
    assert not device.identity.exists()


@pytest.mark.long
def test_a_removed_device_shows_when_and_by_whom(system, machine):
    """Its page stays; its name is refused until an operator readmits it."""
    device = machine().bundled("join")
    device.enroll("--name", device.name)
    system.cli("devices", "remove", device.name)
    shown = system.cli("devices", "show", device.name)
    assert shown["removed"]
    assert shown["removed_by"].startswith("token ")
    text = run("fleet.client", "devices", "show", device.name, environment=system.home)
    assert re.search(rf"removed .* by {re.escape(shown['removed_by'])}", text)
    assert device.name not in {one["id"] for one in system.cli("devices", "list")}
    other = machine().bundled("join")
    code, said = other.enroll("--name", device.name)
    assert code == 1
    assert f"edgefleet devices readmit {device.name}" in said
    other.bundled("readmit", device.name)
    assert other.enroll()[1].startswith(f"enrolled as {device.name}")
    assert not system.api(f"devices/{device.name}").get("removed")


# Claims


def claim_state(system, claim):
    database = Database.of("", system.data.database)
    try:
        with database.read() as connection:
            found = connection.execute(select(joins.joins).where(joins.joins.c.claim == claim)).one()
            return found.claim_state
    finally:
        database.close()


def unreachable(device):
    """The fleet server's address in the claim leads nowhere: only the broker is there."""
    document = json.loads(device.bundle.read_text())
    device.bundle.write_text(json.dumps(document | {"fleet": "https://127.0.0.1:1"}))


@pytest.mark.long
def test_a_device_joins_over_mqtt_alone(system, machine):
    """Its claim gets it a certificate, is then refused by the broker, and lets no second device in."""
    device = machine("mqtt")
    device.bundled("claim", device.name, "--label", "site=ship")
    unreachable(device)
    code, said = device.enroll()
    assert (code, said) == (0, f"enrolled as {device.name} at https://127.0.0.1:1\n")
    assert sorted(path.name for path in device.identity.iterdir()) == [
        "ca.pem", "certificate.pem", "device.json", "key.pem", "root.json",
    ]  # fmt: skip
    until(lambda: claim_state(system, device.document.claim) == "cut", "the claim is cut", within_s=20)
    device.runs_once()
    assert device.shown()["labels"] == {"site": "ship"}

    second = machine("mqtt")
    second.bundle.write_bytes(device.bundle.read_bytes())
    code, said = second.enroll()
    assert (code, "joining over MQTT failed" in said) == (1, True)
    assert {one["id"] for one in system.cli("devices", "list")}.isdisjoint({second.name})


@pytest.mark.long
def test_a_device_that_joins_over_mqtt_can_wait_for_approval(system, machine):
    """It shows the fingerprint, asks again and again, and comes in once it is approved."""
    device = machine("mqtt")
    device.bundled("claim", device.name, "--approve")
    mark = device.waits()
    assert waiting(system)[device.name] == mark
    system.cli("devices", "approve", device.name, "--fingerprint", mark)
    assert f"enrolled as {device.name}" in device.ended()


def test_a_lost_answer_costs_no_claim(system, machine):
    """The same key gets the same certificate again; another key gets none, though it has the claim."""
    device = machine("mqtt")
    device.bundled("claim", device.name)
    key = new_key()
    first, second = (Claim(device.document, key, device.folder).ask() for _ in range(2))
    assert isinstance(first, EnrollAnswer)
    assert first == second
    with pytest.raises(Exception, match="join-spent"):
        Claim(device.document, new_key(), device.folder).ask()
    assert kinds(system, device.name).count("enrolled") == 1
    assert "enrolment-refused" in kinds(system, device.name)


def test_a_device_that_never_said_that_it_keeps_its_certificate_ends_its_claim_by_being_there(system, machine):
    """The power went after the certificate was written: once the device is heard, its claim is over."""
    device = machine("mqtt")
    device.bundled("claim", device.name)
    key = new_key()
    Claim(device.document, key, device.folder).ask()
    database = Database.of("", system.data.database)
    try:
        with database.write() as connection:
            assert joins.end_claims(connection, 0.0) == 0
            connection.execute(devices.update().where(devices.c.id == device.name).values(last_seen=1.0))
            assert joins.end_claims(connection, 0.0) == 1
    finally:
        database.close()


def test_a_claim_opens_no_other_door(system, machine):
    """The listener for blobs, which believes certificates of the same CA, was never told of it."""
    device = machine("mqtt")
    device.bundled("claim", device.name)
    pem = device.folder / "claim.pem"
    pem.write_text(device.document.certificate + device.document.key)
    context = ssl.create_default_context(cafile=str(system.data.ca))
    context.load_cert_chain(pem)
    address = f"https://127.0.0.1:{system.blob_port}"
    with httpx.Client(base_url=address, verify=context, trust_env=False) as http:
        answer = http.get(f"/blobs/sha256:{'0' * 64}")
    assert answer.status_code in {401, 403}


async def connects(system, device):
    """Whether the broker lets the claim's certificate in."""
    pem = device.folder / "claim.pem"
    pem.write_text(device.document.certificate + device.document.key)
    context = ssl.create_default_context(cafile=str(system.data.ca))
    context.load_cert_chain(pem)
    named = {"identifier": "x", "protocol": aiomqtt.ProtocolVersion.V311, "tls_context": context, "timeout": 5}
    try:
        async with aiomqtt.Client(system.broker.host, system.broker.device_port, **named):
            return True
    except aiomqtt.MqttError:
        return False


@pytest.mark.long
def test_a_claim_that_was_taken_back_is_refused_by_the_broker(system, machine):
    """At once: the certificate connects no more, and nobody has joined."""
    device = machine("mqtt")
    device.bundled("claim", device.name)
    newest = system.cli("devices", "joins", "list")[0]
    assert (newest["kind"], newest["name"]) == ("claim", device.name)
    assert asyncio.run(connects(system, device))
    before = len([one for one in system.cli("events") if one["kind"] == "enrolment-refused"])
    told = system.cli("devices", "joins", "revoke", str(newest["id"]))
    assert told["broker"] == "the broker refuses its certificate"
    until(lambda: claim_state(system, device.document.claim) == "cut", "the claim is cut", within_s=20)
    assert not asyncio.run(connects(system, device))
    assert len([one for one in system.cli("events") if one["kind"] == "enrolment-refused"]) == before
    assert device.name not in {one["id"] for one in system.cli("devices", "list")}


async def test_whoever_owns_the_broker_joins_nothing_with_a_claim(system, machine):
    """Requests that it forges at a claim's topic, with keys of its own and with a claim's own request changed."""
    device = machine("mqtt")
    device.bundled("claim", device.name)
    bundle, topics = device.document, Topics(device.document.broker.prefix)
    context = ssl.create_default_context(cafile=str(system.data.ca))
    context.load_cert_chain(system.data.service, system.data.key(system.data.service))
    csr, stranger = request(new_key()), new_key()
    forged = [
        ClaimRequest(step="join", csr=csr, signature=b""),
        ClaimRequest(step="join", csr=csr, signature=signed(stranger, bundle.claim, csr)),
        ClaimRequest(step="kept", csr=csr, signature=signed(stranger, bundle.claim, csr)),
    ]
    port = system.broker.service_port
    named = {"identifier": "service:owner", "protocol": aiomqtt.ProtocolVersion.V311, "tls_context": context}
    async with aiomqtt.Client(system.broker.host, port, **named) as owner:
        for one in forged:
            await owner.publish(topics.claim_up(bundle.claim), canonical.encode(one), qos=1)
        for payload in (b"", b"{", b"x" * 100_000):
            await owner.publish(topics.claim_up(bundle.claim), payload, qos=1)
        await owner.publish(topics.claim_up("0" * 16), canonical.encode(forged[0]), qos=1)
        await owner.publish(f"{topics.prefix}/_claims/{CLAIM}x/y/up", b"x", qos=1)
    until(lambda: kinds(system, device.name).count("enrolment-refused") >= 3, "the forgeries are told", within_s=20)
    assert device.name not in {one["id"] for one in system.cli("devices", "list")}
    assert claim_state(system, bundle.claim) == "open"
    assert device.enroll()[0] == 0


def signed(key, claim, csr):
    return key.sign(claimed(claim, "join", csr), ec.ECDSA(hashes.SHA256()))
