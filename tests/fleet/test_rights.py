"""Which blobs a device may have: those of its orders, and nothing besides, whatever digest it asks for."""

import asyncio
import datetime as dt

import pytest
from sqlalchemy import event, select, update

from fleet import removal
from fleet import rights as parts
from fleet.refusals import Missing
from fleet.registry import named_digests
from fleet.rights import EVENT_EVERY_S, KEPT_S, SURE_S, Rights
from fleet.rollouts.policy import Policy
from fleet.tables import devices, events
from modules.digests import measure_bytes, sha256
from modules.manifest import Image, Runtime
from modules.names import Digest, Slug
from modules.protocol.phases import Phase
from modules.protocol.report import Running, SlotReport
from tests.doubles.fleet_rows import slot_report
from tests.doubles.publisher import Publisher

GRACE_S = 60


@pytest.fixture
def rights(small_fleet):
    """Two devices, and what they may have."""
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    return again(small_fleet)


def again(fleet):
    """As a server has it that starts now."""
    return Rights(fleet.database, fleet.blobs, fleet.clock, fleet.mishaps, fleet.meters, grace_s=GRACE_S)


def blobs_of(fleet, ref):
    """Every digest that a module stands for: its manifest, its blobs and their indexes."""
    with fleet.database.read() as connection:
        manifest, own = fleet.registry.signed(connection, ref)
    return {own, *named_digests(manifest)}


def give(fleet, rights, ref, *names):
    """A rollout to these devices, whose orders go out as the server's own duties send them."""
    rollout = fleet.start(ref, devices=names)
    tell(fleet, rights)
    return rollout


def tell(fleet, rights):
    with fleet.database.read() as connection:
        for row in connection.execute(select(devices.c.id, devices.c.order_counter)):
            rights.published(row.id, row.order_counter)


async def had(rights, device, blobs):
    return {blob for blob in blobs if await rights.may(device, blob)}


async def test_a_device_may_have_what_its_order_names_and_nothing_of_another_order(small_fleet, rights):
    """Manifest, files, the images of all runtimes, and every index; of another device's module not one of them."""
    put = small_fleet.blobs.put
    image = Image(name="scoring:1", manifest=put(b"an image"), config=put(b"{}"), layers=(put(b"one"), put(b"two")))
    runtimes = (Runtime(), Runtime(image=image))
    mine = small_fleet.add_module("mine", runtimes=runtimes, more={"labels.txt": b"a\nb"})
    other = small_fleet.add_module("other")
    give(small_fleet, rights, mine, "dev-a")
    give(small_fleet, rights, other, "dev-b")
    all_of_it = blobs_of(small_fleet, mine)
    assert len(all_of_it) == 1 + 2 * 6
    assert await had(rights, "dev-a", all_of_it) == all_of_it
    assert await had(rights, "dev-a", blobs_of(small_fleet, other)) == set()
    assert await had(rights, "dev-b", all_of_it) == set()
    assert await had(rights, "dev-unknown", all_of_it) == set()


async def test_a_module_that_waits_for_its_wave_or_was_never_ordered_is_nobodys(small_fleet, rights):
    """A right begins with the order."""
    ref = small_fleet.add_module("waits")
    later = dt.datetime.fromtimestamp(small_fleet.now + 3600, dt.UTC).isoformat()
    small_fleet.start(ref, devices=["dev-a"], policy=Policy(starts=later))
    tell(small_fleet, rights)
    assert await had(rights, "dev-a", blobs_of(small_fleet, ref)) == set()


async def test_a_new_order_counts_from_its_publication_on(small_fleet, rights):
    """A device that asks the moment its order arrives is answered, whatever was known of it before."""
    first, second = small_fleet.add_module("first"), small_fleet.add_module("second")
    give(small_fleet, rights, first, "dev-a")
    assert await had(rights, "dev-a", blobs_of(small_fleet, second)) == set()
    give(small_fleet, rights, second, "dev-a")
    assert await had(rights, "dev-a", blobs_of(small_fleet, second)) == blobs_of(small_fleet, second)


async def test_over_https_the_number_of_the_order_tells_that_it_is_a_new_one(small_fleet, rights):
    """Another server process may have made it, and has told this one nothing."""
    first, second = small_fleet.add_module("first"), small_fleet.add_module("second")
    small_fleet.start(first, devices=["dev-a"])
    rights.check_now("dev-a", min(blobs_of(small_fleet, first)), 1)
    small_fleet.start(second, devices=["dev-a"])
    for blob in blobs_of(small_fleet, second):
        rights.check_now("dev-a", blob, 2)
    with pytest.raises(Missing):
        rights.check_now("dev-b", blob, 0)


async def test_what_a_slot_may_go_back_to_stays_and_what_was_before_that_goes(small_fleet, rights):
    """The module before the present one is what a device falls back to; the one before it is fetched no more, once a
    device that was on its way with it has had its time."""
    refs = [small_fleet.add_module(name) for name in ("first", "second", "third")]
    first, second, third = (blobs_of(small_fleet, ref) for ref in refs)
    for ref in refs:
        small_fleet.now += 2 * GRACE_S
        give(small_fleet, rights, ref, "dev-a")
        small_fleet.report("dev-a", Phase.COMMITTED, number=round(small_fleet.now), order=3)
    assert await had(rights, "dev-a", first | second | third) == second | third
    small_fleet.now += 2 * GRACE_S
    assert await had(rights, "dev-a", first | second | third) == second | third


async def test_an_order_that_was_replaced_a_moment_ago_still_counts_for_a_while(small_fleet, rights):
    """The newer one may be on its way; after that time, what only the older one named is missing."""
    first, second = small_fleet.add_module("first"), small_fleet.add_module("second")
    give(small_fleet, rights, first, "dev-a")
    small_fleet.now += 3600
    rollout = give(small_fleet, rights, second, "dev-a")
    assert rollout
    with small_fleet.database.write() as connection:
        parts.revisions.empty(connection, small_fleet.now, "test", "dev-a", "digits")
        small_fleet.orders.issue(connection, small_fleet.now, "dev-a")
    tell(small_fleet, rights)
    late = blobs_of(small_fleet, second)
    assert await had(rights, "dev-a", late) == late
    asked = statements(small_fleet)
    assert await had(rights, "dev-a", late) == late
    assert asked == []
    small_fleet.now += GRACE_S
    assert await had(rights, "dev-a", late | blobs_of(small_fleet, first)) == set()


async def test_a_device_may_have_what_it_serves_and_what_it_claims_to_serve_only_if_it_was_ordered(small_fleet, rights):
    """Two orders came while it was away: its engine may have lost the image of what it serves since before them. What
    it never was to have it cannot get by saying that it serves it."""
    refs = [small_fleet.add_module(name) for name in ("first", "second", "third")]
    first, stranger = blobs_of(small_fleet, refs[0]), small_fleet.add_module("stranger")
    give(small_fleet, rights, refs[0], "dev-a")
    small_fleet.report("dev-a", Phase.COMMITTED, order=1)
    for ref in refs[1:]:
        small_fleet.now += 2 * GRACE_S
        give(small_fleet, rights, ref, "dev-a")
    small_fleet.now += 2 * GRACE_S
    serving = Running(module=str(refs[0]), digest=min_digest(small_fleet, refs[0]))
    small_fleet.send("dev-a", [slot_report(small_fleet, "dev-a", Phase.FETCHING, serving=serving)], order=3)
    small_fleet.now += SURE_S + 1
    assert await had(rights, "dev-a", first) == first
    liar = Running(module=str(stranger), digest=min_digest(small_fleet, stranger))
    said = SlotReport(slot=Slug("digits"), phase=Phase.FETCHING, module=liar.module, digest=liar.digest, serving=liar)
    small_fleet.send("dev-b", [said])
    small_fleet.now += SURE_S + 1
    assert await had(rights, "dev-b", blobs_of(small_fleet, stranger)) == set()


def min_digest(fleet, ref):
    """The digest of its manifest."""
    with fleet.database.read() as connection:
        return fleet.registry.digest(connection, ref)


@pytest.mark.parametrize("taken_out", [removal.remove_device, removal.revoke_device])
async def test_a_removed_or_revoked_device_has_no_right(small_fleet, rights, taken_out):
    """However recent its order is."""
    ref = small_fleet.add_module("digits")
    give(small_fleet, rights, ref, "dev-a", "dev-b")
    all_of_it = blobs_of(small_fleet, ref)
    assert await had(rights, "dev-a", all_of_it) == all_of_it
    with small_fleet.database.write() as connection:
        taken_out(connection, small_fleet.now, "dev-a")
    rights.forget()
    assert await had(rights, "dev-a", all_of_it) == set()
    assert await had(rights, "dev-b", all_of_it) == all_of_it


async def test_every_device_may_have_the_lists_of_directors_that_the_trust_metadata_names(small_fleet, rights):
    """By their digest, as trust metadata has it; also one that came a moment ago."""
    assert not await rights.may("dev-a", sha256(b"directors"))
    owner = Publisher()
    with small_fleet.database.write() as connection:
        owner.prepare(online_of(small_fleet))
        row = {"role": "targets", "version": 1, "data": owner.founded.targets}
        connection.execute(parts.tuf_metadata.insert().values(**row))
    for made in (rights, again(small_fleet)):
        assert await made.may("dev-a", sha256(owner.founded.director))
        assert not await made.may("dev-a", sha256(owner.founded.targets))
        made.check_now("dev-b", sha256(owner.founded.director), 0)


async def test_a_device_without_an_order_costs_no_question_for_each_block_either(small_fleet, rights):
    """It may have the list of directors, over both ways."""
    owner = Publisher()
    with small_fleet.database.write() as connection:
        owner.prepare(online_of(small_fleet))
        row = {"role": "targets", "version": 1, "data": owner.founded.targets}
        connection.execute(parts.tuf_metadata.insert().values(**row))
    blob = sha256(owner.founded.director)
    assert await rights.may("dev-a", blob)
    rights.check_now("dev-b", blob, 0)
    asked = statements(small_fleet)
    assert await rights.may("dev-a", blob)
    rights.check_now("dev-b", blob, 0)
    assert asked == []


def online_of(fleet):
    key = fleet.director.public_key
    return {role: {"keyid": key.keyid, **key.to_dict()} for role in ("snapshot", "timestamp", "director")}


async def test_blocks_cost_no_question_to_the_database(small_fleet, rights, monkeypatch):
    """One look for all devices that wait; then nothing until an order is published, or a long time has passed."""
    ref = small_fleet.add_module("digits")
    give(small_fleet, rights, ref, "dev-a", "dev-b")
    blob, asked = min(blobs_of(small_fleet, ref)), statements(small_fleet)
    assert await rights.may("dev-a", blob, ["dev-b"])
    looked = len(asked)
    small_fleet.now += KEPT_S - 1
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "to_thread", None)  # nor a thread
        for _ in range(1000):
            assert await rights.may("dev-a", blob)
            assert await rights.may("dev-b", blob)
            rights.check_now("dev-b", blob, 1)
    assert 0 < len(asked) == looked
    small_fleet.now += 1
    assert await rights.may("dev-a", blob)
    assert len(asked) > looked


async def test_many_that_ask_at_once_are_looked_up_together(small_fleet, rights):
    """Two hundred devices cost as many statements as one."""
    names = [f"dev-{number:03}" for number in range(200)]
    for name in names:
        small_fleet.add_device(name)
    ref = small_fleet.add_module("digits")
    give(small_fleet, rights, ref, *names)
    blob, asked = min(blobs_of(small_fleet, ref)), statements(small_fleet)
    assert all(await asyncio.gather(*(rights.may(name, blob, names) for name in names)))
    assert len(asked) < 10


def statements(fleet):
    """What the database is asked from now on."""
    asked = []
    event.listen(fleet.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    return asked


@pytest.mark.parametrize("way", ["asked", "https"])
async def test_before_a_no_the_database_is_asked_again_and_not_for_every_no(small_fleet, rights, way):
    """A device has said what it serves, for which it gets no new order: within seconds it may have that."""
    first, *later = (small_fleet.add_module(name) for name in ("first", "second", "third"))
    for ref in (first, *later):
        give(small_fleet, rights, ref, "dev-a")
        small_fleet.report("dev-a", Phase.COMMITTED)
        small_fleet.now += 2 * GRACE_S
    wanted, blob = blobs_of(small_fleet, first), min(blobs_of(small_fleet, first))
    counter = small_fleet.order("dev-a").counter

    async def may():
        if way == "asked":
            return await rights.may("dev-a", blob)
        try:
            return rights.check_now("dev-a", blob, counter) is None
        except Missing:
            return False

    assert not await may()
    serving = Running(module=str(first), digest=min_digest(small_fleet, first))
    small_fleet.send("dev-a", [slot_report(small_fleet, "dev-a", Phase.FETCHING, serving=serving)], order=counter)
    small_fleet.now += SURE_S
    asked = statements(small_fleet)
    assert not await may()
    assert sum(one.startswith("SELECT") for one in asked) == 1  # whether there are new lists of directors
    small_fleet.now += 0.5
    assert await may()
    assert await had(rights, "dev-a", wanted) == wanted


async def test_who_asked_before_it_was_there_is_looked_up_with_its_first_order(small_fleet, rights):
    """A device that was taken out and comes back, say."""
    ref = small_fleet.add_module("digits")
    blob = min(blobs_of(small_fleet, ref))
    assert not await rights.may("dev-late", blob)
    small_fleet.add_device("dev-late")
    give(small_fleet, rights, ref, "dev-late")
    assert await rights.may("dev-late", blob)


async def test_what_is_known_of_devices_is_bounded(small_fleet, rights, monkeypatch):
    """Of those that were looked up longest ago it is forgotten, and asked for again."""
    monkeypatch.setattr(parts, "_DEVICES", 2)
    small_fleet.add_device("dev-c")
    ref = small_fleet.add_module("digits")
    blob = min(blobs_of(small_fleet, ref))
    give(small_fleet, rights, ref, "dev-a", "dev-b", "dev-c")
    asked = statements(small_fleet)

    async def looked(name):
        asked.clear()
        assert await rights.may(name, blob)
        return bool(asked)

    assert [await looked(name) for name in ("dev-a", "dev-b", "dev-a")] == [True, True, False]
    rights.published("dev-a", 2)
    with small_fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-a").values(order_counter=2))
    assert [await looked(name) for name in ("dev-a", "dev-c", "dev-a", "dev-c", "dev-b")] == [
        True, True, False, False, True,
    ]  # fmt: skip


async def test_what_is_remembered_of_refusals_is_bounded(small_fleet, rights, monkeypatch):
    """Who was refused longest ago is told of once more within the hour; the others are not."""
    monkeypatch.setattr(parts, "_DEVICES", 2)
    for name in ("dev-a", "dev-b", "dev-a", "dev-c", "dev-b", "dev-c", "dev-a"):
        with pytest.raises(Missing):
            await rights.check(name, sha256(b"nowhere"))
    rights.record()
    assert [row.device for row in told(small_fleet)] == ["dev-a", "dev-b", "dev-c", "dev-a"]


@pytest.mark.parametrize(
    ("most", "again_read"),
    [(8, ["first"]), (7, ["first", "second"]), (3, ["first", "second"])],
    ids=["two fit", "one fits", "none fits, one stays"],
)
def test_a_manifest_is_read_once_as_long_as_its_digests_fit(small_fleet, rights, monkeypatch, most, again_read):
    """It never changes. Of those that do not fit the oldest go; each of these has four digests."""
    monkeypatch.setattr(parts, "_DIGESTS", most)
    refs = {name: small_fleet.add_module(name) for name in ("first", "second", "third")}
    names = {min_digest(small_fleet, ref): name for name, ref in refs.items()}
    read, find = [], small_fleet.blobs.find
    monkeypatch.setattr(small_fleet.blobs, "find", lambda digest: read.append(names[digest]) or find(digest))
    for number, (name, ref) in enumerate(refs.items()):
        device = f"dev-{number}"
        small_fleet.add_device(device)
        give(small_fleet, rights, ref, device)
        for _ in range(2):
            rights.check_now(device, min(blobs_of(small_fleet, ref)), 1)
            rights.forget()
        assert read == [name]
        read.clear()
    for number in (2, 1, 0):
        rights.check_now(f"dev-{number}", min(blobs_of(small_fleet, list(refs.values())[number])), 1)
    assert sorted(read) == again_read


async def test_who_is_refused_hears_of_no_blob_and_leaves_one_event_an_hour(small_fleet, rights):
    """The same words for a blob that is there and for one that is not; each is counted."""
    there = measure_bytes(b"graph of digits").sha256
    small_fleet.add_module("digits")
    said = []
    for blob in (there, sha256(b"nowhere"), Digest("sha256:" + "0" * 64)):
        with pytest.raises(Missing) as caught:
            await rights.check("dev-a", blob)
        said.append((caught.value.code, caught.value.message))
    assert set(said) == {("missing", "there is no such blob")}
    with pytest.raises(Missing, match="there is no such blob"):
        rights.check_now("dev-a", there, 0)
    assert withheld(small_fleet) == {"asked": 3, "https": 1}
    rights.record()
    rights.record()
    assert [(row.kind, row.device) for row in told(small_fleet)] == [("blob-withheld", "dev-a")]
    assert told(small_fleet)[0].message.startswith("not-ordered: ")
    small_fleet.now += EVENT_EVERY_S
    with pytest.raises(Missing):
        await rights.check("dev-a", there)
    rights.record()
    assert len(told(small_fleet)) == 2


def withheld(fleet):
    (found,) = (one for one in fleet.meters.registry.collect() if one.name == "edgefleet_blobs_withheld")
    return {one.labels["way"]: one.value for one in found.samples if one.name.endswith("_total")}


def told(fleet):
    with fleet.database.read() as connection:
        return connection.execute(select(events).where(events.c.kind == "blob-withheld")).all()


async def test_a_manifest_that_cannot_be_read_takes_nobody_elses_right(small_fleet, rights):
    """A bad sector under one module is a mishap of that module alone."""
    good, bad = small_fleet.add_module("good"), small_fleet.add_module("bad")
    give(small_fleet, rights, good, "dev-a")
    give(small_fleet, rights, bad, "dev-b")
    small_fleet.blobs.path(min_digest(small_fleet, bad)).write_bytes(b"{")
    some = blobs_of(small_fleet, good)
    assert await had(rights, "dev-a", some) == some
    assert not await rights.may("dev-b", min_digest(small_fleet, bad), ["dev-a"])
    assert small_fleet.mishaps.counts["rights"] > 0


def test_the_counter_of_an_order_never_goes_back(small_fleet, rights):
    """A late word of an older order takes nothing away."""
    ref = small_fleet.add_module("digits")
    give(small_fleet, rights, ref, "dev-a")
    with small_fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-a").values(order_counter=7))
    rights.check_now("dev-a", min(blobs_of(small_fleet, ref)), 7)
    rights.published("dev-a", 1)
    rights.check_now("dev-a", min(blobs_of(small_fleet, ref)), 1)
