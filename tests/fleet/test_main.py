"""The server's own commands and settings."""

import os
import sqlite3
import subprocess
import sys

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from fleet import authority, setup, tokens
from fleet import folder as folder_module
from fleet.__main__ import main
from fleet.db import Database
from fleet.folder import Folder
from fleet.settings import Settings
from modules.errors import BadSettings
from tests.parts.pace import stretched
from tests.parts.warm import ROOT


def test_init_makes_a_folder_that_only_its_owner_reads(tmp_path, capsys):
    """Folder 0700, every key and the token 0600; the token is printed once and never stored in clear."""
    assert main(["init", "--data", str(tmp_path / "data"), "--name", "fleet.example"]) == 0
    folder = Folder(tmp_path / "data")
    token = folder.operator_token.read_text().strip()
    assert token in capsys.readouterr().out
    assert token.startswith("eft_")
    assert folder.root.stat().st_mode & 0o777 == 0o700
    secrets = [*folder.root.glob("*.key"), folder.operator_token, folder.database]
    assert len(secrets) == 10
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)


def test_init_never_overwrites_a_fleet(tmp_path, capsys):
    """The second init is refused, and the CA stays what it was."""
    command = ["init", "--data", str(tmp_path / "data")]
    assert main(command) == 0
    before = Folder(tmp_path / "data").ca.read_bytes()
    assert main(command) == 1
    assert "was made before" in capsys.readouterr().err
    assert Folder(tmp_path / "data").ca.read_bytes() == before


# The mark, ten secrets and keys, the database's tables, and at last, when all is there, the folder's names.
STEPS = 13


class Cut(BaseException):
    """The power goes."""


@pytest.mark.parametrize(
    "step", [one if one % 4 == 0 else pytest.param(one, marks=pytest.mark.long) for one in range(STEPS)]
)
def test_an_init_that_breaks_off_is_begun_anew(tmp_path, capsys, monkeypatch, step):
    """Wherever the power goes, no command takes the half for a fleet, each says what to do, and the next init makes a
    whole one; what else lies in the folder stays."""
    command, folder = ["init", "--data", str(tmp_path / "data")], Folder(tmp_path / "data")
    folder.root.mkdir()
    (folder.root / "notes").write_text("ours")
    happened = []

    def counted(work):
        def step_of(*arguments, **named):
            if len(happened) == step:
                raise Cut
            happened.append(work)
            return work(*arguments, **named)

        return step_of

    with monkeypatch.context() as power:
        power.setattr(authority, "write_secret", counted(folder_module.write_secret))
        power.setattr(setup, "write_secret", counted(folder_module.write_secret))
        power.setattr(Database, "migrate", counted(Database.migrate))
        power.setattr(tokens, "create", counted(tokens.create))
        power.setattr(setup, "sync_folder", counted(folder_module.sync_folder))
        with pytest.raises(Cut):
            main(command)
    if 0 < step < STEPS - 1:
        assert main(["token", "--data", str(folder.root)]) == 1
        assert "run init again" in capsys.readouterr().err
    assert main(command) == (1 if step == STEPS - 1 else 0)
    assert main(["token", "--data", str(folder.root)]) == 0
    assert main(command) == 1
    assert "was made before" in capsys.readouterr().err
    assert (folder.root / "notes").read_text() == "ours"


def test_a_token_that_could_not_be_kept_is_not_shown(tmp_path, capsys, monkeypatch):
    """Nobody copies a token that the server will not know."""
    main(["init", "--data", str(tmp_path / "data")])
    capsys.readouterr()

    def full(*_):
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(Connection, "_commit_impl", full)
    assert main(["token", "--data", str(tmp_path / "data")]) == 1
    assert "eft_" not in capsys.readouterr().out


def test_token_makes_another_token(tmp_path, capsys):
    """For a second operator or a CI job."""
    main(["init", "--data", str(tmp_path / "data")])
    capsys.readouterr()
    assert main(["token", "--data", str(tmp_path / "data"), "--days", "7"]) == 0
    assert capsys.readouterr().out.startswith("eft_")


def test_broker_config_writes_what_mosquitto_starts_with(tmp_path, capsys):
    """The operator is told the command."""
    main(["init", "--data", str(tmp_path / "data")])
    assert main(["broker-config", "--data", str(tmp_path / "data"), str(tmp_path / "broker"), "--listen", "::1"]) == 0
    assert f"mosquitto -c {tmp_path / 'broker' / 'mosquitto.conf'}" in capsys.readouterr().out
    assert "listener 8883 ::1" in (tmp_path / "broker" / "mosquitto.conf").read_text()


@pytest.mark.parametrize("command", [["token"], ["broker-config", "x"]])
def test_a_command_without_a_fleet_says_what_to_do(tmp_path, capsys, command):
    """No traceback: the missing folder, and the command that makes it."""
    assert main([*command, "--data", str(tmp_path / "none")]) == 1
    assert "init" in capsys.readouterr().err


def test_serving_without_a_fleet_ends_with_the_reason(tmp_path):
    """The server does not start half."""
    command = [sys.executable, "-m", "fleet", "serve", "--data", str(tmp_path / "none"), "--port", "0"]
    ended = subprocess.run(
        command, check=False, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=stretched(60)
    )
    assert ended.returncode != 0
    assert "there is no fleet here" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_come_from_the_environment_and_have_bounds(monkeypatch):
    """EDGEFLEET_FLEET_ names; nonsense is refused at start."""
    monkeypatch.setenv("EDGEFLEET_FLEET_BROKER_HOST", "broker.example")
    assert Settings().broker_host == "broker.example"
    monkeypatch.setenv("EDGEFLEET_FLEET_BROKER_PORT", "70000")
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://localhost:8443"),
        ({"tls": False, "host": "10.0.0.1", "port": 80}, "http://10.0.0.1:80"),
        ({"host": "::1", "port": 8443}, "https://[::1]:8443"),
        ({"host": "::"}, "https://localhost:8443"),
        ({"public_url": "https://fleet.example/"}, "https://fleet.example"),
    ],
)
def test_the_address_that_devices_are_given(given, url):
    """Derived from host and port, unless a public one is set."""
    assert Settings(**given).url == url


def test_a_secret_may_be_a_file_instead_of_a_variable(tmp_path, monkeypatch):
    """In the folder that the environment names a setting may lie; the environment wins, and a wrong folder is said."""
    monkeypatch.setenv("EDGEFLEET_FLEET_SECRETS_DIR", str(tmp_path))
    (tmp_path / "edgefleet_fleet_database").write_text("postgresql://fleet:spring-water@db/fleet\n")
    (tmp_path / "edgefleet_fleet_broker_host").write_text("of-the-file\n")
    monkeypatch.setenv("EDGEFLEET_FLEET_BROKER_HOST", "of-the-environment")
    settings = Settings(port=1)
    assert settings.database.get_secret_value() == "postgresql://fleet:spring-water@db/fleet"
    assert (settings.broker_host, settings.port) == ("of-the-environment", 1)
    monkeypatch.setenv("EDGEFLEET_FLEET_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(BadSettings, match="no such folder"):
        Settings()


def test_init_that_is_asked_once_leaves_a_fleet_as_it_is(tmp_path, capsys):
    """What starts containers runs it each time: the first makes the fleet and shows no secret, the next does nothing;
    what broke off before is begun anew."""
    folder, password = Folder(tmp_path / "data"), tmp_path / "password"
    command = ["init", "--once", "--data", str(folder.root), "--password-file", str(password)]
    folder.root.mkdir()
    for half in (folder.unfinished, folder.ca):
        half.write_bytes(b"")
    assert main(command) == 0
    said, before = capsys.readouterr().out, folder.ca.read_bytes()
    assert before
    assert password.stat().st_mode & 0o777 == 0o600
    assert password.read_text().strip() not in said
    assert folder.operator_token.read_text().strip() not in said
    assert main(command) == 0
    assert "was made before" in capsys.readouterr().out
    assert folder.ca.read_bytes() == before
