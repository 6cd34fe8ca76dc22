"""Where a scoring server on this machine has its socket."""

import socket
import tempfile
from pathlib import Path

import pytest

from fleet.client.local.socket_folder import socket_folder


@pytest.mark.parametrize("length", [1, 120], ids=["short", "long"])
def test_a_socket_fits_however_long_the_path_of_passing_files_is(tmp_path, monkeypatch, length):
    """A CI system's own TMPDIR may be longer than a socket's address."""
    usual = tmp_path / ("a" * length)
    usual.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(usual))

    with socket_folder() as folder, socket.socket(socket.AF_UNIX) as one:
        one.bind(str(Path(folder, "s.sock")))

    assert not Path(folder).exists()
