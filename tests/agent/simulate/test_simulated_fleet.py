"""A simulated fleet drives a real server through a real broker, as devices in the field would."""

import json
import time

import pytest

from tests.agent.simulate.rolling import (
    QUICK,
    WITHIN_S,
    ended,
    names,
    of_kind,
    profiles,
    published,
    roll_out,
    until,
)
from tests.doubles.device import join
from tests.doubles.publisher import checked
from tests.parts.simulator import enroll, simulator

pytestmark = pytest.mark.needs("mosquitto")


def test_a_good_version_goes_through_in_waves_and_a_bad_one_is_taken_back(fleet, tmp_path):
    """Twenty devices commit what is good, each after pulling and checking it; what is bad ends in its first wave."""
    _, http, owner = fleet
    good, bad = published(owner, "weather"), published(owner, "weather")
    plan = profiles(tmp_path, modules=[{"module": bad, "behaviours": [{"kind": "fails-samples"}]}])
    enroll(tmp_path, join(http, uses=20), 20, "--prefix", "waves")
    waves = {"waves": [{"count": 2}, {"percent": 50}, {"percent": 100}], "on_failure": "revert"}
    with simulator(tmp_path, 20, "--prefix", "waves", *QUICK, *plan) as running:
        shown = until(http, roll_out(http, good, names("waves", 20), policy=waves), ended)
        assert (shown["state"], shown["waves"], shown["counts"]["succeeded"]) == ("done", 3, 20)

        shown = until(http, roll_out(http, bad, names("waves", 20), policy=waves), ended)
        assert shown["state"] == "reverted"
        assert {one["wave"] for one in shown["devices"] if one["phase"] == "reverted"} <= {1}
        devices = checked(http.get("/api/v1/devices")).json()
        serving = {
            slot["serving"]["module"]
            for one in devices
            if one["id"].startswith("waves")
            for slot in one["report"]["slots"]
        }
        assert serving == {good}
    assert running.summary["phases"] == {"committed": 20}
    done = running.summary["done"]
    # The manifest, the index and four blocks each; what was broadcast was announced, too.
    assert done["blocks"] + done["shared"] // 2 >= 20 * 6
    assert done["shared"]
    assert "refused" not in running.summary["done"]
    assert "defects" not in running.summary["done"]
    way = [one["phase"] for one in running.record() if one["what"] == "phase" and one["device"] == "waves-00001"]
    assert way[:8] == ["accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "committed"]
    assert not any(one["online"] for one in checked(http.get("/api/v1/devices")).json())


@pytest.mark.long
def test_who_lies_convinces_nobody_and_is_counted(fleet, tmp_path):
    """A device that speaks for another, uses a number twice or claims a phase of its own is never counted as done."""
    _, http, owner = fleet
    lies = ["speaks-for-another", "goes-back", "unknown-phase"]
    plan = profiles(tmp_path, behaviours=[{"share": 1, "kind": kind} for kind in [*lies, "good"]])
    enroll(tmp_path, join(http, uses=8), 8, "--prefix", "liars")
    with simulator(tmp_path, 8, "--prefix", "liars", *QUICK, *plan) as running:
        rollout = roll_out(http, published(owner, "truth"), names("liars", 8))
        until(http, rollout, lambda shown: shown["counts"].get("succeeded") == 2)
        ends = time.monotonic() + WITHIN_S
        while not (found := of_kind(http, "liars"))["cloned-identity"] >= 2 <= found["forged-message"]:
            assert time.monotonic() < ends, found
            time.sleep(0.1)
        shown = until(http, rollout, lambda _: True)
    assert (shown["state"], shown["counts"]) == ("running", {"succeeded": 2, "working": 6})
    assert running.summary["done"]["lies"] == 6


@pytest.mark.long
def test_a_device_takes_little_memory(fleet, tmp_path):
    """With its key, its session and mutual TLS a device takes less than 60 kB: ten thousand fit into a laptop."""
    _, http, _ = fleet
    taken = {}
    enroll(tmp_path, join(http, uses=300), 300, "--prefix", "small")
    for count in (100, 300):
        with simulator(tmp_path, count, "--prefix", "small") as running:
            taken[count] = json.loads(running.ready.read_text())["memory_kb_per_device"] * count

    assert 0 < (taken[300] - taken[100]) / 200 < 60
