"""One device's years: a fleet whose clock is moved on, and what has to hold on each of its days."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from securesystemslib.signer import CryptoSigner

from agent import identity as identities
from agent.certificate_dates import dates
from agent.store import Store
from fleet.revocation import FILE
from modules import canonical, signing
from modules import manifest as manifests
from modules.digests import sha256
from modules.manifest import Manifest, Needs, Proof
from modules.names import DeviceId, Slug
from modules.protocol.order import Order, SlotOrder
from modules.protocol.report import Refusal
from modules.trust import roles
from tests.agent.renewing import serial
from tests.doubles.publisher import checked
from tests.journeys.owner import Owner
from tests.parts import digits
from tests.parts.moved.moved_time import AGENT, SERVER, MovedTime
from tests.parts.on_device import OnDevice
from tests.parts.proxy import Proxy
from tests.parts.system import System

DAY_S = 86_400
MONTH = 30
SLOT = "digits"
# No session that held this long was taken over by another device.
HELD_S = 60
# The longest that a device waits before it looks or tries again: at its certificate it looks once an hour.
SOON_S = 3600
# The seconds that pass with each look at what time alone brings: a message that got lost is said again after a minute.
FLOWS_S = 2
# Devices do not all renew at once: of this name it is at the very end, when two thirds of the life are over.
LAST_TO_RENEW = "dev-life-923"
_PARTS: Any = {"needs": Needs(memory_mb=64), "proof": Proof(prove="ready-only", probation_s=1.0)}
_QUESTION = digits.QUESTIONS[0]


class Life:
    """``device`` behind ``network``, and ``owner``; ``step`` days pass at a time.

    Each step ends the device's session, so the broker looks at its certificate on each of these days. ``told`` are all
    events so far by (time, kind, device, words), ``serials`` the device's certificates, newest last, and ``keys`` their
    private keys.
    """

    def __init__(self, folder: Path, moved: MovedTime, stack: ExitStack, *, step: int) -> None:
        self.moved, self.step, self.began = moved, step, moved.now()
        self.system = System(folder, program=SERVER, tick_s="0.2")
        stack.callback(self.system.close)
        self.http = stack.enter_context(self.system.server.client())
        self.owner = Owner(self.http, self.system.data, moved.now)
        login = ("login", self.system.server.url, "--token", self.system.server.token)
        self.system.cli(*login, "--ca", self.system.data.ca)
        self.network = stack.enter_context(Proxy(self.system.broker.device_port))
        self.device = OnDevice(
            self.system,
            LAST_TO_RENEW,
            engine="/nonexistent.sock",
            process_interpreter=sys.executable,
            telemetry_every_s="0",
            block_timeout_s="1",
            program=AGENT,
        )
        self.device.enroll(through=self.network.port)
        stack.callback(self.device.command, "halt")
        stack.callback(self.device.agent.stop)
        stack.callback(self.device.gateway.stop)
        self.device.start()
        self.identity = self.device.state / "identity"
        self.online = True
        self.told: dict[tuple[float, str, str | None, str], None] = {}
        self.serials: list[str] = []
        self.keys: list[bytes] = []
        self._processes = self.device.agent.pid, self.device.gateway.pid

    @property
    def day(self) -> float:
        return (self.moved.now() - self.began) / DAY_S

    # What is done

    def draft(self, graph: Path) -> Manifest:
        return self.owner.holder.upload("digits", {"model.onnx": graph.read_bytes()}, **_PARTS)

    def rolls_out(self, release: Manifest) -> None:
        """From when it is done this release may not stop."""
        body = {"module": str(release.ref), "slot": SLOT, "devices": [self.device.name], "engine": "process"}
        rollout = checked(self.http.post("/api/v1/rollouts", json=body | {"supersede": True})).json()["id"]
        done = self.system.ended(str(rollout), said=self.device.said)
        assert done["state"] == "done", done
        self.until(lambda: len(self.device.processes()) == 1, "the release before has ended")
        self.release, self._running = release, self.device.processes()
        self.catches_up()
        self.holds()

    def reaches(self, day: float) -> None:
        """Live until this day, step by step."""
        while self.day < day:
            self.passes(min(self.step, day - self.day))

    def passes(self, days: float) -> None:
        self.moved.advance(HELD_S)
        self.network.cut()
        if self.online:
            self.network.mend()
        self.moved.advance(days * DAY_S - HELD_S)
        since = self.moved.now()
        self.until(lambda: self.listed().next_update_utc.timestamp() > since + 29 * DAY_S, "the broker has a new list")
        # Two steps without it would be the end of the timestamp.
        self.until(lambda: self.ends()[roles.TIMESTAMP] > 12.5 * DAY_S, "the server has signed its timestamp anew")
        self._nothing_has_ended()
        if self.online:
            self._caught_up(since)
        self.holds()
        self.owner.heeds(self.health()["warnings"])

    @contextmanager
    def month_offline(self) -> Iterator[Callable[[], None]]:
        """A month without a network; what is called goes on to its middle. At its end the device catches up.

        Who goes when no more than a month is left, down to the hour, renews first.
        """
        while self.left() < (MONTH + 0.5) * DAY_S:
            self.passes(0.5)
        ends = self.day + MONTH
        self.network.cut()
        self.online = False
        self.until(lambda: not self.shown()["online"], "it is offline")
        yield lambda: self.reaches(ends - MONTH / 2)
        self.reaches(ends)
        self.network.mend()
        self.online = True
        self.catches_up()
        self.holds()

    def catches_up(self) -> None:
        """Let a device in touch look at everything once, and do what is to be done."""
        self.moved.advance(SOON_S)
        self._caught_up(self.moved.now())

    def _caught_up(self, since: float) -> None:
        """Wait until all is done that was due when it looked last, which was not before ``since``."""

        def done() -> bool:
            self.moved.advance(FLOWS_S)
            shown = self.shown()
            certificate, report = shown["certificate"], shown["report"]
            return (
                shown["online"]
                and report["order"] == shown["order"]["counter"]
                and certificate["renewal_due"] > since
                and certificate["serial"] == serial(self.identity)
            )

        self.until(done, "it is in touch, follows the newest order, and has renewed what was due")
        number = serial(self.identity)
        if number not in self.serials:
            if self.serials:
                self.until(lambda: self.serials[-1] in self.revoked(), "the certificate before is on the list")
            self.serials.append(number)
            self.keys.append(identities.key_of(identities.present(self.identity).key.read_bytes()))

    # What holds on each day

    def _nothing_has_ended(self) -> None:
        for what, left in self.ends().items():
            assert left > 0, f"day {self.day:.1f}: {what} has ended"
        assert self.left() > 0, f"day {self.day:.1f}: its certificate has ended"

    def holds(self) -> None:
        """The module runs and answers, and nobody had trouble that was not told."""
        where = f"day {self.day:.1f}"
        answer = self.device.score(SLOT, _QUESTION.body)
        assert _QUESTION.wrong(answer.body) == "", (where, answer)
        assert self.device.processes() == self._running, where
        row = self.device.slot(SLOT)
        assert row is not None
        assert row.current is not None
        assert (row.phase, row.upkeep.state, row.upkeep.restarts) == ("committed", "up", 0), (where, row)
        assert row.current.wanted.digest == sha256(manifests.encode(self.release)), (where, row)
        assert self.device.agent.runs, where
        assert self.device.gateway.runs, where
        assert (self.device.agent.pid, self.device.gateway.pid) == self._processes, where
        health = self.health()
        assert health["mishaps"] == {}, (where, health)
        self.listens()

    def listens(self) -> None:
        """Hear what the server has told since."""
        for one in checked(self.http.get("/api/v1/events", params={"limit": 1000})).json():
            self.told.setdefault((one["at"], one["kind"], one["device"], one["message"]))

    def said(self, kind: str) -> list[str]:
        """The words of all events of this kind, oldest first."""
        return [words for _, one, _, words in sorted(self.told, key=lambda event: event[0]) if one == kind]

    # What one sees from outside

    def until(self, met: Callable[[], Any], what: str) -> Any:
        return self.device.until(met, f"day {self.day:.1f}: {what}")

    def shown(self) -> dict[str, Any]:
        return checked(self.http.get(f"/api/v1/devices/{self.device.name}")).json()

    def health(self) -> dict[str, Any]:
        return checked(self.http.get("/healthz")).json()

    def ends(self) -> dict[str, float]:
        """What ends, as Prometheus is told, with the seconds that are left."""
        lines = checked(self.http.get("/metrics")).text.splitlines()
        found = [line.split() for line in lines if line.startswith("edgefleet_ends_in_seconds{")]
        return {name.split('"')[1]: float(left) for name, left in found}

    def due(self) -> float:
        """The days until the device renews its certificate, as the server shows it."""
        return (self.shown()["certificate"]["renewal_due"] - self.moved.now()) / DAY_S

    def left(self) -> float:
        """The seconds that the device's certificate still holds, by its own file."""
        pem = identities.present(self.identity).certificate.read_bytes()
        return dates(pem).ends - self.moved.now()

    def listed(self) -> x509.CertificateRevocationList:
        """The list of revoked certificates that the broker was given."""
        return x509.load_pem_x509_crl((self.system.folder / "broker" / FILE).read_bytes())

    def revoked(self) -> set[str]:
        return {f"{one.serial_number:x}" for one in self.listed()}

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The device's memory, read beside the agent."""
        store = Store(self.device.state, read_only=True)
        try:
            yield store
        finally:
            store.close()

    # Thieves

    def director(self) -> CryptoSigner:
        """The server's director key, as a thief copies it."""
        return signing.signer_from_pem(self.system.data.online_key("director").read_bytes())

    def order(self, signer: CryptoSigner, release: Manifest, *, counter: int) -> bytes:
        """An order for this release, as whoever has that key makes it."""
        now = int(self.moved.now())
        slot = SlotOrder(manifest=release.ref.target, digest=sha256(manifests.encode(release)), engine="process")
        fields = {"counter": counter, "issued": now, "expires": now + DAY_S, "slots": {Slug(SLOT): slot}}
        made = Order(device=DeviceId(self.device.name), **fields)
        return signing.sign(canonical.encode(made), payload_type=signing.ORDER_TYPE, signers=[signer])

    def verdict(self, envelope: bytes) -> str:
        """Why the device refused this order; ``""``: it follows it."""
        found = self.until(lambda: self._judged(envelope), "the device has judged the order")
        return "" if found is True else f"{found.reason.code}: {found.reason.message}"

    def _judged(self, envelope: bytes) -> Refusal | bool:
        name = f"order {sha256(envelope)[7:19]}"
        with self.store() as store:
            if store.document("order") == envelope:
                return True
            return next((one for one in store.refusals() if one.what == name), False)
