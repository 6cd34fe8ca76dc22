"""The publisher's own disk takes no more: each command says so in words, and leaves no half of a file."""

import json
import os
import subprocess
import sys

import pytest

from tests.parts.pace import stretched

pytestmark = pytest.mark.long


@pytest.fixture
def on_a_full_disk(user):
    """Runs a command whose files may not grow, as on a full disk; its standard streams are pipes."""

    def told(*words):
        command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "fleet.client", *map(str, words)]

        # What measures the tests would write a file, too.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        environment = ours | user.environment | {"PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, "--json"], env=environment, capture_output=True, text=True, timeout=stretched(120), check=False
        )
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)["error"]

    return told


@pytest.mark.parametrize(
    "words", [("devices", "join", "--out", "join.json"), ("models", "download", "REF", "--to", ".")]
)
def test_a_file_that_cannot_be_written_is_told_with_what_to_do(on_a_full_disk, draft, tmp_path, words):
    """The error names the reason and what to do, and what was begun is not there."""
    ref = draft("full")
    target = tmp_path / "out"
    target.mkdir()
    places = {"join.json": target / "join.json", ".": target, "REF": ref}

    error = on_a_full_disk(*(places.get(word, word) for word in words))

    assert (error["code"], error["message"]) == ("no-space", "File too large")
    assert "make room" in error["remedy"]
    assert [path for path in target.rglob("*") if path.is_file()] == []
