"""An entry script with a binary input and a published model, from its package to a device's answers."""

import http.client
import sys
from pathlib import Path

import pytest

from modules.examples import digits, filetype
from modules.examples.filetype import fetch
from tests.parts.filetype import published

pytestmark = pytest.mark.long

SLOT = "filetype"
SOURCE = Path(filetype.__file__).parent / "source"
DIGITS = Path(digits.__file__).parent
# Files that exist on every machine that runs this, and what they are.
FILES = [
    ("python", Path(fetch.__file__)),
    ("python", SOURCE / "score.py"),
    ("onnx", DIGITS / "digits.onnx"),
    ("json", DIGITS / "accuracy.json"),
    ("elf", Path(sys.executable).resolve()),
]
# A body of the whole interpreter would be many megabytes; the script looks at the beginning and the end.
MOST = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The published model, fetched once."""
    return published(tmp_path_factory.mktemp("filetype"))


@pytest.fixture(scope="module")
def edge(system, shared_device, model, tmp_path_factory):
    """A device on which it is committed, proved with two samples of its own kind: raw bytes."""
    folder = tmp_path_factory.mktemp("samples")
    options = []
    for name, path in (("graph", DIGITS / "digits.onnx"), ("script", SOURCE / "score.py")):
        sample = folder / f"{name}.bin"
        sample.write_bytes(path.read_bytes())
        options += ["--sample", sample]
    options += ["--entry-script", "score.py", "--source-dir", SOURCE]
    ref = system.sign(system.register(model, "filetype", *options))
    made = shared_device("dev-filetype")
    rollout = system.ended(system.start_rollout(ref, made.name, slot=SLOT), said=made.said)
    assert (rollout["state"], rollout["devices"][0]["phase"]) == ("done", "committed")
    return made


@pytest.mark.parametrize(("label", "path"), FILES, ids=[path.name for _, path in FILES])
def test_it_names_what_real_files_are(edge, label, path):
    """The bytes of a file, posted to the gateway, come back as its kind, answered by the module in its container."""
    answer = edge.score(SLOT, path.read_bytes()[:MOST], "application/octet-stream")
    assert answer.document["label"] == label
    assert answer.headers["x-edgefleet-module"] == "acme/filetype:1"


def test_the_script_answers_for_itself(edge):
    """What the script refuses arrives as the script said it, through container, socket and gateway."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=30)
    connection.request("GET", f"/{SLOT}/score")
    response = connection.getresponse()
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert b"POST the bytes of a file" in response.read()
    connection.close()


def test_an_emptied_slot_is_empty(system, edge):
    """The operator empties the slot: the module stops, its address is gone, and the device forgets it."""
    system.cli("devices", "empty", edge.name, SLOT)

    edge.until(lambda: edge.slot(SLOT) is None, "the slot is forgotten")
    assert edge.score(SLOT, b"x", "application/octet-stream").status == 404
    with edge.containers() as found:
        assert not found
