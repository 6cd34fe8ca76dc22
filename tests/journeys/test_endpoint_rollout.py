"""An endpoint on a real container host goes over to another version, share by share, while applications ask it."""

import json
from collections import Counter

import pytest

from tests.parts import docker as docker_parts
from tests.parts import halves
from tests.parts.halves import FAILS, NAME, QUESTIONS, USUAL_S
from tests.parts.presence import engine_socket
from tests.parts.programs import CommandFailed, until
from tests.parts.traffic import Traffic

POLICY = {
    "waves": [{"percent": 10}, {"percent": 50}, {"percent": 100}],
    "gates": [
        {"measure": "error_percent", "at_most": 1, "minimum": 20, "window_s": 5},
        {"measure": "p50_ms", "at_most_times": 5, "minimum": 20, "window_s": 5},
        {"measure": "restarts", "at_most": 0},
    ],
    "soak": "0s",
    "deadline": "10m",
    "on_failure": "revert",
}
BAD = {
    "errors": ({"flaw": FAILS}, "error_percent is 100"),
    "slow": ({"seconds": 40 * USUAL_S}, "p50_ms is"),
}


@pytest.fixture(scope="module")
def registered(system, tmp_path_factory):
    """Makes a version of the script, registered and signed."""

    def make(**how):
        return halves.registered(system, tmp_path_factory.mktemp("halves"), **how)

    return make


@pytest.fixture(scope="module")
def engine():
    client = docker_parts.client()
    yield client
    client.close()


@pytest.fixture
def endpoint(system, engine, registered):
    """The first version, deployed; removed at the end. Its port and its module."""
    image = docker_parts.gateway_image(engine)
    if not any(one["name"] == "shifting" for one in system.api("targets")):
        attach = ("--docker", f"unix://{engine_socket()}", "--gateway-image", image)
        system.cli("targets", "attach", "shifting", *attach)
    first = registered()
    found = system.cli("endpoints", "deploy", NAME, "--target", "shifting", "--module", first,
                       "--auth", "none", "--wait")  # fmt: skip
    assert found["state"] == "ready", found
    yield int(found["url"].split(":")[2].split("/")[0]), first
    system.cli("endpoints", "remove", NAME, "--wait")


@pytest.fixture
def started(system, tmp_path):
    """Starts a rollout; its id."""

    def start(module):
        file = tmp_path / "policy.json"
        file.write_text(json.dumps(POLICY))
        return system.cli("rollouts", "start", module, "--endpoint", NAME, "--policy", file)["id"]

    return start


def named(module):
    return f"v{module.rpartition(':')[2]}"


def ended(system, rollout, *states):
    def told():
        return json.dumps([system.api(f"rollouts/{rollout}"), system.api(f"endpoints/{NAME}")], indent=1)

    until(lambda: system.api(f"rollouts/{rollout}")["state"] in states, f"it is {states}", within_s=180, said=told)
    return system.cli("rollouts", "show", rollout)


@pytest.mark.long
def test_a_good_version_arrives_by_10_50_and_100_percent_and_no_request_fails(system, endpoint, registered, started):
    """Under load all the time: every answer is right, each wave had its share, and the old version is gone."""
    port, first = endpoint
    good, name = registered(), system.api(f"endpoints/{NAME}")["default"]
    with Traffic(port, f"/{NAME}/score", QUESTIONS, every_s=0.02) as traffic:
        until(lambda: len(traffic.answers) > 50, "answers come", within_s=60)
        rollout = started(good)
        with pytest.raises(CommandFailed, match=f"rollout {rollout} of {good} is open"):
            system.cli("endpoints", "split", NAME, f"{name}=50", f"{named(good)}=50")
        shown = ended(system, rollout, "done")
        until(lambda: traffic.answers[-1].module == good, "the new one answers", within_s=30)

    assert traffic.failed == []
    assert [(one["percent"], one["standing"]) for one in shown["shares"]] == [
        (10, "succeeded"), (50, "succeeded"), (100, "succeeded"),
    ]  # fmt: skip
    assert all(one["measured"]["requests"] >= 20 for one in shown["shares"])
    left = system.api(f"endpoints/{NAME}")["versions"]
    assert [one["module"] for one in left.values()] == [good]
    assert first != good


@pytest.mark.parametrize("how", ["errors", pytest.param("slow", marks=pytest.mark.long)])
def test_a_bad_version_is_taken_back_by_itself_after_its_first_wave(system, endpoint, registered, started, how):
    """Only its share was harmed: one request in ten, and from the moment it is known none; the old version answers."""
    port, first = endpoint
    change, word = BAD[how]
    bad = registered(**change)
    with Traffic(port, f"/{NAME}/score", QUESTIONS, every_s=0.02) as traffic:
        until(lambda: len(traffic.answers) > 50, "answers come", within_s=60)
        before = len(traffic.answers)
        rollout = started(bad)
        shown = ended(system, rollout, "reverted")
        asked = len(traffic.answers) - before
        until(lambda: len(traffic.answers) > before + asked + 50, "answers come", within_s=30)

    by = Counter(one.module for one in traffic.answers)
    assert word in json.dumps(shown["history"]), shown["history"]
    assert [one["standing"] for one in shown["shares"]] == ["returned", "skipped", "skipped"]
    assert 0 < by[bad] <= asked / 10 + 2, f"{by[bad]} of {asked} requests reached it"
    assert {one.module for one in traffic.failed} <= {bad}
    assert {one.module for one in traffic.answers[-20:]} == {first}
    assert [one["module"] for one in system.api(f"endpoints/{NAME}")["versions"].values()] == [first]
