"""For each gate a version that is bad in just that way: stopped in its first wave, taken back, never seen by others."""

import datetime as dt
import time

import pytest

from modules.manifest import Proof, Runtime
from modules.samples import Sample, Samples, encode
from tests.agent.simulate.rolling import QUICK, WITHIN_S, ended, names, profiles, roll_out, until
from tests.doubles.device import join
from tests.doubles.publisher import checked
from tests.parts.simulator import enroll, simulator

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto")]
CUDA = "CUDAExecutionProvider"
RUNTIMES = (Runtime(accelerator="cuda", providers=(CUDA, "CPUExecutionProvider")), Runtime())
SAMPLES = encode(Samples(samples=(Sample(name="one", body=b"1", answer=b"2"),)))
DEVICES = 4
# What a version does, the gate that is there for it, and what is then said.
FLAWS = {
    "slow": ({"measure": "p50_ms", "at_most": 50}, "p50_ms is "),
    "slow, once more": ({"measure": "p95_ms", "at_most_times": 3, "minimum": 20}, "times the"),
    "errors": ({"measure": "error_percent", "at_most": 1, "minimum": 10}, "error_percent is 20"),
    "nan": ({"measure": "nan_percent", "at_most": 0}, "nan_percent is 20"),
    "empty": ({"measure": "empty_percent", "at_most": 5}, "empty_percent is 20"),
    "wrong-later": ({"measure": "sample_percent", "at_least": 100}, "sample_percent is 0"),
    "drifts": ({"measure": "drift", "at_most": 0.25, "minimum": 20}, "drift is "),
    "large": ({"measure": "memory_mb", "at_most_times": 2}, "memory_mb is 900"),
    "leaks": ({"measure": "memory_growth_mb_h", "at_most": 100}, "memory_growth_mb_h is 600"),
    "hot": ({"measure": "temperature_c", "at_most": 80}, "temperature_c is 95"),
    "restarts": ({"measure": "restarts", "at_most": 1}, "3 restarts, 1 are allowed"),
    "wrong-provider": ({"measure": "provider", "is": CUDA}, f"it runs on CPUExecutionProvider, not on {CUDA}"),
}


@pytest.fixture(scope="module")
def played(fleet, tmp_path_factory):
    """Four simulated devices with an accelerator, which serve a good version; and a bad version for each flaw."""
    _, http, owner = fleet
    folder = tmp_path_factory.mktemp("simulated")

    def published(number):
        files = {"model.onnx": f"graph {number}".encode() * 999, "samples.json": SAMPLES}
        manifest = owner.upload("gated", files, proof=Proof(), runtimes=RUNTIMES)
        owner.sign(manifest)
        return str(manifest.ref)

    good, better, *bad = [published(number) for number in range(len(FLAWS) + 2)]
    behaviour = {"after_s": 1, "p50_ms": 100}
    plan = profiles(
        folder,
        devices=[{"accelerators": ["cuda"]}],
        modules=[
            {"module": module, "behaviours": [behaviour | {"kind": flaw.partition(",")[0]}]}
            for module, flaw in zip(bad, FLAWS, strict=True)
        ],
    )
    enroll(folder, join(http, uses=DEVICES), DEVICES, "--prefix", "gated")
    with simulator(folder, DEVICES, "--prefix", "gated", "--window", "0.5", *QUICK, *plan):
        shown = until(http, roll_out(http, good, names("gated", DEVICES)), ended)
        assert shown["state"] == "done"
        yield http, good, dict(zip(FLAWS, bad, strict=True)) | {"none": better}


def state_of(http):
    found = {name: checked(http.get(f"/api/v1/devices/{name}")).json() for name in names("gated", DEVICES)}
    orders = {name: one["order"]["counter"] for name, one in found.items()}
    return orders, {name: one["report"]["slots"][0]["serving"]["module"] for name, one in found.items()}


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_bad_in_just_one_way_is_stopped_in_its_first_wave(played, flaw):
    """By the gate for it and no other; its one device serves what it served before, and no other got an order."""
    http, good, bad = played
    gate, says = FLAWS[flaw]
    policy = {"waves": [{"count": 1}, {"percent": 100}], "gates": [gate], "soak": "1h", "on_failure": "revert"}
    before, _ = state_of(http)
    shown = until(http, roll_out(http, bad[flaw], names("gated", DEVICES), policy=policy), ended)

    assert shown["state"] == "reverted", shown["history"]
    assert says in " ".join(one["what"] for one in shown["history"])
    assert [(one["wave"], one["standing"]) for one in shown["devices"]] == [(1, "returned"), *[(2, "skipped")] * 3]
    orders, serving = state_of(http)
    assert set(serving.values()) == {good}
    first, *others = names("gated", DEVICES)
    assert orders[first] == before[first] + 2
    assert all(orders[name] == before[name] for name in others)


def test_a_good_version_meets_all_of_them_at_once(played):
    """No gate is one that nothing passes."""
    http, _, versions = played
    policy = {"waves": [{"count": 1}, {"percent": 100}], "gates": [gate for gate, _ in FLAWS.values()]}
    rollout = roll_out(http, versions["none"], names("gated", DEVICES), policy=policy)
    assert until(http, rollout, ended)["state"] == "done"


def test_a_device_waits_for_its_window_by_its_own_clock(fleet, tmp_path):
    """It has everything and says what it waits for, while another, elsewhere, switches at once; then it does too."""
    _, http, owner = fleet
    opens = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=WITHIN_S / 3)
    ahead = (dt.datetime(opens.year, opens.month, opens.day, 12, 0, tzinfo=dt.UTC) - opens).total_seconds() / 3600
    plan = profiles(tmp_path, devices=[{"utc_offset_h": ahead}, {"utc_offset_h": ahead + 0.5}])
    manifest = owner.upload("windows", {"model.onnx": b"graph"}, proof=Proof(prove="ready-only"))
    owner.sign(manifest)
    enroll(tmp_path, join(http, uses=2), 2, "--prefix", "zones")
    with simulator(tmp_path, 2, "--prefix", "zones", *QUICK, *plan):
        policy = {"windows": [{"begins": "12:00", "minutes": 60}]}
        rollout = roll_out(http, str(manifest.ref), names("zones", 2), policy=policy)
        waits = until(http, rollout, lambda shown: shown["counts"] == {"succeeded": 1, "working": 1})
        [late] = [one for one in waits["devices"] if one["standing"] == "working"]
        while late["phase"] != "staged" or "opens" not in late["why"]:
            time.sleep(0.2)
            shown = until(http, rollout, lambda _: True)
            [late] = [one for one in shown["devices"] if one["device"] == late["device"]]
        assert "12:00" in late["why"]
        assert until(http, rollout, ended)["state"] == "done"
