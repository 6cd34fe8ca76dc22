"""The folder of a module's socket is the module's for one bind, and holds nothing else afterwards."""

import os
import socket
import stat
import tracemalloc
from pathlib import Path

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


@pytest.mark.parametrize("remove", ["seal", "clear"])
def test_folders_within_folders_have_no_depth_that_cannot_be_removed(place, remove):
    """Deeper than any path is long, than a program may call itself, and than it may have files open."""
    before = os.open(".", os.O_RDONLY)
    os.chdir(place)
    try:
        for _ in range(3000):
            Path("d").mkdir()
            os.chdir("d")
            Path("beside").mkdir()
    finally:
        os.fchdir(before)
        os.close(before)
    if remove == "seal":
        with pytest.raises(OverLimit, match="'d'"):
            socket_folder.seal(place)
        assert [path.name for path in place.iterdir()] == ["s.sock"]
    else:
        socket_folder.clear(place)
        assert not place.exists()


def test_many_files_cost_no_memory(place):
    """Names in thousands are removed as they are read, and a few of them are told."""
    at = os.open(place, os.O_RDONLY)
    for number in range(50_000):
        os.mknod(f"{'x' * 200}{number}", dir_fd=at)
    os.close(at)
    tracemalloc.start()
    try:
        with pytest.raises(OverLimit):
            socket_folder.seal(place)
        socket_folder.clear(place)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert not place.exists()


def test_a_module_that_goes_on_writing_keeps_nobody_removing(place, monkeypatch):
    """The folder of a module that still runs is emptied for a few seconds, and the rest when it has ended."""
    (place / "own").mkdir()
    for number in range(1000):
        (place / "own" / str(number)).touch()
    monkeypatch.setattr(socket_folder, "_SEALS_WITHIN_S", 0.0)
    with pytest.raises(OverLimit, match="'own'"):
        socket_folder.seal(place)
    socket_folder.clear(place)
    assert not place.exists()


def test_what_cannot_be_removed_holds_up_nothing(place, monkeypatch, caplog):
    """A folder that only the module's user may empty stays, and the operator is told; the slot goes on."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "deep")

    with monkeypatch.context() as patched:
        patched.setattr(socket_folder.os, "unlink", refuse)
        socket_folder.clear(place)

    assert "remove it as root" in caplog.text
