"""The agent's settings: defaults, file, environment, and refusals that name what is wrong."""

import re
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.settings import Settings, load
from modules.errors import BadSettings


def written(folder, text):
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold():
    """Nothing has to be configured."""
    settings = load(environ={})

    assert settings == Settings()
    assert settings.table == Path("/run/edgefleet/gateway/table.json")


def test_the_environment_overrides_the_file(tmp_path):
    """A variable wins over the file, and texts become numbers."""
    path = written(tmp_path, 'state = "/a"\nkeepalive_s = 60\npoll_s = 2.5\n')
    settings = load(path, environ={"EDGEFLEET_AGENT_KEEPALIVE_S": "90", "OTHER": "x"})

    assert (settings.state, settings.keepalive_s, settings.poll_s) == ("/a", 90, 2.5)


def test_the_environment_may_name_the_file(tmp_path):
    """EDGEFLEET_AGENT_CONFIG is read like --config."""
    path = written(tmp_path, 'runtime = "/r"\ngateway_table = "/t.json"\n')
    settings = load(environ={"EDGEFLEET_AGENT_CONFIG": str(path)})

    assert (settings.instances, settings.table) == (Path("/r/i"), Path("/t.json"))


def test_a_list_in_a_variable_is_joined_by_commas():
    """Patterns of fallback hosts can be given without a file."""
    settings = load(environ={"EDGEFLEET_AGENT_FALLBACK_HOSTS": "a.example, *.b.example"})

    assert settings.fallback_hosts == ("a.example", "*.b.example")


def test_folders_lie_below_the_state(tmp_path):
    """One folder survives restarts, and all that must survive is in it."""
    settings = load(environ={"EDGEFLEET_AGENT_STATE": str(tmp_path)})
    below = (settings.identity, settings.trust, settings.blobs, settings.modules)

    assert {path.parent for path in below} == {tmp_path}
    assert len(set(below)) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keepalive = 60", "keepalive"),
        ("keepalive_s = 1", "keepalive_s"),
        ("poll_s = 0", "poll_s"),
        ('log_level = "loud"', "debug.info.warning.error.*log_level"),
        ("keepalive_s = [", "agent.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, words):
    """An unknown name, a value out of bounds, and no TOML at all are refused, and the message says where."""
    with pytest.raises(BadSettings, match=words):
        load(written(tmp_path, text), environ={})


def test_a_wrong_level_in_a_variable_is_explained(monkeypatch, capsys):
    """The agent ends with a sentence and code 1, not with a traceback, before it has begun anything."""
    monkeypatch.setenv("EDGEFLEET_AGENT_LOG_LEVEL", "verbose")

    assert main(["run"]) == 1
    assert re.match(r"edgefleet-agent: .*log_level.*see edgefleet-agent settings", capsys.readouterr().err)


def test_a_level_may_be_in_capitals():
    """As people write them."""
    assert load(environ={"EDGEFLEET_AGENT_LOG_LEVEL": "DEBUG"}).log_level == "DEBUG"


def test_a_missing_file_that_was_named_is_refused(tmp_path):
    """A typing error in --config does not quietly mean the defaults."""
    with pytest.raises(BadSettings, match="name another"):
        load(tmp_path / "none.toml", environ={})
