"""What the device says: complete, signed, numbered, kept until it is acknowledged."""

from itertools import pairwise

import msgspec
import pytest

from agent.outbox import Outbox
from agent.report import build
from agent.slots import Placed
from agent.store import Store
from modules import canonical, signing
from modules.manifest import Manifest
from modules.names import device_id
from modules.protocol import report as report_wire
from modules.protocol.batch import BATCH
from modules.protocol.commands import Command
from modules.protocol.facts import FALLBACKS
from modules.protocol.order import Order
from modules.protocol.phases import Phase
from modules.protocol.report import Ack, Reason, Refusal
from tests.agent.workbench import FACTS
from tests.doubles.keys import device_pem
from tests.doubles.link import RecordingLink
from tests.doubles.release import make
from tests.doubles.rows import slot_row

DEVICE = device_id("dev-1")
WANTED = make().wanted()
ROW = slot_row(WANTED)


class Said:
    """An outbox with its store and link; ``again`` is the agent after a restart."""

    def __init__(self, folder) -> None:
        private, public = device_pem()
        self.signer, self.key = signing.signer_from_pem(private), signing.key_from_pem(public)
        self.folder, self.link, self.store = folder, RecordingLink(DEVICE), Store(folder)
        self.again()

    def again(self) -> None:
        self.store.close()
        self.store = Store(self.folder)
        self.seconds = 0.0
        self.outbox = Outbox(
            device=DEVICE,
            store=self.store,
            link=self.link,
            signer=self.signer,
            now=lambda: 7.0,
            monotonic=lambda: self.seconds,
        )

    def reports(self):
        return self.link.reports(self.key)


@pytest.fixture
def said(tmp_path):
    one = Said(tmp_path)
    yield one
    one.store.close()


async def test_a_report_is_signed_numbered_and_retained(said):
    """What is published verifies with the device's key, and is retained."""
    said.store.raise_number("order", 4)
    await said.outbox.report((ROW,))
    (report,) = said.reports()

    assert (report.number, report.order, report.issued, report.device) == (1, 4, 7.0, DEVICE)
    assert said.link.published[0][2]


async def test_only_news_is_said_and_numbers_grow(said):
    """The same state is said once, also across a restart; another state gets the next number."""
    await said.outbox.report((ROW,))
    await said.outbox.report((ROW,))
    said.again()
    await said.outbox.report((ROW,))
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))

    assert [report.number for report in said.reports()] == [1, 2]


async def test_what_was_not_acknowledged_is_said_again(said):
    """A report that was made without a session is said at the next connect, also by a new agent: the newest only."""
    said.link.connected = False
    await said.outbox.report((ROW,))
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))
    said.again()
    said.link.connected = True
    await said.outbox.on_connect()

    assert [report.number for report in said.reports()] == [2]


async def test_a_link_that_breaks_while_sending_loses_nothing(said):
    """Half a publish is no publish."""
    said.link.breaks = True
    await said.outbox.report((ROW,))
    said.link.breaks = False
    await said.outbox.on_connect()

    assert [report.number for report in said.reports()] == [1]


async def test_an_acknowledged_report_is_dropped(said):
    """An ack for the newest report ends it, an older one's does not."""
    await said.outbox.report((ROW,))
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))
    said.outbox.on_ack(Ack(report=1))
    await said.outbox.on_connect()
    assert [report.number for report in said.reports()] == [1, 2, 2]

    said.outbox.on_ack(Ack(report=2))
    await said.outbox.on_connect()
    assert len(said.reports()) == 3


async def test_a_start_says_the_last_report_once_more(said):
    """Also one that was acknowledged, and only at the first session: an older copy of this state shows itself so."""
    await said.outbox.report((ROW,))
    said.outbox.on_ack(Ack(report=1, epoch=said.store.epoch))
    said.again()
    said.link.breaks = True
    await said.outbox.on_connect()
    said.link.breaks = False
    await said.outbox.on_connect()
    await said.outbox.on_connect()

    assert [report.number for report in said.reports()] == [1, 1]


@pytest.mark.parametrize(
    ("number", "epoch", "twice", "possible"),
    [
        (2, "mine", False, True),
        (1, "mine", False, True),
        (3, "mine", False, False),
        (2, "mine", True, False),
        (1, "mine", True, True),
        (3, "", False, True),
        (3, "f" * 16, False, True),
    ],
)
async def test_a_receipt_for_what_was_never_said_shows_an_old_copy(said, number, epoch, twice, possible):
    """Only where it is of this epoch, and beyond the last report, or for that one with other words."""
    await said.outbox.report((ROW,))
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))
    ack = Ack(report=number, epoch=said.store.epoch if epoch == "mine" else epoch, twice=twice)

    assert said.outbox.on_ack(ack) is possible


async def test_a_new_epoch_says_everything_anew(said):
    """Reports and facts begin at 1 in an epoch of their own; the order that was adopted stays adopted."""
    said.store.raise_number("order", 4)
    await said.outbox.report((ROW,))
    await said.outbox.facts(FACTS)
    first = said.store.epoch
    said.outbox.begin_epoch()
    await said.outbox.on_connect()
    assert len(said.reports()) == 1
    await said.outbox.report((ROW,))
    await said.outbox.facts(FACTS)
    said.again()
    await said.outbox.on_connect()

    *_, report = said.reports()
    assert (report.number, report.order) == (1, 4)
    assert report.epoch == said.store.epoch != first
    assert [facts.number for facts in said.link.facts(said.key)] == [1, 1]
    assert said.link.facts(said.key)[1].epoch == report.epoch


async def test_a_report_that_nobody_acknowledges_is_said_again_within_the_session(said):
    """After a minute, then ever more seldom, the same words: what took it may have dropped it."""
    at = []
    await said.outbox.report((ROW,))
    for minute in range(1, 200):
        said.seconds, before = 60.0 * minute, len(said.link.published)
        await said.outbox.report((ROW,))
        at += [minute] * (len(said.link.published) - before)
    assert len({payload for _, payload, _ in said.link.published}) == 1
    assert 1 <= at[0] <= 2
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert waits[0] <= 3 < waits[2]
    assert 40 <= max(waits) <= 80


async def test_an_acknowledged_report_is_not_said_again(said):
    """Nor is one that a newer one replaced; a new one begins with the short wait."""
    await said.outbox.report((ROW,))
    said.seconds = 10_000.0
    await said.outbox.report((ROW,))
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))
    said.seconds += 80.0
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))
    assert [report.number for report in said.reports()] == [1, 1, 2, 2]
    said.outbox.on_ack(Ack(report=2, epoch=said.store.epoch))
    said.seconds += 10_000.0
    await said.outbox.report((ROW.to(Phase.FITTED, 8.0),))
    assert len(said.reports()) == 4


async def test_facts_are_said_when_they_change(said):
    """A little free disk is no news, memory is; after a connect they are said again."""
    await said.outbox.facts(FACTS)
    await said.outbox.facts(msgspec.structs.replace(FACTS, disk_free_mb=FACTS.disk_free_mb + 5))
    assert len(said.link.facts(said.key)) == 1

    await said.outbox.facts(msgspec.structs.replace(FACTS, memory_mb=1))
    said.outbox.forget_facts()
    await said.outbox.facts(FACTS)
    assert [facts.number for facts in said.link.facts(said.key)] == [1, 2, 3]


async def test_facts_wait_for_a_session(said):
    """Facts that could not be said are said when there is a session."""
    said.link.connected = False
    await said.outbox.facts(FACTS)
    said.link.connected, said.link.breaks = True, True
    await said.outbox.facts(FACTS)
    said.link.breaks = False
    await said.outbox.facts(FACTS)

    assert len(said.link.facts(said.key)) == 1


def test_a_report_tells_who_serves_and_why():
    """The wanted module with phase and reason, the serving one with provider, and whether it was proved."""
    placed = Placed(wanted=WANTED, instance="i", socket="/s", provider="CPUExecutionProvider", proved=False)
    row = ROW.with_(phase=Phase.REVERTED, current=placed, reason=Reason("wrong-answer", "no"), restarts=2)
    refusal = Refusal(what="order", reason=Reason("untrusted", "no"), at=1.0)
    gone = ROW.with_(slot="gone", phase=Phase.REMOVING, current=placed)
    report = build((row, gone), (refusal,), device=DEVICE, number=1, now=1.0, order=1, agent="0")

    assert (report.slots[0].phase, report.slots[0].reason.code, report.slots[0].attempts) == (
        "reverted",
        "wrong-answer",
        2,
    )
    assert (report.slots[0].serving.provider, report.slots[0].serving.proved) == ("CPUExecutionProvider", False)
    assert report.slots[1].serving is None
    assert report.refusals == (refusal,)


async def test_facts_say_which_formats_are_read(said):
    """A server learns from the facts which documents this agent reads, and what it follows and takes."""
    await said.outbox.facts(FACTS)
    (facts,) = said.link.facts(said.key)

    read = {msgspec.structs.fields(kind)[0].default for kind in (Order, Ack, Manifest, Command)}
    assert set(facts.formats) == read | {FALLBACKS, BATCH}


async def test_a_report_is_always_one_that_the_server_reads(said):
    """However much modules and engines said, and whatever the clock, a report is within its bounds, with all slots."""
    reason = Reason("not-ready", '"' * 2000)
    rows = tuple(
        slot_row(WANTED, f"slot-{n}", reason=reason, times=tuple(("probation", 1e12) for _ in range(32)))
        for n in range(128)
    )
    for number in range(20):
        said.store.refuse(Refusal(what="order", reason=Reason("untrusted", f"{number}" * 1000), at=float(number)))
    said.outbox._now = lambda: -5.0
    await said.outbox.report(rows)
    (report,) = said.reports()

    assert len(canonical.encode(report)) <= report_wire.LIMIT
    assert [slot.slot for slot in report.slots] == [row.slot for row in rows]
    assert report.slots[0].reason.code == "not-ready"
    assert report.issued == 0


async def test_what_was_signed_with_a_key_of_before_is_signed_again(said):
    """After a renewal the same report, under its number, goes out with the new key, acknowledged or not; so it does
    after a restart, when only the disk knows of it."""
    await said.outbox.report((ROW,))
    (first,) = said.reports()
    private, public = device_pem()
    said.signer, said.key = signing.signer_from_pem(private), signing.key_from_pem(public)
    said.again()
    said.outbox.on_ack(Ack(report=1, epoch=said.store.epoch))
    said.link.published.clear()
    await said.outbox.on_connect()
    assert said.reports() == [first]
    said.link.published.clear()
    await said.outbox.on_connect()
    assert said.link.published == []
    said.outbox.renewed()
    await said.outbox.on_connect()
    assert said.reports() == [first]
