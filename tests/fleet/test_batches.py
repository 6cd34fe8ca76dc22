"""A batch that is taken at once leaves exactly what its messages leave one by one."""

import random
import shutil
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from fleet.db import Database
from fleet.gathered import order_name
from fleet.ingest import Ingest
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.said import Inbound
from fleet.tables import devices, events, members, newcomers, rollouts, slots, telemetry
from modules import canonical
from modules.names import DeviceId
from modules.protocol.facts import Facts
from modules.protocol.report import Health, Reason, Refusal, Report, Status
from modules.protocol.telemetry import STREAMS, Sample, Telemetry
from modules.signing import FACTS_TYPE, REPORT_TYPE, TELEMETRY_TYPE
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import SmallFleet, slot_report

NAMES = ("dev-a", "dev-b", "dev-c")
EPOCHS = ("", "a" * 16, "b" * 16)
PHASES = ("accepted", "fetching", "committed", "committed", "reverted", "wonderful")
TABLES = (devices, members, newcomers, rollouts, slots, telemetry)
BATCHES = 40


@pytest.fixture
def fleet(tmp_path):
    """Three devices in a rollout; one was taken over by a second one, one has a waiver."""
    database = Database.at(tmp_path / "fleet.sqlite")
    database.migrate()
    made = SmallFleet(tmp_path, database)
    for name in NAMES:
        made.add_device(name)
    made.start(made.add_module("digits"), devices=NAMES)
    made.start(made.add_module("digits"), devices=NAMES[:1])
    made.start(made.add_module("letters"), devices=NAMES[1:2], slot="letters", waive=True)
    yield made
    database.close()


def message(fleet, dice):
    """Anything that a device may say, or that somebody says in its name."""
    name, epoch = dice.choice(NAMES), dice.choice(EPOCHS)
    match dice.randrange(10):
        case 0:
            status = Status(online=dice.random() < 0.6, boot=dice.randrange(4), epoch=epoch)
            return Inbound(DeviceId(name), "status", canonical.encode(status))
        case 1:
            number = dice.randrange(1, 5)
            facts = Facts(device=DeviceId(name), number=number, issued=0.0, agent="0", host=HOST_FACTS, epoch=epoch)
            return fleet.said(name, "facts", facts, FACTS_TYPE)
        case 2:
            return Inbound(DeviceId(dice.choice((*NAMES, "dev-none"))), "report", dice.choice((b"", b"{}", b"x" * 99)))
        case 3:
            samples = (Sample(at=1.0, figures={"n": dice.random()}),)
            stream, number = dice.choice(STREAMS), dice.randrange(1, 9)
            said = Telemetry(
                device=DeviceId(name), stream=stream, number=number, issued=0.0, epoch=epoch, samples=samples
            )
            return fleet.said(name, "telemetry", said, TELEMETRY_TYPE)
    health = dice.choice((None, Health(state="up"), Health(state="degraded")))
    said = tuple(
        slot_report(fleet, name, dice.choice(PHASES), slot=slot, current=health) for slot in fleet.order(name).slots
    )
    order = fleet.order(name).counter - dice.randrange(2)
    refused = tuple(
        Refusal(what=what, reason=Reason("x", "y"), at=1.0)
        for what in dice.sample(("order 1", "order 2", fleet.names[name]), dice.randrange(3))
    )
    report = Report(
        device=DeviceId(name),
        number=dice.randrange(1, 9),
        issued=0.0,
        order=order,
        agent="0",
        slots=said,
        refusals=refused,
        epoch=epoch,
    )
    return fleet.said(name, "report", report, REPORT_TYPE)


def state(database):
    with database.read() as connection:
        found = {one.name: connection.execute(select(one).order_by(*one.primary_key)).all() for one in TABLES}
        told = connection.execute(select(events.c.at, events.c.kind, events.c.device, events.c.message)).all()
    return found | {"events": sorted(map(tuple, told))}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))])
def test_a_batch_leaves_what_its_messages_leave_one_by_one(fleet, tmp_path, seed):
    """Numbers, epochs, clones, wills, refusals, forgeries, phases, several of one device: the same rows and events."""
    dice = random.Random(seed)
    with fleet.database.read() as connection:
        envelopes = connection.execute(select(devices.c.id, devices.c.order_envelope)).all()
    fleet.names = {name: order_name(envelope) for name, envelope in envelopes}
    fleet.database.close()
    shutil.copy(tmp_path / "fleet.sqlite", tmp_path / "alone.sqlite")
    alone = SimpleNamespace(database=Database.at(tmp_path / "alone.sqlite"), mishaps=Mishaps(fleet.clock))
    alone.ingest = Ingest(alone.database, fleet.clock, alone.mishaps, Meters())
    for _ in range(BATCHES):
        batch = [message(fleet, dice) for _ in range(dice.randrange(1, 12))]
        receipts = {one.device: one for one in fleet.ingest.commit(batch)}
        single = {one.device: one for said in batch for one in alone.ingest.commit([said])}
        assert receipts == single
        assert state(fleet.database) == state(alone.database)
        fleet.now += 100
    assert fleet.mishaps.counts == alone.mishaps.counts == {}
    alone.database.close()
