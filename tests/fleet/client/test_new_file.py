"""A file that is written is a new one or replaces another, and is whole or not there."""

import pytest

from fleet.client.new_file import check_new, new_file, replace_file, write_new
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


def test_nothing_is_left_of_a_file_that_was_broken_off(tmp_path):
    """Ctrl-C in the middle: the same command can be given again, and what was there before is as it was."""
    kept = tmp_path / "kept"
    kept.write_bytes(b"before")

    def half():
        with new_file(tmp_path / "new") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    with pytest.raises(TypeError):
        replace_file(kept, None)

    assert list(tmp_path.iterdir()) == [kept]
    assert kept.read_bytes() == b"before"
