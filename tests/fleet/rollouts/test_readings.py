"""What is shown of a rollout wave by wave: where its devices stand, and what each gate sees."""

from fleet.people.scope import Area, Scope
from fleet.rollouts import gates, readings
from fleet.rollouts.model import Policy, Wave
from fleet.selectors import parse
from modules.protocol.measured import Measured
from modules.protocol.report import Running
from tests.doubles.fleet_rows import slot_report

GATES = (
    gates.Gate(measure="p95_ms", at_most=50.0, minimum=10),
    gates.Gate(measure="error_percent", at_most_times=2.0, missing="pass"),
    gates.Gate(measure="provider", is_="CPUExecutionProvider"),
)
BERLIN = Scope((Area(parse("site=berlin"), None),))


def measured(fleet, name, p95_ms, requests, *, provider="CPUExecutionProvider"):
    wanted = slot_report(fleet, name, "committed")
    serving = Running(module=wanted.module, digest=wanted.digest, provider=provider)
    now = Measured(seconds=5, requests=requests, errors=requests // 10, p95_ms=p95_ms)
    before = Measured(seconds=5, requests=100, errors=5)
    more = {"serving": serving, "measured": now, "before": before}
    fleet.send(name, [slot_report(fleet, name, "committed", **more)], order=fleet.order(name).counter)


def seen(fleet, rollout, scope=None):
    with fleet.database.read() as connection:
        found = readings.view(connection, rollout, *([scope] if scope else []))
    return {(one["wave"], one["measure"]): one for one in found}


def test_each_gate_says_how_many_meet_it_and_who_is_furthest_from_it(small_fleet):
    """Value, limit, sample size and what was before; of waves that are not open, nothing."""
    fleet = small_fleet
    for name in ("dev-a", "dev-b", "dev-c", "dev-d"):
        fleet.add_device(name, labels={"site": "berlin"} if name == "dev-a" else {})
    last = Wave(percent=100.0, approval=True)
    policy = Policy(waves=(Wave(count=3), last), gates=GATES, failure_percent=100)
    rollout = fleet.start(fleet.add_module("digits"), policy=policy)
    measured(fleet, "dev-a", 20.0, 100)
    measured(fleet, "dev-b", 70.0, 200)
    measured(fleet, "dev-c", 90.0, 9, provider="CUDAExecutionProvider")

    found = seen(fleet, rollout)
    assert {wave for wave, _ in found} == {1}
    slow = found[1, "p95_ms"]
    assert (slow["limit"], slow["allowed"], slow["minimum"]) == ("at_most", 50.0, 10)
    assert (slow["met"], slow["failed"], slow["waits"]) == (1, 1, 1)
    # Nine requests are too few to fail by, though they took longer.
    assert slow["worst"] == {"device": "dev-b", "outcome": "failed", "value": 70.0, "rests_on": 200, "before": None}
    errors = found[1, "error_percent"]
    assert (errors["worst"]["value"], errors["worst"]["before"], errors["limit"]) == (10.0, 5.0, "at_most_times")
    assert found[1, "provider"]["worst"]["value"] == "CUDAExecutionProvider"
    assert seen(fleet, rollout, BERLIN)[1, "p95_ms"]["worst"]["device"] == "dev-a"


def test_what_the_gates_saw_is_still_told_after_a_rollout_went_back(small_fleet):
    """The figure that it failed by is not lost with the module."""
    fleet = small_fleet
    fleet.add_device("dev-a")
    policy = Policy(gates=GATES[:1], on_failure="revert")
    rollout = fleet.start(fleet.add_module("digits"), policy=policy)
    measured(fleet, "dev-a", 70.0, 100)
    assert fleet.view(rollout)["state"] == "reverting"
    assert seen(fleet, rollout)[1, "p95_ms"]["worst"]["value"] == 70.0


def test_each_wave_says_where_its_devices_stand(small_fleet):
    """The sums are those of the rollout."""
    fleet = small_fleet
    for name in ("dev-a", "dev-b", "dev-c"):
        fleet.add_device(name)
    policy = Policy(waves=(Wave(count=1), Wave(percent=100.0)))
    rollout = fleet.start(fleet.add_module("digits"), policy=policy)
    shown = fleet.view(rollout)
    assert [one["counts"] for one in shown["plan"]] == [{"working": 1}, {"planned": 2}]
    assert shown["counts"] == {"working": 1, "planned": 2}
    fleet.report("dev-a", "committed")
    assert [one["counts"] for one in fleet.view(rollout)["plan"]] == [{"succeeded": 1}, {"working": 2}]
