"""Each state folder's own id: made once, kept beside the identity, and no obstacle when it is lost."""

from agent import installation
from agent.settings import Settings
from agent.store import Store


def at(folder) -> Settings:
    return Settings(state=str(folder))


def test_an_id_is_made_once_for_each_state_folder(tmp_path):
    """It is the same at each start, another one for another folder, and nobody else may read it or guess it."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    made = installation.ensure(at(tmp_path / "one"))

    assert installation.ensure(at(tmp_path / "one")) == made == installation.look(at(tmp_path / "one"))
    assert len(made.id) == 12
    assert made.modules == tmp_path / "one" / "modules"
    assert installation.ensure(at(tmp_path / "other")).id != made.id
    assert (tmp_path / "one" / "installation").stat().st_mode & 0o777 == 0o600


def test_it_outlives_the_database_and_the_identity(tmp_path):
    """A database made anew and a rejoin under another name leave it as it is."""
    Store(tmp_path).close()
    made = installation.ensure(at(tmp_path))
    for path in tmp_path.glob("agent.*"):
        path.unlink()
    Store(tmp_path).close()

    assert installation.ensure(at(tmp_path)) == made


def test_a_damaged_one_is_made_anew(tmp_path):
    """Whatever a bad disk left in the file."""
    for damage in (b"", b"\0" * 12, b"\xff\xfe", b"../../../etc", b"0123456789ABCDEF"):
        (tmp_path / "installation").write_bytes(damage)
        assert installation.look(at(tmp_path)).id == ""

        made = installation.ensure(at(tmp_path))

        assert installation.look(at(tmp_path)).id == made.id != ""


def test_a_disk_that_cannot_be_written_is_no_reason_to_stay_down(tmp_path, caplog):
    """The agent starts with an id for this run, and says so."""
    missing = at(tmp_path / "none")

    assert installation.ensure(missing).id
    assert installation.look(missing).id == ""
    assert "cannot be written" in caplog.text
