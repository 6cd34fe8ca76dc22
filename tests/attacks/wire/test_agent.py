"""What the server, or whoever has its keys, can send a device: any bad value anywhere, and the agent lives.

The agent is the real one, in a process of its own, with the real broker between. Orders are signed by the real
director's key and metadata by the real timestamp key, so only the values are wrong.
"""

import json
import secrets
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Metadata

from agent.store import Store
from fleet.blobs import Blobs
from modules import canonical
from modules.digests import sha256
from modules.protocol import blobs as wire
from modules.protocol.order import Order, Secret, SlotOrder
from modules.protocol.report import Ack
from modules.signing import ORDER_TYPE, envelope_limit, sign, signer_from_pem
from tests.doubles.bad_values import BAD, PACKED, spoilt
from tests.parts.on_device import OnDevice
from tests.parts.system import TEAM, System
from tests.parts.wiretap import Wiretap

pytestmark = [pytest.mark.needs("mosquitto"), pytest.mark.timeout(300)]
DIGEST = "sha256:" + "a" * 64
VALUES = BAD | {"1 MB": '"' + "x" * 200_000 + '"'}


@pytest.fixture(scope="module")
def system():
    """Broker, server and keys; without an engine, for nothing is started here."""
    with tempfile.TemporaryDirectory(prefix="efw-") as folder:
        fleet = System(Path(folder))
        try:
            fleet.cli("login", fleet.server.url, "--token", fleet.server.token, "--ca", fleet.data.ca)
            fleet.cli("keys", "init", fleet.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
            yield fleet
        finally:
            fleet.close()


class Attacked:
    """A device whose agent runs, and an attacker who can publish to it and sign as the director."""

    def __init__(self, system, parts) -> None:
        self.system = system
        self.device = OnDevice(system, f"dev-{secrets.token_hex(3)}", engine="/nonexistent.sock")
        self.director = signer_from_pem(system.data.online_key("director").read_bytes())
        self.device.enroll()
        self.start()
        parts.callback(self.device.agent.stop)
        self.tap = parts.enter_context(system.wiretap(self.device.name))
        self.counter = 0

    def start(self) -> None:
        path = f"devices/{self.device.name}"
        self.device.agent.start(ready=lambda: self.system.api(path)["online"])
        self.pid = self.device.agent.pid

    def order(self, **more) -> dict:
        """The next honest order, as a plain document."""
        self.counter += 1
        now = int(time.time())
        order = {"device": self.device.name, "counter": self.counter, "issued": now, "expires": now + 3600}
        return json.loads(canonical.encode(Order(**order | more)))

    def signed(self, payload) -> bytes:
        return sign(payload, payload_type=ORDER_TYPE, signers=[self.director])

    def answered(self, envelope) -> bool:
        """Whether the agent has followed or refused an order."""
        store = Store(self.device.state, read_only=True)
        try:
            name = f"order {sha256(envelope)[7:19]}"
            return store.document("order") == envelope or any(one.what == name for one in store.refusals())
        finally:
            store.close()

    def sends(self, envelope, *, retain=False) -> None:
        self.tap.say("order", envelope, retain=retain)
        self.device.until(lambda: self.answered(envelope), "it has answered")

    def lives(self) -> None:
        """The same process follows an honest order."""
        envelope = self.signed(json.dumps(self.order()).encode())
        self.sends(envelope)
        assert self.device.agent.runs
        assert self.device.agent.pid == self.pid
        store = Store(self.device.state, read_only=True)
        try:
            assert store.document("order") == envelope, self.device.said()
        finally:
            store.close()
        assert "defect" not in self.device.agent.said()


@pytest.fixture
def attacked(system):
    with ExitStack() as parts:
        yield Attacked(system, parts)


def test_no_order_ends_the_agent(attacked):
    """With any bad value anywhere, an order that the director signed is refused or harmless, and the next is followed;
    also after a start that finds the worst of them retained."""
    slot = SlotOrder(
        manifest="modules/acme/none/1.json",
        digest=DIGEST,
        settings={"probation_s": 1.0, "log_level": "x"},
        secrets={"token": Secret(version=1, sealed=b"x" * 60)},
    )
    honest = attacked.order(slots={"main": slot}, waivers=(DIGEST,), must_understand=("order.slots",))
    for value in VALUES.values():
        for payload in spoilt(honest, value):
            attacked.sends(attacked.signed(payload))
        attacked.lives()
    for name in ("counter", "issued", "expires"):
        attacked.sends(attacked.signed(json.dumps(attacked.order() | {name: 2**63}).encode()), retain=True)
        attacked.device.agent.stop()
        attacked.start()
        attacked.lives()


@pytest.mark.long
def test_no_envelope_ends_the_agent(attacked):
    """So it is with the envelope around the order, and with one that is too large."""
    honest = json.loads(attacked.signed(json.dumps(attacked.order()).encode()))
    for value in VALUES.values():
        for payload in spoilt(honest, value):
            attacked.tap.say("order", payload, retain=False)
    attacked.lives()
    attacked.tap.say("order", b"x" * (envelope_limit(256 << 10) + 1), retain=False)
    attacked.lives()


def test_no_receipt_block_or_command_ends_the_agent(attacked):
    """So it is with receipts, blocks, commands, and topics that nobody has heard of."""
    for value in VALUES.values():
        for payload in spoilt(json.loads(canonical.encode(Ack(report=1, epoch="a" * 16, telemetry=1))), value):
            attacked.tap.say("ack", payload, retain=False)
    block = msgspec.msgpack.decode(wire.encode(wire.Block(1, 200, 0, 1, b"x")))
    for place in range(len(block) + 1):
        for value in PACKED:
            payload = msgspec.msgpack.encode([*block[:place], value, *block[place + 1 :]])
            if len(payload) < envelope_limit(256 << 10):
                attacked.tap.say("blob/1", payload, retain=False)
    for level in ("", "blob", "blob/x", "blob/1/2", "cmd", "cmd/x", "cmd/\u00e9/1", "other", "order/more"):
        attacked.tap.say(level, b"\xff" * 1000, retain=False)
    attacked.lives()


class HostileServer(Wiretap):
    """In the real server's place: answers for metadata out of ``files``, and for small blobs out of ``blobs``."""

    files: dict[str, bytes]
    blobs: Blobs

    def _on_message(self, client, userdata, message) -> None:
        super()._on_message(client, userdata, message)
        if message.topic != self._topics.blob_get(self._device):
            return
        get = wire.decode_get(bytes(message.payload))
        data = self.files.get(get.name) if isinstance(get, wire.MetadataGet) else self.blobs.read(get.digest)
        block = (wire.OK, 0, len(data), data) if data else (wire.MISSING, 0, 0, b"none")
        client.publish(self._topics.blob(self._device, get.request), wire.encode(wire.Block(get.request, *block)))


@pytest.fixture
def hostile(attacked):
    """In the real server's place; the real one is back afterwards."""
    with attacked.system.server.client() as http:

        def published(name) -> bytes:
            return http.get(f"/api/v1/tuf/{name}").raise_for_status().content

        timestamp = published("timestamp.json")
        snapshot = f"{Metadata.from_bytes(timestamp).signed.snapshot_meta.version}.snapshot.json"
        files = {name: published(name) for name in ("timestamp.json", snapshot, "1.targets.json")}
    attacked.system.stop_server()
    try:
        with HostileServer(attacked.system.data, attacked.system.broker, attacked.device.name) as server:
            server.files, server.blobs = files, Blobs(attacked.system.data.blobs)
            yield server
    finally:
        attacked.system.start_server()


@pytest.mark.long
def test_no_metadata_ends_the_agent(attacked, hostile):
    """Metadata that no program can read is refused; with the honest files back, orders are followed again."""
    honest = hostile.files["timestamp.json"]
    late = honest.replace(b'"expires":', b'"expires": "99999-01-01T00:00:00Z", "was":')
    for data in (late, b"[" * 8000, b'{"signed": 1e999}', honest.replace(b'"version":', b'"version": 1e999, "was":')):
        hostile.files["timestamp.json"] = data
        attacked.sends(attacked.signed(json.dumps(attacked.order()).encode()))
    hostile.files["timestamp.json"] = honest
    attacked.sends(attacked.signed(json.dumps(attacked.order()).encode()))

    assert (attacked.device.agent.runs, attacked.device.agent.pid) == (True, attacked.pid)


@pytest.mark.long
def test_no_version_ends_the_agent(attacked, hostile):
    """A version that no database can hold, signed with the timestamp's real key, is refused, also after a start."""
    huge = Metadata.from_bytes(hostile.files["timestamp.json"])
    huge.signed.version = 2**63
    huge.sign(signer_from_pem(attacked.system.data.online_key("timestamp").read_bytes()))
    hostile.files["timestamp.json"] = huge.to_bytes()
    attacked.sends(attacked.signed(json.dumps(attacked.order()).encode()), retain=True)
    attacked.device.agent.stop()
    attacked.device.agent.start()
    said = attacked.device.agent.said
    attacked.device.until(lambda: said().count("19 digits is out of bounds") == 2, "it has refused it again")

    assert attacked.device.agent.runs
