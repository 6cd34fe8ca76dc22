"""``remove`` of every noun: what goes, what stays, and what is refused by name."""

import msgspec
import pytest
from typer.testing import CliRunner

from fleet.client.cli import app
from fleet.client.environments.environment import Environment
from fleet.client.workspace import Workspace
from modules import manifest as manifests
from modules.digests import measure_bytes
from modules.manifest import Image, Runtime
from modules.oci import blob_path
from tests.doubles.device import Device, join
from tests.doubles.publisher import checked, module


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in a workspace of its own; returns the exit code and all that it printed, on one line."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")

    def invoke(*words):
        done = CliRunner().invoke(app, words)
        return done.exit_code, " ".join(done.output.split())

    return invoke


@pytest.mark.needs("mosquitto")
def test_devices_and_modules_are_removed_by_command(fleet, run, tmp_path, monkeypatch):
    """Once; the second time there is none, and the events name who did it."""
    server, http, owner = fleet
    for name, value in (("URL", server.url), ("TOKEN", server.token), ("CA", server.data.ca)):
        monkeypatch.setenv(f"EDGEFLEET_{name}", str(value))
    checked(Device(tmp_path / "dev", join(http), "dev-command").enrol())
    manifest = owner.upload("command", {"model.onnx": b"a graph of its own"})
    owner.sign(manifest)
    packed = Workspace(tmp_path / "workspace").module(manifest.ref)
    packed.mkdir(parents=True)

    assert run("devices", "remove", "dev-command") == (
        0,
        "dev-command is removed; the broker refuses its certificate",
    )
    assert run("modules", "remove", str(manifest.ref)) == (0, f"{manifest.ref} is removed")
    for words in (("devices", "remove", "dev-command"), ("modules", "remove", str(manifest.ref))):
        code, said = run(*words)
        assert code == 1
        assert "there is no such" in said
    assert not packed.exists()
    assert http.head(f"/api/v1/blobs/{manifest.files[0].sha256}").status_code == 404
    said = {(one["kind"], one["by"]) for one in checked(http.get("/api/v1/events")).json()}
    assert {("device-removed", "token 1 (admin)"), ("module-removed", "token 1 (admin)")} <= said

    owner.sign(owner.upload("command", {"model.onnx": b"the next"}))  # the team's list still names the removed one


@pytest.mark.needs("mosquitto")
def test_a_device_is_revoked_by_command_and_its_page_says_so(fleet, run, tmp_path, monkeypatch):
    """The certificate and its dates are shown before, and afterwards what has to be done."""
    server, http, _ = fleet
    for name, value in (("URL", server.url), ("TOKEN", server.token), ("CA", server.data.ca)):
        monkeypatch.setenv(f"EDGEFLEET_{name}", str(value))
    checked(Device(tmp_path / "dev", join(http), "dev-taken").enrol())
    assert "renewal due" in run("devices", "show", "dev-taken")[1]
    code, said = run("devices", "revoke", "dev-taken")
    assert (code, "devices readmit dev-taken" in said) == (0, True)
    assert "it comes back by edgefleet devices readmit" in run("devices", "show", "dev-taken")[1]
    assert "nothing that somebody has to look at" in run("status")[1]


def image(workspace, name, *parts):
    """An image of the workspace, made of these bytes."""
    blobs = [measure_bytes(part) for part in parts]
    for blob, part in zip(blobs, parts, strict=True):
        blob_path(workspace.blobs, blob.sha256).write_bytes(part)
    made = Image(name=name, manifest=blobs[0], config=blobs[1], layers=tuple(blobs[2:]))
    workspace.keep_image(made)
    return made


def test_an_image_goes_with_the_blobs_that_no_other_has(run, tmp_path):
    """And not while a module that is packed here runs in it, which is named."""
    workspace = Workspace(tmp_path / "workspace")
    first = image(workspace, "first", b"m1", b"c1", b"shared", b"own")
    image(workspace, "second", b"m2", b"c2", b"shared")
    manifest = msgspec.structs.replace(module("acme", "packed", "1", {"a": b"a"}), runtimes=(Runtime(image=first),))
    folder = workspace.module(manifest.ref)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifests.encode(manifest))
    code, said = run("images", "remove", "first")
    assert code == 1
    assert "it is in use by acme/packed:1" in said
    assert len(workspace.images()) == 2

    workspace.forget_module(manifest.ref)
    assert run("images", "remove", "first") == (0, "first is removed from the workspace")
    assert [one.name for one in workspace.images()] == ["second"]
    kept = [
        blob_path(workspace.blobs, measure_bytes(part).sha256).exists() for part in (b"m1", b"c1", b"own", b"shared")
    ]
    assert kept == [False, False, False, True]
    assert run("images", "remove", "first")[0] == 1


def test_an_environment_is_forgotten(run, tmp_path):
    """Its folder goes; there is none to remove twice, and a name is never a way out of the folder."""
    (tmp_path / "requirements.txt").write_text("numpy\n")
    Environment.from_requirements("mine", tmp_path / "requirements.txt").keep()
    assert run("environments", "remove", "mine") == (0, "mine is removed")
    assert Environment.list_kept() == []
    for name in ("mine", "..", "../mine", ""):
        assert run("environments", "remove", name)[0] == 1
    assert tmp_path.exists()
