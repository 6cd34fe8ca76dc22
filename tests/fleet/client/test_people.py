"""Operators, tokens and logging in with a password, by the command on a real server."""

import json

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app

GIVEN, CHOSEN = "EDGEFLEET_PASSWORD", "EDGEFLEET_NEW_PASSWORD"
PASSWORD = "turquoise walrus 7 lantern"


@pytest.fixture
def log_in(server, tmp_path, monkeypatch):
    """Logs in as an operator, in a home of their own."""

    def invoke(name, password, *, new="", code=0):
        home = tmp_path / name
        monkeypatch.setenv("EDGEFLEET_HOME", str(home))
        monkeypatch.setenv(GIVEN, password)
        monkeypatch.setenv(CHOSEN, new)
        words = ["login", server.url, "--user", name, "--ca", str(server.data.ca), "--json"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) | {"file": home / "config.json"}

    return invoke


def test_a_new_operator_chooses_a_password_and_gets_a_token_for_this_machine(run, log_in):
    """The random password is changed first; the token is in a file of mode 0600, and the password nowhere."""
    made = run("operators", "add", "bert", "operator", "--selector", "site=berlin")
    assert made["must_change_password"]

    done = log_in("bert", made["password_once"], new=PASSWORD)

    assert done["name"].startswith("bert (token login-")
    assert done["file"].stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in done["file"].read_text()
    # Another log-in here takes the first one's place.
    log_in("bert", PASSWORD)
    held = json.loads(CliRunner().invoke(app, ["tokens", "list", "--json"]).stdout)
    assert [one["revoked"] is None for one in held] == [False, True]
    refused = CliRunner().invoke(app, ["operators", "list"])
    assert refused.exit_code == 1
    assert "user:read" in refused.stderr


def test_a_password_that_is_too_weak_or_wrong_leaves_nothing(run, log_in):
    """The refusal says why; no file is written."""
    made = run("operators", "add", "carl", "viewer")
    refused = log_in("carl", made["password_once"], new="password1234", code=1)
    assert "not good enough" in refused["error"]["message"]
    assert not refused["file"].exists()
    refused = log_in("carl", "not the password", code=1)
    assert refused["error"]["message"] == "no operator has this name and password"


def test_operators_are_listed_changed_and_disabled(run):
    """What each command answers; an unknown role is refused with the list."""
    run("operators", "add", "dora", "viewer", "releaser", "--team", "acme")
    assert run("operators", "roles", "dora", "operator")["roles"] == [{"role": "operator"} | BOUNDLESS]
    assert "releaser" in run("operators", "roles", "dora", "boss", code=1)["error"]["remedy"]
    assert run("operators", "disable", "dora")["disabled"] is not None
    assert run("operators", "enable", "dora")["disabled"] is None
    assert len(run("operators", "reset-password", "dora")["password_once"]) == 27
    assert "dora" in {one["name"] for one in run("operators", "list")}
    assert run("operators", "add", "emil", "viewer", "--sso")["password_once"] == ""


def test_a_ci_has_a_token_of_its_own(run, server, monkeypatch):
    """It publishes for one team and ends with what was said; revoked, it holds no more."""
    made = run("tokens", "create", "ci", "--role", "releaser", "--team", "acme", "--expires", "24h")
    (listed,) = [one for one in run("tokens", "list") if one["name"] == "ci"]
    assert listed["expires"] - listed["created"] == 86400
    assert listed["roles"] == [{"role": "releaser", "selector": "*", "teams": ["acme"]}]
    assert run("tokens", "create", "ci", code=1)["error"]["code"] == "conflict"
    assert "--role" in run("tokens", "create", "x", "--team", "acme", code=1)["error"]["remedy"]
    with server.client(made["token"]) as http:
        assert http.get("/api/v1/modules").status_code == 200
        assert http.post("/api/v1/models/other/m/versions").status_code == 404
        assert run("tokens", "revoke", "ci")["revoked"] == [made["id"]]
        assert http.get("/api/v1/modules").status_code == 401


BOUNDLESS = {"selector": "*", "teams": None}
