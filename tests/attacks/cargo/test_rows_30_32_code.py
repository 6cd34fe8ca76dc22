"""Rows 30 to 32: files that are programs, programs that want out, and images that are not the signed ones."""

import io
import json
import os
import pickle
import socket
import zipfile
from contextlib import suppress

import docker.errors
import numpy as np
import pytest

from modules.manifest import Needs
from tests.attacks.cargo.escape import SCRIPT
from tests.parts.on_device import OnDevice
from tests.parts.programs import CommandFailed

pytestmark = pytest.mark.long

SLOT = "probe"
REFUSED = {"EPERM", "EACCES", "EROFS", "ENOENT", "ENOSYS", "EINVAL", "ENODEV", "EIO"}


class Runs:
    """A pickle of this makes a file where it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def object_npy(path):
    out = io.BytesIO()
    np.save(out, np.array([Runs(path)], dtype=object), allow_pickle=True)
    return out.getvalue()


def torch_zip(path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Runs(path)))
    return out.getvalue()


FILES = {
    "model.pkl": lambda path: pickle.dumps(Runs(path)),
    "model.joblib": lambda path: pickle.dumps(Runs(path)),
    "model.onnx": lambda path: pickle.dumps(Runs(path)),
    "model.pt": torch_zip,
    "model.npy": object_npy,
}


@pytest.mark.parametrize("name", FILES)
def test_row_30_a_file_that_is_a_program_is_not_opened_at_registration(edge, tmp_path, name):
    """Pickle, joblib, PyTorch's archive, an array of objects, and a pickle that is called a graph: refused in words,
    not run, and nothing reaches the server."""
    path, ran = tmp_path / name, tmp_path / "ran"
    path.write_bytes(FILES[name](ran))
    before = edge.system.api("modules")
    with pytest.raises(CommandFailed) as failed:
        edge.system.register(
            path, "program", "--prove", "ready-only" if name.endswith(("onnx", "pt", "npy")) else "samples"
        )
    assert failed.value.code == 1
    assert not ran.exists()
    assert edge.system.api("modules") == before
    edge.holds()


def test_row_30_a_pickle_that_was_signed_as_a_graph_does_not_run_on_the_device(edge, hold):
    """A publisher who skips that check: ONNX Runtime refuses the file, nothing opens it as a pickle, it is reverted."""
    ran = edge.outside / "ran"
    end = hold.brought("evil", hold.graph("pickle", pickle.dumps(Runs(ran))))

    assert (end.phase, end.code) == ("reverted", "not-ready"), end
    assert not ran.exists()
    edge.holds()
    hold.empty("evil")
    edge.holds()


@pytest.fixture(scope="module")
def escaped(edge, hold):
    """What a signed entry script of this device found, asked by an application through the gateway."""
    files = {"model/object.npy": object_npy("/tmp/ran")}
    opaque = ("model/nothing.txt", "model/object.npy")
    ref = hold.script("probe", SCRIPT, files, opaque_files=opaque, needs=Needs(memory_mb=512))
    end = hold.brought(SLOT, ref)
    assert (end.phase, end.code) == ("committed", ""), end
    device: OnDevice = edge.device
    row = device.slot("digits")
    question = {
        "x": "escape",
        "paths": [str(device.state / "identity" / "device.json"), str(device.state / "agent.db"), "/host/etc/shadow"],
        "sockets": [row.current.socket, device.engine],
        "net": {
            "gateway": ["127.0.0.1", device.port],
            "broker": ["127.0.0.1", edge.system.broker.device_port],
            "host": [_own_address(), device.port],
            "engine's bridge": ["172.17.0.1", 80],
            "metadata": ["169.254.169.254", 80],
        },
    }
    got = device.score(SLOT, json.dumps(question).encode())
    yield got.document
    hold.empty(SLOT)


def _own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # sends nothing
            return one.getsockname()[0]
        except OSError:
            return "172.17.0.1"


def test_row_30_an_array_of_objects_is_refused_by_numpy(edge, escaped):
    """A script may list opaque files, and opens them at its own risk: np.load does not run them by itself."""
    assert escaped["npy"] == "ValueError"
    edge.holds()


def test_row_31_an_entry_script_gets_out_nowhere(edge, hold, escaped):
    """It changes no file but its own scratch, reads none of the device's, reaches no network and no socket of another,
    gets no right that it has not, and its forks end at the limit; the device's other module does not notice."""
    assert set(escaped["files"].values()) <= REFUSED, escaped["files"]
    assert set(escaped["read"].values()) <= REFUSED, escaped["read"]
    assert escaped["sockets"] == []
    assert "worked" not in escaped["net"].values(), escaped["net"]
    assert escaped["raw"] == "EPERM"
    assert set(escaped["calls"].values()) <= REFUSED, escaped["calls"]
    assert 0 not in escaped["user"]
    assert set(escaped["capabilities"]) == {0}
    assert (escaped["no_new_privileges"], escaped["seccomp"]) == ("1", "2")
    assert escaped["setuid_programs"] == ""
    assert escaped["others"] == []
    assert escaped["forks"][0] < 1024
    assert escaped["forks"][1] == "EAGAIN"
    # The folder of its socket, and what Docker writes for every container, which root owns.
    files = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    assert set(escaped["from_the_host"]) <= {"/run/edgefleet"} | files
    assert escaped["secrets"] == []

    with edge.device.containers() as containers:
        (container,) = [one for one in containers if one.labels["edgefleet.slot"] == SLOT]
        host = container.attrs["HostConfig"]
        assert (host["NetworkMode"], host["Privileged"], host["ReadonlyRootfs"]) == ("none", False, True)
        assert host["CapDrop"] == ["ALL"]
        assert 0 < host["PidsLimit"] <= 1024
        assert 0 < host["Memory"] == host["MemorySwap"]
    assert edge.device.score(SLOT, b'{"x": 1}').document == {"ok": 1}
    edge.holds()


def test_row_32_another_image_under_our_name_is_never_started(edge, engine):
    """Whoever has the engine gives our image's names to another one, and ends the container: what is started again is
    the signed image, by its id, and the module answers as before."""
    with edge.device.containers() as containers:
        (container,) = [one for one in containers if one.labels["edgefleet.slot"] == edge.slot]
    signed = container.image.id
    # Of this device alone: others on this engine have names of their own.
    own = f"edgefleet.local/{container.labels['edgefleet.installation']}:"
    ours = [tag for tag in engine.images.get(signed).tags if tag.startswith(own)]
    assert ours
    other = engine.images.get("python:3.11-slim")
    assert other.id != signed
    try:
        for tag in ours:
            other.tag(*tag.rsplit(":", 1))
        container.kill()
        edge.device.until(lambda: _serves_again(edge, container.id), "it is started again", within_s=60)
        with edge.device.containers() as containers:
            (again,) = [one for one in containers if one.labels["edgefleet.slot"] == edge.slot]
        assert (again.image.id, again.attrs["Image"]) == (signed, signed)
        edge.device.until(lambda: (edge.told(edge.slot) or {}).get("current", {}).get("state") == "up", "it is up")
        edge.holds(restarted=True)
        edge.mark()
    finally:
        for tag in ours:
            with suppress(docker.errors.APIError):
                engine.images.get(signed).tag(*tag.rsplit(":", 1))


def _serves_again(edge, before):
    with edge.device.containers() as containers:
        running = [one for one in containers if one.labels["edgefleet.slot"] == edge.slot and one.status == "running"]
    return [one for one in running if one.id != before] and edge.device.score(
        edge.slot, edge.question.body
    ).status == 200
