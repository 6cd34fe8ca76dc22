"""What somebody brought to the server is signed by whoever has the key, byte for byte, or not at all."""

import pytest

from fleet.client.api import Fleet
from fleet.client.publishing import uploads
from modules.digests import sha256
from modules.errors import Untrusted


@pytest.fixture
def upload(run, linear_file):
    return run("uploads", "send", linear_file, "--team", "acme")


def test_an_upload_becomes_a_signed_module_of_the_same_bytes(run, upload, linear_file, user):
    """The command that the console shows, and what came of it; nobody has the file on this machine."""
    assert [one["digest"] for one in run("uploads", "list")["uploads"]] == [upload["digest"]]
    linear_file.unlink()
    done = run(
        *("models", "register", "--upload", upload["digest"], "--name", "brought", "--team", "acme"),
        *("--keys", user.keys, "--engine", "process"),
    )
    assert done["state"] == "signed"
    files = run("models", "show", done["ref"])["manifest"]["files"]
    assert {one["path"]: one["sha256"] for one in files}["model/linear.onnx"] == upload["digest"]
    run("uploads", "remove", upload["digest"], "--team", "acme")
    assert run("uploads", "list")["uploads"] == []
    assert run("modules", "verify", done["ref"])["own_files"] == "the same"


def test_other_bytes_than_were_uploaded_are_neither_kept_nor_signed(run, upload, tmp_path, user, monkeypatch):
    """A server that changes a file on its way is caught by the digest in the command."""
    good = Fleet.get_bytes
    monkeypatch.setattr(Fleet, "get_bytes", lambda self, path: (one[:-1] + b"!" for one in good(self, path)))
    words = ("--team", "acme")
    refused = run("uploads", "fetch", upload["digest"], *words, "--to", tmp_path / "got", code=1)
    assert refused["error"]["code"] == "untrusted"
    assert list((tmp_path / "got").iterdir()) == []
    register = ("models", "register", "--upload", upload["digest"], "--name", "changed", "--keys", user.keys)
    assert run(*register, *words, "--engine", "process", code=1)["error"]["code"] == "untrusted"
    assert [one["ref"] for one in run("modules", "list") if "changed" in one["ref"]] == []


def test_a_module_without_the_uploaded_bytes_is_not_signed(run, draft, fleet):
    """Whatever a packer left out."""
    manifest = run("models", "show", draft("without"))["manifest"]

    class Packed:
        files = tuple(type("File", (), one) for one in manifest["files"])

    uploads.expect_in(Packed, [manifest["files"][0]["sha256"]])
    with pytest.raises(Untrusted):
        uploads.expect_in(Packed, [sha256(b"other")])
