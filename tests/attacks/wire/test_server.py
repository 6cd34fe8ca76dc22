"""What an enrolled device can send: every document with every bad value, and the server is at work afterwards.

The server is the real one, with the real broker. What a device signs is signed; what is retained stays so while the
server starts anew.
"""

import asyncio
import json
import ssl
from contextlib import ExitStack

import aiomqtt
import msgspec
import pytest

from agent.claim import Claim
from modules import canonical
from modules.protocol import blobs as wire
from modules.protocol.commands import Answer
from modules.protocol.enrollment import ClaimBundle, RenewRequest
from modules.protocol.facts import Facts
from modules.protocol.report import Reason, Refusal, Running, SlotReport, Status
from modules.protocol.telemetry import Sample, Telemetry
from modules.protocol.topics import Topics
from modules.signing import ANSWER_TYPE, FACTS_TYPE, RENEW_TYPE, REPORT_TYPE, TELEMETRY_TYPE, sign, signer_from_pem
from tests.doubles.bad_values import BAD, PACKED, spoilt
from tests.doubles.device import HOST_FACTS, Device, join
from tests.doubles.door import new_key
from tests.doubles.publisher import Publisher
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker, free_port
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
DIGEST = "sha256:" + "a" * 64
# The broker passes on 384 KiB and no more; who sends it more is cut off.
LONGEST = 384 << 10
VALUES = BAD | {"1 MB": '"' + "x" * 200_000 + '"'}
# The server looks at so many messages of a kind in one batch.
AT_ONCE = 15
SLOT = SlotReport(
    slot="digits",
    phase="probation",
    module="acme/digits:1",
    digest=DIGEST,
    reason=Reason("unfit", "why"),
    serving=Running(module="acme/digits:1", digest=DIGEST),
    progress=0.5,
    times=(("accepted", 1.0),),
)


class Fleet:
    """A broker that stays, and a server that can be started anew."""

    def __init__(self, folder, parts) -> None:
        self.folder, self.data = folder, initialise(folder / "data")
        self.broker = parts.enter_context(broker(folder / "broker", self.data))
        self.port, self.up = free_port(), ExitStack()
        parts.callback(self.stop)
        self.start()
        Publisher(self.http).found()

    def start(self) -> None:
        self.server = self.up.enter_context(fleet_server(self.data, self.broker, port=str(self.port)))
        self.http = self.up.enter_context(self.server.client())

    def stop(self) -> None:
        self.up.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def device(self, name) -> Device:
        device = Device(self.folder / name, join(self.http), name)
        assert device.enrol().is_success
        return device

    def mishaps(self):
        """What went wrong in the server's program, rather than in what it was sent."""
        return self.http.get("/healthz").json()["mishaps"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with ExitStack() as parts:
        yield Fleet(tmp_path_factory.mktemp("wire"), parts)


def envelope(device, payload, kind) -> bytes:
    return sign(payload, payload_type=kind, signers=[signer_from_pem(device.key_pem)])


async def works(fleet, device) -> None:
    """The server takes a report of this device, and its process is the one that was started."""
    await device.acknowledgement(await device.report([SLOT], order=1))
    assert fleet.server.process.poll() is None
    assert fleet.mishaps() == {}


def documents(device, ident):
    """Each kind of message of a device: its topic, an honest document, and how it is sent; answers to this command."""
    more = {"host": HOST_FACTS, "formats": ("a",), "sealing": b"k" * 32}
    facts = Facts(device=device.name, number=1_000_000, issued=1.0, agent="0", **more)
    refusal = Refusal(what="order 1", reason=Reason("invalid", "why"), at=1.0)
    report = device.document(1_000_000, [SLOT], order=1, refusals=(refusal,))
    samples = (Sample(at=1.0, slot="digits", figures={"up": 1.0}), Sample(at=2.0, figures={"cpu_percent": 0.5}))
    number = {"number": 1_000_000, "issued": 1.0, "epoch": "0" * 16}
    measured = Telemetry(device=device.name, stream="host", dropped=1, samples=samples, **number)
    request = RenewRequest(device=device.name, csr=device.csr(device.name))
    said = {"state": "running", "progress": 0.5, "note": "half", "reason": Reason("unfit", "why"), "data": b"x"}
    answer = Answer(id=ident, device=device.name, name="ping", part=1, content="text/plain", **said)
    return {
        "cmd": (answer, lambda payload: envelope(device, payload, ANSWER_TYPE)),
        "status": (Status(online=True, boot=1_000_000, epoch="0" * 16), lambda payload: payload),
        "facts": (facts, lambda payload: envelope(device, payload, FACTS_TYPE)),
        "report": (report, lambda payload: envelope(device, payload, REPORT_TYPE)),
        "telemetry/host": (measured, lambda payload: envelope(device, payload, TELEMETRY_TYPE)),
        "enroll": (request, lambda payload: envelope(device, payload, RENEW_TYPE)),
    }


async def command(fleet, device) -> str:
    """The id of a command that this device has got, and could answer."""
    async with device.connected():
        await device.send_facts()
        await device.acknowledgement(await device.report([], order=0))  # after its facts
        body = {"name": "ping", "device": device.name}
        answer = await asyncio.to_thread(lambda: fleet.http.post("/api/v1/commands", json=body).raise_for_status())
        (given,) = answer.json()["commands"]
        await device.arrived_command()
    return str(given["id"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["status", "facts", "report", "telemetry/host", "enroll", "cmd"])
async def test_no_document_of_a_device_ends_the_server(fleet, kind):
    """With any bad value anywhere in what a device says or asks, the server goes on, and serves that very device and
    others; so it does after a new start, when the broker sends the worst of them again."""
    bad = await asyncio.to_thread(fleet.device, f"bad-{kind.partition('/')[0]}")
    other = await asyncio.to_thread(fleet.device, f"other-{kind.partition('/')[0]}")
    honest, sent_as = documents(bad, await command(fleet, bad))[kind]
    document = json.loads(canonical.encode(honest))
    async with bad.connected(), other.connected():
        for value in VALUES.values():
            payloads = spoilt(document, value)
            for start in range(0, len(payloads), AT_ONCE):
                for payload in payloads[start : start + AT_ONCE]:
                    await bad.say(kind, sent_as(payload))
                await works(fleet, other)
        worst = json.dumps({name: 2**63 if isinstance(one, int | float) else one for name, one in document.items()})
        await bad.say(kind, sent_as(worst.encode()))
        await works(fleet, other)
    await asyncio.to_thread(fleet.restart)
    async with other.connected():
        await works(fleet, other)
    bad.number = 2_000_000
    async with bad.connected():
        await works(fleet, bad)


@pytest.mark.timeout(300)
async def test_no_request_for_blocks_ends_the_server(fleet):
    """So it is with requests for blocks and metadata, and with topics that nobody has heard of."""
    device = await asyncio.to_thread(fleet.device, "bad-get")
    gets = [wire.BlobGet(request=1, digest=DIGEST), wire.MetadataGet(request=2, name="timestamp.json")]
    async with device.connected():
        for get in gets:
            known = msgspec.msgpack.decode(wire.encode(get))
            for name in [*known, "unknown"]:
                for value in PACKED:
                    spoilt_get = msgspec.msgpack.encode(known | {name: value})
                    if len(spoilt_get) < LONGEST:
                        await device.client.publish(device.topics.blob_get(device.name), spoilt_get)
        for rest in (
            (),
            ("blob",),
            ("blob", "put"),
            ("cmd", "x", "1"),
            ("telemetry",),
            ("telemetry", "a", "b"),
            ("x" * 1000,),
            ("report", "more"),
            ("\u00e9",),
        ):
            await device.client.publish(device.topics.up(device.name, *rest), b"\xff" * 1000, qos=1)
        device.request = 100
        async with asyncio.timeout(stretched(30)):
            assert await device.metadata("timestamp.json")
        await works(fleet, device)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_no_claim_ends_the_server(fleet):
    """So it is with what a claim asks over MQTT; an honest request is answered afterwards."""
    wish = {"device": "dev-claimed"}
    answer = await asyncio.to_thread(lambda: fleet.http.post("/api/v1/claims", json=wish))
    bundle = canonical.decode(answer.content, ClaimBundle, limit=1 << 20, what="claim bundle")
    topics, context = Topics(bundle.broker.prefix), ssl.create_default_context(cadata=bundle.ca)
    (fleet.folder / "claim.pem").write_text(bundle.certificate + bundle.key)
    context.load_cert_chain(fleet.folder / "claim.pem")
    honest = {"step": "join", "csr": "y", "signature": "AAAA"}
    named = {"identifier": f"claim:{bundle.claim}", "tls_context": context}
    async with aiomqtt.Client(bundle.broker.host, bundle.broker.port, **named) as client:
        for value in VALUES.values():
            for payload in spoilt(honest, value):
                await client.publish(topics.claim_up(bundle.claim), payload, qos=1)
    device = await asyncio.to_thread(fleet.device, "dev-beside")
    async with device.connected():
        await works(fleet, device)
    # The server looks at twenty requests of a claim in a minute.
    await asyncio.to_thread(fleet.restart)
    claim = Claim(bundle, new_key(), fleet.folder)
    assert (await asyncio.to_thread(claim.ask)).device == "dev-claimed"


async def test_no_enrolment_ends_the_server(fleet):
    """So it is with requests to enrol."""
    honest = {"token": "x", "csr": "y", "name": "dev-9"}
    for value in VALUES.values():
        for body in spoilt(honest, value):
            answer = await asyncio.to_thread(fleet.http.post, "/enroll", content=body)
            assert answer.status_code in {401, 413, 422, 429}, answer.text
    device = await asyncio.to_thread(fleet.device, "dev-after")
    async with device.connected():
        await works(fleet, device)
