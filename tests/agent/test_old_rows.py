"""A database of an older agent is brought up to date, whatever its slots were doing."""

import json
import sqlite3

import pytest

from agent import schema
from agent.store import Store
from modules.errors import BadSettings
from modules.protocol.phases import Phase
from tests.doubles.release import make

ONE, TWO = make("acme/digits:1").wanted(), make("acme/digits:2").wanted()
CLOUD = "https://cloud.example/a"


def wanted(of, fallback=None):
    return {"module": of.module, "digest": of.digest, "engine": "docker", "settings": {"a": 1}, "fallback": fallback}


def placed(of, **more):
    return {
        "wanted": wanted(of, **more),
        "instance": f"main-{of.module}",
        "socket": "/s",
        "provider": "P",
        "since": 5.0,
    }


def old(**values):
    """A row as version 1 wrote it: one document."""
    known = {"slot": "main", "wanted": wanted(TWO, CLOUD), "times": [["accepted", 1.0]], "since": 3.0, "attempts": 2}
    return known | {"reason": None, "restarts": 0, "restart_after": 0.0, "candidate": None, "current": None} | values


@pytest.fixture
def upgraded(tmp_path):
    """The store that opens a database of version 1 with these rows."""
    opened = []

    def upgrade(*rows):
        Store(tmp_path).close()
        db = sqlite3.connect(tmp_path / "agent.db", isolation_level=None)
        db.execute("INSERT INTO numbers VALUES ('order', 7)")
        db.execute("DROP TABLE slots")
        db.execute("DROP TABLE targets")
        db.execute("CREATE TABLE slots (slot TEXT PRIMARY KEY, row BLOB NOT NULL) STRICT")
        for row in rows:
            db.execute("INSERT INTO slots VALUES (?, ?)", (row["slot"], json.dumps(row).encode()))
        db.execute("PRAGMA user_version = 1")
        db.close()
        opened.append(Store(tmp_path))
        return opened[-1]

    yield upgrade
    for store in opened:
        store.close()


def test_a_slot_on_its_way_goes_on(upgraded):
    """Phase, waiting times, candidate and committed module are what they were; each has its own fallback."""
    row = old(phase="probation", candidate=placed(TWO, fallback=CLOUD), current=placed(ONE), previous=None, restarts=1)
    store = upgraded(row, old(slot="side", phase="fetching"))
    main, side = store.slots()

    assert (main.phase, main.target.since, main.target.attempts, main.upkeep.restarts) == (Phase.PROBATION, 3.0, 2, 1)
    assert main.wanted.settings == {"a": 1}
    assert (main.candidate.instance, main.current.instance, main.previous) == (
        f"main-{TWO.module}",
        f"main-{ONE.module}",
        None,
    )
    routings = [main.target.routing, main.candidate.routing, main.current.routing]
    assert [routing.fallback for routing in routings] == [CLOUD, CLOUD, None]
    assert (side.phase, side.current) == (Phase.FETCHING, None)
    assert store.number("order") == 7


def test_a_degraded_slot_is_a_committed_one_in_trouble(upgraded):
    """What was a phase is the committed module's own state now, and its reason is told on."""
    why = {"code": "not-ready", "message": "it ended"}
    (row,) = upgraded(old(phase="degraded", current=placed(TWO), restarts=9, reason=why)).slots()

    assert (row.phase, row.standing, row.upkeep.restarts) == (Phase.COMMITTED, Phase.DEGRADED, 9)
    assert (row.reason.code, row.target.reason) == ("not-ready", None)


def test_a_look_does_not_bring_it_up_to_date(upgraded, tmp_path):
    """Status and doctor read only: they say that the agent is to be started."""
    upgraded(old(phase="committed", current=placed(TWO))).close()
    db = sqlite3.connect(tmp_path / "agent.db")
    db.execute("PRAGMA user_version = 1")
    db.close()

    with pytest.raises(BadSettings, match="another version of the agent"):
        Store(tmp_path, read_only=True)


def test_a_crash_in_the_middle_leaves_the_old_rows(upgraded, tmp_path, monkeypatch):
    """The update is one transaction."""

    def dies(*_):
        raise KeyboardInterrupt

    row = old(phase="committed", current=placed(TWO))
    with monkeypatch.context() as broken:
        broken.setattr(schema, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            upgraded(row)
    (row,) = Store(tmp_path).slots()
    assert row.phase is Phase.COMMITTED
