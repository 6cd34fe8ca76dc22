"""What the operator sees on the device: status, doctor, settings, and errors that say what to do."""

import errno
import json
import os
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

import msgspec
import pytest

from agent import doctor, folders, identity, settings
from agent.__main__ import main
from agent.occupied import occupied
from agent.slots import Placed
from agent.store import Store
from modules.names import device_id
from modules.needs import Engine
from modules.protocol.enrollment import Broker
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from tests.agent.test_enroll import Authority
from tests.doubles.release import make
from tests.doubles.rows import slot_row

WANTED = make("acme/digits:2").wanted()


@pytest.fixture
def state(tmp_path, monkeypatch, free_port):
    """An enrolled device whose broker and engine are not there."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path))
    monkeypatch.setenv("EDGEFLEET_AGENT_DOCKER_SOCKET", str(tmp_path / "docker.sock"))
    folder = tmp_path / "identity"
    folder.mkdir()
    known = identity.Identity(
        device=device_id("dev-1"), fleet="https://fleet", broker=Broker(host="127.0.0.1", port=free_port())
    )
    (folder / "device.json").write_bytes(msgspec.json.encode(known))
    for name in ("key.pem", "ca.pem", "root.json"):
        (folder / name).write_bytes(b"damaged")
    (folder / "certificate.pem").write_text(Authority().pem)
    monkeypatch.setenv("EDGEFLEET_AGENT_GATEWAY_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", str(tmp_path / "run"))
    return tmp_path


class Healthy(BaseHTTPRequestHandler):
    """Answers 200 to all; the gateway's list, as far as doctor reads it."""

    fields = {"x-edgefleet-table": "1"}  # noqa: RUF012
    body = b'[{"slot": "main"}]'

    def do_GET(self):
        body = self.body
        self.send_response(200)
        for name, value in self.fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def address_string(self):
        return ""


class Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True


class Module(Server):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)


@contextmanager
def served(kind, address):
    """Something healthy at this address while the ``with`` body runs; yields where it really listens."""
    server = kind(address, Healthy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address
    server.shutdown()
    thread.join()
    server.server_close()


def fill(state):
    store = Store(state)
    store.raise_number("order", 7)
    placed = Placed(
        wanted=make("acme/digits:1").wanted(),
        instance="i",
        socket=str(state / "s"),
        provider="CPUExecutionProvider",
    )
    store.save(
        slot_row(
            WANTED,
            phase=Phase.REVERTED,
            current=placed,
            reason=Reason("wrong-answer", "one: 7 instead of 1"),
        )
    )
    store.save(slot_row(WANTED, "side"))
    store.close()


def test_status_says_who_answers_and_why(state, capsys):
    """Each slot's serving module and provider, the wanted one's phase, and the reason, without a running agent."""
    fill(state)

    with served(Module, str(state / "s")):
        assert main(["status"]) == 0
    told = capsys.readouterr().out
    assert "device dev-1, order 7; the agent does not run" in told
    assert "main: acme/digits:1 on CPUExecutionProvider answers; acme/digits:2 is reverted" in told
    assert "one: 7 instead of 1" in told
    assert "side: nothing answers; acme/digits:2 is accepted" in told


def test_status_does_not_say_that_a_dead_module_answers(state, capsys):
    """What the agent remembers is not enough: the module itself is asked."""
    fill(state)

    assert main(["status"]) == 0
    assert "acme/digits:1 on CPUExecutionProvider should answer and DOES NOT" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answering"] == {"main": False}


def test_a_look_changes_nothing(state, capsys):
    """Status and doctor make no database, and repair none: that is the agent's business."""
    assert main(["status"]) == 0
    main(["doctor"])
    assert not (state / "agent.db").exists()
    (state / "agent.db").write_bytes(b"no database at all, whatever its name says" * 100)
    (state / "agent.lock").touch()

    assert main(["status"]) == 1
    assert "makes it anew from what runs" in capsys.readouterr().err
    main(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert not found["database"]["ok"]
    assert (state / "agent.db").read_bytes().startswith(b"no database")


def test_status_as_json(state, capsys):
    """One document for programs."""
    fill(state)

    assert main(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["device"], told["order"]) == ("dev-1", 7)
    assert [slot["phase"] for slot in told["slots"]] == ["reverted", "accepted"]
    assert [slot["reason"] and slot["reason"]["code"] for slot in told["slots"]] == ["wrong-answer", None]
    assert [slot["current"] and slot["current"]["instance"] for slot in told["slots"]] == ["i", None]


def test_a_device_that_is_not_enrolled_is_told_what_to_do(tmp_path, monkeypatch, capsys):
    """An explained error ends with 1 and one line on stderr."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path))

    assert main(["status"]) == 1
    assert "run edgefleet-agent enroll" in capsys.readouterr().err


def test_doctor_names_each_thing_that_is_missing(state, capsys):
    """Broker and engine are tried, and a damaged identity is a finding and no crash."""
    assert main(["doctor", "--json"]) == 1
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}

    assert found["clock"]["ok"]
    assert found["disk"]["ok"]
    assert found["identity"]["found"].startswith("device dev-1 of https://fleet, certificate until")
    assert not found["broker"]["ok"]
    assert not found["engine docker"]["ok"]


def test_doctor_says_which_way_blobs_come(state, capsys, monkeypatch):
    """Over MQTT where nothing else is known or wanted; and where HTTPS is known and away, why: that is no trouble."""

    def found():
        main(["doctor", "--json"])
        (one,) = (one for one in json.loads(capsys.readouterr().out) if one["what"] == "blobs")
        assert one["ok"]
        return one["found"]

    assert found() == "over MQTT (no blob_url is set, and the join bundle had none)"
    monkeypatch.setenv("EDGEFLEET_AGENT_BLOB_URL", "https://127.0.0.1:1")
    assert found().startswith("over MQTT: https://127.0.0.1:1 cannot be used: ")
    monkeypatch.setenv("EDGEFLEET_AGENT_PULL_BY", "mqtt")
    assert found() == "over MQTT (pull_by)"


@pytest.mark.needs("root")
def test_doctor_finds_what_belongs_to_another_user(state, capsys):
    """A file that the agent may not write is found before it is in the way, with the command that gives it back."""
    (state / "blobs").mkdir()
    (state / "blobs/0123").write_bytes(b"")
    os.chown(state / "blobs/0123", 65534, 65534)

    main(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}

    assert not found["disk"]["ok"]
    assert found["disk"]["found"].startswith(f"{state}/blobs/0123 is not of the user")
    assert f"chown -R --reference={state} {state}" in found["disk"]["found"]


@pytest.mark.parametrize("name", ["blobs", "modules", "trust", "run/i", "run/gateway"])
@pytest.mark.parametrize("link", [False, True])
def test_a_file_in_a_folders_place_is_named(state, capsys, name, link):
    """By the agent, which does not start, in one sentence, and by doctor; moved away, the folder is made anew."""
    place = state / name
    place.parent.mkdir(exist_ok=True)
    if link:
        place.symlink_to(state / "nowhere")
    else:
        place.write_bytes(b"")
    assert main(["run"]) != 0
    said = capsys.readouterr().err
    assert f"{place}: this is no folder (move it away" in said
    assert "Traceback" not in said
    main(["doctor"])
    assert f"{place} is no folder (move it away" in capsys.readouterr().out

    place.unlink()
    folders.make(settings.load())
    assert place.is_dir()


@pytest.mark.parametrize("name", ["blobs", "modules", "trust", "run/i", "run/gateway"])
def test_a_folder_that_cannot_be_written_is_told_by_doctor(state, capsys, monkeypatch, name):
    """The state folder alone says little: what is pulled goes to one below it."""
    (state / name).mkdir(parents=True)
    real = doctor.tempfile.TemporaryFile

    def refuses(*, dir):  # noqa: A002 - as tempfile calls it
        if dir == state / name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuses)
    assert main(["doctor"]) == 1
    assert f"{state / name} cannot be written: Permission denied" in capsys.readouterr().out


def test_a_runtime_folder_too_long_for_sockets_is_refused_at_the_start(state, capsys, monkeypatch):
    """Neither a module nor an order is blamed for it later; doctor says it too, up to the last byte."""
    room = 107 - len("/i/999999/s.sock")
    parent = f"{state}/"

    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", parent + "r" * (room - len(parent)))
    main(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["runtime folder"]["ok"]

    monkeypatch.setenv("EDGEFLEET_AGENT_RUNTIME", parent + "r" * (room - len(parent) + 1))
    assert main(["run"]) == 1
    assert "set a shorter runtime" in capsys.readouterr().err
    main(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert not found["runtime folder"]["ok"]
    assert "set a shorter runtime" in found["runtime folder"]["found"]


def test_doctor_asks_agent_gateway_and_modules(state, capsys, monkeypatch):
    """With the agent gone, its gateway or its module silent, nothing is called well; with all there, all is."""
    fill(state)
    with occupied(state):
        pass  # it ran once

    def found():
        main(["doctor", "--json"])
        found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
        return [found[what]["ok"] for what in ("agent", "database", "slot main", "slot side", "gateway")]

    assert found() == [False, True, False, True, False]
    with occupied(state), served(Module, str(state / "s")), served(Server, ("127.0.0.1", 0)) as (_, port):
        monkeypatch.setenv("EDGEFLEET_AGENT_GATEWAY_ADDRESS", f"127.0.0.1:{port}")
        assert found() == [True, True, True, True, True]


def test_doctor_says_that_nothing_was_started_yet(state, capsys):
    """Between enrolment and the first start neither agent nor gateway is missed."""
    main(["doctor"])

    told = capsys.readouterr().out
    assert "ok    agent: has not been started yet" in told
    assert "ok    gateway: has not been started yet" in told


def test_doctor_before_enrolment(tmp_path, monkeypatch, capsys):
    """It says that the device is not enrolled, and that the state folder is missing."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATE", str(tmp_path / "none"))

    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "FAIL  identity" in told
    assert "FAIL  disk" in told
    assert "ok    clock" in told


def test_settings_are_shown_as_they_are_in_force(state, capsys):
    """The environment's words are in the printed JSON."""
    assert main(["settings"]) == 0

    assert json.loads(capsys.readouterr().out)["state"] == str(state)


def test_enrolling_with_a_missing_bundle_is_explained(state, capsys):
    """No traceback for a wrong path."""
    assert main(["enroll", str(state / "none.json")]) == 1

    assert "No such file" in capsys.readouterr().err


def test_a_wrong_setting_ends_every_command(tmp_path, monkeypatch, capsys):
    """A typing error in the environment is named."""
    monkeypatch.setenv("EDGEFLEET_AGENT_STATTE", "x")

    assert main(["status"]) == 1
    assert "statte" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "detail", "warned"),
    [
        ("20.10.24+dfsg1", "Docker, image store overlay2", True),
        ("23.0.0", "Docker, image store overlay2", False),
        ("28.5.1", "Docker, image store overlayfs", False),
        ("4.3.1", "Podman, image store overlay", False),
        ("", "Docker", False),
    ],
)
def test_doctor_knows_which_docker_lets_modules_open_vsock(version, detail, warned):
    """Docker before 23.0 does not refuse AF_VSOCK; of another engine, or an unknown version, nothing is claimed."""
    said = doctor._way_out(Engine(name="docker", version=version, detail=detail))

    assert ("AF_VSOCK" in said, "update Docker to 23.0" in said) == (warned, warned)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, b'[{"x": 1}]'),
        ({}, b"[]"),
        ({"x-edgefleet-table": "\xb2"}, b"[]"),
        ({"x-edgefleet-table": "1"}, b'["\xff"]'),
    ],
)
def test_another_program_at_the_gateways_address_is_no_gateway(state, capsys, monkeypatch, fields, body):
    """Doctor says so, whatever it answers, and the agent takes it for none that has moved the traffic."""
    monkeypatch.setattr(Healthy, "fields", fields)
    monkeypatch.setattr(Healthy, "body", body)
    with occupied(state), served(Server, ("127.0.0.1", 0)) as (_, port):
        monkeypatch.setenv("EDGEFLEET_AGENT_GATEWAY_ADDRESS", f"127.0.0.1:{port}")
        main(["doctor", "--json"])
        found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert not found["gateway"]["ok"]
    assert "is not the gateway" in found["gateway"]["found"]
