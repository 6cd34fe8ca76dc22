"""What ``edgefleet package`` refuses before it asks anybody: each option that cannot be, with what to write."""

import json

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app


@pytest.mark.parametrize(
    ("said", "element", "words"),
    [
        (("--generate-dockerfile",), "--generate-dockerfile", "add --output-path"),
        (("--trigger", "timer"), "--trigger", "http, folder, topic"),
        (("--from", "in/{name}.json"), "--from", "name its --trigger"),
        (("--trigger", "folder", "--broker", "mqtts://b"), "--broker", "name its --trigger"),
        (("--ic", "inferenceconfig.json", "--es", "score.py"), "--inference-config-file", "leave --es"),
        (("--ic", "inferenceconfig.json", "--cf", "conda.yml"), "--inference-config-file", "leave --es"),
        (("--sd", "source"), "--entry-script", "add --entry-script"),
        (("--cf", "conda.yml"), "--entry-script", "add --entry-script"),
        (("--es", "nowhere.py"), "", "nowhere.py"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(said, element, words, tmp_path, monkeypatch):
    """No server is known here: whoever got further would be told to log in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(app, ["package", "--model", "digits:1", *said, "--json"])
    assert done.exit_code == 1, done.output
    error = json.loads(done.stdout)["error"]
    assert "login" not in str(error), error
    assert element in error["element"], error
    assert words in str(error), error
