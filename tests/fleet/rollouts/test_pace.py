"""How fast a rollout goes: start, waves, soak, approval, deadline, how many at once, and who joins late."""

import pytest
from msgspec.structs import replace

from fleet.refusals import Conflict
from fleet.removal import remove_device
from fleet.rollouts import joining, view
from fleet.rollouts.engine import Engine
from fleet.rollouts.model import Budget, Policy, Wave
from fleet.rollouts.start import Wish, prepare
from fleet.tables import devices, members
from modules.names import Slug
from modules.needs import Accelerator
from tests.doubles.device import HOST_FACTS
from tests.fleet.rollouts.three import CANARY, THREE


def later(fleet, seconds):
    fleet.now += seconds
    fleet.tick()


def online(fleet, name, value):
    with fleet.database.write() as connection:
        connection.execute(devices.update().where(devices.c.id == name).values(online=value))


def standings(fleet, rollout):
    return {one["device"]: one["standing"] for one in fleet.view(rollout)["devices"]}


def why(fleet, rollout):
    return {one["device"]: one["why"] for one in fleet.view(rollout)["devices"]}


def moment(seconds):
    return {"policy": Policy(waves=CANARY, starts=f"2100-01-01T00:00:{seconds:02}+00:00")}


def test_a_scheduled_rollout_begins_at_its_moment(fleet):
    """Nobody has an order before; it can be paused and resumed, and says when it begins."""
    rollout = fleet.start(fleet.add_module("digits"), **moment(30))
    assert fleet.view(rollout)["state"] == "scheduled"
    assert why(fleet, rollout)["dev-a"] == "the rollout begins at 2100-01-01 00:00 UTC"
    fleet.act(rollout, "pause")
    fleet.act(rollout, "resume")
    assert fleet.view(rollout)["state"] == "scheduled"
    begins = fleet.view(rollout)["starts"]

    fleet.now = begins - 1
    fleet.tick()
    assert fleet.order("dev-a") is None
    fleet.now = begins
    fleet.tick()
    assert fleet.view(rollout)["state"] == "running"
    assert standings(fleet, rollout) == {"dev-a": "working", "dev-b": "planned", "dev-c": "planned"}


def test_a_soak_holds_the_next_wave_and_ends_by_itself(fleet):
    """The next wave opens at its end without anybody reporting anything."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY, soak="10m"))
    fleet.report("dev-a", "committed")
    assert "is watched for 600 more seconds" in why(fleet, rollout)["dev-b"]
    later(fleet, 599)
    assert fleet.order("dev-b") is None
    later(fleet, 1)
    assert fleet.order("dev-b") is not None


@pytest.mark.parametrize("restarted", [False, True])
def test_a_soak_that_began_while_the_clock_was_ahead_is_no_longer_for_it(fleet, restarted):
    """Ten days ahead when the wave was complete: put right, it is watched for its ten minutes, and not for ten days;
    by another server, too."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY, soak="10m"))
    fleet.now += 864_000
    fleet.report("dev-a", "committed")
    later(fleet, 1)
    fleet.now -= 864_000
    if restarted:
        fleet.engine = Engine(fleet.database, fleet.registry, fleet.orders, fleet.clock, fleet.mishaps)
    later(fleet, 1)
    later(fleet, 598)
    assert standings(fleet, rollout)["dev-b"] == "planned"
    later(fleet, 2)
    assert standings(fleet, rollout)["dev-b"] == "working"


class Passing:
    """Two clocks of one server: what passes moves both, what somebody sets the wall's alone."""

    def __init__(self, fleet):
        self.fleet, self.seconds = fleet, 1000.0
        fleet.engine = Engine(
            fleet.database, fleet.registry, fleet.orders, fleet.clock, fleet.mishaps, passed=lambda: self.seconds
        )
        fleet.tick()

    def later(self, seconds, *, clock=0.0):
        self.seconds += seconds
        later(self.fleet, seconds + clock)


TEN_DAYS = 864_000


@pytest.mark.parametrize("ahead", [TEN_DAYS, -TEN_DAYS, 1800])
def test_a_deadline_is_of_the_time_that_passed(fleet, ahead):
    """Set ahead, set back, and put right again: a device has its hour, no less and no more."""
    passing = Passing(fleet)
    online(fleet, "dev-a", value=True)
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY, deadline="1h"))
    passing.later(600, clock=ahead)
    passing.later(2999)
    assert standings(fleet, rollout)["dev-a"] == "working"
    passing.later(0, clock=-ahead)
    assert standings(fleet, rollout)["dev-a"] == "working"
    passing.later(1)
    assert standings(fleet, rollout)["dev-a"] == "failed"


@pytest.mark.parametrize("ahead", [TEN_DAYS, -TEN_DAYS])
def test_a_soak_is_of_the_time_that_passed(fleet, ahead):
    """A clock that is set in the middle of the ten minutes makes them neither shorter nor longer."""
    passing = Passing(fleet)
    fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY, soak="10m"))
    fleet.report("dev-a", "committed")
    passing.later(300, clock=ahead)
    passing.later(299)
    assert fleet.order("dev-b") is None
    passing.later(1)
    assert fleet.order("dev-b") is not None


def test_nobody_is_waited_for_longer_than_a_whole_deadline(fleet):
    """The clock was ten days ahead when the order was made, and was put right while no server ran."""
    online(fleet, "dev-a", value=True)
    fleet.now += TEN_DAYS
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY, deadline="1h"))
    fleet.now -= TEN_DAYS
    fleet.engine = Engine(fleet.database, fleet.registry, fleet.orders, fleet.clock, fleet.mishaps)
    later(fleet, 1)
    later(fleet, 3599)
    assert standings(fleet, rollout)["dev-a"] == "working"
    later(fleet, 1)
    assert standings(fleet, rollout)["dev-a"] == "failed"


def test_a_soak_begins_anew_where_a_device_wavered(fleet):
    """It restarted in the middle: the ten minutes count from when it was up again."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY, soak="10m"))
    fleet.report("dev-a", "committed")
    later(fleet, 300)
    fleet.report("dev-a", "probation")
    fleet.report("dev-a", "committed")
    later(fleet, 599)
    assert fleet.order("dev-b") is None
    later(fleet, 1)
    assert fleet.view(rollout)["wave"] == 2


def test_a_wave_waits_for_its_approval(fleet):
    """Complete and not approved: it waits; approved before it is complete: it waits for that."""
    waves = (Wave(count=1), Wave(count=1, approval=True), Wave(percent=100.0, approval=True))
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=waves))
    fleet.report("dev-a", "committed")
    assert "waits for an operator's approval" in why(fleet, rollout)["dev-b"]
    fleet.act(rollout, "approve")
    assert fleet.order("dev-b") is not None
    fleet.act(rollout, "approve")
    assert fleet.order("dev-c") is None
    with pytest.raises(Conflict, match="wave 3 is approved already"):
        fleet.act(rollout, "approve")
    fleet.report("dev-b", "committed")
    assert fleet.order("dev-c") is not None


def test_a_first_wave_that_asks_for_approval_orders_nobody_before(fleet):
    """Two people start such a rollout."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(approval=True))
    assert (fleet.view(rollout)["wave"], fleet.order("dev-a")) == (0, None)
    fleet.act(rollout, "approve")
    assert set(standings(fleet, rollout).values()) == {"working"}


def test_a_device_that_is_online_and_not_done_in_time_has_failed(fleet):
    """Its deadline counts from its own order."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",), policy=Policy(deadline="1h"))
    online(fleet, "dev-a", value=True)
    fleet.report("dev-a", "fetching")
    later(fleet, 3599)
    assert fleet.view(rollout)["state"] == "running"
    later(fleet, 1)
    shown = fleet.view(rollout)
    assert shown["state"] == "failed"
    assert "dev-a fetching, not done by its deadline" in shown["history"][-1]["what"]


def test_a_device_that_is_offline_holds_up_no_rollout(fleet):
    """It is left behind with its order, told so, and counts again when it comes back."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(deadline="1h"))
    for name in ("dev-a", "dev-b"):
        fleet.report(name, "committed")
    later(fleet, 3600)
    shown = fleet.view(rollout)
    assert (shown["state"], standings(fleet, rollout)["dev-c"]) == ("done", "unreached")
    assert "offline at its deadline" in why(fleet, rollout)["dev-c"]
    assert fleet.order("dev-c") is not None

    fleet.report("dev-c", "committed")
    assert standings(fleet, rollout)["dev-c"] == "succeeded"


def test_no_more_devices_are_at_work_than_the_policy_allows(fleet):
    """Each that comes to an end makes room for the next."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(concurrency=2))
    assert list(standings(fleet, rollout).values()) == ["working", "working", "planned"]
    fleet.report("dev-b", "committed")
    assert list(standings(fleet, rollout).values()) == ["working", "succeeded", "working"]


def test_a_failure_makes_no_room_for_the_next_to_fail(fleet):
    """One at a time: when the first has failed, the second does not get the version any more."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(concurrency=1))
    fleet.report("dev-a", "reverted")
    assert fleet.view(rollout)["state"] == "failed"
    assert fleet.order("dev-b") is None


def test_no_more_devices_of_one_place_are_at_work_than_its_budget(small_fleet):
    """Two slots' rollouts together disturb at most one device of a site; those without the label are a site too."""
    fleet = small_fleet
    for name, labels in {
        "a-1": {"site": "a"}, "a-2": {"site": "a"}, "b-1": {"site": "b"}, "no-1": {}, "no-2": {},
    }.items():  # fmt: skip
        fleet.add_device(name, labels=labels)
    policy = Policy(budget=Budget(label="site"))
    first = fleet.start(fleet.add_module("digits"), policy=policy)
    assert [name for name, one in standings(fleet, first).items() if one == "working"] == ["a-1", "b-1", "no-1"]
    second = fleet.start(fleet.add_module("faces"), slot=Slug("faces"), policy=policy)
    assert set(standings(fleet, second).values()) == {"planned"}

    fleet.report("b-1", "committed")
    assert [name for name, one in standings(fleet, second).items() if one == "working"] == ["b-1"]
    fleet.report("a-1", "committed")
    working = [n for r in (first, second) for n, one in standings(fleet, r).items() if one == "working"]
    assert sorted(name for name in working if name.startswith("a-")) in (["a-1"], ["a-2"])


def test_a_device_that_joins_late_comes_last_where_the_policy_takes_it(fleet):
    """It is a wave of its own, even after the end; a rollout that takes none in ignores it."""
    taking = Policy(waves=CANARY, late_joiners=True)
    one = fleet.start(fleet.add_module("digits"), selector="*", policy=taking)
    other = fleet.start(fleet.add_module("faces"), slot=Slug("faces"))
    for name in THREE:
        fleet.report(name, "committed")
    assert fleet.view(one)["state"] == "done"

    fleet.add_device("dev-late")
    fleet.tick()
    assert (fleet.view(one)["state"], fleet.view(one)["wave"]) == ("running", 3)
    assert standings(fleet, one)["dev-late"] == "working"
    assert set(fleet.order("dev-late").slots) == {"digits"}
    assert "dev-late" not in standings(fleet, other)
    fleet.report("dev-late", "committed")
    assert fleet.view(one)["state"] == "done"


def test_a_device_joins_the_newest_rollout_of_its_slot_when_its_labels_say_so(fleet):
    """Of two that would take it the newer one counts; a label that changes is a reason to look."""
    wish = {"selector": "site=berlin", "policy": Policy(late_joiners=True)}
    label(fleet, "dev-a", "berlin")
    old = fleet.start(fleet.add_module("digits"), **wish)
    new = fleet.start(fleet.add_module("digits"), **wish)
    label(fleet, "dev-b", "berlin")
    label(fleet, "dev-c", "paris")
    fleet.tick()
    assert (set(standings(fleet, old)), set(standings(fleet, new))) == ({"dev-a"}, {"dev-a", "dev-b"})


def test_a_device_that_is_removed_before_it_was_looked_at_joins_nothing(fleet):
    """Its facts were the reason to look; nothing goes wrong for it."""
    rollout = fleet.start(fleet.add_module("digits"), selector="*", policy=Policy(late_joiners=True))
    fleet.add_device("dev-late")
    with fleet.database.write() as connection:
        remove_device(connection, fleet.now, "dev-late")
    fleet.tick()
    assert "dev-late" not in standings(fleet, rollout)
    assert fleet.mishaps.counts == {}


def label(fleet, name, site):
    with fleet.database.write() as connection:
        connection.execute(devices.update().where(devices.c.id == name).values(labels={"site": site}))
        joining.changed(connection, name)


def test_a_second_rollout_to_the_same_slot_is_refused_unless_it_supersedes(fleet):
    """The open one is named; other devices, other slots and rollouts that have ended are no obstacle."""
    first = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    hotfix = fleet.add_module("digits")
    with pytest.raises(Conflict, match=f"rollout {first} of acme/digits:1 is open and fills this slot of dev-a"):
        fleet.start(hotfix, supersede=False)
    fleet.start(hotfix, supersede=False, devices=("dev-b",))
    fleet.start(hotfix, supersede=False, slot=Slug("other"))
    fleet.report("dev-a", "committed")
    fleet.report("dev-b", "committed")
    fleet.start(hotfix, supersede=False)


def test_a_dry_run_shows_waves_misfits_and_bytes_and_writes_nothing(fleet):
    """What would be refused is refused; nothing is there afterwards."""
    fleet.add_device("dev-silent", host=None)
    wish = Wish(module=fleet.add_module("digits"), slot=Slug("digits"), engine="process", policy=Policy(waves=CANARY))
    with fleet.database.read() as connection:
        shown = view.plan(prepare(connection, fleet.now, fleet.registry, wish))
    assert [[one["device"] for one in wave["devices"]] for wave in shown["waves"]] == [["dev-a"], ["dev-b", "dev-c"]]
    assert shown["misfits"][0]["device"] == "dev-silent"
    assert shown["download_bytes"] == {"linux/amd64 cpu": len(b"graph of digits")}
    with fleet.database.read() as connection:
        assert connection.execute(members.select()).all() == []


def test_why_a_device_is_not_done_says_what_comes_next(fleet):
    """Whose turn it is not, what happens at the deadline, and what an operator can do."""
    ref = fleet.add_module("digits")
    rollout = fleet.start(ref, policy=Policy(concurrency=1, budget=Budget(label="id"), deadline="1h"))
    online(fleet, "dev-a", value=True)
    assert why(fleet, rollout)["dev-a"].endswith("UTC, then it counts as failed")
    assert why(fleet, rollout)["dev-b"].endswith(
        "its turn comes; of the devices of id=dev-b only so many are at work at once"
    )
    online(fleet, "dev-a", value=False)
    assert why(fleet, rollout)["dev-a"].endswith("UTC, then it is left behind, and nobody waits for it")
    fleet.report("dev-a", "reverted")
    assert (
        why(fleet, rollout)["dev-b"]
        == "the rollout has failed: it gets no order, unless you say edgefleet rollouts retry"
    )


def test_a_paused_rollout_gives_no_order(fleet):
    """Room that becomes free stays free."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(concurrency=1))
    fleet.act(rollout, "pause")
    fleet.report("dev-a", "committed")
    assert fleet.order("dev-b") is None
    assert why(fleet, rollout)["dev-b"] == "the rollout is paused: edgefleet rollouts resume"
    fleet.act(rollout, "resume")
    assert fleet.order("dev-b") is not None


def test_a_rollout_that_waits_for_nothing_is_not_looked_at(fleet, monkeypatch):
    """An idle tick costs the same however many rollouts and devices there are."""
    looked = []
    monkeypatch.setattr(fleet.engine, "_look", lambda _connection, _now, row: looked.append(row.id))
    fleet.start(fleet.add_module("digits"))
    assert looked != []
    looked.clear()
    fleet.now += 30
    fleet.tick()
    assert looked == []


def test_devices_are_chosen_by_what_they_say_of_themselves(small_fleet):
    """By memory, accelerator and agent: those without facts are meant by none of it."""
    gpu = Accelerator(kind="cuda", name="gpu", providers=("CUDAExecutionProvider",))
    small_fleet.add_device("dev-gpu", host=replace(HOST_FACTS, accelerators=(gpu,), memory_mb=8192))
    small_fleet.add_device("dev-small")
    small_fleet.add_device("dev-silent", host=None)
    ref = small_fleet.add_module("digits")
    for slot, selector, meant in (
        ("a", "host.accelerator=cuda", {"dev-gpu"}),
        ("b", "host.provider=CPUExecutionProvider", {"dev-gpu", "dev-small"}),
        ("c", "host.memory_mb<8192", {"dev-small"}),
        (
            "d",
            "host.arch=amd64,host.os=linux,agent.version>=0,host.cores>1",
            {"dev-gpu", "dev-small"},
        ),
    ):
        assert set(standings(small_fleet, small_fleet.start(ref, slot=Slug(slot), selector=selector))) == meant
