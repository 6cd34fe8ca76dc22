"""A secret on its way from an operator to a container, a new version of it, and its end: nobody else ever has it."""

import base64
import json
import secrets
import tempfile
from contextlib import ExitStack

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from fleet.broker import tls_context
from modules.protocol.topics import Topics
from tests.parts import digits
from tests.parts.on_device import OnDevice

SLOT = "digits"
EXEC = {"stdout": True, "stderr": True}


@pytest.fixture
def edge(system):
    """A device whose runtime folder lies in memory, as /run does."""
    name = f"dev-secret-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, ExitStack() as stack:
        table = system.folder / name / "run" / "gateway" / "table.json"
        made = OnDevice(system, name, runtime=memory, gateway_table=str(table))
        stack.callback(made.close)
        made.enroll()
        made.start()
        yield made


@pytest.fixture
def heard(system):
    """Everything that passes the broker, as one string of bytes."""
    found = bytearray()
    data = system.data
    context = tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service))
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="tap-secrets")
    client.tls_set_context(context)
    client.on_message = lambda _client, _data, message: found.extend(message.payload)
    client.on_connect = lambda *_: client.subscribe(f"{Topics().prefix}/#")
    client.connect(system.broker.host, system.broker.service_port)
    client.loop_start()
    yield found
    client.disconnect()
    client.loop_stop()


def spellings(value):
    """As it is, and as JSON documents have bytes."""
    plain = value.encode()
    return [plain, plain[:18], base64.b64encode(plain)[:20], plain.hex().encode()]


def where(system, value):
    """Files of the server, the broker, the publisher and the device that have it, on their disks."""
    found = []
    for path in system.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [path for one in spellings(value) if one in data]
    return found


def inside(edge):
    """The file as the container reads it, with all that an engine's own user can see of the container."""
    with edge.containers() as running:
        [one] = [found for found in running if found.status == "running"]
        read = one.exec_run(["python", "-c", "print(open('/run/secrets/token').read(), end='')"])
        written = one.exec_run(["python", "-c", "open('/run/secrets/other', 'w')"])
        around = json.dumps(one.client.api.inspect_container(one.id)).encode() + one.logs()
        environment = one.exec_run(["python", "-c", "print(open('/proc/1/environ').read())"]).output
        return one.id, read.output.decode(), written.exit_code, around + environment


def test_a_secret_is_in_its_container_and_nowhere_else(system, edge, heard, tmp_path):
    """Set, ordered, read in the container, replaced without a restart, removed: it is in no database, blob, log, event,
    answer of the API, message at the broker, file of the device, variable, nor in what the engine shows."""
    values = [f"planted-{secrets.token_hex(16)}" for _ in range(2)]
    seen = []
    option = ("--secret", "token:file")
    ref = system.sign(system.register(digits.GRAPH, "with-secret", *digits.samples(tmp_path), *option))
    file = tmp_path / "token"

    def give(value):
        file.write_text(value)
        seen.append(
            json.dumps(system.cli("secrets", "set", "token", "--slot", SLOT, "--device", edge.name, "--file", file))
        )

    plan = json.dumps(system.cli("secrets", "list"))
    assert plan == "[]"
    give(values[0])
    rollout = system.start_rollout(ref, edge.name, slot=SLOT)
    assert system.ended(rollout, within_s=120, said=edge.said)["state"] == "done"
    container, read, written, around = inside(edge)
    assert read == values[0]
    assert written != 0
    seen.append(around.decode(errors="replace"))
    give(values[1])
    edge.until(lambda: inside(edge)[1] == values[1], "the container reads the new version")
    assert inside(edge)[0] == container
    asked = ("devices", f"devices/{edge.name}", "events", "secrets", "rollouts", f"rollouts/{rollout}", "modules")
    seen += [json.dumps(system.api(path)) for path in asked]
    with system.server.client() as http:
        seen += [http.get(f"/api/v1/export/{table}").text for table in ("devices", "reports", "events")]
        seen.append(http.get("/metrics").text)
    seen += [edge.command("status", "--json"), edge.said()]
    states = [one["devices"] for one in system.cli("secrets", "list")]
    assert states == [[{"device": edge.name, "state": "set", "version": 2}]]
    system.cli("devices", "empty", edge.name, SLOT)
    edge.until(lambda: edge.slot(SLOT) is None, "the slot is empty")
    system.cli("secrets", "remove", "token", "--slot", SLOT, "--device", edge.name)
    said = "".join(seen).encode() + bytes(heard)
    assert len(heard) > 0
    for value in values:
        assert [one for one in spellings(value) if one in said] == []
        assert where(system, value) == []
