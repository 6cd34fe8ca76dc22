"""Rollouts that could never come to a good end with these devices: refused before anything is written, with why."""

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from fleet.refusals import Conflict
from fleet.rollouts import auto, control, joining
from fleet.rollouts import policy as policies
from fleet.rollouts.start import Wish
from fleet.tables import history, members, rollouts, slot_revisions, slots
from modules.errors import Invalid, Refused, Unfit
from modules.manifest import Needs, Proof, Runtime
from modules.names import ModuleRef, Slug
from modules.needs import Accelerator
from modules.samples import Sample, Samples, encode
from tests.doubles.device import HOST_FACTS

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
ON_GPU = {"runtimes": (Runtime(accelerator="cuda", providers=(CUDA, CPU)), Runtime())}
SAMPLES = encode(Samples(samples=tuple(Sample(name=str(n), body=b"1", answer=b"2") for n in range(3))))


def gates(*every, **more):
    return policies.read({"gates": list(every)} | more)


def provider(name):
    return {"measure": "provider", "is": name}


@pytest.fixture
def fleet(small_fleet):
    """A device with an accelerator and a sensor, a plain one that has none, and one of before, which does not tell."""
    gpu = Accelerator(kind="cuda", name="gpu", providers=(CUDA,))
    small_fleet.add_device("dev-gpu", host=replace(HOST_FACTS, accelerators=(gpu,), thermal=True))
    small_fleet.add_device("dev-plain", host=replace(HOST_FACTS, thermal=False), labels={"site": "berlin"})
    small_fleet.add_device("dev-old", labels={"site": "berlin"})
    return small_fleet


def everything(fleet):
    with fleet.database.read() as connection:
        return [connection.execute(select(one)).all() for one in (rollouts, members, slots, slot_revisions, history)]


def refused(fleet, ref, kind, says, **wish):
    """It is refused so, and not a row is other than before."""
    before = everything(fleet)
    with pytest.raises(kind, match=says) as found:
        fleet.start(ref, **wish)
    assert everything(fleet) == before
    assert found.value.element, "it says where"
    assert found.value.remedy, "it says what to do"


def misfits(fleet, rollout):
    return {one["device"]: one["reasons"] for one in fleet.view(rollout)["misfits"]}


@pytest.mark.parametrize(
    ("name", "devices", "says"),
    [
        (CUDA, ("dev-plain",), f"dev-plain: a gate asks for {CUDA}, and the module would run on {CPU} here"),
        (CUDA, ("dev-plain", "dev-old"), "none of 2 devices fits"),
        (CPU, ("dev-gpu",), f"dev-gpu: a gate asks for {CPU}, and the module would run on {CUDA} here"),
        ("CudaExecutionProvider", ("dev-gpu",), "asks for CudaExecutionProvider"),
        ("x" * 5000, ("dev-gpu",), "asks for xxxx"),
        ("\x1b[31m", ("dev-gpu",), "a gate asks for [^\x1b]*,"),
    ],
)
def test_a_provider_that_no_device_would_use_is_refused(fleet, name, devices, says):
    """An accelerator that is not there, the processor where the accelerator comes first, a name mistyped."""
    refused(fleet, fleet.add_module("digits", **ON_GPU), Unfit, says, devices=devices, policy=gates(provider(name)))


def test_a_device_that_would_use_another_provider_is_a_misfit(fleet):
    """It does not fail by a gate that it could never meet, and the others go on."""
    rollout = fleet.start(fleet.add_module("digits", **ON_GPU), policy=gates(provider(CUDA)))
    assert set(fleet.phases(rollout)) == {"dev-gpu"}
    assert set(misfits(fleet, rollout)) == {"dev-plain", "dev-old"}


HEAT = {"measure": "temperature_c", "at_most": 80}


def test_a_temperature_that_no_device_tells_is_refused(fleet):
    """A device without a sensor is a misfit; of one of before nobody knows, and it is tried."""
    ref = fleet.add_module("digits")
    refused(fleet, ref, Unfit, "temperature, and it has no sensor", devices=("dev-plain",), policy=gates(HEAT))
    rollout = fleet.start(ref, policy=gates(HEAT))
    assert set(misfits(fleet, rollout)) == {"dev-plain"}
    assert set(fleet.phases(fleet.start(ref, policy=gates(HEAT | {"missing": "pass"})))) == {
        *("dev-gpu", "dev-plain", "dev-old")
    }


@pytest.mark.parametrize(
    "gate",
    [
        {"measure": "p95_ms", "at_most_times": 1.5},
        {"measure": "memory_mb", "at_most_times": 2},
        {"measure": "drift", "at_most": 0.25},
    ],
)
def test_a_comparison_with_nothing_is_refused(fleet, gate):
    """Where no device has a module in this slot; a device that has none yet is a misfit among those that have."""
    first, second = fleet.add_module("digits"), fleet.add_module("digits")
    refused(fleet, first, Unfit, f"compares {gate['measure']} with.*there is no other in this slot", policy=gates(gate))
    fleet.start(first, devices=("dev-gpu",))
    refused(fleet, second, Unfit, "there is no other in this slot", slot=Slug("other"), policy=gates(gate))
    refused(fleet, first, Unfit, "there is no other in this slot", devices=("dev-gpu",), policy=gates(gate))
    rollout = fleet.start(second, policy=gates(gate))
    assert (set(fleet.phases(rollout)), set(misfits(fleet, rollout))) == ({"dev-gpu"}, {"dev-plain", "dev-old"})
    everybody = fleet.start(second, policy=gates(gate | {"missing": "pass"}))
    assert len(fleet.phases(everybody)) == 3


def test_a_late_joiner_that_can_never_meet_a_gate_stays_out(fleet):
    """As it would have at the start."""
    policy = gates(HEAT, late_joiners=True)
    rollout = fleet.start(fleet.add_module("digits"), policy=policy)
    for name, thermal in (("late-cold", False), ("late-warm", True)):
        fleet.add_device(name, host=replace(HOST_FACTS, thermal=thermal))
    with fleet.database.write() as connection:
        joining.changed(connection, "dev-plain")
    fleet.tick()
    assert set(fleet.phases(rollout)) == {"dev-gpu", "dev-old", "late-warm"}


@pytest.mark.parametrize(
    ("minimum", "proof", "says"),
    [
        (1, Proof(prove="ready-only"), "it must rest on 1 samples, and acme/digits:1 brings none along"),
        (4, Proof(), "it must rest on 4 samples, and acme/digits:1 has 3"),
        (16, Proof(), "has 3"),
    ],
)
def test_samples_that_a_module_does_not_bring_along_are_refused(fleet, minimum, proof, says):
    """Nothing could ever be asked."""
    ref = fleet.add_module("digits", proof=proof, more={"samples.json": SAMPLES})
    gate = {"measure": "sample_percent", "at_least": 100, "minimum": minimum}
    refused(fleet, ref, Invalid, says, policy=gates(gate))
    fleet.start(ref, policy=gates(gate | {"missing": "pass"}))


def test_samples_that_it_brings_along_are_enough(fleet):
    """At the very number."""
    ref = fleet.add_module("digits", proof=Proof(), more={"samples.json": SAMPLES})
    assert fleet.start(ref, policy=gates({"measure": "sample_percent", "at_least": 100, "minimum": 3}))


@pytest.mark.parametrize("label", ["siet", "ring", "site.name"])
def test_a_budget_by_a_label_that_nobody_has_is_refused(fleet, label):
    """All would be one place and go one by one; where some have it, the others are a place of their own."""
    ref = fleet.add_module("digits")
    refused(fleet, ref, Invalid, f"none of the 3 devices has a label '{label}'", policy=gates(budget={"label": label}))
    fleet.start(ref, policy=gates(budget={"label": "site"}))


@pytest.mark.parametrize("waves", [["ring=canary"], ["site=berlin", "site=berlin"], ["site=paris"], ["id=dev-none"]])
def test_a_wave_of_nobody_is_refused(fleet, waves):
    """A label that matches none that are left may be the canaries'."""
    policy = policies.read({"waves": [{"label": one} for one in waves]})
    refused(fleet, fleet.add_module("digits"), Invalid, "no device that is left matches", policy=policy)


@pytest.mark.parametrize(
    ("selector", "kind", "says"),
    [
        ("", Invalid, "not a valid selector"),
        (" ", Invalid, "not a valid selector"),
        ("site", Invalid, "cannot read 'site'"),
        ("site=berlin,", Invalid, "a term is missing after the last comma"),
        (",site=berlin", Invalid, "cannot read"),
        ("site=berlin;ring=a", Invalid, "cannot read"),
        ("site==berlin", Invalid, "cannot read"),
        ("site in ()", Invalid, "cannot read the values"),
        ("site in (a", Invalid, "cannot read"),
        ("host.memory=5", Invalid, "host.memory is no fact"),
        ("host.memory_mb>=lots", Invalid, "cannot read"),
        ("*,site=berlin", Invalid, "cannot read"),
        ("site=" + "x" * 3000, Invalid, "not a valid selector"),
        ("site=ber\x00lin", Invalid, "cannot read"),
        ("site=bérlin", Invalid, "cannot read"),
        ("site=paris", Unfit, "'site=paris' matches no device"),
        ("id=dev-none", Unfit, "matches no device"),
    ],
)
def test_a_selector_that_cannot_be_read_or_means_nobody_is_refused(fleet, selector, kind, says):
    """It never means all, and never some by accident."""
    refused(fleet, fleet.add_module("digits"), kind, says, selector=selector)


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        (Needs(memory_mb=10**6), "needs 1000000 MiB of memory, has 1024"),
        (Needs(disk_mb=10**6), "needs 1000000 MiB of disk, has 4096 free"),
        (Needs(cpu_cores=64), "needs 64 cores, is granted 2"),
    ],
)
def test_a_module_that_needs_more_than_any_device_has_is_refused(fleet, needs, says):
    """With each device and its reason."""
    refused(fleet, fleet.add_module("digits", needs=needs), Unfit, f"none of 3 devices fits: .*{says}")


@pytest.mark.parametrize("runtime", [Runtime(platform="linux/riscv64"), Runtime(accelerator="hailo")])
def test_a_module_for_other_machines_is_refused(fleet, runtime):
    """What it offers and what is there are both said."""
    refused(fleet, fleet.add_module("digits", runtimes=(runtime,)), Unfit, "(offers|runs on).*(riscv64|hailo)")


@pytest.mark.parametrize("state", ["running", "paused", "scheduled", "reverting"])
def test_a_second_rollout_to_a_slot_is_refused_whatever_the_first_waits_for(fleet, state):
    """It says which one is in the way, and how to take the devices from it."""
    starts = "2100-01-01T00:00:00+00:00" if state == "scheduled" else None
    first = fleet.start(fleet.add_module("digits"), policy=policies.read({"starts": starts}))
    with fleet.database.write() as connection:
        if state == "paused":
            control.pause(connection, fleet.now, first)
        if state == "reverting":
            control.revert(connection, fleet.now, first)
    fleet.engine.tick()
    assert fleet.view(first)["state"] == state
    refused(fleet, fleet.add_module("digits"), Conflict, f"rollout {first} .*is open", supersede=False)
    assert fleet.start(fleet.add_module("digits"))


def test_a_start_that_is_over_is_refused(fleet):
    """A mistyped year does not begin at once."""
    policy = policies.read({"starts": "2020-03-01T22:00:00+01:00"})
    refused(fleet, fleet.add_module("digits"), Invalid, "2020-03-01T22:00:00.* is over", policy=policy)


def test_a_rule_that_begins_at_a_moment_is_refused(fleet):
    """It starts rollouts for years."""
    wish = Wish(module=ModuleRef.parse("acme/digits:1"), slot=Slug("digits"), policy=policies.read({"starts": STARTS}))
    with fleet.database.write() as connection, pytest.raises(Refused, match="whenever a version is signed"):
        auto.add(connection, fleet.now, auto.Rule(name=Slug("nightly"), wish=wish))


STARTS = "2100-01-01T00:00:00+00:00"
