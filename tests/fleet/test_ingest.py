"""What devices say, into rows."""

import threading

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from fleet import events, ingest, said
from fleet.ingest import PARTING_S, Ingest, Receipt, _rounds, _within_budget
from fleet.meters import Meters
from fleet.removal import remove_device, revoke_device
from fleet.rollouts import heard
from fleet.rollouts.model import Policy, Wave
from fleet.said import Inbound
from fleet.tables import devices, members, newcomers, rollouts, slot_revisions, slots
from modules import canonical
from modules.names import DeviceId, Digest, Slug
from modules.protocol.facts import Facts
from modules.protocol.report import Health, Reason, Refusal, Report, SlotReport, Status
from modules.signing import ANSWER_TYPE, FACTS_TYPE, REPORT_TYPE
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import slot_report

NAME = DeviceId("dev-a")


@pytest.fixture
def fleet(small_fleet):
    small_fleet.add_device(NAME)
    small_fleet.add_device("dev-b")
    return small_fleet


def row(fleet):
    with fleet.database.read() as connection:
        return connection.execute(select(devices).where(devices.c.id == NAME)).one()


def kinds(fleet):
    with fleet.database.read() as connection:
        return [one["kind"] for one in events.newest(connection)]


def status(fleet, *, online, boot, epoch=""):
    payload = canonical.encode(Status(online=online, boot=boot, epoch=epoch))
    fleet.ingest.commit([Inbound(NAME, "status", payload)])
    return row(fleet).online


def test_a_report_is_stored_and_acknowledged(fleet):
    """The receipt names the number that is in the database."""
    assert fleet.send(NAME, [], number=3) == [Receipt(NAME, 3)]
    assert row(fleet).report_number == 3


def test_a_report_that_comes_again_changes_nothing_and_is_acknowledged_again(fleet):
    """Redelivery is normal: no event, no change, the same receipt."""
    report = Report(device=NAME, number=3, issued=0, order=0, agent="0")
    said = fleet.said(NAME, "report", report, REPORT_TYPE)
    fleet.ingest.commit([said])
    before = row(fleet)
    fleet.now += 3600  # nor is the device seen for it: a broker can bring it again for years
    assert fleet.ingest.commit([said]) == [Receipt(NAME, 3)]
    assert row(fleet) == before
    assert kinds(fleet) == []


def counts(fleet, name):
    """What the server counted for Prometheus, by its label."""
    found = [one for one in fleet.meters.registry.collect() if one.name == f"edgefleet_ingest_{name}"]
    return {next(iter(one.labels.values())): one.value for one in found[0].samples if one.name.endswith("_total")}


def rows(fleet):
    """All that a report could have moved."""
    with fleet.database.read() as connection:
        tables = (devices, members, slots, slot_revisions, rollouts)
        return [connection.execute(select(one).order_by(*one.primary_key)).all() for one in tables]


def test_what_was_said_before_is_counted(fleet):
    """Brought again by the broker, replayed, or overtaken: nothing moves, and the numbers say how often."""
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    fleet.report(NAME, "fetching")
    old = fleet.said(NAME, "report", report_of(fleet, "reverted", number=1, issued=fleet.now - 60), REPORT_TYPE)
    fleet.now += 60
    fleet.report(NAME, "committed")
    before = rows(fleet)
    for _ in range(3):
        assert fleet.ingest.commit([old]) == [Receipt(NAME, 2)]
    fleet.tick()
    assert rows(fleet) == before
    assert fleet.view(rollout)["state"] == "done"
    assert counts(fleet, "known") == {"report": 3.0}
    assert kinds(fleet) == []


def report_of(fleet, phase, *, number, issued):
    said = slot_report(fleet, NAME, phase)
    order = fleet.order(NAME).counter
    return Report(device=NAME, number=number, issued=issued, order=order, agent="0", slots=(said,))


@pytest.mark.parametrize("number", [1, 4])
def test_numbers_that_go_back_are_an_event(fleet, number):
    """A device that counts anew, and says it later than what it said before: ignored, counted, and somebody is told."""
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    fleet.report(NAME, "committed", number=5)
    fleet.now += 60
    before = rows(fleet)
    fleet.report(NAME, "reverted", number=number)
    assert rows(fleet) == before
    assert fleet.view(rollout)["state"] == "done"
    assert (kinds(fleet), counts(fleet, "odd")) == (["went-back"], {"went-back": 1.0})
    fleet.report(NAME, "reverted", number=6)
    assert fleet.view(rollout)["state"] == "failed"


@pytest.mark.parametrize("phase", ["teleported", "", "COMMITTED", "committed ", "planned", "ordered", "withdrawn"])
def test_an_unknown_phase_is_an_event_and_moves_nothing(fleet, phase):
    """Of a newer agent, made up, or one of the server's own words: no success, no failure, no new order."""
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    order = fleet.order(NAME)
    for _ in range(3):
        fleet.report(NAME, phase)
    assert fleet.order(NAME) == order
    assert fleet.view(rollout)["counts"] == {"working": 1}
    assert (kinds(fleet), counts(fleet, "odd")) == (["unknown-phase"], {"unknown-phase": 1.0})


def test_an_unknown_health_is_an_event(fleet):
    """A module that is said to be splendid is not said to be up."""
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    fleet.report(NAME, "committed", current=Health(state="splendid"))
    assert fleet.view(rollout)["counts"] == {"working": 1}
    assert kinds(fleet) == ["unknown-phase"]


@pytest.mark.parametrize("claim", ["slot", "digest", "order"])
def test_a_device_that_lies_about_itself_moves_no_other_and_no_other_slot(fleet, claim):
    """It says that it runs what was not ordered, where it was not ordered, or by an order that it never got."""
    ref = fleet.add_module("digits")
    rollout = fleet.start(ref, policy=Policy(waves=(Wave(count=1), Wave(percent=100.0))))
    wanted = fleet.order(NAME).slots["digits"]
    others = {"slot": Slug("faces"), "digest": Digest("sha256:" + "1" * 64), "order": None}
    said = SlotReport(
        slot=others["slot"] if claim == "slot" else Slug("digits"),
        phase="committed",
        module=str(ref),
        digest=others["digest"] if claim == "digest" else wanted.digest,
    )
    # The second device has no order yet: its wave is closed.
    who = "dev-b" if claim == "order" else NAME
    fleet.send(who, [said], order=1_000 if claim == "order" else 1)
    assert fleet.view(rollout)["counts"] == {"working": 1, "planned": 1}
    assert fleet.phases(rollout) == {NAME: "ordered", "dev-b": "planned"}


def test_an_older_report_does_not_replace_a_newer_one(fleet):
    """Numbers grow; the receipt says the highest."""
    fleet.send(NAME, [], number=5, order=2)
    assert fleet.send(NAME, [], number=4, order=1) == [Receipt(NAME, 5)]
    assert canonical.decode(row(fleet).report, Report, limit=9999, what="report").order == 2


def test_one_batch_gives_one_receipt_per_device(fleet):
    """Many messages are one transaction, and one acknowledgement of the highest number."""
    batch = [
        fleet.said(name, "report", Report(device=DeviceId(name), number=n, issued=0, order=0, agent="0"), REPORT_TYPE)
        for name in (NAME, "dev-b")
        for n in (1, 2, 3)
    ]
    assert sorted(fleet.ingest.commit(batch)) == [Receipt(NAME, 3), Receipt("dev-b", 3)]


@pytest.mark.parametrize(
    "forge",
    [
        lambda fleet, report: fleet.said("dev-b", "report", report, REPORT_TYPE)._replace(device=NAME),
        lambda fleet, report: fleet.said(NAME, "report", report, FACTS_TYPE),
        lambda fleet, report: fleet.said("dev-b", "report", report, REPORT_TYPE),
        lambda fleet, report: fleet.said(NAME, "report", report, REPORT_TYPE)._replace(device=DeviceId("dev-none")),
        lambda fleet, report: fleet.said(NAME, "cmd", report, ANSWER_TYPE)._replace(device=DeviceId("dev-none")),
    ],
    ids=["another key", "another type", "another device's topic", "a device that never enrolled", "an answer of one"],
)
def test_a_forged_report_is_an_event_and_nothing_else(fleet, forge):
    """No row changes and nothing is acknowledged; somebody is told."""
    report = Report(device=NAME, number=1, issued=0, order=0, agent="0")
    assert fleet.ingest.commit([forge(fleet, report)]) == []
    assert row(fleet).report is None
    assert kinds(fleet) == ["forged-message"]


@pytest.mark.parametrize("payload", [b"", b"{}", b"[" * 5000, b"x" * 600_000, b'{"online":1}'])
@pytest.mark.parametrize("kind", ["report", "facts", "status"])
def test_what_is_no_document_is_an_event(fleet, kind, payload):
    """Empty, nested, oversized and wrong payloads are survived, and the rest of the batch is stored."""
    good = fleet.said(NAME, "report", Report(device=NAME, number=1, issued=0, order=0, agent="0"), REPORT_TYPE)
    assert fleet.ingest.commit([Inbound(NAME, kind, payload), good]) == [Receipt(NAME, 1)]
    assert kinds(fleet) == ["bad-message"]


def test_a_flood_of_forgeries_does_not_fill_the_database(fleet):
    """After twenty events of one device in a minute the rest is dropped; a minute later it is news again."""
    garbage = [Inbound(NAME, "report", b"garbage")] * 100
    for _ in range(2):
        fleet.ingest.commit(garbage)
        assert len(kinds(fleet)) == 20
    fleet.now += 61
    fleet.ingest.commit(garbage)
    assert len(kinds(fleet)) == 40
    assert counts(fleet, "refused") == {"report": 60.0}


def test_a_report_of_other_bytes_says_nothing_of_the_ordered_ones(fleet):
    """Under the same slot, order and name: what is committed counts by its digest alone."""
    ref = fleet.add_module("digits")
    rollout = fleet.start(ref, devices=(NAME,))
    order = fleet.order(NAME)
    said = SlotReport(slot=Slug("digits"), phase="committed", module=str(ref), digest=Digest("sha256:" + "0" * 64))
    fleet.send(NAME, [said], order=order.counter)
    assert fleet.phases(rollout) == {NAME: "ordered"}

    fleet.report(NAME, "committed")
    assert fleet.phases(rollout) == {NAME: "committed"}


def test_of_a_flood_the_newest_twenty_are_looked_at():
    """Of each device and kind, in the order in which they came: a flood of one holds up nobody's."""
    flood = [Inbound(NAME, "report", b"%d" % number) for number in range(25)]
    others = [Inbound(NAME, "facts", b""), Inbound(DeviceId("dev-b"), "report", b"")]

    assert _within_budget([*flood[:10], *others, *flood[10:]]) == [*flood[5:10], *others, *flood[10:]]


@pytest.mark.parametrize(("taken_out", "kind"), [(remove_device, "removed-device"), (revoke_device, "revoked-device")])
def test_what_a_removed_or_revoked_device_says_counts_for_nothing(fleet, taken_out, kind):
    """Its goodbye is no event; what it says later is, for then the broker lets it in still."""
    fleet.send(NAME, [], number=3)
    with fleet.database.write() as connection:
        taken_out(connection, fleet.now, NAME)
    report = Report(device=NAME, number=9, issued=0, order=1, agent="0")
    message = fleet.said(NAME, "report", report, REPORT_TYPE)
    assert fleet.ingest.commit([message]) == []
    assert kind not in kinds(fleet)

    fleet.now += PARTING_S + 1
    assert fleet.ingest.commit([message]) == []
    assert kind in kinds(fleet)
    assert row(fleet).report_number == 3


def test_answers_to_commands_are_taken_beside_what_else_is_said(fleet):
    """All parts that a batch has; a part that comes again is counted."""
    command = fleet.signed_command(fleet.give("ping", device=NAME)[0][NAME])
    report = fleet.said(NAME, "report", Report(device=NAME, number=1, issued=0, order=0, agent="0"), REPORT_TYPE)
    first, last = fleet.answer(command, 1), fleet.answer(command, 2, "done")
    assert fleet.ingest.commit([first, report, last]) == [Receipt(NAME, 1)]
    assert (fleet.command(command.id)["state"], fleet.command(command.id)["answers"]) == ("done", 2)
    assert fleet.ingest.commit([last, Inbound(NAME, "cmd", b"{}")]) == []
    assert counts(fleet, "known") == {"cmd": 1.0}
    assert counts(fleet, "refused") == {"cmd": 1.0}


def test_in_a_round_no_device_has_two_messages():
    """So that each of its messages sees what the one before has changed."""
    said = [(Inbound(DeviceId(name), "report", b""), number) for number, name in enumerate("abaacb")]
    rounds = [[number for _, number in one] for one in _rounds(said)]

    assert rounds == [[0, 1, 4], [2, 5], [3]]


def test_a_phase_of_a_newer_device_is_kept_as_it_is(fleet):
    """A server that does not know it takes the whole report all the same; the phase is neither success nor failure."""
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    fleet.report(NAME, "wonderful")

    view = fleet.view(rollout)
    assert (view["state"], view["devices"][0]["phase"]) == ("running", "wonderful")
    assert row(fleet).report_number == 1


@pytest.mark.parametrize("phase", ["x" * 100, "a\0b", "\ud83d\ude00" * 40], ids=["long", "NUL", "wide"])
def test_a_phase_that_no_column_holds_costs_nobody_anything(fleet, phase):
    """It is cut and shown as far as it can be; neither the report nor any other of its batch is taken a second time."""
    phase = phase.encode("utf-16", "surrogatepass").decode("utf-16")
    rollout = fleet.start(fleet.add_module("digits"), devices=(NAME,))
    fleet.report(NAME, phase)

    assert row(fleet).report_number == 1
    assert fleet.mishaps.counts == {}
    assert fleet.view(rollout)["devices"][0]["standing"] == "working"


def test_a_defect_in_one_message_costs_that_message_alone(fleet, monkeypatch):
    """Whatever goes wrong with one device's report, the others' are stored and acknowledged, and it is counted."""
    reported = heard.report

    def breaks(moved, device, said):
        if device == NAME:
            raise OverflowError("a defect")
        reported(moved, device, said)

    monkeypatch.setattr(heard, "report", breaks)
    slot = SlotReport(slot=Slug("a"), phase="committed", module="x", digest=Digest("sha256:" + "0" * 64))
    said = {
        name: Report(device=name, number=1, issued=0, order=0, agent="0", slots=(slot,)) for name in (NAME, "dev-b")
    }
    batch = [fleet.said(name, "report", report, REPORT_TYPE) for name, report in said.items()]

    assert fleet.ingest.commit(batch) == [Receipt("dev-b", 1)]
    assert row(fleet).report_number == 0
    assert fleet.mishaps.counts == {"message": 1}


@pytest.mark.parametrize("number", [1 << 53, 1 << 63, 10**400], ids=["2^53", "2^63", "10^400"])
def test_a_number_that_no_database_holds_is_refused_and_the_rest_is_stored(fleet, number):
    """In a status, which is not signed, as in a signed report: an event, and nothing else happens."""
    status = b'{"format":"edgefleet.status/1","online":true,"boot":%d}' % number
    report = b'{"format":"edgefleet.report/1","device":"dev-a","number":%d,"issued":0,"order":0,"agent":"0"}' % number
    signed = fleet.said_bytes(NAME, "report", report, REPORT_TYPE)
    good = fleet.said("dev-b", "report", Report(device="dev-b", number=1, issued=0, order=0, agent="0"), REPORT_TYPE)

    assert fleet.ingest.commit([Inbound(NAME, "status", status), signed, good]) == [Receipt("dev-b", 1)]
    assert (row(fleet).boot, row(fleet).report_number) == (0, 0)
    assert kinds(fleet) == ["bad-message", "bad-message"]


def test_a_device_that_lost_its_database_is_heard_at_once(fleet):
    """Its numbers begin anew in a new epoch; late words of the old one change nothing, and are not acknowledged."""
    first, second = "a" * 16, "b" * 16
    assert fleet.send(NAME, [], number=70, order=3, epoch=first) == [Receipt(NAME, 70, first)]
    assert fleet.send(NAME, [], number=1, order=4, epoch=second) == [Receipt(NAME, 1, second)]
    assert (row(fleet).epoch, row(fleet).report_number) == (second, 1)
    assert kinds(fleet) == ["new-epoch"]

    assert fleet.send(NAME, [], number=70, order=3, epoch=first) == []
    facts = Facts(device=NAME, number=1, issued=0.0, agent="0", host=HOST_FACTS, epoch=first)
    assert fleet.ingest.commit([fleet.said(NAME, "facts", facts, FACTS_TYPE)]) == []
    assert canonical.decode(row(fleet).report, Report, limit=9999, what="report").order == 4
    assert kinds(fleet) == ["new-epoch"]
    assert counts(fleet, "known") == {"report": 1.0, "facts": 1.0}


def test_two_agents_with_one_identity_are_told_of(fleet):
    """A retired epoch that goes on counting is a clone: an event for each new word of it, and nothing changes."""
    first, second = "a" * 16, "b" * 16
    fleet.send(NAME, [], number=5, epoch=first)
    fleet.send(NAME, [], number=1, epoch=second)
    for number in (6, 6, 7):
        assert fleet.send(NAME, [], number=number, epoch=first) == []

    assert kinds(fleet).count("cloned-identity") == 2
    assert (row(fleet).epoch, row(fleet).report_number) == (second, 1)


def test_a_cloned_disk_is_told_of(fleet):
    """Two agents of one database give the same number to other words; an honest one only repeats what it said."""
    epoch = "a" * 16
    fleet.send(NAME, [], number=5, order=1, epoch=epoch)
    fleet.send(NAME, [], number=5, order=1, epoch=epoch)
    assert kinds(fleet) == []

    assert fleet.send(NAME, [], number=5, order=2, epoch=epoch) == [Receipt(NAME, 5, epoch, twice=True)]
    assert kinds(fleet) == ["cloned-identity"]
    assert canonical.decode(row(fleet).report, Report, limit=9999, what="report").order == 1


def test_a_report_of_long_ago_is_no_news_after_many_epochs(fleet):
    """A hostile broker may make a device begin epoch after epoch: what it said two months of them ago stays retired."""
    names = [f"{number:016x}" for number in range(64)]
    for order, epoch in enumerate(names):
        fleet.send(NAME, [], number=1, order=order, epoch=epoch)

    assert fleet.send(NAME, [], number=1, order=0, epoch=names[0]) == []
    assert (row(fleet).epoch, row(fleet).report_number) == (names[-1], 1)


def test_an_agent_from_before_epochs_counts_on(fleet):
    """Without an epoch nothing begins anew, neither before an update of the agent nor after going back."""
    fleet.send(NAME, [], number=5)
    fleet.send(NAME, [], number=6, epoch="a" * 16)
    assert fleet.send(NAME, [], number=7) == [Receipt(NAME, 7)]
    assert kinds(fleet) == []


def test_the_will_of_a_lost_epoch_does_not_mark_the_new_one_dead(fleet):
    """The session numbers of a new database begin at 1, below those of the old."""
    first, second = "a" * 16, "b" * 16
    fleet.send(NAME, [], number=5, epoch=first)
    assert status(fleet, online=True, boot=40, epoch=first)
    fleet.send(NAME, [], number=1, epoch=second)
    assert status(fleet, online=True, boot=1, epoch=second)
    assert status(fleet, online=False, boot=40, epoch=first)


def test_a_flood_of_refusals_does_not_fill_the_database(fleet):
    """However many a device says it refused, so many events of it a minute and no more."""
    refusals = [Refusal(what=f"order {n}", reason=Reason("x", "y"), at=1.0) for n in range(300)]
    for start in range(0, 300, 60):
        fleet.send(NAME, [], refusals=tuple(refusals[start : start + 60]))

    assert kinds(fleet) == ["device-refused"] * 20


def test_facts_only_move_forward(fleet):
    """Facts with an old number are ignored: an old retained message cannot undo new facts."""
    for number, cores in ((5, 8.0), (4, 1.0)):
        host = HOST_FACTS.__class__(platform="linux/amd64", cores=cores)
        facts = Facts(device=NAME, number=number, issued=0.0, agent="0", host=host)
        fleet.ingest.commit([fleet.said(NAME, "facts", facts, FACTS_TYPE)])
    assert canonical.decode(row(fleet).facts, Facts, limit=9999, what="facts").host.cores == 8.0
    assert counts(fleet, "known") == {"facts": 1.0}


def test_a_device_that_says_its_facts_is_looked_at_for_rollouts_that_take_late_joiners(fleet):
    """And one that has said none yet is not."""
    fleet.add_device("dev-c", host=None)
    with fleet.database.read() as connection:
        assert set(connection.scalars(select(newcomers.c.device))) == {NAME, "dev-b"}


def test_when_a_device_was_seen(fleet):
    """With a status by which it is online, and when it was lost; a will that comes again says nothing of now."""
    seen = []
    for online, boot in ((True, 1), (True, 1), (False, 1), (False, 1), (False, 2)):
        fleet.now += 100
        status(fleet, online=online, boot=boot)
        seen.append(row(fleet).last_seen == fleet.now)
    assert seen == [True, True, True, False, False]


def test_the_will_of_an_old_session_does_not_mark_a_new_one_dead(fleet):
    """Presence follows the highest boot counter."""
    assert status(fleet, online=True, boot=1)
    assert status(fleet, online=True, boot=2)
    assert status(fleet, online=False, boot=1)
    assert not status(fleet, online=False, boot=2)


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (("report",), "report"),
        (("facts",), "facts"),
        (("status",), "status"),
        (("cmd",), "cmd"),
        (("telemetry", "host"), "telemetry"),
        (("telemetry",), None),
        (("telemetry", "host", "more"), None),
        (("report", "more"), None),
        (("blob", "get"), None),
        (("other",), None),
        ((), None),
    ],
)
def test_what_is_taken_at_which_topics(rest, kind):
    """By the levels after ``up``: one for each kind, and two for telemetry, whose streams are apart."""
    assert Ingest.kind(rest) == kind


@pytest.mark.parametrize("broken", [1, 2], ids=["with the batch", "with one message of it"])
def test_a_database_that_fails_fails_the_batch(fleet, monkeypatch, broken):
    """Nothing is lost with it: whoever brought the batch is told, and brings all of it again."""
    calls = []

    def together(*given):
        calls.append(given)
        raise OperationalError("", {}, Exception("disk I/O error")) if len(calls) == broken else ValueError

    monkeypatch.setattr(Ingest, "_together", together)
    batch = [Inbound(NAME, "status", b""), Inbound(NAME, "report", b"")]
    with pytest.raises(OperationalError):
        fleet.ingest.commit(batch)
    assert len(calls) == broken
    assert fleet.mishaps.counts == {}


@pytest.mark.parametrize("kind", ["report", "facts", "telemetry", "cmd"])
def test_a_defect_in_reading_a_message_is_counted(fleet, monkeypatch, kind):
    """It is no forgery and no bad message; the others of its batch are taken."""
    honest = ingest.signed

    def breaks(message, *more):
        if message.kind == kind and message.payload == b"":
            raise ZeroDivisionError
        return honest(message, *more)

    monkeypatch.setattr(ingest, "signed", breaks)
    good = fleet.said("dev-b", "report", Report(device="dev-b", number=1, issued=0, order=0, agent="0"), REPORT_TYPE)
    assert fleet.ingest.commit([Inbound(NAME, kind, b""), good]) == [Receipt("dev-b", 1)]
    assert fleet.mishaps.counts == {"message": 1}
    assert kinds(fleet) == []


def test_signatures_are_checked_on_all_cores(fleet, monkeypatch):
    """Two threads are at it at once where there are two cores; each waits for the other here."""
    monkeypatch.setattr(ingest, "granted", lambda: 2.0)
    together = threading.Barrier(2, timeout=20)
    waited = threading.local()

    def verify(*arguments, **more):
        if not hasattr(waited, "done"):
            waited.done = True
            together.wait()
        return real(*arguments, **more)

    real = said.opened
    monkeypatch.setattr(said, "opened", verify)
    fleet.ingest = ingest.Ingest(fleet.database, fleet.clock, fleet.mishaps, Meters())
    facts = Facts(device=NAME, number=1, issued=0, agent="0", host=HOST_FACTS, formats=())
    flood = [fleet.said(NAME, "facts", facts, FACTS_TYPE)] * ingest.OF_ONE_KIND
    reports = [
        fleet.said(name, "report", Report(device=name, number=n, issued=0, order=0, agent="0"), REPORT_TYPE)
        for name in (NAME, "dev-b")
        for n in range(1, ingest.OF_ONE_KIND + 1)
    ]
    assert len(flood + reports) > ingest.TURN
    assert len(fleet.ingest.commit(flood + reports)) == 2
    assert fleet.mishaps.counts == {}
