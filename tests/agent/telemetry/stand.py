"""A device's telemetry without broker and engine: time, link and settings as a test says."""

import json

from agent.settings import Settings
from agent.store import Store
from agent.telemetry.duty import Duty
from agent.telemetry.kept import Kept
from modules import canonical, signing
from modules.names import device_id
from modules.protocol import telemetry as wire
from tests.doubles.clock import VirtualClock
from tests.doubles.keys import device_pem
from tests.doubles.link import RecordingLink

DEVICE = device_id("dev-1")
PROC = {
    "proc/stat": "cpu 100 0 100 800 0 0 0 0\ncpu0 1 1 1 1",
    "proc/meminfo": "MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable: 1024000 kB",
    "proc/loadavg": "0.25 0.1 0.1 1/2 3",
    "proc/self/statm": "9000 5000 1 1 1 1 1",
    "sys/class/thermal/thermal_zone0/temp": "51500",
}


def machine(folder, **more):
    """A machine's files below a folder."""
    for name, text in {**PROC, **more}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class Stand:
    """``again`` is the agent after a restart; ``step`` does what is due now."""

    def __init__(self, folder, **settings) -> None:
        private, public = device_pem()
        self.signer, self.key = signing.signer_from_pem(private), signing.key_from_pem(public)
        self.folder, self.clock, self.link = folder, VirtualClock(), RecordingLink(DEVICE)
        self.given = {"telemetry_every_s": 60.0, "telemetry_send_s": 600.0, "telemetry_streams": ("host",)} | settings
        self.said, self.relieved = None, True
        self.store = Store(folder)
        self.again()

    @property
    def file(self):
        return self.folder / "telemetry.db"

    @property
    def kept(self) -> Kept:
        return self.duty._kept

    def again(self) -> None:
        self.store.close()
        self.store = Store(self.folder)
        settings = Settings(state=str(self.folder), **self.given)
        self.duty = Duty(
            settings,
            self.clock,
            device=DEVICE,
            store=self.store,
            link=self.link,
            signer=self.signer,
            engines={},
            told=self._told,
            relieved=lambda: self.relieved,
        )

    async def _told(self):
        return self.said

    async def step(self, *, look=True) -> None:
        if look:
            await self.duty._guarded(self.duty._look)
        await self.duty._guarded(self.duty._send)

    async def minutes(self, count, *, look=True) -> None:
        """Let minutes pass, one look in each."""
        for _ in range(count):
            self.clock.advance(60.0)
            await self.step(look=look)

    def ack(self, number, *, epoch=None) -> None:
        self.duty.on_ack(number, self.store.epoch if epoch is None else epoch)

    def messages(self) -> list[wire.Telemetry]:
        """Every message that was published, its signature verified."""
        found = []
        for topic, envelope, retained in self.link.published:
            assert not retained
            payload = signing.verify(envelope, payload_type=signing.TELEMETRY_TYPE, keys=[self.key], limit=wire.LIMIT)
            document = canonical.decode(payload, wire.Telemetry, limit=wire.LIMIT, what="telemetry")
            assert topic == self.link.topics.telemetry(DEVICE, document.stream)
            found.append(document)
        return found

    def once(self) -> list[wire.Telemetry]:
        """The same, what was sent again left out."""
        return list({json.dumps([one.number, one.epoch]): one for one in self.messages()}.values())

    async def drain(self) -> list[wire.Telemetry]:
        """Acknowledge until nothing is under way; all that was ever sent, once."""
        while (pending := self.kept.pending()) is not None:
            self.ack(pending.number)
            await self.step(look=False)
        return self.once()
