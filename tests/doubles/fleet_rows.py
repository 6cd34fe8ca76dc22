"""A fleet as rows, made with the server's own parts: for tests of what decides, without broker or HTTP."""

import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner
from sqlalchemy import insert, select

from fleet import orders
from fleet.blobs import Blobs
from fleet.command_tables import commands
from fleet.commands import view as command_view
from fleet.commands.given import Commands
from fleet.commands.whom import Wish as CommandWish
from fleet.ingest import Ingest
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.orders import Orders
from fleet.registry import Registry
from fleet.rollouts import control, view
from fleet.rollouts.engine import Engine
from fleet.rollouts.start import Wish, start
from fleet.said import Inbound
from fleet.tables import devices
from modules import canonical
from modules import manifest as manifests
from modules.digests import sha256
from modules.names import DeviceId, ModuleRef, Slug
from modules.protocol import commands as command_wire
from modules.protocol.commands import Answer, Command
from modules.protocol.facts import Facts
from modules.protocol.order import LIMIT, Order
from modules.protocol.report import Report, SlotReport
from modules.protocol.telemetry import Sample, Telemetry
from modules.signing import (
    ANSWER_TYPE,
    COMMAND_TYPE,
    FACTS_TYPE,
    ORDER_TYPE,
    REPORT_TYPE,
    TELEMETRY_TYPE,
    sign,
    signer_from_pem,
    verify,
)
from tests.doubles.device import HOST_FACTS, READS
from tests.doubles.publisher import module


class SmallFleet:
    """Time stands still at ``now`` until a test moves it."""

    def __init__(self, folder, database):
        self.database = database
        self.now = time.time()
        self.blobs = Blobs(folder / "blobs")
        self.registry = Registry(self.blobs)
        self.director = CryptoSigner.generate_ed25519()
        self.orders = Orders(lambda _connection: self.director, life_s=86400)
        self.commands = Commands(database, lambda _connection: self.director, self.clock)
        self.mishaps, self.meters = Mishaps(self.clock), Meters()
        self.engine = Engine(database, self.registry, self.orders, self.clock, self.mishaps)
        self.ingest = Ingest(database, self.clock, self.mishaps, self.meters)
        self.keys = {}
        self.numbers = {}

    def clock(self):
        return self.now

    def act(self, rollout, action, *more):
        """What an operator does with a rollout: a function of fleet/rollouts/control.py, and what follows from it."""
        with self.database.write() as connection:
            getattr(control, action)(connection, self.now, rollout, *more)
        self.tick()

    def add_device(self, name, *, host=HOST_FACTS, labels=None, formats=READS, agent="0"):
        """An enrolled device, with facts unless ``host`` is None."""
        key = self.keys[name] = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        row = {"id": name, "labels": labels or {}, "certificate": "", "public_key": public.decode(), "enrolled": 0.0}
        row |= {"online": False, "boot": 0, "facts_number": 0, "report_number": 0}
        with self.database.write() as connection:
            connection.execute(insert(devices).values(**row, order_counter=0, order_published=0))
        if host is not None:
            facts = Facts(device=DeviceId(name), number=1, issued=0.0, agent=agent, host=host, formats=formats)
            self.ingest.commit([self.said(name, "facts", facts, FACTS_TYPE)])
        return DeviceId(name)

    def add_module(self, name, *, sign_it=True, version=None, more=None, **parts):
        """A module with one file and ``more`` by path; its reference."""
        files = {"model.onnx": f"graph of {name}".encode()} | (more or {})
        for data in files.values():
            self.blobs.put(data)
        with self.database.write() as connection:
            number = version or str(self.registry.reserve(connection, self.now, Slug("acme"), Slug(name)))
            manifest = module("acme", name, number, files, **parts)
            data = manifests.encode(manifest)
            self.registry.draft(connection, self.now, manifest.ref, data)
            if sign_it:
                self.registry.sign(connection, manifest.ref, sha256(data), len(data))
        return manifest.ref

    def start(self, ref: ModuleRef, **wish):
        """Start a rollout and let the engine work; its number."""
        with self.database.write() as connection:
            given = {"slot": Slug("digits"), "engine": "process", "supersede": True} | wish
            rollout = start(connection, self.now, self.registry, Wish(module=ref, **given))
        self.tick()
        return rollout

    def tick(self):
        while self.engine.tick():
            pass

    def publish(self):
        """The broker takes every order."""
        with self.database.write() as connection:
            orders.published(connection, orders.unpublished(connection, limit=100_000))

    def view(self, rollout):
        with self.database.read() as connection:
            return view.one(connection, rollout)

    def phases(self, rollout):
        return {one["device"]: one["phase"] for one in self.view(rollout)["devices"]}

    def order(self, name):
        """The device's order, verified; None where it has none."""
        with self.database.read() as connection:
            envelope = connection.execute(select(devices.c.order_envelope).where(devices.c.id == name)).scalar_one()
        return None if envelope is None else self.opened(envelope)

    def opened(self, envelope):
        """A device's order, verified."""
        payload = verify(envelope, payload_type=ORDER_TYPE, keys=[self.director.public_key], limit=LIMIT)
        return canonical.decode(payload, Order, limit=LIMIT, what="order")

    def said(self, name, kind, document, payload_type):
        """A signed document as the broker brings it."""
        return self.said_bytes(name, kind, canonical.encode(document), payload_type)

    def said_bytes(self, name, kind, payload, payload_type):
        """Signed bytes, whatever they are."""
        key = self.keys[name].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        envelope = sign(payload, payload_type=payload_type, signers=[signer_from_pem(key)])
        return Inbound(DeviceId(name), kind, envelope)

    def give(self, name, **wish):
        """Commands of an operator: the ids by device, and who got none."""
        given = self.commands.give(CommandWish(name=name, **wish), by="token 1 (admin)")
        return given.commands, {one.device: one.reasons for one in given.misfits}

    def command(self, ident):
        """A command as the API shows it."""
        with self.database.read() as connection:
            return command_view.one(connection, ident)

    def signed_command(self, ident):
        """What its device is sent, verified."""
        with self.database.read() as connection:
            envelope = connection.execute(select(commands.c.envelope).where(commands.c.id == ident)).scalar_one()
        keys = [self.director.public_key]
        return command_wire.decode(verify(envelope, payload_type=COMMAND_TYPE, keys=keys, limit=command_wire.LIMIT))

    def answer(self, command: Command, part, state="running", *, key=None, **more):
        """An answer as the broker brings it, signed with the device's key unless ``key`` names another's."""
        given = {"id": command.id, "device": command.device, "name": command.name} | more
        said = self.said(key or command.device, "cmd", Answer(part=part, state=state, **given), ANSWER_TYPE)
        return said._replace(device=command.device)

    def measured(self, name, number, *, stream="host", samples=None, epoch="", dropped=0, **figures):
        """Telemetry of a device, committed: these figures of the whole device, or ``samples``; the receipts."""
        given = samples or (Sample(at=self.now, figures={"cpu_percent": 1.0} | figures),)
        said = Telemetry(
            device=DeviceId(name),
            stream=stream,
            number=number,
            issued=self.now,
            epoch=epoch,
            dropped=dropped,
            samples=tuple(given),
        )
        return self.ingest.commit([self.said(name, "telemetry", said, TELEMETRY_TYPE)])

    def report(self, name, phase, *, number=None, slot="digits", order=None, current=None, **more):
        """What a device says of the module that its order names for a slot, committed and ticked; the receipts."""
        counter = self.order(name).counter if order is None else order
        said = slot_report(self, name, phase, slot=slot, current=current)
        return self.send(name, [said], number=number, order=counter, **more)

    def send(self, name, slots, *, number=None, order=0, **more):
        number = self.numbers[name] = number or self.numbers.get(name, 0) + 1
        given = {"agent": "0"} | more
        report = Report(device=DeviceId(name), number=number, issued=self.now, order=order, slots=tuple(slots), **given)
        receipts = self.ingest.commit([self.said(name, "report", report, REPORT_TYPE)])
        self.tick()
        return receipts


def slot_report(fleet, name, phase, *, slot="digits", **more):
    """What a device says of the module that its order names for a slot now."""
    wanted = fleet.order(name).slots[slot]
    module = str(ModuleRef.from_target(wanted.manifest))
    return SlotReport(slot=Slug(slot), phase=phase, module=module, digest=wanted.digest, **more)
