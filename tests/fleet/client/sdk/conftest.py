"""An engineer whose fleet server is the one that scripts find, in a folder of their own."""

import json

import pytest

from fleet.client.sdk import Workspace


@pytest.fixture
def logged_in(user, tmp_path, monkeypatch):
    """Logged in, with the team's key named in the environment, in an empty folder."""
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGEFLEET_TEAM", "acme")
    monkeypatch.setenv("EDGEFLEET_KEYS", str(user.keys))
    monkeypatch.chdir(tmp_path)
    return user


@pytest.fixture
def ws(logged_in, tmp_path):
    """The workspace of Azure ML's own configuration file."""
    (tmp_path / "config.json").write_text(
        json.dumps({"subscription_id": "0-1", "resource_group": "group", "workspace_name": "theirs"})
    )
    return Workspace.from_config()


@pytest.fixture
def pickled(tmp_path):
    """A file that only a script opens."""
    file = tmp_path / "sklearn_model.pkl"
    file.write_bytes(b"\x80\x04K*.")
    return file
