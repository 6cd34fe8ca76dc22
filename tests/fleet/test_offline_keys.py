"""The server beside offline keys: it does not start, and says which; what is not the owner's is no reason."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from fleet import offline_keys
from fleet.blobs import Blobs
from fleet.db import Database
from fleet.folder import Folder
from fleet.metadata import Metadata
from fleet.registry import Registry
from fleet.setup import initialise
from modules.names import Slug
from modules.signing import signer_from_pem
from tests.doubles.publisher import Publisher
from tests.parts.warm import ROOT


def pem(passphrase=None):
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A data folder, a home, and a working directory in which nothing lies."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    data = Folder(tmp_path / "data")
    initialise(data, lambda: datetime.now(UTC).timestamp())
    return data


def found(data):
    database = Database.at(data.database)
    try:
        with database.read() as connection:
            return offline_keys.readable(data, connection)
    finally:
        database.close()


def test_a_servers_own_keys_are_no_reason(place, tmp_path):
    """CA, certificates' and online keys belong there; a public half, a text and a foreign key are no danger either."""
    (tmp_path / "work/targets.pub").write_bytes(b"-----BEGIN PUBLIC KEY-----")
    (tmp_path / "work/team-acme.pem").write_text("not a key")
    (tmp_path / "work/other.pem").write_bytes(pem())
    assert found(place) == []


@pytest.mark.parametrize(
    "where",
    [
        "data/keys/root-1.pem",
        "data/targets.pem",
        "work/keys/team-acme.pem",
        "work/root-3.pem",
        "home/.config/edgefleet/keys/targets.pem",
        "home/edgefleet-keys/root-2.pem",
        "told/a/root-1.pem",
    ],
)
def test_offline_keys_are_found_by_their_names(place, tmp_path, where):
    """Encrypted or not: in the data folder, the working directory, the user's folders, and where keys init told."""
    place.offline_keys_at.write_text(f"{tmp_path / 'told'}\n")
    file = tmp_path / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pem("a passphrase of some length"))
    assert found(place) == [str(file)]


def test_an_unencrypted_key_is_found_by_its_id(place, tmp_path):
    """Under whatever name: the owner's metadata names it."""
    owner, data = Publisher(), pem()
    database = Database.at(place.database)
    blobs = Blobs(place.blobs)
    metadata = Metadata(database, blobs, Registry(blobs), place, lambda: datetime.now(UTC).timestamp())
    owner.targets_signer = signer_from_pem(data)
    owner.prepare(metadata.online_keys())
    first = {name: getattr(owner.founded, name) for name in ("root", "targets", "director")}
    metadata.bootstrap(**first, teams={Slug("acme"): owner.metadata})
    database.close()
    (tmp_path / "work/holiday.pem").write_bytes(data)
    assert found(place) == [str(tmp_path / "work/holiday.pem")]


def test_the_passphrase_in_the_environment_counts(place, monkeypatch):
    """Half of a key is too much."""
    monkeypatch.setenv("EDGEFLEET_PASSPHRASE", "five random words")
    assert found(place) == ["environment variable EDGEFLEET_PASSPHRASE"]


def test_a_link_and_an_endless_folder_lead_nowhere(place, tmp_path):
    """Links are not followed, and what lies too deep is not searched for."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far/root-1.pem").write_bytes(pem())
    (tmp_path / "work/keys").symlink_to(tmp_path / "far")
    deep = tmp_path / "work/a/b/c/d"
    deep.mkdir(parents=True)
    (deep / "root-1.pem").write_bytes(pem())
    assert found(place) == []


@pytest.mark.parametrize("demo", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_server_does_not_start_beside_them(place, tmp_path, demo):
    """It names the file and what to do, and ends; a demonstration goes on, and says what it is."""
    (tmp_path / "work/targets.pem").write_bytes(pem("a passphrase of some length"))
    more = ["--insecure-demo-keys"] if demo else []
    command = [sys.executable, "-m", "fleet", "serve", "--data", str(place.root), "--port", "0", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EDGEFLEET_FLEET_HOST": "127.0.0.1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "listens at" in line:
            process.terminate()
    process.wait(30)
    process.stderr.close()
    assert str(tmp_path / "work/targets.pem") in said
    if demo:
        assert "insecure demo keys" in said
    else:
        assert process.returncode == 1
        assert "this server can read offline keys" in said
        assert "--insecure-demo-keys" in said
        assert "Traceback" not in said
