"""``edgefleet simulate``: what an operator types, against a real server and broker."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.publisher import checked
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
ROOT = Path(__file__).parents[3]
WITHIN_S = stretched(60)
PROFILES = """
devices:
  - {share: 1, labels: {ring: canary}}
  - {share: 3, platform: linux/arm64, labels: {ring: main}}
"""
# As where only edgefleet[client] is installed.
WITHOUT_AGENT = """
import sys

class Gate:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {"aiomqtt", "paho"} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Gate, sys.meta_path)
from fleet.client.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def home(fleet, tmp_path):
    """The environment of an operator who has logged in."""
    server, _, _ = fleet
    environment = os.environ | {"EDGEFLEET_HOME": str(tmp_path / "home")}
    login = ["login", server.url, "--token", server.token, "--ca", str(server.data.ca)]
    subprocess.run(
        [sys.executable, "-m", "fleet.client", *login], cwd=ROOT, env=environment, check=True, timeout=stretched(60)
    )
    return environment


def simulate(environment, *words, start=("-m", "fleet.client")):
    command = [sys.executable, *start, "simulate", *map(str, words), "--json"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def simulated(http, prefix):
    found = checked(http.get("/api/v1/devices")).json()
    return {one["id"]: one for one in found if one["id"].startswith(prefix)}


def test_devices_join_with_their_labels_and_leave(fleet, home, tmp_path):
    """One command enrols, labels and connects them; its last words are one document, and all are offline then."""
    _, http, _ = fleet
    (tmp_path / "profiles.yaml").write_text(PROFILES)
    words = (
        "--devices",
        8,
        "--prefix",
        "yaml",
        "--profiles",
        tmp_path / "profiles.yaml",
        "--for",
        "3s",
        "--load-every",
        0.5,
    )
    done = simulate(home, *words)

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["devices"], summary["done"]["acks"]) == (8, 8)
    assert summary["done"]["telemetry"] >= 8
    devices = simulated(http, "yaml")
    rings = [(one["labels"], one["facts"]["host"]["platform"]) for one in devices.values()]
    assert rings.count(({"simulated": "true", "ring": "canary"}, "linux/amd64")) == 2
    assert rings.count(({"simulated": "true", "ring": "main"}, "linux/arm64")) == 6
    assert not any(one["online"] for one in devices.values())
    measured = http.get(f"/api/v1/devices/{next(iter(devices))}/telemetry?since=0").json()
    assert measured["streams"][0]["samples"][0]["figures"]
    assert len(measured["history"]) >= 2


@pytest.mark.long
def test_the_same_devices_come_again_and_removed_ones_join_anew(fleet, home):
    """Keys are kept from run to run; what the server has forgotten is enrolled again under its name."""
    _, http, _ = fleet
    words = ("--devices", 3, "--prefix", "again", "--for", "2s")
    assert "enrolled 3 devices" in simulate(home, *words).stderr
    checked(http.delete("/api/v1/devices/again-00002"))
    done = simulate(home, *words)

    assert "enrolled 1 devices" in done.stderr, done.stderr
    assert sorted(simulated(http, "again")) == ["again-00001", "again-00002", "again-00003"]


def test_ctrl_c_ends_it_politely(fleet, home, tmp_path):
    """Ctrl-C reaches command and simulator: the devices say goodbye, the summary comes, and the exit code is 0."""
    _, http, _ = fleet
    ready = tmp_path / "ready"
    words = ["simulate", "--devices", "2", "--prefix", "ctrl", "--ready-file", str(ready), "--json"]
    command = [sys.executable, "-m", "fleet.client", *words]
    with subprocess.Popen(
        command, cwd=ROOT, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for _ in process.stderr:
            if ready.exists():
                break
        assert all(one["online"] for one in simulated(http, "ctrl").values())
        os.killpg(process.pid, signal.SIGINT)
        said, wrong = process.communicate(timeout=WITHIN_S)

    assert process.returncode == 0, wrong
    assert json.loads(said)["connected"] == 0
    assert not any(one["online"] for one in simulated(http, "ctrl").values())


def test_it_says_what_to_install(home):
    """Without the packages of edgefleet[agent] it names what is missing and how to get it."""
    done = simulate(home, "--devices", 1, start=("-c", WITHOUT_AGENT))

    assert done.returncode == 1, done.stderr
    error = json.loads(done.stdout)["error"]
    assert "aiomqtt is not installed" in error["message"]
    assert "edgefleet[agent,client]" in error["remedy"]


@pytest.mark.parametrize(
    ("text", "said"), [("devices: [", "cannot be read"), ("speed: 3", "speed"), ("behaviours: [{kind: evil}]", "kind")]
)
def test_a_bad_profile_is_refused_before_anything_is_enrolled(fleet, home, tmp_path, text, said):
    """A file that cannot be meant is said with its place; no device has joined."""
    _, http, _ = fleet
    (tmp_path / "bad.yaml").write_text(text)
    done = simulate(home, "--devices", 1, "--prefix", "bad", "--profiles", tmp_path / "bad.yaml")

    assert done.returncode == 1
    assert said in json.loads(done.stdout)["error"]["message"]
    assert simulated(http, "bad") == {}
