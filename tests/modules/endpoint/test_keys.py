"""The file with an endpoint's keys: read again when it changes, whatever somebody has made of it meanwhile."""

import os

import msgspec
import pytest

from modules.endpoint.keys import EndpointKeys
from modules.errors import BadSettings, Untrusted

OLD, NEW = "the key of before", "the key that is new"
NONSENSE = {
    "empty": b"",
    "other letters": '{"keys": ["ein Schlüssel für alle"]}'.encode("latin-1"),
    "another form of text": msgspec.json.encode({"keys": [NEW]}).decode().encode("utf-16"),
    "deep": b'{"keys": ' + b"[" * 100_000,
    "too short": msgspec.json.encode({"keys": ["short"]}),
}


def write(path, content):
    """A new file, as those who replace it whole make one."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.utime(beside, ns=(0, 1_000_000_000 * len(content)))
    beside.replace(path)


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_a_file_that_says_nothing_leaves_the_old_keys_in_force(tmp_path, content):
    """Whoever looks at it goes on looking: the next file that is good counts."""
    path = tmp_path / "keys.json"
    write(path, msgspec.json.encode({"keys": [OLD]}))
    keys = EndpointKeys(path)
    write(path, content)
    keys.refresh()
    keys.check(f"Bearer {OLD}".encode())

    write(path, msgspec.json.encode({"keys": [NEW]}))
    keys.refresh()
    keys.check(f"Bearer {NEW}".encode())
    with pytest.raises(Untrusted):
        keys.check(f"Bearer {OLD}".encode())


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_with_such_a_file_nothing_begins(tmp_path, content):
    """It is named, in a sentence."""
    path = tmp_path / "keys.json"
    write(path, content)
    with pytest.raises(BadSettings) as raised:
        EndpointKeys(path)
    assert raised.value.element == str(path)
