"""A device without an engine: it enrols, connects with its certificate, verifies orders, pulls blocks, signs reports.

What it says and how it says it is the product's own protocol; only what it reports is made up by the test.
"""

import asyncio
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import Key

from modules import canonical
from modules.digests import BLOCK, Blob, block_matches, check_index
from modules.names import DeviceId, Digest
from modules.needs import Engine, HostFacts
from modules.protocol import blobs as wire
from modules.protocol import commands as command_wire
from modules.protocol import order as order_wire
from modules.protocol.commands import Answer, Command
from modules.protocol.enrollment import EnrollAnswer, EnrollRequest, JoinBundle
from modules.protocol.facts import FALLBACKS, Facts
from modules.protocol.order import Order
from modules.protocol.report import Ack, Report, SlotReport, Status
from modules.protocol.topics import Topics
from modules.signing import (
    ANSWER_TYPE,
    COMMAND_TYPE,
    FACTS_TYPE,
    ORDER_TYPE,
    REPORT_TYPE,
    sign,
    signer_from_pem,
    verify,
)
from tests.parts.pace import stretched

WAIT_S = stretched(20)
READS = ("edgefleet.order/1", "edgefleet.command/1", FALLBACKS)
HOST_FACTS = HostFacts(
    platform="linux/amd64",
    cores=2,
    memory_mb=1024,
    disk_free_mb=4096,
    engines=(Engine(name="process"), Engine(name="docker")),
)


class Device:
    """One device; ``connected`` gives it a session."""

    def __init__(self, folder: Path, join: JoinBundle, name: str) -> None:
        self.folder, self.join, self.name = folder, join, DeviceId(name)
        self.topics = Topics(join.broker.prefix)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.number = 0
        self.boot = 0
        self.acknowledged = 0
        self.orders: asyncio.Queue[bytes] = asyncio.Queue()
        self.acks: asyncio.Queue[int] = asyncio.Queue()
        self.commands: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        self.answered: dict[str, list[bytes]] = {}
        self.blocks: defaultdict[int, asyncio.Queue[wire.Block]] = defaultdict(asyncio.Queue)
        self.request = 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ca.pem").write_text(join.ca)
        (folder / "key.pem").write_bytes(self.key_pem)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def csr(self, subject: str = "anything") -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def enrol(self) -> httpx.Response:
        """Ask for a certificate, and keep it if there is one."""
        request = EnrollRequest(token=self.join.token, csr=self.csr(), name=self.name)
        context = ssl.create_default_context(cadata=self.join.ca)
        with httpx.Client(base_url=self.join.fleet, verify=context, timeout=stretched(30), trust_env=False) as http:
            response = http.post("/enroll", content=canonical.encode(request))
        if response.is_success:
            answer = canonical.decode(response.content, EnrollAnswer, limit=1 << 16, what="answer")
            self.name = answer.device
            (self.folder / "certificate.pem").write_text(answer.certificate)
        return response

    @asynccontextmanager
    async def connected(self, *, port: int | None = None, will: bool = True) -> AsyncIterator["Device"]:
        """A session with the broker: last will, subscription, status online, and what arrives goes into queues."""
        self.boot += 1
        offline = canonical.encode(Status(online=False, boot=self.boot))
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(self.folder / "certificate.pem", self.folder / "key.pem")
        async with aiomqtt.Client(
            self.join.broker.host,
            port or self.join.broker.port,
            identifier=self.name,
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=context,
            timeout=WAIT_S,  # the library's 10 s are over early on a busy machine, and nobody would answer any more
            will=aiomqtt.Will(self.topics.status(self.name), offline, 1, retain=True) if will else None,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        ) as client:
            self.client = client
            reader = asyncio.create_task(self._read(client), name=f"device-{self.name}")
            await client.subscribe(self.topics.all_down(self.name), qos=1)
            await self.say("status", canonical.encode(Status(online=True, boot=self.boot)))
            try:
                yield self
                await self.say("status", offline)
            finally:
                reader.cancel()
                await asyncio.wait([reader])

    async def say(self, kind: str, payload: bytes) -> None:
        await self.client.publish(self.topics.up(self.name, kind), payload, qos=1, retain=True)

    async def send_facts(self, host: HostFacts = HOST_FACTS, formats: tuple[str, ...] = READS) -> None:
        self.number += 1
        said = {"device": self.name, "number": self.number, "issued": time.time(), "agent": "0", "formats": formats}
        facts = Facts(host=host, **said)
        await self.say("facts", self.signed(facts, FACTS_TYPE))

    async def report(self, slots: Iterable[SlotReport], *, order: int, **more: Any) -> int:
        """Send the next report; returns its number."""
        self.number += 1
        await self.say("report", self.signed(self.document(self.number, slots, order=order, **more), REPORT_TYPE))
        return self.number

    def document(self, number: int, slots: Iterable[SlotReport], *, order: int, **more: Any) -> Report:
        given = {"device": self.name, "issued": time.time(), "agent": "0"} | more
        return Report(number=number, order=order, slots=tuple(slots), **given)

    def signed(self, document: Any, payload_type: str) -> bytes:
        signer = signer_from_pem(self.key_pem)
        return sign(canonical.encode(document), payload_type=payload_type, signers=[signer])

    async def next_order(self, keys: Iterable[Key]) -> Order:
        """The next order that arrives, verified with the director's keys."""
        async with asyncio.timeout(WAIT_S):
            envelope = await self.orders.get()
        payload = verify(envelope, payload_type=ORDER_TYPE, keys=keys, limit=order_wire.LIMIT)
        order = canonical.decode(payload, Order, limit=order_wire.LIMIT, what="order")
        assert order.device == self.name
        return order

    async def next_command(self, keys: Iterable[Key]) -> Command:
        """The next command that arrives, verified with the director's keys, new or not."""
        return self.command(keys, await self.arrived_command())

    async def arrived_command(self) -> tuple[str, str, bytes]:
        """The next command as it came: name and id of its topic, and its bytes."""
        async with asyncio.timeout(2 * WAIT_S):
            return await self.commands.get()

    def command(self, keys: Iterable[Key], arrived: tuple[str, str, bytes]) -> Command:
        """A command that arrived, verified."""
        name, ident, envelope = arrived
        payload = verify(envelope, payload_type=COMMAND_TYPE, keys=keys, limit=command_wire.limit_of(name))
        command = command_wire.decode(payload)
        assert (command.device, command.name, command.id) == (self.name, name, ident)
        return command

    async def answer(self, command: Command, *answers: dict[str, Any]) -> None:
        """Say these parts, and remember them: the fields of each, which begins where those before ended."""
        said = self.answered.setdefault(command.id, [])
        for fields in answers:
            given = {"id": command.id, "device": self.name, "name": command.name, "part": len(said) + 1} | fields
            said.append(self.signed(Answer(**given), ANSWER_TYPE))
            await self.client.publish(self.topics.answer(self.name), said[-1], qos=1)

    async def answer_again(self, command: Command) -> None:
        for one in self.answered[command.id]:
            await self.client.publish(self.topics.answer(self.name), one, qos=1)

    async def obey(self, keys: Sequence[Key], done: Callable[[Command], Sequence[dict[str, Any]]]) -> None:
        """Answer every command, for ever: what is done says what to answer, once; then the same is said again."""
        while True:
            command = self.command(keys, await self.commands.get())
            if command.id in self.answered:
                await self.answer_again(command)
            else:
                await self.answer(command, *done(command))

    async def acknowledgement(self, number: int) -> None:
        """Wait until the server says that this report is in its database."""
        async with asyncio.timeout(WAIT_S):
            while self.acknowledged < number:
                self.acknowledged = max(self.acknowledged, await self.acks.get())

    async def ask(self, get: wire.Get) -> wire.Block:
        """Send one request; its first block."""
        async with asyncio.timeout(WAIT_S):
            await self.client.publish(self.topics.blob_get(self.name), wire.encode(get))
            return await self.blocks[get.request].get()

    async def metadata(self, name: str) -> bytes | None:
        """A TUF metadata file; None where the server says that there is none."""
        self.request += 1
        first = await self.ask(wire.MetadataGet(request=self.request, name=name))
        if first.status == wire.MISSING:
            return None
        parts, length = {first.number: first.data}, first.length
        async with asyncio.timeout(WAIT_S):
            while sum(map(len, parts.values())) < length:
                block = await self.blocks[self.request].get()
                parts[block.number] = block.data
        return b"".join(parts[number] for number in sorted(parts))

    async def pull(self, blob: Blob, *, outstanding: int = 2, per_request: int = 8) -> bytes:
        """A whole blob, each block checked against its index, with so many requests under way at once."""
        index = await self._pull_raw(blob.blocks, 32 * blob.block_count, outstanding, per_request, b"")
        check_index(blob, index)
        return await self._pull_raw(blob.sha256, blob.length, outstanding, per_request, index)

    async def _pull_raw(self, digest: Digest, length: int, outstanding: int, per_request: int, index: bytes) -> bytes:
        data = bytearray(length)
        starts = iter(range(0, -(-length // BLOCK), per_request))

        async def lane() -> None:
            for first in starts:
                await self._request(digest, first, min(per_request, -(-length // BLOCK) - first), data, index)

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for _ in range(outstanding):
                group.create_task(lane())
        return bytes(data)

    async def _request(self, digest: Digest, first: int, count: int, data: bytearray, index: bytes) -> None:
        self.request += 1
        number, missing = self.request, set(range(first, first + count))
        get = wire.BlobGet(request=number, digest=digest, first=first, mask=(1 << count) - 1)
        await self.client.publish(self.topics.blob_get(self.name), wire.encode(get))
        while missing:
            block = await self.blocks[number].get()
            assert block.status == wire.OK, block.data
            assert not index or block_matches(index, block.number, block.data)
            data[block.number * BLOCK : block.number * BLOCK + len(block.data)] = block.data
            missing.discard(block.number)
        del self.blocks[number]

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            rest = self.topics.parse(message.topic.value).rest
            assert isinstance(message.payload, bytes)
            if rest == ("order",):
                self.orders.put_nowait(message.payload)
            elif rest == ("ack",):
                self.acks.put_nowait(canonical.decode(message.payload, Ack, limit=1024, what="ack").report)
            elif rest[0] == "cmd":
                self.commands.put_nowait((rest[1], rest[2], message.payload))
            elif rest[0] == "blob":
                self.blocks[int(rest[1])].put_nowait(wire.decode_block(message.payload))


def join(http: httpx.Client, uses: int = 1) -> JoinBundle:
    """A join bundle from the server, as an operator gets it."""
    response = http.post("/api/v1/join-tokens", json={"uses": uses, "expires_s": 600})
    assert response.is_success, response.text
    return canonical.decode(response.content, JoinBundle, limit=1 << 20, what="join bundle")
