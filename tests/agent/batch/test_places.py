"""The owner's list of folders: what a name leads to, and that nothing else is reached."""

import os
import stat

import pytest

from agent import socket_folder
from agent.batch import places
from agent.settings import load
from modules.errors import BadSettings, Invalid, NeedsOperator

SIZE = 64 << 10


@pytest.fixture
def device(tmp_path):
    """Settings with two places for inputs and one for answers; the agent's own folders beside them."""
    for name in ("state", "run", "pictures", "answers"):
        (tmp_path / name).mkdir()

    def settings(**more):
        given = {
            "state": tmp_path / "state",
            "runtime": tmp_path / "run",
            "batch_inputs": f"pictures={tmp_path}/pictures,gone={tmp_path}/nowhere",
            "batch_outputs": f"answers={tmp_path}/answers",
        } | more
        return load(environ={f"EDGEFLEET_AGENT_{name.upper()}": str(value) for name, value in given.items()})

    settings.folder = tmp_path
    return settings


def test_a_name_leads_to_its_folder(device):
    """And a link in the owner's own setting is his affair."""
    (device.folder / "link").symlink_to(device.folder / "pictures")
    expected = (device.folder / "pictures", device.folder / "answers")
    assert places.allowed(device(), "pictures", "answers") == expected
    linked = device(batch_inputs=f"pictures={device.folder}/link")
    assert places.allowed(linked, "pictures", "answers") == expected


@pytest.mark.parametrize("name", ["answers", "other", "..", "../state", "/etc", "pictures/..", ""])
def test_no_other_name_leads_anywhere(device, name):
    """Not a path, nor a folder of the other kind."""
    with pytest.raises(Invalid, match="has given no folder this name"):
        places.allowed(device(), name, "answers")
    with pytest.raises(Invalid, match="has given no folder this name"):
        places.allowed(device(), "pictures", name.replace("answers", "pictures"))


def test_a_folder_that_is_not_there_is_waited_for(device):
    """A disk that is not mounted yet."""
    with pytest.raises(NeedsOperator, match="cannot be used: No such file"):
        places.allowed(device(), "gone", "answers")
    (device.folder / "nowhere").write_text("a file")
    with pytest.raises(NeedsOperator, match="it is no folder"):
        places.allowed(device(), "gone", "answers")


@pytest.mark.parametrize("place", ["state", "state/identity", "run", "", "link"])
def test_the_agents_own_files_are_no_place(device, place):
    """Neither they nor what has them in it, whoever's mistake that was."""
    (device.folder / "state/identity").mkdir()
    (device.folder / "link").symlink_to(device.folder / "state")
    settings = device(batch_inputs=f"pictures={device.folder}/{place}")
    with pytest.raises(BadSettings, match="the agent's own files"):
        places.allowed(settings, "pictures", "answers")


def test_answers_are_not_among_the_inputs(device):
    """Else each run would find more of them."""
    (device.folder / "pictures/answers").mkdir()
    settings = device(batch_outputs=f"answers={device.folder}/pictures/answers")
    with pytest.raises(BadSettings, match="among the inputs"):
        places.allowed(settings, "pictures", "answers")


@pytest.mark.parametrize("entry", ["/srv", "a=b", "A=/srv", "a=", "a/b=/srv", "a=/s\nrv", "=/srv"])
def test_what_names_no_folder_is_refused_when_the_agent_starts(device, entry):
    """An entry is a name and an absolute path."""
    with pytest.raises(BadSettings, match="batch_inputs"):
        device(batch_inputs=entry)


def test_a_job_gets_a_folder_of_its_own(device):
    """Open to the group of its container; made once, and mended where somebody closed it."""
    place = device.folder / "answers"
    folder = places.answers(place, "night", os.getgid())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2775
    folder.chmod(0o700)
    assert places.answers(place, "night", os.getgid()) == folder
    assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_gid) == (0o2775, os.getgid())


def test_what_has_the_jobs_name_already_is_not_followed(device):
    """A link there would have a container write where it leads."""
    place, elsewhere = device.folder / "answers", device.folder / "state"
    (place / "night").symlink_to(elsewhere)
    (place / "file").write_text("")
    before = elsewhere.stat().st_mode
    for name in ("night", "file"):
        with pytest.raises(NeedsOperator, match="cannot be made"):
            places.answers(place, name, os.getgid())
    assert elsewhere.stat().st_mode == before


def test_what_a_job_has_written_is_measured(tmp_path):
    """Its files and folders; not what a link leads to, and not the holes of a file."""
    (tmp_path / "deep/deeper").mkdir(parents=True)
    (tmp_path / "deep/deeper/file").write_bytes(b"x" * SIZE)
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    assert not places.taken(tmp_path, 4 * SIZE)
    assert places.taken(tmp_path, SIZE - 1)
    assert not places.taken(tmp_path / "nowhere", 0)


def test_thousands_of_files_are_no_answers(tmp_path, monkeypatch):
    """A module that makes them is up to something else."""
    monkeypatch.setattr(places, "_MOST_FILES", 5)
    for number in range(5):
        (tmp_path / f"{number}").touch()
    assert not places.taken(tmp_path, SIZE)
    (tmp_path / "one-more").touch()
    assert places.taken(tmp_path, SIZE)


def test_folders_within_folders_without_an_end_are_no_answers(tmp_path):
    """A module can nest them deeper than a path can be; looking at it takes no more for that."""
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    made = [top]
    for _ in range(2500):
        os.mkdir("aa", dir_fd=made[-1])
        made.append(os.open("aa", os.O_RDONLY | os.O_DIRECTORY, dir_fd=made[-1]))
        if len(made) > 2:
            os.close(made.pop(-2))
    for one in made:
        os.close(one)
    try:
        assert places.taken(tmp_path, 1 << 40)
    finally:
        socket_folder.clear(tmp_path)  # which pytest could not
