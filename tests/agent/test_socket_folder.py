"""The folder of a module's socket is the module's for one bind, and holds nothing else afterwards."""

import os
import socket
import stat

import pytest

from agent import socket_folder
from modules.errors import OverLimit


@pytest.fixture
def place(folder):
    """An open folder with the module's socket in it."""
    path = folder / "1"
    socket_folder.make(path, os.getgid())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "s.sock"))
        yield path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_sealed_folder_keeps_its_socket_and_takes_nothing_more(place):
    """Its group, which is the module's, may write until the module is ready and not afterwards."""
    assert mode(place) == 0o2770
    socket_folder.seal(place)

    assert mode(place) == 0o2750
    assert [path.name for path in place.iterdir()] == ["s.sock"]
    socket_folder.seal(place)


@pytest.mark.parametrize("what", ["file", "folder", "link", "fifo", "link to a folder"])
def test_what_else_is_in_it_is_removed_and_told(place, folder, what):
    """A module that leaves anything there has not proved itself; what a link points to is left alone."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    foreign = place / "x"
    {
        "file": lambda: foreign.write_bytes(b"x" * 1000),
        "folder": lambda: (foreign / "deep").mkdir(parents=True),
        "link": lambda: foreign.symlink_to(outside / "kept"),
        "link to a folder": lambda: foreign.symlink_to(outside),
        "fifo": lambda: os.mkfifo(foreign),
    }[what]()

    with pytest.raises(OverLimit, match="'x'"):
        socket_folder.seal(place)
    assert [path.name for path in place.iterdir()] == ["s.sock"]
    assert (outside / "kept").exists()


@pytest.mark.parametrize("instead", ["nothing", "file", "link"])
def test_what_is_not_a_socket_is_none(place, folder, instead):
    """A module that was ready and has put something else at the place of its socket fails."""
    (place / "s.sock").rename(folder / "away")
    if instead == "file":
        (place / "s.sock").touch()
    elif instead == "link":
        (place / "s.sock").symlink_to(folder / "away")

    with pytest.raises(OverLimit):
        socket_folder.seal(place)
    assert list(place.iterdir()) == []


def test_what_cannot_be_removed_holds_up_nothing(place, monkeypatch, caplog):
    """A folder that only the module's user may empty stays, and the operator is told; the slot goes on."""

    def refuse(_):
        raise PermissionError(13, "Permission denied", "deep")

    with monkeypatch.context() as patched:
        patched.setattr(socket_folder.shutil, "rmtree", refuse)
        socket_folder.clear(place)

    assert "remove it as root" in caplog.text
