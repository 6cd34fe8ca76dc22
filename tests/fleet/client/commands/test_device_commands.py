"""``edgefleet devices command|logs|diagnose|decommission`` and ``edgefleet commands``, to devices of a real fleet."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app
from fleet.client.command_view import Lines
from modules.protocol.report import Reason
from tests.doubles.device import Device, join
from tests.doubles.publisher import Publisher, checked
from tests.house.tree import ROOT
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.programs import until

pytestmark = pytest.mark.needs("mosquitto")

PLACES = "straße".encode()
# Lines of a log that goes on for ever.
ENDLESS = 7
PIECES = [b"a line\nstra\xc3", b"\x9fe \x1b[2J red\x07\n", b"the last without an end"]


def done(command):
    """What the devices answer."""
    if command.device == "dev-bad":
        return [{"state": "refused", "reason": Reason("unfit", "not \x1b[31m here")}]
    if command.name == "logs":
        if command.arguments["lines"] == ENDLESS:
            return [{"state": "running", "data": PIECES[0], "content": "text/plain"}]
        pieces = PIECES[: None if command.arguments["follow_s"] else 2]
        return [*({"state": "running", "data": one, "content": "text/plain"} for one in pieces), {"state": "done"}]
    if command.name == "diagnose":
        kind = "application/zip" if command.device == "dev-1" else "text/html"
        return [{"state": "running", "data": b"<script>", "content": kind}, {"state": "done", "data": b"..."}]
    return [{"state": "done", "note": "pong"}]


async def live(devices, keys, ready, stop):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(alive(device, keys, ready)) for device in devices]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def alive(device, keys, ready):
    async with device.connected():
        await device.send_facts()
        if device.name == "dev-away":
            return
        ready.release()
        await device.obey(keys, done)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two devices that obey, one that refuses, and one that is away; each but the last has the slot digits."""
    folder = tmp_path_factory.mktemp("fleet")
    data = initialise(folder / "data")
    with broker(folder / "broker", data) as running, fleet_server(data, running) as server, server.client() as http:
        owner = Publisher(http)
        owner.found()
        devices = [Device(folder / name, join(http), name) for name in ("dev-1", "dev-2", "dev-bad", "dev-away")]
        for device in devices:
            checked(device.enrol())
        loop, ready = asyncio.new_event_loop(), threading.Semaphore(0)
        stop = asyncio.Event()
        thread = threading.Thread(
            target=loop.run_until_complete, args=(live(devices, owner.director_keys, ready, stop),), daemon=True
        )
        thread.start()
        for _ in devices[:-1]:
            assert ready.acquire(timeout=30)
        manifest = owner.upload("digits", {"model.onnx": b"x"})
        owner.sign(manifest)

        def stands(name, condition):
            until(lambda: condition(http.get(f"/api/v1/devices/{name}").json()), name, within_s=30)

        for device in devices:
            stands(device.name, lambda shown: shown["facts"] and shown["online"] == (shown["id"] != "dev-away"))
        body = {"module": str(manifest.ref), "slot": "digits", "engine": "process"}
        checked(http.post("/api/v1/rollouts", json=body | {"devices": ["dev-1", "dev-2", "dev-bad"]}))
        for device in devices[:-1]:
            stands(device.name, lambda shown: shown["order"]["slots"])
        home = folder / "home"
        login = ["login", server.url, "--token", server.token, "--ca", str(data.ca)]
        result = CliRunner().invoke(app, login, env={"EDGEFLEET_HOME": str(home)})
        assert result.exit_code == 0, result.output
        yield SimpleNamespace(home=home, http=http)
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


@pytest.fixture
def user(server):
    return SimpleNamespace(environment={"EDGEFLEET_HOME": str(server.home)})


@pytest.fixture
def say(server, tmp_path, monkeypatch):
    """The same command as a person gives it, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words, code=0, **more):
        done = CliRunner().invoke(app, [*words], env={"EDGEFLEET_HOME": str(server.home), "COLUMNS": "200"}, **more)
        assert done.exit_code == code, done.output
        return done

    return invoke


def test_a_device_does_what_it_is_told(run):
    found = run("devices", "command", "dev-1", "ping")

    (command,) = found["commands"]
    assert (command["state"], command["note"], command["device"]) == ("done", "pong", "dev-1")
    assert found["misfits"] == []


@pytest.mark.long
def test_many_are_told_at_once_and_one_that_does_not_is_an_error(run, say):
    """Exit code 1 where any refused, expired or got no command; each is shown with why."""
    found = run("devices", "command", "--selector", "*", "restart-module", "--slot", "digits", code=1)
    assert {one["device"]: one["state"] for one in found["commands"]} == {
        "dev-1": "done", "dev-2": "done", "dev-bad": "refused",
    }  # fmt: skip
    assert [one["device"] for one in found["misfits"]] == ["dev-away"]
    shown = say("devices", "command", "--selector", "*", "ping", "--expires", "1s", code=1)
    assert re.search(r"dev-1 +done +[\d.]+ s +pong", shown.stdout)
    assert re.search(r"dev-away +expired", shown.stdout)
    assert "not \N{REPLACEMENT CHARACTER}[31m here [unfit]" in shown.stdout
    assert "dev-away is offline: the command waits for it until" in shown.stderr


def test_who_would_get_it_is_shown_before_anybody_is_told(run, say):
    """And nobody is told by that."""
    before = run("commands", "list", "--name", "restart-module")
    found = run("devices", "command", "--selector", "*", "restart-module", "--slot", "digits", "--preview")
    assert set(found["devices"]) == {"dev-1", "dev-2", "dev-bad"}
    assert [one["device"] for one in found["misfits"]] == ["dev-away"]
    shown = say("devices", "command", "--selector", "*", "ping", "--preview").stdout
    assert re.search(r"dev-1 +now", shown)
    assert re.search(r"dev-away +when it is back in time", shown)
    assert run("commands", "list", "--name", "restart-module") == before


@pytest.mark.parametrize(
    "words", [("ping",), ("dev-1", "ping", "--selector", "*"), ("--selector", "*"), ("dev-1", "ping", "more")]
)
def test_either_a_device_or_a_selector_is_named(say, words):
    say("devices", "command", *words, code=2)


@pytest.mark.parametrize(
    ("words", "element"),
    [
        (("dev-1", "format-disk"), "format-disk"),
        (("dev-1", "restart-module"), "restart-module"),
        (("dev-1", "restart-module", "--slot", "other"), "restart-module"),
        (("dev-1", "profile", "--slot", "digits", "--set", "seconds=many"), "--set seconds"),
        (("dev-1", "profile", "--slot", "digits", "--set", "seconds=1000"), "profile seconds"),
        (("dev-9", "ping"), "dev-9"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(run, words, element):
    assert run("devices", "command", *words, code=1)["error"]["element"] == element


def test_an_offline_device_is_not_waited_for_where_nobody_wants_to(run, say):
    """The command stands, is listed and shown, and can be taken back."""
    (command,) = run("devices", "command", "dev-away", "ping", "--no-wait")["commands"]
    assert command["state"] in {"waiting", "sent"}
    mine = run("commands", "list", "--device", "dev-away", "--state", "waiting", "--state", "sent")
    assert command["id"] in [one["id"] for one in mine]
    assert {one["device"] for one in mine} == {"dev-away"}
    assert [one["id"] for one in run("commands", "list", "--batch", command["batch"])] == [command["id"]]
    assert run("commands", "list", "--name", "no-such") == []
    shown = say("commands", "show", command["id"]).stdout
    assert "by token" in shown
    assert "offline" in shown
    assert "is cancelled" in say("commands", "cancel", command["id"]).stdout
    assert run("commands", "show", command["id"])["state"] == "cancelled"
    assert run("commands", "cancel", command["id"], code=1)["error"]["code"] == "conflict"
    assert run("commands", "show", "0" * 32, code=1)["error"]["code"] == "missing"


def test_log_lines_come_whole_and_without_control_characters(run, say):
    """Whatever the device sends, and wherever it broke its pieces."""
    cleaned = ["a line", "straße \N{REPLACEMENT CHARACTER}[2J red\N{REPLACEMENT CHARACTER}"]
    shown = say("devices", "logs", "dev-1", "digits", "--lines", "5")
    assert shown.stdout.splitlines() == cleaned
    shown = say("devices", "logs", "dev-1", "digits", "--follow", "--for", "2s")
    assert shown.stdout.splitlines() == [*cleaned, "the last without an end"]
    found = run("devices", "logs", "dev-1", "digits")
    assert found["lines"] == cleaned
    assert found["command"]["arguments"] == {"lines": 100, "follow_s": 0}
    found = run("devices", "logs", "dev-bad", "digits", code=1)
    assert (found["command"]["state"], found["lines"]) == ("refused", [])
    assert "logs is refused" in say("devices", "logs", "dev-bad", "digits", code=1).stderr


def test_lines_are_put_together_from_any_pieces():
    """Byte by byte, as in one piece."""
    found = []
    lines = Lines(found.append)
    for byte in b"\n".join([PLACES, b"", PLACES]):
        lines.add(bytes([byte]))
    lines.end()
    assert found == ["straße", "", "straße"]


def test_a_diagnosis_is_a_new_file_for_this_user_alone(run, say, tmp_path):
    """Named here, by nobody else; what is there already is not touched, nor what a link leads to."""
    document = run("devices", "diagnose", "dev-1")
    (file,) = tmp_path.iterdir()
    assert document["file"] == file.name
    assert re.fullmatch(r"dev-1-diagnose-\d{8}-\d{6}\.zip", file.name)
    assert file.read_bytes() == b"<script>..."
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("devices", "diagnose", "dev-2", "--out", "mine")["content"] == "application/octet-stream"
    before = len(run("commands", "list"))
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    for name in ("mine", "link", "."):
        assert "already" in run("devices", "diagnose", "dev-2", "--out", name, code=1)["error"]["message"]
    assert not (tmp_path / "victim").exists()
    assert len(run("commands", "list")) == before
    assert run("devices", "diagnose", "dev-bad", code=1)["error"]["element"] == "dev-bad"

    found = run("commands", "show", document["command"], "--out", "again")
    assert found["state"] == "done"
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


@pytest.mark.long
def test_nobody_wipes_a_device_by_mistake(server, run, say):
    """Its name has to be typed, by itself; one that does not do it stays in the fleet, and the rest is explained."""
    say("devices", "decommission", "dev-away", input="dev-awya\n", code=1)
    assert run("commands", "list", "--name", "decommission") == []
    say("devices", "command", "--selector", "*", "decommission", code=1)
    refused = say("devices", "decommission", "dev-bad", input="dev-bad\n", code=1).stderr
    assert "still in the fleet: the command is refused; it says: not" in refused
    assert "edgefleet devices remove dev-bad" in refused
    assert "leaves on its disk" in refused
    assert run("devices", "decommission", "dev-away", "--yes", "--expires", "1s", code=1)["error"]["code"] == "refused"
    names = {one["id"] for one in server.http.get("/api/v1/devices").json()}
    assert {"dev-bad", "dev-away"} <= names


def test_a_wiped_device_leaves_the_fleet(server, run):
    """After it has said that it is done; what it was told stays in the history."""
    removed = run("devices", "decommission", "dev-2", "--yes")
    assert removed["device"] == "dev-2"
    assert run("commands", "show", removed["command"])["state"] == "done"
    assert "dev-2" not in {one["id"] for one in server.http.get("/api/v1/devices").json()}
    events = [(one["kind"], one["device"]) for one in server.http.get("/api/v1/events").json()]
    assert {("command-given", "dev-2"), ("device-removed", "dev-2")} <= set(events)


def interrupted(server, sign, *words):
    """The command as a process that somebody ends once it has said ``sign``; what it said in all."""
    environment = os.environ | {"EDGEFLEET_HOME": str(server.home)}
    command = [sys.executable, "-u", "-m", "fleet.client", "devices", *words]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as one:
        assert one.stdout is not None
        said = b""
        while sign not in said:
            line = one.stdout.readline()
            assert line, said
            said += line
        one.send_signal(signal.SIGINT)
        said += one.communicate(timeout=30)[0]
    assert one.returncode == -signal.SIGINT
    return said.decode()


def test_who_stops_watching_leaves_the_command_standing(run, server):
    """And is told how to look at it again."""
    said = interrupted(server, b"dev-away is offline", "command", "dev-away", "ping")
    (ident,) = {one["id"] for one in run("commands", "list", "--device", "dev-away", "--state", "sent")}
    assert f"edgefleet commands show {ident}" in said
    assert "Traceback" not in said
    assert run("commands", "cancel", ident)["state"] == "cancelled"


def test_a_log_that_nobody_follows_any_more_is_not_taken_in(run, server):
    said = interrupted(server, b"a line", "logs", "dev-1", "digits", "--follow", "--lines", str(ENDLESS))
    (command,) = run("commands", "list", "--limit", "1")
    assert (command["name"], command["state"]) == ("logs", "cancelled")
    assert "Traceback" not in said
