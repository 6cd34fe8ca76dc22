"""A device on the workbench that is given commands: real trust, store and desk; the broker is the test itself."""

import asyncio
import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from agent.commands.desk import Desk
from agent.commands.kept import Kept
from agent.commands.parts import Parts
from agent.fetch import Puller
from agent.inbox import Inbox
from agent.settings import Settings
from agent.verify import Verifier
from agent.wiring import NoBatch
from modules import canonical, signing
from modules.protocol.commands import ANSWER_LIMIT, ENDS, Answer, Command
from modules.protocol.topics import Topics
from tests.agent.workbench import Bench
from tests.doubles import keys
from tests.doubles.blob_server import BlobServer


class Telemetry:
    """Has what commands use of the duty of that name."""

    def __init__(self) -> None:
        self.collected = 0

    def collect_now(self) -> None:
        self.collected += 1


class Commanded(Bench):
    """A workbench with a desk. ``forget_all`` and ``kill`` begin a new agent over what is on disk.

    ``most`` is how many commands are remembered. ``ends`` counts how often a command has asked the agent to end.
    """

    most = 256

    def __init__(self, folder, **more) -> None:
        self.desk = None
        self.settings = Settings(state=str(folder), runtime=str(folder / "run"))
        self.telemetry = Telemetry()
        self.renew = None
        self.ends = 0
        super().__init__(folder, **more)
        (folder / "run").mkdir(exist_ok=True)
        self.publisher = keys.Publisher(now=datetime.fromtimestamp(self.clock.now(), UTC))
        self.metadata = BlobServer(self.publisher.targets, self.publisher.files)
        self.open_desk()

    def open_desk(self) -> None:
        puller = Puller(self.metadata.send, timeout_s=0.05, tries=2)
        self.metadata.deliver = puller.on_block
        self.verifier = Verifier(
            device=self.device,
            folder=self.folder / "trust",
            root=self.publisher.first_root,
            store=self.store,
            shelf=self.shelf,
            puller=puller,
            now=self.clock.now,
        )
        inbox = Inbox(
            store=self.store,
            verifier=self.verifier,
            outbox=self.outbox,
            replace=self.loop.replace,
            wake=self.loop.wake,
            clock=self.clock,
        )
        self.parts = Parts(
            device=self.device,
            settings=self.settings,
            store=self.store,
            shelf=self.shelf,
            engines={"docker": self.engine},
            host=self.host,
            loop=self.loop,
            outbox=self.outbox,
            link=self.link,
            signer=lambda: self.signer,
            verifier=self.verifier,
            refuse=inbox.refuse,
            telemetry=self.telemetry,
            batch=NoBatch(),
            told=self.told,
            clock=self.clock,
            end=self._end,
            renew=self.renew,
        )
        self.kept = Kept(self.folder, self.store, most=self.most)
        self.desk = Desk(self.parts, most=self.most)

    def _end(self) -> None:
        self.ends += 1

    async def close_desk(self) -> None:
        if self.desk is not None:
            await self.desk.close()
            self.verifier.close()
            self.desk = None

    async def close(self) -> None:
        """End what a test has begun anew, within the test."""
        await self.close_desk()
        await self.stop()

    async def kill(self) -> None:
        await self.close_desk()
        await super().kill()
        self.open_desk()

    # What the server and whoever has the broker can do

    def command(self, name="ping", **more) -> Command:
        now = int(self.clock.now())
        fields = {"id": secrets.token_hex(16), "device": self.device, "issued": now, "expires": now + 600}
        return Command(**{**fields, "name": name, **more})

    def signed(self, command, *, signer=None, kind=signing.COMMAND_TYPE) -> bytes:
        payload = command if isinstance(command, bytes) else canonical.encode(command)
        return signing.sign(payload, payload_type=kind, signers=[signer or self.publisher.director])

    def gets(self, command, *, topic=None, payload=None, **more) -> None:
        """The broker delivers it, or this ``payload``, signed by the director unless ``more`` says otherwise."""
        self.delivers(self.signed(payload or command, **more), topic or (command.name, command.id))

    def delivers(self, envelope, topic) -> None:
        self.desk.take(topic, envelope)

    # What can be seen from outside

    def answers(self, command) -> list[Answer]:
        """What was published for a command, signatures verified, repetitions included."""
        topic = Topics().answer(self.device)
        said = [
            canonical.decode(
                signing.verify(payload, payload_type=signing.ANSWER_TYPE, keys=[self.key], limit=ANSWER_LIMIT),
                Answer,
                limit=ANSWER_LIMIT,
                what="answer",
            )
            for where, payload, retained in self.link.published
            if where == topic and not retained
        ]
        return [one for one in said if (one.name, one.id) == (command.name, command.id)]

    def ended(self, command) -> Answer | None:
        return next((one for one in self.answers(command) if one.state in ENDS), None)

    async def answer(self, command, *, flowing=0.0) -> Answer:
        """The last answer, once it is there."""
        await self.until(lambda: self.ended(command), flowing=flowing)
        return self.ended(command)

    async def does(self, name="ping", **more) -> Answer:
        command = self.command(name, **more)
        self.gets(command)
        return await self.answer(command)

    def result(self, command) -> bytes:
        parts = {one.part: one.data for one in self.answers(command)}
        return b"".join(parts[number] for number in sorted(parts))

    def refused(self) -> list[str]:
        return [f"{one.what}: {one.reason.message}" for one in self.store.refusals()]

    async def settled(self) -> None:
        """Everything that was delivered has been looked at, and everything that was to be said is said."""
        await self.until(lambda: not self.desk._queue and not self.desk._following and not self.desk._answers._queue)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def commanded(folder, *, running=True, **more):
    one = Commanded(folder, **more)
    if running:
        one.start()
    try:
        yield one
    finally:
        await one.close_desk()
        await one.stop()
        one.store.close()
        one.engine.close()
