"""Which server a script means: Azure ML's file, ours, or the login; and what it says where none is known."""

import json

import pytest

from fleet.client.sdk import Workspace
from fleet.client.sdk.exceptions import WorkspaceException
from modules.errors import EdgefleetError


def write(file, **content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def test_azure_mls_own_file_names_the_workspace_and_the_login_its_server(ws, server):
    """Their config.json is enough: name and group are kept, the address is that of the login."""
    assert (ws.name, ws.resource_group, ws.subscription_id) == ("theirs", "group", "0-1")
    assert ws.location == server.url


@pytest.mark.parametrize("place", ["config.json", ".azureml/config.json", "aml_config/config.json", "ws_config.json"])
def test_the_file_is_found_above_the_script(logged_in, tmp_path, monkeypatch, place):
    """As theirs: here, in the two folders of theirs, and in every folder above."""
    write(tmp_path / place, workspace_name="found")
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")

    assert Workspace.from_config().name == "found"


def test_without_a_file_the_login_is_the_workspace(logged_in, server):
    """A script needs no file where its user has logged in."""
    assert Workspace.from_config().location == server.url
    assert Workspace.get("mine", subscription_id="s", resource_group="g").name == "mine"
    assert Workspace("s", "g", "mine").resource_group == "g"


def test_a_file_of_ours_has_all_that_is_needed(server, user, tmp_path, monkeypatch):
    """Address, token, CA, team and key: no login, as on a build machine."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_bytes(server.data.ca.read_bytes())
    file = write(
        tmp_path / "ws_config.json", url=server.url, token=server.token, ca="ca.pem", team="acme", keys=[str(user.keys)]
    )

    assert Workspace.from_config(file).models == {}
    assert Workspace.from_config(tmp_path).named_team() == "acme"


def test_a_logins_token_is_never_sent_to_an_address_from_a_file(logged_in, tmp_path):
    """A file that brings an address without a token is refused, and nothing is asked there."""
    file = write(tmp_path / "ws_config.json", url="https://elsewhere.example", workspace_name="x")

    with pytest.raises(WorkspaceException, match="an address without a token"):
        Workspace.from_config(file)


def test_somebody_elses_config_json_is_passed_over(logged_in, tmp_path, server):
    """A file of that name that says nothing of a workspace is not ours to complain of, unless it is named."""
    file = write(tmp_path / "config.json", debug=True)

    assert Workspace.from_config().location == server.url
    with pytest.raises(WorkspaceException, match="debug"):
        Workspace.from_config(file)


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    """No login, and a file that is not there: which one, and what to do."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(WorkspaceException) as nobody:
        Workspace.from_config()
    with pytest.raises(WorkspaceException) as lost:
        Workspace.from_config("no/such.json")
    assert "edgefleet login" in nobody.value.remedy
    assert lost.value.element == "no/such.json"
    assert isinstance(lost.value, EdgefleetError)


def test_a_workspace_is_written_without_its_token(ws, server, tmp_path):
    """What write_config leaves beside a script is read again, and holds no secret."""
    ws.write_config(tmp_path / "new")

    written = (tmp_path / "new/.azureml/config.json").read_text()
    assert server.token not in written
    assert Workspace.from_config(tmp_path / "new").name == "theirs"
