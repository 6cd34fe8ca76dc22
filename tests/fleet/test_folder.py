"""The server's folder: its secrets are for its own account, and outlast a power cut."""

import pytest

from fleet.folder import write_secret
from tests.doubles.disk import Disk


def test_a_secret_lasts_and_is_never_overwritten(tmp_path, monkeypatch):
    """What devices and publishers were told of a key holds only while the key is there: bytes and name are synced."""
    path, disk = tmp_path / "director.key", Disk(monkeypatch)
    write_secret(path, b"secret")

    assert disk.happened == [("sync", str(path)), ("sync", str(tmp_path))]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_secret(path, b"another")
    assert path.read_bytes() == b"secret"
