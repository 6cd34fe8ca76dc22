"""The device's memory survives what it must, and tells plainly when it cannot be used."""

import os
import sqlite3
from contextlib import closing

import pytest

from agent.slots import Placed
from agent.store import Store
from modules.errors import BadSettings, NoSpace
from modules.protocol.phases import Phase
from modules.protocol.report import Reason, Refusal
from modules.trust.device import RoleMark
from tests.doubles.release import make
from tests.doubles.rows import slot_row

RELEASE = make()


@pytest.fixture
def store(tmp_path):
    one = Store(tmp_path)
    yield one
    one.close()


def again(store, folder):
    store.close()
    return Store(folder)


def test_writes_are_synced(store):
    """Each transaction is on the disk before it returns, and only the agent's user may read it."""
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store._path.stat().st_mode & 0o777 == 0o600


def test_everything_is_there_after_a_restart(tmp_path):
    """Slots, numbers, documents, failures, marks and refusals come back as they were."""
    one = Store(tmp_path)
    row = one.save(slot_row(RELEASE.wanted()))
    one.raise_number("order", 7)
    one.keep_document("order", b"x")
    one.remember_failed(RELEASE.digest, Reason("not-ready", "no"), 5.0)
    one.keep({"root": RoleMark(3, ("a", "b"))})
    one.refuse(Refusal(what="order", reason=Reason("invalid", "no"), at=1.0))
    one = again(one, tmp_path)

    assert one.slots() == (row,)
    assert one.slot("main") == row
    assert one.number("order") == 7
    assert one.document("order") == b"x"
    assert one.failed(RELEASE.digest) == Reason("not-ready", "no")
    assert one.marks() == {"root": RoleMark(3, ("a", "b"))}
    assert [refusal.what for refusal in one.refusals()] == ["order"]
    one.close()


def test_what_is_forgotten_is_gone(store):
    """Slots, documents and waived failures leave nothing behind."""
    store.save(slot_row(RELEASE.wanted()))
    store.keep_document("d", b"x")
    store.remember_failed(RELEASE.digest, Reason("a", "b"), 1.0)
    store.forget("main")
    store.drop_document("d")
    store.waive(RELEASE.digest)

    assert (store.slot("main"), store.document("d"), store.failed(RELEASE.digest)) == (None, None, None)


def test_numbers_never_go_back(store):
    """A lower number is ignored, and a count gives each number once."""
    store.raise_number("n", 5)
    store.raise_number("n", 3)

    assert store.number("n") == 5
    assert [store.count("n") for _ in range(3)] == [6, 7, 8]
    assert store.number("never") == 0


def test_a_transaction_is_all_or_nothing(store):
    """If anything inside fails, nothing of it is kept, inner blocks included."""

    def fail():
        with store.together():
            store.raise_number("a", 1)
            with store.together():
                store.keep_document("b", b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (store.number("a"), store.document("b")) == (0, None)
    store.raise_number("a", 2)
    assert store.number("a") == 2


def test_a_full_disk_keeps_what_was_there(store):
    """A write that finds no room says so, and the old content stays."""
    store.keep_document("d", b"old")
    store._db.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size instead, so it cannot grow
    with pytest.raises(NoSpace, match="full"):
        store.keep_document("d", b"new" * 100_000)

    assert store.document("d") == b"old"


def test_a_newer_agents_database_is_refused(store, tmp_path):
    """An agent that was rolled back does not misread what a newer one wrote."""
    store._db.execute("PRAGMA user_version = 3")

    with pytest.raises(BadSettings, match="newer agent"):
        Store(tmp_path)


def committed(store):
    """A store with a module that serves, content that failed, and numbers."""
    wanted = make("acme/digits:1").wanted()
    placed = Placed(wanted=wanted, instance="main-1", socket="/s", provider="CPUExecutionProvider", since=5.0)
    store.save(slot_row(make("acme/digits:2").wanted(), phase=Phase.FETCHING, current=placed))
    store.remember_failed(make("acme/digits:3").digest, Reason("wrong-answer", "7"), 1.0)
    store.raise_number("counter dev key", 9)
    store.count("report")
    store.count("instance")
    store.keep({"timestamp": RoleMark(4, ("k",))})
    return placed


def damage(path):
    path.write_bytes(b"this is no database" * 100)


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def foreign(path):
    """Another program's, as large as ours."""
    path.unlink()
    changed("CREATE TABLE t (x)", "INSERT INTO t VALUES (zeroblob(100000))")(path)


def folder(path):
    path.unlink()
    (path / "x").mkdir(parents=True)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def older(path):
    """A copy from before the numbers had grown to what was kept; so it is, too, where the journal was lost."""
    changed("UPDATE numbers SET value = 8 WHERE name = 'counter dev key'")(path)


def changed(*statements):
    """What a bad sector, or a person, can do within a file that SQLite finds in order."""

    def change(path):
        with closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return change


LOST = {
    "damaged": damage,
    "cut": cut,
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "another program's": foreign,
    "another program's of our version": lambda path: (foreign(path), changed("PRAGMA user_version = 2")(path)),
    "of no version": changed("PRAGMA user_version = -1"),
    "of version 1, they say": changed("PRAGMA user_version = 1"),
    "a folder": folder,
    "a pipe": pipe,
    "an older one": older,
    "without a table": changed("DROP TABLE numbers"),
    "a target that no JSON is": changed("UPDATE targets SET target = x'00'"),
    "a target that is gone": changed("DELETE FROM targets"),
    "a module without its name": changed("UPDATE slots SET current = x'7b7d'"),
    "a reason in no known letters": changed("UPDATE failed SET reason = x'7b22636f6465223a22ff227d'"),
    "a refusal that is none": changed("INSERT INTO refusals VALUES (1, x'5b5d')"),
    "an epoch in no known letters": changed("UPDATE documents SET bytes = x'ff' WHERE name = 'epoch'"),
    "an epoch that is none": changed("UPDATE documents SET bytes = x'6162' WHERE name = 'epoch'"),
    "a number without end": changed("UPDATE numbers SET value = 9e999"),
    "a number out of bounds": changed("UPDATE numbers SET value = 1e300"),
}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
def test_a_lost_database_is_made_anew_from_what_is_kept_beside_it(tmp_path, lose):
    """What serves, what failed here and what may not go back are known again; numbers begin a new epoch."""
    store = Store(tmp_path)
    placed = committed(store)
    before = store.epoch
    store.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"agent.db{suffix}").unlink(missing_ok=True)
    lose(tmp_path / "agent.db")

    store = Store(tmp_path)
    [slot] = store.slots()
    assert (slot.phase, slot.wanted, slot.current) == (Phase.COMMITTED, placed.wanted, placed)
    assert store.failed(make("acme/digits:3").digest) == Reason("wrong-answer", "7")
    assert store.number("counter dev key") == 9
    assert store.marks() == {"timestamp": RoleMark(4, ("k",))}
    assert store.count("instance") == 2
    assert store.count("report") == 1
    assert len(store.epoch) == 16
    assert store.epoch != before
    store.close()


def test_an_epoch_lasts_as_long_as_its_database(store, tmp_path):
    """A restart of the agent begins no new one."""
    again = Store(tmp_path)
    assert again.epoch == store.epoch
    again.close()


def test_damaged_databases_are_set_aside_and_few(tmp_path):
    """Whoever wants to look at one finds it; a disk that damages one after the other does not fill up."""
    for number in range(5):
        Store(tmp_path).close()
        (tmp_path / "agent.db").write_bytes(b"damaged %d" % number * 100)
    folder(tmp_path / "agent.db")
    Store(tmp_path).close()
    folder(tmp_path / "agent.db")
    Store(tmp_path).close()

    aside = sorted(path.name for path in tmp_path.glob("agent.db.damaged-*"))
    assert aside == ["agent.db.damaged-1", "agent.db.damaged-2", "agent.db.damaged-3"]


@pytest.mark.parametrize("kept", [b"", b"{", b'{"numbers": {"\xff": 1}}', b"[" * 100_000, b'{"slots": [{}]}'])
def test_without_what_is_kept_a_new_database_is_empty(tmp_path, kept):
    """A file beside it that is damaged, too, is no reason not to start."""
    (tmp_path / "agent.kept.json").write_bytes(kept)
    store = Store(tmp_path)
    assert store.slots() == ()
    store.close()


def test_a_database_that_another_program_holds_is_waited_for(store, tmp_path):
    """Nothing is done from a copy meanwhile, whose numbers would be given twice; the operator is told what to do."""
    store.keep_document("d", b"x")
    store.close()
    connect = sqlite3.connect
    with closing(connect(tmp_path / "agent.db", isolation_level=None)) as other, pytest.MonkeyPatch.context() as quick:
        quick.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, timeout=0.1, **more))
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BadSettings, match=r"another program holds .*end that program"):
            Store(tmp_path)
    again = Store(tmp_path)
    assert again.document("d") == b"x"
    again.close()


def test_a_write_that_another_program_holds_up_names_no_full_disk(store, tmp_path):
    """What to do about it is said of what really is in the way."""
    store._db.execute("PRAGMA busy_timeout = 100")
    with closing(sqlite3.connect(tmp_path / "agent.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NoSpace, match="end the program that holds"):
            store.keep_document("d", b"x")


def test_a_database_that_cannot_be_written_is_looked_after_in_memory(tmp_path, monkeypatch):
    """On a read-only disk what serves is known and supervised; nothing is written, and the file stays as it is."""
    store = Store(tmp_path)
    placed = committed(store)
    store.close()
    before = (tmp_path / "agent.db").read_bytes()
    connect = sqlite3.connect

    class ReadOnly(sqlite3.Connection):
        def execute(self, statement, *more):
            if statement.startswith("PRAGMA journal_mode"):
                raise sqlite3.OperationalError("attempt to write a readonly database")
            return super().execute(statement, *more)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, factory=ReadOnly, **more))
    store = Store(tmp_path)
    assert store.slots()[0].current == placed
    store.save(store.slots()[0].with_(restarts=1))
    assert store.slots()[0].upkeep.restarts == 1
    store.close()

    assert (tmp_path / "agent.db").read_bytes() == before


def test_a_first_start_without_a_disk_to_write_to_is_told(tmp_path, monkeypatch):
    """Where no database was ever made there is nothing to look after: the operator is told what to do."""

    class Refusing(sqlite3.Connection):
        def execute(self, *_):
            raise sqlite3.OperationalError("unable to open database file")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, factory=Refusing, **more))
    with pytest.raises(NoSpace, match="a disk to write to"):
        Store(tmp_path)


def test_refusals_are_kept_once_and_few(store):
    """The same refusal is recorded once; of many, the newest twenty."""
    for number in range(30):
        store.refuse(Refusal(what=f"order {number}", reason=Reason("invalid", "no"), at=float(number)))
        store.refuse(Refusal(what=f"order {number}", reason=Reason("invalid", "no"), at=float(number) + 0.5))

    assert [one.what for one in store.refusals()] == [f"order {number}" for number in range(10, 30)]
