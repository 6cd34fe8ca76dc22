"""A file for what a device sent is always a new one."""

import pytest

from fleet.client.new_file import check_new, write_new
from modules.errors import BadSettings


def test_what_came_there_meanwhile_is_not_touched(tmp_path):
    """Whether it is a file, or a link that somebody laid there while the device was asked."""
    file, link, victim = tmp_path / "file", tmp_path / "link", tmp_path / "victim"
    file.write_bytes(b"mine")
    link.symlink_to(victim)
    for place in (file, link):
        for refuses in (lambda place: write_new(place, b"theirs"), check_new):
            with pytest.raises(BadSettings, match="already"):
                refuses(place)
    assert file.read_bytes() == b"mine"
    assert not victim.exists()


def test_a_new_file_is_for_its_user_alone(tmp_path):
    write_new(tmp_path / "new", b"data")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").read_bytes() == b"data"
