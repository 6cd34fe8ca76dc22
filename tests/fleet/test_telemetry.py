"""What devices measure of themselves, into rows: signed, once each, bounded, acknowledged when it is committed."""

import pytest
from sqlalchemy import func, select

from fleet import events, removal
from fleet.export import pages
from fleet.ingest import Ingest, Receipt
from fleet.refusals import Missing
from fleet.retention import Retention
from fleet.said import Inbound
from fleet.settings import Settings
from fleet.tables import devices, telemetry, telemetry_history
from fleet.telemetry import view
from modules import canonical
from modules.names import DeviceId
from modules.protocol.report import Report
from modules.protocol.telemetry import Sample, Telemetry
from modules.signing import REPORT_TYPE, TELEMETRY_TYPE

NAME = DeviceId("dev-a")
FIRST, SECOND = "a" * 16, "b" * 16


@pytest.fixture
def fleet(small_fleet):
    small_fleet.add_device(NAME)
    small_fleet.add_device("dev-b")
    return small_fleet


def document(fleet, number, *, name=NAME, stream="host", at=None, epoch="", dropped=0, samples=None, **figures):
    moment = fleet.now if at is None else at
    given = samples or (Sample(at=moment, figures={"cpu_percent": 1.0} | figures),)
    return Telemetry(
        device=DeviceId(name),
        stream=stream,
        number=number,
        issued=fleet.now,
        epoch=epoch,
        dropped=dropped,
        samples=given,
    )


def send(fleet, number, **more):
    """One message of dev-a, or of another; the receipts."""
    name = more.get("name", NAME)
    return fleet.ingest.commit([fleet.said(name, "telemetry", document(fleet, number, **more), TELEMETRY_TYPE)])


def row(fleet, name=NAME):
    with fleet.database.read() as connection:
        return connection.execute(select(devices).where(devices.c.id == name)).one()


def newest(fleet, name=NAME):
    """The newest figures by stream and slot."""
    with fleet.database.read() as connection:
        found = view.newest(connection, telemetry.c.device == name)
        return {(one.stream, slot): sample.figures for one in found for slot, sample in one.samples.items()}


def count(fleet):
    with fleet.database.read() as connection:
        return connection.execute(select(func.count()).select_from(telemetry_history)).scalar_one()


def shown(fleet, **asked):
    with fleet.database.read() as connection:
        return view.of_device(connection, NAME, asked.get("stream"), asked.get("since"))


def kinds(fleet):
    with fleet.database.read() as connection:
        return [one["kind"] for one in events.newest(connection)]


def test_it_is_stored_and_acknowledged_beside_reports(fleet):
    """The receipt names the highest numbers of both that are in the database."""
    fleet.send(NAME, [], number=7)
    assert send(fleet, 3, cpu_percent=42.0) == [Receipt(NAME, 7, telemetry=3)]
    assert fleet.send(NAME, [], number=8) == [Receipt(NAME, 8, telemetry=3)]
    assert newest(fleet) == {("host", None): {"cpu_percent": 42.0}}
    assert row(fleet).last_seen == fleet.now


def test_what_comes_again_changes_nothing_and_is_acknowledged_again(fleet):
    """Redelivery, replay and older numbers: no row, no event, and the receipt of what is there."""
    said = fleet.said(NAME, "telemetry", document(fleet, 3), TELEMETRY_TYPE)
    older = fleet.said(NAME, "telemetry", document(fleet, 2, cpu_percent=99.0), TELEMETRY_TYPE)
    fleet.ingest.commit([said])
    before = row(fleet)
    fleet.now += 3600
    assert fleet.ingest.commit([said, older, said]) == [Receipt(NAME, 0, telemetry=3)]
    assert row(fleet) == before
    assert newest(fleet) == {("host", None): {"cpu_percent": 1.0}}
    assert (count(fleet), kinds(fleet)) == (1, [])


def test_many_messages_in_a_batch_are_all_kept(fleet):
    """Of several devices and streams, in one transaction, with one receipt for each device."""
    batch = [
        fleet.said(name, "telemetry", document(fleet, number, name=name, stream=stream, n=number), TELEMETRY_TYPE)
        for name in (NAME, "dev-b")
        for number, stream in enumerate(("host", "modules", "host", "gateway", "host"), 1)
    ]
    report = fleet.said(NAME, "report", Report(device=NAME, number=1, issued=0, order=0, agent="0"), REPORT_TYPE)
    assert sorted(fleet.ingest.commit([*batch, report])) == [
        Receipt(NAME, 1, telemetry=5),
        Receipt("dev-b", 0, telemetry=5),
    ]
    assert {key: figures["n"] for key, figures in newest(fleet).items()} == {
        ("host", None): 5.0,
        ("modules", None): 2.0,
        ("gateway", None): 4.0,
    }
    assert count(fleet) == 10


@pytest.mark.parametrize(
    "forge",
    [
        lambda fleet, said: fleet.said("dev-b", "telemetry", said, TELEMETRY_TYPE)._replace(device=NAME),
        lambda fleet, said: fleet.said(NAME, "telemetry", said, REPORT_TYPE),
        lambda fleet, said: fleet.said("dev-b", "telemetry", said, TELEMETRY_TYPE),
        lambda fleet, said: fleet.said(NAME, "telemetry", said, TELEMETRY_TYPE)._replace(device=DeviceId("dev-none")),
        lambda _, said: Inbound(NAME, "telemetry", canonical.encode(said)),
    ],
    ids=["another key", "another type", "another device's topic", "a device that never enrolled", "not signed"],
)
def test_figures_that_the_device_did_not_sign_are_an_event_and_nothing_else(fleet, forge):
    """A hostile broker, or another device, invents no figures that an operator would act on."""
    assert fleet.ingest.commit([forge(fleet, document(fleet, 1))]) == []
    assert (newest(fleet), count(fleet), row(fleet).telemetry_number) == ({}, 0, 0)
    assert kinds(fleet)[0] in {"forged-message", "bad-message"}


def test_a_device_that_lost_its_database_is_heard_at_once(fleet):
    """Numbers begin anew in a new epoch; late words of the old one change nothing, and accuse nobody."""
    fleet.send(NAME, [], number=5, epoch=FIRST)
    assert send(fleet, 300, epoch=FIRST) == [Receipt(NAME, 5, FIRST, telemetry=300)]
    assert send(fleet, 1, epoch=SECOND, cpu_percent=7.0) == [Receipt(NAME, 0, SECOND, telemetry=1)]
    assert send(fleet, 301, epoch=FIRST, cpu_percent=9.0) == []
    assert newest(fleet) == {("host", None): {"cpu_percent": 7.0}}
    assert kinds(fleet) == ["new-epoch"]
    assert fleet.send(NAME, [], number=1, epoch=SECOND) == [Receipt(NAME, 1, SECOND, telemetry=1)]
    fleet.send(NAME, [], number=6, epoch=FIRST)
    assert "cloned-identity" in kinds(fleet)


def test_a_new_epoch_that_a_report_begins_counts_telemetry_anew(fleet):
    """Otherwise the first messages after a loss would be taken for old ones, and lost."""
    send(fleet, 300, epoch=FIRST)
    assert fleet.send(NAME, [], number=1, epoch=SECOND) == [Receipt(NAME, 1, SECOND, telemetry=0)]
    assert send(fleet, 1, epoch=SECOND) == [Receipt(NAME, 1, SECOND, telemetry=1)]
    assert count(fleet) == 2


def test_a_device_fills_no_disk(fleet):
    """Of more bytes a day than are kept, only the newest is, said once; the next day counts anew."""
    fleet.ingest = Ingest(fleet.database, fleet.clock, fleet.mishaps, fleet.meters, telemetry_day_bytes=5000)
    for number in range(1, 101):
        assert send(fleet, number, n=number) == [Receipt(NAME, 0, telemetry=number)]
    kept = count(fleet)
    assert 10 < kept < 40
    assert newest(fleet)["host", None]["n"] == 100.0
    assert kinds(fleet) == ["telemetry-not-kept"]
    fleet.now += 86400
    send(fleet, 101)
    assert count(fleet) == kept + 1


def test_a_device_makes_no_table_of_its_own(fleet):
    """Streams have names, and a device has so many of them: more are told of, and not kept."""
    for number in range(1, 30):
        assert send(fleet, number, stream=f"stream_{number}")
    assert len(newest(fleet)) == 8
    assert set(kinds(fleet)) == {"telemetry-not-kept"}


def test_it_wakes_no_rollout(fleet):
    """A device on its way stays where it stands, whatever its figures say."""
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    fleet.report(NAME, "fetching")
    before = fleet.view(rollout)
    send(fleet, 1)
    assert fleet.view(rollout) == before


def test_what_is_shown_of_a_device(fleet):
    """The newest of each slot, and with a moment all that came since; without its clock a sample has no time."""
    slots = (
        Sample(at=fleet.now - 120, slot="digits", figures={"memory_mb": 1.0}),
        Sample(at=fleet.now - 60, slot="digits", figures={"memory_mb": 2.0}),
        Sample(at=0.0, slot="letters", figures={"memory_mb": 3.0}),
    )
    began = fleet.now
    send(fleet, 1, stream="modules", dropped=4, samples=slots)
    fleet.now += 3600
    send(fleet, 2)
    modules = shown(fleet, stream="modules")["streams"][0]
    assert (modules["stream"], modules["dropped"], modules["received"]) == ("modules", 4, began)
    assert [(one["slot"], one["figures"]["memory_mb"]) for one in modules["samples"]] == [
        ("digits", 2.0),
        ("letters", 3.0),
    ]
    assert modules["samples"][1]["at"] is None
    assert "history" not in shown(fleet)
    assert len(shown(fleet, since=0.0)["history"]) == 4
    assert len(shown(fleet, since=began - 90)["history"]) == 3
    assert [one["stream"] for one in shown(fleet, since=began + 1)["history"]] == ["host"]


def test_of_a_device_that_is_not_there_nothing_is_shown(fleet):
    """Removed, it has no newest figures; one that joins under its name begins without a past."""
    send(fleet, 1)
    with fleet.database.write() as connection:
        removal.remove_device(connection, fleet.now, NAME)
    assert newest(fleet) == {}
    with pytest.raises(Missing):
        shown(fleet)
    with fleet.database.write() as connection:
        again = {"removed": None, "enrolled": fleet.now + 1, "telemetry_number": 0}
        connection.execute(devices.update().where(devices.c.id == NAME).values(**again))
    fleet.now += 10
    send(fleet, 1)
    assert len(shown(fleet, since=0.0)["history"]) == 1


def test_it_is_forgotten_in_time_and_the_newest_stays(fleet):
    """By the server's clock, whatever the device's says."""
    for number in (1, 2):
        send(fleet, number, at=4e9)
    fleet.now += 3600
    send(fleet, 3, at=1.8e9)
    fleet.now += 7 * 86400 - 1800
    retention = Retention(fleet.database, fleet.clock, fleet.meters, Settings())
    while retention.step():
        pass
    assert count(fleet) == 1
    fleet.now += 3600
    while retention.step():
        pass
    assert count(fleet) == 0
    assert newest(fleet) != {}


def exported(fleet, table):
    found, after = [], None
    while True:
        with fleet.database.read() as connection:
            page = pages.page(connection, table, after)
        found += page.rows
        if (after := page.after) is None:
            return found


def test_an_export_has_a_row_for_each_figure(fleet):
    """Whoever analyses has columns, not documents: newest and history."""
    samples = (
        Sample(at=fleet.now - 60, slot="digits", figures={"memory_mb": 2.0, "up": 1.0}),
        Sample(at=0.0, figures={"up": 0.0}),
    )
    send(fleet, 1, stream="modules", samples=samples)
    send(fleet, 2, stream="modules", samples=samples[:1])
    rows = exported(fleet, "telemetry")
    assert [(one["slot"], one["figure"], one["value"]) for one in rows] == [
        ("digits", "memory_mb", 2.0),
        ("digits", "up", 1.0),
    ]
    history = exported(fleet, "telemetry_history")
    assert len(history) == 5
    assert [one["at"] is None for one in history] == [False, False, True, False, False]
