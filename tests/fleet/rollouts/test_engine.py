"""Rollouts from start to end, on a real database."""

import msgspec
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from fleet import orders, revisions
from fleet.gathered import order_name
from fleet.refusals import Conflict, Missing
from fleet.rollouts import control, engine, members, ordering, verdicts
from fleet.rollouts.gates import Gate
from fleet.rollouts.model import Policy, Wave
from fleet.rollouts.start import Wish, start
from fleet.tables import members as rows
from fleet.tables import rollouts
from modules.data_rule import DataRule
from modules.errors import Invalid, Unfit
from modules.manifest import Needs
from modules.names import Slug
from modules.protocol import order
from modules.protocol.order import Cloud, Measure, SlotOrder, Window
from modules.protocol.report import Health, Reason, Refusal
from modules.settable import Adjustable
from tests.doubles.fleet_rows import slot_report

TWO_WAVES = Policy(waves=(Wave(count=1),))


@pytest.fixture
def fleet(small_fleet):
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    return small_fleet


def test_a_wave_opens_only_when_the_one_before_has_committed(fleet):
    """The second device gets no order until the first one committed."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    assert fleet.phases(rollout) == {"dev-a": "ordered", "dev-b": "planned"}
    assert fleet.order("dev-b") is None

    fleet.report("dev-a", "probation")
    assert fleet.order("dev-b") is None

    fleet.report("dev-a", "committed")
    assert fleet.phases(rollout)["dev-b"] == "ordered"

    fleet.report("dev-b", "committed")
    assert fleet.view(rollout)["state"] == "done"


def test_a_failure_ends_the_rollout_and_spares_the_next_wave(fleet):
    """A device that reverts stops everything behind it."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.report("dev-a", "reverted")
    assert fleet.view(rollout)["state"] == "failed"
    assert fleet.order("dev-b") is None


def test_a_device_that_goes_back_later_reopens_a_rollout_that_was_done(fleet):
    """Done means healthy: a later reverted or degraded counts."""
    rollout = fleet.start(fleet.add_module("digits"))
    for name in ("dev-a", "dev-b"):
        fleet.report(name, "committed")
    assert fleet.view(rollout)["state"] == "done"

    fleet.report("dev-b", "degraded")
    view = fleet.view(rollout)
    assert view["state"] == "failed"
    assert any("open again" in entry["what"] for entry in view["history"])


def test_a_committed_module_that_does_not_stay_up_is_no_success(fleet):
    """The canary committed and fails again and again: the next wave stays closed, and the operator reads why."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.report("dev-a", "committed", current=Health(state="restarting", restarts=1))
    assert fleet.view(rollout)["state"] == "running"
    assert fleet.order("dev-b") is None

    fleet.report("dev-a", "committed", current=Health(state="degraded", restarts=6))
    view = fleet.view(rollout)
    assert view["state"] == "failed"
    assert view["history"][-1]["what"] == "failed: 1 of 1 devices failed (dev-a committed, now degraded)"
    assert view["devices"][0]["current"] == {"state": "degraded", "restarts": 6, "reason": None}
    assert fleet.order("dev-b") is None


def test_a_module_that_degrades_later_reopens_a_rollout_that_was_done(fleet):
    """The phase stays committed; its health alone says that it is not well."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    fleet.report("dev-a", "committed", current=Health(state="up"))
    assert fleet.view(rollout)["state"] == "done"

    fleet.report("dev-a", "committed", current=Health(state="degraded", restarts=6))
    assert fleet.view(rollout)["state"] == "failed"


def test_a_device_of_before_commits_without_a_word_of_its_health(fleet):
    """Agents that know no health are judged by their phase, as ever."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.report("dev-a", "committed")
    assert fleet.phases(rollout)["dev-b"] == "ordered"


def test_a_wave_is_judged_by_those_that_are_left(fleet):
    """A hotfix on one of three canaries leaves two to judge by."""
    for name in ("dev-c", "dev-d"):
        fleet.add_device(name)
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=(Wave(count=3),)))
    fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    fleet.report("dev-b", "committed")
    assert fleet.order("dev-d") is None

    fleet.report("dev-c", "committed")
    assert fleet.phases(rollout)["dev-d"] == "ordered"


def test_a_large_wave_is_judged_by_a_few_rows(small_fleet):
    """What the judge is handed does not grow with the fleet: counts, and five names of those that failed."""
    for number in range(60):
        small_fleet.add_device(f"dev-{number:03}")
    rollout = small_fleet.start(small_fleet.add_module("digits"))
    with small_fleet.database.write() as connection:
        connection.execute(update(rows).where(rows.c.device < "dev-030").values(phase="reverted", standing="failed"))
        [found] = members.evidence(connection, rollout, 1)
    [found] = found.values()
    assert (found.devices, found.committed, found.failed, found.planned) == (60, 0, 30, 0)
    assert found.examples == tuple(f"dev-00{number} reverted" for number in range(5))


def test_a_paused_rollout_opens_no_wave_until_it_is_resumed(fleet):
    """Devices keep their orders; the next wave waits."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.act(rollout, "pause")
    fleet.report("dev-a", "committed")
    assert fleet.order("dev-b") is None

    fleet.act(rollout, "resume")
    assert fleet.order("dev-b") is not None


def test_a_cancelled_rollout_stays_so(fleet):
    """After a cancel nothing opens, and it cannot be resumed."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.act(rollout, "cancel")
    assert fleet.order("dev-b") is None
    with pytest.raises(Conflict, match="cancelled"):
        fleet.act(rollout, "resume")


def test_cancelling_takes_the_order_back_from_a_device_that_has_not_finished(fleet):
    """An offline device does not commit later what nobody wants any more: it is ordered what it ran before."""
    first, second = fleet.add_module("digits"), fleet.add_module("digits")
    fleet.start(first)
    for name in ("dev-a", "dev-b"):
        fleet.report(name, "committed")
    rollout = fleet.start(second)
    fleet.report("dev-b", "committed")
    fleet.act(rollout, "cancel")

    assert fleet.order("dev-a").slots["digits"].manifest == first.target
    assert fleet.order("dev-b").slots["digits"].manifest == second.target
    assert fleet.phases(rollout) == {"dev-a": "withdrawn", "dev-b": "committed"}
    with fleet.database.read() as connection:
        known = [row.revision for row in revisions.view(connection, "dev-a", "digits")]
    assert known == [3, 2, 1]


def test_orders_are_taken_back_from_all_in_bounded_steps(fleet, monkeypatch):
    """Each tick takes back so many, and the next one goes on, though nothing is heard of any device."""
    rollout = fleet.start(fleet.add_module("digits"))
    monkeypatch.setattr(engine, "ORDERS_PER_TICK", 1)
    fleet.act(rollout, "cancel")

    assert [fleet.order(name).slots for name in ("dev-a", "dev-b")] == [{}, {}]


@pytest.mark.parametrize("broken", [(verdicts, "apply"), (ordering, "due"), (revisions, "decide_all")])
def test_a_database_that_fails_fails_the_tick(fleet, monkeypatch, broken):
    """It is no mishap of one rollout or device: all of the tick comes undone, and is tried again."""
    ref = fleet.add_module("digits")
    with monkeypatch.context() as patched:
        patched.setattr(*broken, lambda *_, **__: raises(OperationalError("", {}, Exception("disk I/O error"))))
        with pytest.raises(OperationalError):
            fleet.start(ref)
    assert fleet.mishaps.counts == {}
    fleet.tick()
    assert all(fleet.order(name).slots for name in ("dev-a", "dev-b"))


def raises(error):
    raise error


def test_what_is_over_is_looked_at_no_more(fleet):
    """Until a device says something that matters to it."""
    rollout = fleet.start(fleet.add_module("digits"))
    for name in ("dev-a", "dev-b"):
        fleet.report(name, "committed")
    assert fleet.view(rollout)["state"] == "done"
    with fleet.database.read() as connection:
        assert connection.execute(select(rollouts.c.look_at).where(rollouts.c.id == rollout)).scalar_one() is None


def test_cancelling_a_first_rollout_empties_the_slot(fleet):
    """Where nothing was decided before, nothing is ordered."""
    rollout = fleet.start(fleet.add_module("digits"))
    fleet.act(rollout, "cancel")

    assert fleet.order("dev-a").slots == {}


def test_cancelling_leaves_alone_what_a_newer_rollout_decided(fleet):
    """What is taken back is this rollout's own, never another's."""
    ref, newer = fleet.add_module("digits"), fleet.add_module("digits")
    rollout = fleet.start(ref)
    fleet.start(newer, devices=("dev-a",))
    fleet.act(rollout, "cancel")

    assert fleet.order("dev-a").slots["digits"].manifest == newer.target


def test_an_older_rollouts_later_wave_does_not_take_a_device_back(fleet):
    """A slot belongs to the newest rollout that was decided, in whichever wave its device stands."""
    old, new = fleet.add_module("digits"), fleet.add_module("digits")
    first = fleet.start(old, policy=TWO_WAVES)
    second = fleet.start(new, devices=("dev-b",))
    fleet.report("dev-b", "committed")
    fleet.report("dev-a", "committed")

    assert fleet.view(second)["state"] == "done"
    assert fleet.order("dev-b").slots["digits"].manifest == new.target
    assert fleet.phases(first) == {"dev-a": "committed", "dev-b": "superseded"}
    assert fleet.view(first)["state"] == "done"


def test_a_hotfix_on_the_only_canary_holds_the_next_wave(fleet):
    """Without a device to judge by, a bad version goes no further, and the operator reads why."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    fleet.report("dev-a", "committed")

    assert fleet.order("dev-b") is None
    view = fleet.view(rollout)
    assert view["state"] == "running"
    assert "rollout 2 decides about it now" in view["devices"][0]["reason"]["message"]


def test_a_failure_counts_though_a_hotfix_followed(fleet):
    """What happened on a device is not undone by what is decided for it next."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.tick, tick = lambda: None, fleet.tick
    fleet.report("dev-a", "reverted")
    fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    tick()

    assert fleet.view(rollout)["state"] == "failed"
    assert fleet.order("dev-b") is None


def test_an_order_that_is_too_large_fails_that_device_alone(fleet, monkeypatch):
    """The others of the wave get theirs, and the rollout says which device cannot be ordered and why."""
    issue = fleet.orders.issue_all

    def refuse(connection, now, chosen):
        if "dev-a" in chosen:
            raise Invalid("an order of 300000 bytes is more than allowed", element="dev-a")
        return issue(connection, now, chosen)

    monkeypatch.setattr(fleet.orders, "issue_all", refuse)
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(success_percent=50.0, failure_percent=50.0))
    assert fleet.order("dev-b") is not None
    shown = {one["device"]: one for one in fleet.view(rollout)["devices"]}
    assert shown["dev-a"]["phase"] == "rejected"
    assert "300000 bytes" in shown["dev-a"]["reason"]["message"]
    with fleet.database.read() as connection:
        waiting = select(rows.c.device).where(rows.c.counter.is_(None))
        assert connection.execute(waiting).all() == [], "it counts for the size of no later order"


def test_a_defect_in_one_rollout_holds_up_no_other(fleet, monkeypatch):
    """A rollout that cannot be judged is counted; the next one goes on."""
    bad = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    evidence = members.evidence

    def breaks(connection, rollout, wave):
        if rollout == bad:
            raise ZeroDivisionError
        return evidence(connection, rollout, wave)

    monkeypatch.setattr(members, "evidence", breaks)
    good = fleet.start(fleet.add_module("faces"), slot=Slug("faces"), devices=("dev-b",))
    fleet.report("dev-a", "committed")
    fleet.report("dev-b", "committed", slot="faces")
    assert fleet.view(good)["state"] == "done"
    assert fleet.mishaps.counts["judgement"] > 0

    monkeypatch.undo()
    fleet.now += 61
    fleet.tick()
    assert fleet.view(bad)["state"] == "done"


def test_an_offline_device_says_why_it_waits(fleet):
    """A device that is ordered and not there is told apart from one that is at work."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",))

    assert fleet.view(rollout)["devices"][0]["reason"]["code"] == "offline"


def test_an_operator_cannot_reopen_what_is_done(fleet):
    """Only a device's report opens a rollout again."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    fleet.report("dev-a", "committed")
    with pytest.raises(Conflict, match="done"):
        fleet.act(rollout, "resume")


def test_a_newer_rollout_takes_the_slot_over(fleet):
    """The older rollout's device counts as superseded, and its late reports move neither."""
    first = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    old = fleet.order("dev-a")
    second = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    assert fleet.phases(first) == {"dev-a": "superseded"}
    assert fleet.view(first)["state"] == "cancelled"
    assert "no device is left that belongs to it" in fleet.view(first)["history"][-1]["what"]

    fleet.report("dev-a", "committed", order=old.counter)
    assert fleet.phases(second) == {"dev-a": "ordered"}


def test_going_back_to_a_version_waits_for_a_report_of_the_new_order(fleet):
    """An old "committed" of the same bytes, said before the new order came, is no evidence."""
    ref = fleet.add_module("digits")
    fleet.start(ref, devices=("dev-a",))
    before = fleet.order("dev-a").counter
    fleet.report("dev-a", "committed")
    again = fleet.start(ref, devices=("dev-a",))

    fleet.report("dev-a", "committed", order=before)
    assert fleet.view(again)["state"] == "running"

    fleet.report("dev-a", "committed")
    assert fleet.view(again)["state"] == "done"


def test_a_refused_order_fails_the_rollout_with_the_devices_reason(fleet):
    """A device that does not accept its order says so, and nobody waits for ever."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    with fleet.database.read() as connection:
        envelope = connection.exec_driver_sql("SELECT order_envelope FROM devices WHERE id = 'dev-a'").scalar_one()
    refusal = Refusal(what=order_name(envelope), reason=Reason("untrusted", "below the floor"), at=1.0)
    fleet.send("dev-a", [], refusals=(refusal,))
    view = fleet.view(rollout)
    assert (view["state"], view["devices"][0]["phase"]) == ("failed", "rejected")
    assert view["devices"][0]["reason"]["message"] == "below the floor"


def test_slots_of_one_device_move_alone_and_every_order_names_all(fleet):
    """A second slot's order keeps the first, and removing one keeps the other."""
    digits, faces = fleet.add_module("digits"), fleet.add_module("faces")
    fleet.start(digits, devices=("dev-a",))
    fleet.start(faces, devices=("dev-a",), slot=Slug("faces"))
    assert set(fleet.order("dev-a").slots) == {"digits", "faces"}

    with fleet.database.write() as connection:
        control.empty_slot(connection, fleet.now, fleet.orders, "dev-a", Slug("digits"))
    order = fleet.order("dev-a")
    assert (set(order.slots), order.counter) == ({"faces"}, 3)


def test_a_waiver_is_given_until_the_device_has_answered_it(fleet):
    """Content that failed before is tried again where an operator said so: once, not at each renewal of the order."""
    ref = fleet.add_module("digits")
    fleet.start(ref, devices=("dev-a",))
    assert fleet.order("dev-a").waivers == ()
    fleet.start(ref, devices=("dev-a",), waive=True)
    order = fleet.order("dev-a")
    assert order.waivers == (order.slots["digits"].digest,)
    fleet.start(fleet.add_module("faces"), devices=("dev-a",), slot=Slug("faces"))
    assert fleet.order("dev-a").waivers == order.waivers

    fleet.report("dev-a", "fetching")
    fleet.now += 86400 * 0.9
    fleet.tick()
    assert fleet.order("dev-a").counter > order.counter + 1
    assert fleet.order("dev-a").waivers == ()


def test_devices_that_do_not_fit_are_listed_with_reasons_and_get_no_order(fleet):
    """The misfits are known before anything starts."""
    fleet.add_device("dev-silent", host=None)
    rollout = fleet.start(fleet.add_module("digits"))
    assert fleet.view(rollout)["misfits"] == [{"device": "dev-silent", "reasons": ["has sent no facts yet"]}]
    assert "dev-silent" not in fleet.phases(rollout)


ELSEWHERE = Cloud(url="https://good.example/x", region="lab", when=("unplaceable",))


def test_where_the_module_does_not_fit_a_fallback_is_a_success_if_the_order_says_so(fleet):
    """Such a device gets its order, too; that it does not fit there is what was expected, and nothing else is."""
    ref = fleet.add_module("digits", fallback_hosts=("good.example",), needs=Needs(memory_mb=1 << 20))
    rollout = fleet.start(ref, devices=("dev-a", "dev-b"), cloud=ELSEWHERE)
    assert fleet.view(rollout)["misfits"] == []
    assert fleet.order("dev-a").slots["digits"].cloud == ELSEWHERE
    unfit = slot_report(fleet, "dev-a", "rejected", reason=Reason("unfit", "needs more memory"))
    fleet.send("dev-a", [unfit], order=fleet.order("dev-a").counter)
    assert fleet.view(rollout)["state"] == "running"
    broken = slot_report(fleet, "dev-b", "rejected", reason=Reason("invalid", "its image is not what was signed"))
    fleet.send("dev-b", [broken], order=fleet.order("dev-b").counter)
    standings = {one["device"]: one["standing"] for one in fleet.view(rollout)["devices"]}
    assert standings == {"dev-a": "succeeded", "dev-b": "failed"}

    without = msgspec.structs.replace(ELSEWHERE, when=("unhealthy",))
    with pytest.raises(Unfit, match="MiB of memory"):
        fleet.start(ref, devices=("dev-a",), cloud=without)


def test_data_that_stay_have_no_fallback(fleet):
    """The rule of the publisher is held before an order exists."""
    ref = fleet.add_module("digits", data=DataRule(kind="personal", regions=()))
    with pytest.raises(Invalid, match="never leave the site"):
        fleet.start(ref, cloud=ELSEWHERE)
    assert fleet.order("dev-a") is None


@pytest.mark.parametrize(
    ("parts", "wish", "error", "says"),
    [
        ({"sign_it": False}, {}, Conflict, "nobody signed"),
        ({"needs": Needs(memory_mb=1 << 20)}, {}, Unfit, "MiB of memory"),
        ({}, {"selector": "site=nowhere"}, Unfit, "matches no device"),
        ({}, {"devices": ("dev-missing",)}, Missing, "no such device"),
        ({}, {"settings": {"log_level": "debug"}}, Invalid, "does not let this be set"),
        ({}, {"fallback": "https://evil.example/score"}, Invalid, "allows the host"),
        ({"fallback_hosts": ("good.example",)}, {"fallback": "http://good.example/"}, Invalid, "https"),
        ({"fallback_hosts": ("*.good.example",)}, {"fallback": "https://a.b.good.example/"}, Invalid, "host"),
        ({"fallback_hosts": ("good.example",)}, {"fallback": "https://user@good.example/"}, Invalid, "https"),
    ],
)
def test_what_could_not_work_is_refused_before_any_order(fleet, parts, wish, error, says):
    """Drafts, misfits, foreign settings and fallback hosts never reach a device."""
    ref = fleet.add_module("digits", **parts)
    with pytest.raises(error, match=says):
        fleet.start(ref, **wish)
    assert fleet.order("dev-a") is None


def test_an_order_that_no_device_could_read_is_refused_at_the_start(fleet):
    """Sixty-four slots with the longest fallback fit; one more is refused, and no order, member or slot is made."""
    ref = fleet.add_module("digits", fallback_hosts=("good.example",))
    wish = {"devices": ("dev-a",), "fallback": "https://good.example/" + "a" * 1970}
    for number in range(64):
        rollout = fleet.start(ref, slot=Slug(f"slot-{number}"), **wish)
        assert fleet.phases(rollout) == {"dev-a": "ordered"}
    with pytest.raises(Invalid, match="the order for dev-a could not be read any more") as refused:
        fleet.start(ref, slot=Slug("one-more"), **wish)
    assert "empty slots" in refused.value.remedy
    with pytest.raises(Missing):
        fleet.view(rollout + 1)
    fleet.start(ref, slot=Slug("slot-0"), **wish)
    assert len(fleet.order("dev-a").slots) == 64


def test_the_start_asks_what_the_writer_of_orders_asks(fleet):
    """More than 256 KiB is refused by both, in the same words."""
    big = SlotOrder(manifest="m" * order.LIMIT, digest="sha256:" + "0" * 64)
    with fleet.database.read() as connection, pytest.raises(Invalid, match="more than the 262144 allowed"):
        orders.check(connection, ["dev-a"], "digits", big)


def test_what_waits_for_its_wave_counts_for_the_size_of_an_order(fleet):
    """Sixty-four slots are the most: those that a later wave will fill are among them."""
    ref = fleet.add_module("digits")
    for number in range(64):
        fleet.start(ref, slot=Slug(f"slot-{number}"), policy=TWO_WAVES)
    assert fleet.order("dev-b") is None
    with pytest.raises(Invalid, match="dev-b"):
        fleet.start(ref, slot=Slug("one-more"), devices=("dev-b",))


def test_settings_and_fallback_within_the_manifest_reach_the_device(fleet):
    """What the publisher declared adjustable is in the order as the operator set it."""
    ref = fleet.add_module(
        "digits",
        adjustable={"probation_s": Adjustable(default=60.0, minimum=1.0, maximum=600.0)},
        fallback_hosts=("*.good.example",),
    )
    fleet.start(ref, devices=("dev-a",), settings={"probation_s": 5.0}, fallback="https://x.good.example/score")
    slot = fleet.order("dev-a").slots["digits"]
    assert (slot.settings, slot.fallback) == ({"probation_s": 5.0}, "https://x.good.example/score")


def test_an_unknown_rollout_is_missing(fleet):
    """Looking at or steering what does not exist says so."""
    with pytest.raises(Missing):
        fleet.view(99)


def test_a_wave_is_not_judged_before_all_its_devices_have_orders(fleet):
    """Where half is enough, it must be half of those that were asked, not of those that came to be asked first."""
    wish = Wish(
        module=fleet.add_module("digits"), slot=Slug("digits"), engine="process", policy=Policy(success_percent=50.0)
    )
    with fleet.database.write() as connection:
        rollout = start(connection, fleet.now, fleet.registry, wish)
        assert members.evidence(connection, rollout, 1)[0]["linux/amd64 cpu"].planned == 2
    fleet.tick()
    with fleet.database.read() as connection:
        assert members.evidence(connection, rollout, 1)[0]["linux/amd64 cpu"].planned == 0


def test_a_large_wave_is_ordered_in_bounded_steps(small_fleet):
    """One tick issues at most a hundred orders, and says that there is more."""
    for number in range(103):
        small_fleet.add_device(f"dev-{number:03}")
    ref = small_fleet.add_module("digits")
    small_fleet.tick, tick = lambda: None, small_fleet.tick
    rollout = small_fleet.start(ref)
    assert small_fleet.engine.tick() is True
    assert list(small_fleet.phases(rollout).values()).count("ordered") == 100
    tick()
    assert set(small_fleet.phases(rollout).values()) == {"ordered"}


def test_a_rollout_without_room_for_its_orders_is_not_looked_at_again_at_once(fleet, monkeypatch):
    """Nor is it forgotten: with room it goes on by itself."""
    ref = fleet.add_module("digits")
    with monkeypatch.context() as full:
        full.setattr(engine.orders, "room", lambda _: 0)
        full.setattr(fleet, "tick", fleet.engine.tick)
        fleet.start(ref)
        assert fleet.engine.tick() is False
    fleet.now += 0.1
    fleet.tick()
    assert fleet.order("dev-a") is not None


def test_a_tick_says_whether_devices_wait_that_said_their_facts(small_fleet, monkeypatch):
    """A few are looked at in each, and the next one need not be waited for."""
    monkeypatch.setattr(engine, "ORDERS_PER_TICK", 1)
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    assert [small_fleet.engine.tick() for _ in range(3)] == [True, True, False]


def test_windows_and_what_to_measure_reach_the_device(fleet):
    """An agent that knows no windows must not follow the order: it would switch in the middle of the day."""
    window = Window(days=("sat",), begins="22:30", minutes=60)
    gates = (Gate(measure="p95_ms", at_most=9.0),)
    fleet.start(fleet.add_module("digits"), devices=("dev-a",), policy=Policy(windows=(window,), gates=gates))
    ordered = fleet.order("dev-a")
    assert ordered.slots["digits"].windows == (window,)
    assert ordered.slots["digits"].measure == Measure(window_s=60, for_s=86400)
    assert ordered.must_understand == ("slot.windows",)
