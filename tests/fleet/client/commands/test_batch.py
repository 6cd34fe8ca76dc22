"""``edgefleet batch start``: what is wrong with its secrets is said before anything is sent."""

import pytest
from typer.testing import CliRunner

from fleet.client.commands import batch
from modules.errors import BadSettings, Invalid

START = ["start", "night", "--module", "acme/reader:1", "--inputs", "in", "--outputs", "out"]


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["--target", "lab", "--secret", "token"], Invalid, "with the file that has it"),
        (["--target", "lab", "--secret", "=FILE"], Invalid, "with the file that has it"),
        (["--target", "lab", "--secret", "token=FILE", "--secret", "token=FILE"], Invalid, "each secret once"),
        (["--target", "lab", "--secret", "token=FILE.not"], BadSettings, "cannot be read"),
        (["--device", "cam-1", "--secret", "token=FILE"], Invalid, "the secrets of the slot"),
        (["--selector", "site=oslo", "--secret", "token=FILE"], Invalid, "the secrets of the slot"),
    ],
    ids=["no file", "no name", "twice", "no such file", "a device", "many devices"],
)
def test_a_secret_is_a_name_and_a_file_for_a_target(home, tmp_path, words, kind, said):
    """The value is never a word of the command line; a device has those of its slot."""
    file = tmp_path / "token"
    file.write_text("planted")
    done = CliRunner().invoke(batch.app, START + [word.replace("FILE", str(file)) for word in words])
    assert isinstance(done.exception, kind)
    assert said in str(done.exception)
    assert "planted" not in str(done.exception) + done.output
