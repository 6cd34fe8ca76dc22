"""What is taken back, from whom, and to what."""

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from fleet.refusals import Conflict
from fleet.removal import remove_module
from fleet.rollouts import control
from fleet.rollouts.model import Policy, Wave
from fleet.tables import devices
from modules.manifest import Runtime
from modules.needs import Accelerator
from modules.protocol.report import Health
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import slot_report
from tests.fleet.rollouts.three import CANARY, THREE

CUDA = replace(HOST_FACTS, accelerators=(Accelerator(kind="cuda", name="gpu"),))


def manifest_of(fleet, name, slot="digits"):
    order = fleet.order(name)
    return order.slots[slot].manifest if slot in order.slots else None


def standings(fleet, rollout):
    return {one["device"]: one["standing"] for one in fleet.view(rollout)["devices"]}


def committed_everywhere(fleet, ref, **wish):
    rollout = fleet.start(ref, **wish)
    for name in THREE:
        fleet.report(name, "committed")
    assert fleet.view(rollout)["state"] == "done"
    return rollout


def test_a_revert_brings_each_device_to_exactly_what_it_ran_before(fleet):
    """One had version 1, one version 2, one nothing: each gets that again, and the rollout ends when they run it."""
    one, two, three = (fleet.add_module("digits") for _ in range(3))
    fleet.start(one, devices=("dev-a",))
    fleet.report("dev-a", "committed")
    fleet.start(two, devices=("dev-b",))
    fleet.report("dev-b", "committed")
    rollout = committed_everywhere(fleet, three)

    fleet.act(rollout, "revert")
    assert [manifest_of(fleet, name) for name in THREE] == [one.target, two.target, None]
    assert fleet.view(rollout)["state"] == "reverting"
    assert set(standings(fleet, rollout).values()) == {"returning"}

    fleet.report("dev-a", "committed")
    fleet.report("dev-b", "probation")
    fleet.send("dev-c", [], order=fleet.order("dev-c").counter)
    assert standings(fleet, rollout) == {"dev-a": "returned", "dev-b": "returning", "dev-c": "returned"}
    fleet.report("dev-b", "committed")
    view = fleet.view(rollout)
    assert (view["state"], view["history"][-1]["what"]) == (
        "reverted", "reverted: 3 devices run again what ran before",
    )  # fmt: skip


@pytest.mark.parametrize("phase", ["reverted", "rejected", "reverting"])
@pytest.mark.parametrize("first", [True, False])
def test_nobody_goes_back_to_what_failed_there_before(fleet, phase, first):
    """After version 2 the device ran version 1 again, or nothing: so it does after a revert of version 3.

    It would refuse version 2, and stay with what is to be taken back.
    """
    one, two, three = (fleet.add_module("digits") for _ in range(3))
    if first:
        fleet.start(one, devices=("dev-a",))
        fleet.report("dev-a", "committed")
    failed = fleet.start(two, devices=("dev-a",))
    fleet.report("dev-a", phase)
    rollout = fleet.start(three, devices=("dev-a",))
    if first:
        with fleet.database.write() as connection, pytest.raises(Conflict, match=f"rollout {rollout}, whose cancel"):
            remove_module(connection, fleet.now, fleet.registry, one)
    fleet.report("dev-a", "committed")
    fleet.act(rollout, "revert")
    assert manifest_of(fleet, "dev-a") == (one.target if first else None)
    if first:
        fleet.report("dev-a", "committed")
    else:
        fleet.send("dev-a", [], order=fleet.order("dev-a").counter)
    assert fleet.view(rollout)["state"] == "reverted"
    assert standings(fleet, failed) == {"dev-a": "failed"}


def test_a_device_goes_back_to_what_it_runs_though_a_gate_did_not_like_it(fleet):
    """Version 2 failed by its deadline and was left where it is: that is what ran before version 3."""
    one, two, three = (fleet.add_module("digits") for _ in range(3))
    for ref in (one, two):
        fleet.start(ref, devices=("dev-a",), policy=Policy(deadline="1h"))
        fleet.report("dev-a", "committed", current=Health(state="restarting" if ref is two else "up"))
    online(fleet, "dev-a")
    fleet.now += 3600
    fleet.tick()
    rollout = fleet.start(three, devices=("dev-a",))
    fleet.report("dev-a", "committed")
    fleet.act(rollout, "revert")
    assert manifest_of(fleet, "dev-a") == two.target


def test_a_revert_after_a_revert_goes_further_back(fleet):
    """Version 3 is taken back, then version 2, which had come again, then version 1: each time the orders say what was
    before, and a rollout that says reverted has been."""
    refs = [fleet.add_module("digits") for _ in range(3)]
    rollouts = [committed_everywhere(fleet, ref) for ref in refs]
    for rollout, before in zip(reversed(rollouts), (refs[1], refs[0], None), strict=True):
        fleet.act(rollout, "revert")
        assert [manifest_of(fleet, name) for name in THREE] == [before.target if before else None] * 3
        assert set(standings(fleet, rollout).values()) == {"returning"}
        for name in THREE:
            if before:
                fleet.report(name, "committed")
            else:
                fleet.send(name, [], order=fleet.order(name).counter)
        assert fleet.view(rollout)["state"] == "reverted"
    assert [set(standings(fleet, one).values()) for one in rollouts] == [{"returned"}] * 3


def online(fleet, name):
    with fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == name).values(online=True))


def test_what_a_device_said_before_it_read_the_order_back_is_no_return(fleet):
    """A late report of the old order with the old version says nothing about now."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    committed_everywhere(fleet, one)
    old = slot_report(fleet, "dev-a", "committed")
    rollout = committed_everywhere(fleet, two)
    before = fleet.order("dev-a").counter
    fleet.act(rollout, "revert")
    fleet.send("dev-a", [old], order=before)
    assert standings(fleet, rollout)["dev-a"] == "returning"
    fleet.send("dev-a", [old], order=before + 1)
    assert standings(fleet, rollout)["dev-a"] == "returned"


def test_a_rollout_that_fails_takes_itself_back_where_its_policy_says_so(fleet):
    """The canary failed: it goes back by order, and the others never see the version."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    first = committed_everywhere(fleet, one)
    rollout = fleet.start(two, policy=Policy(waves=CANARY, on_failure="revert"))
    fleet.report("dev-a", "reverted")

    assert [manifest_of(fleet, name) for name in THREE] == [one.target] * 3
    assert standings(fleet, rollout) == {"dev-a": "returning", "dev-b": "skipped", "dev-c": "skipped"}
    fleet.report("dev-a", "committed")
    assert fleet.view(rollout)["state"] == "reverted"
    assert {name for name, standing in standings(fleet, first).items() if standing == "succeeded"} >= {"dev-a"}


def test_only_the_failed_wave_is_taken_back_where_the_policy_says_so(fleet):
    """The first wave was good and stays; the second goes back; the rollout has failed."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    committed_everywhere(fleet, one)
    waves = (Wave(count=1), Wave(count=1), Wave(percent=100.0))
    rollout = fleet.start(two, policy=Policy(waves=waves, on_failure="revert-wave"))
    fleet.report("dev-a", "committed")
    fleet.report("dev-b", "reverted")

    assert [manifest_of(fleet, name) for name in THREE] == [two.target, one.target, one.target]
    assert fleet.view(rollout)["state"] == "failed"
    assert standings(fleet, rollout) == {"dev-a": "succeeded", "dev-b": "returning", "dev-c": "planned"}


def test_without_a_word_nothing_is_taken_back(fleet):
    """A failure stops; what runs goes on, and the operator decides."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    committed_everywhere(fleet, one)
    rollout = fleet.start(two, policy=Policy(waves=(Wave(count=2), Wave(percent=100.0))))
    fleet.report("dev-a", "committed")
    fleet.report("dev-b", "reverted")
    assert fleet.view(rollout)["state"] == "failed"
    assert [manifest_of(fleet, name) for name in THREE] == [two.target, two.target, one.target]


def test_a_failure_long_after_the_end_takes_nothing_back_by_itself(fleet):
    """One device of many that degrades weeks later must not take the model from all others."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    committed_everywhere(fleet, one)
    rollout = committed_everywhere(fleet, two, policy=Policy(on_failure="revert"))
    fleet.report("dev-b", "committed", current=Health(state="degraded", restarts=6))
    assert fleet.view(rollout)["state"] == "failed"
    assert {manifest_of(fleet, name) for name in THREE} == {two.target}


def test_a_device_that_went_on_to_a_newer_rollout_is_left_alone(fleet):
    """A revert takes back what is the rollout's own; what was decided since stays."""
    one, two, hotfix = (fleet.add_module("digits") for _ in range(3))
    committed_everywhere(fleet, one)
    rollout = committed_everywhere(fleet, two)
    fleet.start(hotfix, devices=("dev-a",))
    fleet.act(rollout, "revert")
    assert [manifest_of(fleet, name) for name in THREE] == [hotfix.target, one.target, one.target]


def test_the_earlier_rollout_has_its_slots_again_after_a_revert(fleet):
    """What its devices say counts for it again: one that fails then is its failure."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    first = committed_everywhere(fleet, one)
    rollout = committed_everywhere(fleet, two)
    fleet.act(rollout, "revert")
    for name in THREE:
        fleet.report(name, "committed")
    assert fleet.view(first)["state"] == "done"
    fleet.report("dev-b", "committed", current=Health(state="degraded", restarts=6))
    assert fleet.view(first)["state"] == "failed"


@pytest.mark.long
def test_a_device_that_does_not_go_back_in_time_holds_up_no_revert(fleet):
    """It is told apart, with the reason, and the rollout comes to its end."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",), policy=Policy(deadline="1h"))
    fleet.report("dev-a", "committed")
    fleet.act(rollout, "revert")
    fleet.now += 3600
    fleet.tick()
    view = fleet.view(rollout)
    assert (view["state"], view["devices"][0]["standing"]) == ("reverted", "unreturned")
    assert view["devices"][0]["why"] == "it did not answer in time"
    assert "0 devices run again what ran before, 1 did not answer in time" in view["history"][-1]["what"]


def test_a_cancel_takes_back_what_is_under_way_and_leaves_what_is_done(fleet):
    """Committed stays; on its way goes back; not ordered gets nothing."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    committed_everywhere(fleet, one)
    rollout = fleet.start(two, policy=Policy(waves=(Wave(count=2), Wave(percent=100.0))))
    fleet.report("dev-a", "committed")
    fleet.report("dev-b", "fetching")
    fleet.act(rollout, "cancel")
    assert [manifest_of(fleet, name) for name in THREE] == [two.target, one.target, one.target]
    assert fleet.phases(rollout)["dev-b"] == "withdrawn"


def test_a_kind_of_hardware_that_fails_goes_back_and_the_others_go_on(fleet):
    """Only the devices with that accelerator stop; the rollout ends for the rest, and says for whom it did not."""
    fleet.add_device("dev-x", host=CUDA)
    fleet.add_device("dev-y", host=CUDA)
    runtimes = (Runtime(accelerator="cuda", providers=("CUDAExecutionProvider",)), Runtime())
    one, two = (fleet.add_module("digits", runtimes=runtimes) for _ in range(2))
    fleet.start(one)
    for name in (*THREE, "dev-x", "dev-y"):
        fleet.report(name, "committed")
    waves = (Wave(label="id in (dev-a,dev-x)"), Wave(percent=100.0))
    rollout = fleet.start(two, policy=Policy(waves=waves, on_failure="revert"))
    fleet.report("dev-x", "reverted")
    assert standings(fleet, rollout)["dev-y"] == "stopped"
    assert (manifest_of(fleet, "dev-x"), manifest_of(fleet, "dev-y")) == (one.target, one.target)

    for name in THREE:
        fleet.report(name, "committed")
    view = fleet.view(rollout)
    assert view["state"] == "partial"
    assert [stop["hardware"] for stop in view["stopped"]] == ["linux/amd64 cuda"]
    assert {manifest_of(fleet, name) for name in THREE} == {two.target}


def test_after_a_retry_the_failed_devices_try_the_same_content_again(fleet):
    """Their order carries a waiver; the others are not asked again; the rollout goes on to its end."""
    rollout = fleet.start(fleet.add_module("digits"), policy=Policy(waves=CANARY))
    fleet.report("dev-a", "reverted")
    before = fleet.order("dev-a")
    assert (fleet.view(rollout)["state"], before.waivers) == ("failed", ())

    fleet.act(rollout, "retry")
    again = fleet.order("dev-a")
    assert again.waivers == (again.slots["digits"].digest,)
    fleet.report("dev-a", "reverted", order=before.counter)  # said before it read the new order
    assert standings(fleet, rollout)["dev-a"] == "working"
    for name in THREE:
        fleet.report(name, "committed")
    assert fleet.view(rollout)["state"] == "done"


def test_there_is_nothing_to_retry_where_nothing_failed(fleet):
    """An operator's slip is told, and changes nothing."""
    rollout = committed_everywhere(fleet, fleet.add_module("digits"))
    with pytest.raises(Conflict, match="no device of it has failed"):
        fleet.act(rollout, "retry")


def test_a_skipped_device_holds_nobody_up_and_gets_back_what_it_had(fleet):
    """One on its way goes back; one that has no order yet gets none; both say why."""
    one, two = fleet.add_module("digits"), fleet.add_module("digits")
    committed_everywhere(fleet, one)
    rollout = fleet.start(two, policy=Policy(waves=(Wave(count=2), Wave(percent=100.0))))
    fleet.report("dev-a", "committed")
    fleet.act(rollout, "skip", "dev-b", "its site is being rebuilt")
    fleet.act(rollout, "skip", "dev-c", "lent to the lab")
    view = fleet.view(rollout)
    assert view["state"] == "done"
    assert [manifest_of(fleet, name) for name in THREE] == [two.target, one.target, one.target]
    assert {one["device"]: one["why"] for one in view["devices"]}["dev-c"].startswith("lent to the lab: ")
    with pytest.raises(Conflict, match="returning already"):
        fleet.act(rollout, "skip", "dev-c", "again")


def test_a_server_that_dies_in_the_middle_of_a_revert_goes_on_where_it_was(fleet):
    """Half of the devices have their orders back; the next tick brings the others theirs, and nobody two."""
    for number in range(150):
        fleet.add_device(f"x-{number:03}")
    rollout = fleet.start(fleet.add_module("digits"))
    fleet.publish()
    with fleet.database.write() as connection:
        control.revert(connection, fleet.now, rollout)
    fleet.engine.tick()
    with fleet.database.write() as connection:
        told = connection.execute(update(devices).where(devices.c.order_counter == 2).values(boot=0)).rowcount
    assert told == 100
    fleet.tick()
    with fleet.database.read() as connection:
        counters = connection.exec_driver_sql("SELECT order_counter, count(*) FROM devices GROUP BY 1").all()
    assert counters == [(2, 153)]
