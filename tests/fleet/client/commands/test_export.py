"""``edgefleet export``: a SQLite file, through a real server, whole or not there."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, select
from typer.testing import CliRunner

from fleet.client import config, fleet_file
from fleet.client.cli import app
from fleet.client.fleet_views import VIEWS
from fleet.db import Database
from fleet.export.columns import TABLES
from fleet.tables import devices, events, history, members, rollouts, telemetry, telemetry_history
from modules.digests import sha256
from modules.names import DeviceId, Digest, Slug
from modules.protocol.report import Health, Reason, Report, Running, SlotReport
from modules.protocol.telemetry import Sample, Telemetry
from tests.house.tree import ROOT
from tests.parts.pace import stretched

DIGEST = Digest(sha256(b"manifest"))
DAY = 86400


@pytest.fixture(scope="module")
def server(server):
    """A fleet of five devices at two sites, one of them silent, and a rollout that failed at one."""
    fill(server.data.database, [f"dev-{number}" for number in range(5)])
    return server


def fill(path, names):
    """Devices with labels and reports, members of rollout 1, straight into the database."""
    database = Database.at(path)
    now = 1.8e9
    with database.write() as connection:
        if not connection.execute(select(rollouts.c.id)).first():
            plain = {"plan": b"[]", "policy": b'{"preset":"all-at-once"}', "document": b"{}", "waive": False}
            row = {"id": 1, "module": "acme/digits:2", "slot": "digits", "state": "failed", "wave": 1, "waves": 1}
            connection.execute(insert(rollouts).values(**row, **plain, misfits=[], created=now))
            connection.execute(insert(history).values(rollout=1, at=now, what="started"))
            connection.execute(insert(events).values(at=now, kind="forged-message", device="nobody", message="<b>"))
        connection.execute(insert(devices), [device(name, number, now) for number, name in enumerate(names)])
        connection.execute(insert(telemetry), [measured(name, number, now) for number, name in enumerate(names)])
        history_rows = [measured(name, number, now, old=True) for name in names for number in range(3)]
        connection.execute(insert(telemetry_history), history_rows)
        connection.execute(insert(members), [member(name, number) for number, name in enumerate(names)])
    database.close()


def device(name, number, now):
    slot = SlotReport(
        slot=Slug("digits"),
        phase="reverted" if number == 0 else "committed",
        module="acme/digits:2",
        digest=DIGEST,
        reason=Reason("health-failed", "wrong") if number == 0 else None,
        serving=Running(module=f"acme/digits:{1 if number == 0 else 2}", digest=DIGEST),
        current=Health(state="up"),
    )
    report = Report(device=DeviceId(name), number=1, issued=now, order=1, agent="1.2", slots=(slot,))
    return {
        "id": name,
        "labels": {"site": "berlin" if number % 2 else "essen"},
        "certificate": "",
        "public_key": "",
        "enrolled": now,
        "online": number > 1,
        "boot": 1,
        "last_seen": now if number == 1 else 1e11,
        "facts_number": 0,
        "report_number": 1,
        "report": msgspec.json.encode(report),
        "order_counter": 0,
        "order_published": 0,
    }


def measured(name, number, now, *, old=False):
    samples = tuple(
        Sample(at=1.8e9 + 1800 * sample, figures={"cpu_percent": float(number + sample), "disk_free_mb": 5.0})
        for sample in range(3)
    )
    said = Telemetry(device=DeviceId(name), stream="host", number=1, issued=now, samples=samples)
    row = {"device": name, "stream": "host", "received": now, "document": msgspec.json.encode(said)}
    return row if old else row | {"number": 1, "day": 0, "day_bytes": 0}


def member(name, number):
    told = {"standing": "failed" if number == 0 else "succeeded", "phase": "reverted" if number == 0 else "committed"}
    why = {"reason": {"code": "health-failed", "message": "wrong"}} if number == 0 else {}
    detail = {"slot": "digits", "phase": "x", "module": "acme/digits:2", "digest": DIGEST} | why
    place = {"rollout": 1, "device": name, "slot": "digits", "digest": DIGEST, "wave": 1, "current": True}
    return place | told | {"detail": msgspec.json.encode(detail)}


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture
def ask():
    """Opens an export and asks it; rows by name."""
    with contextlib.ExitStack() as stack:

        def answer(file, sql):
            connection = stack.enter_context(contextlib.closing(sqlite3.connect(file)))
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

        yield answer


@pytest.fixture
def file(run, tmp_path):
    run("export", tmp_path / "fleet.db")
    return tmp_path / "fleet.db"


def test_the_summary_counts_what_is_in_the_file(run, tmp_path, ask):
    """With --json one document says how many rows each table has, and which views there are."""
    said = run("export", tmp_path / "fleet.db")

    assert set(said["rows"]) == {table.name for table in TABLES}
    for name, count in said["rows"].items():
        assert ask(said["file"], f'SELECT count(*) AS n FROM "{name}"') == [{"n": count}]
    assert (said["rows"]["devices"], said["rows"]["members"]) == (5, 5)
    assert said["bytes"] == (tmp_path / "fleet.db").stat().st_size
    assert said["views"] == [view.name for view in VIEWS]
    assert names(tmp_path) == ["fleet.db"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_as_documented(file, ask, table):
    """Columns, types, key, foreign keys and indexes of each table are those of docs/export.md."""
    columns = ask(file, f'PRAGMA table_info("{table.name}")')
    assert [(one["name"], one["type"]) for one in columns] == [(one.name, one.type) for one in table.columns]
    assert [one["name"] for one in sorted(columns, key=lambda one: one["pk"]) if one["pk"]] == list(table.key)
    leads = {(one["from"], one["table"], one["to"]) for one in ask(file, f'PRAGMA foreign_key_list("{table.name}")')}
    assert leads == {(one.name, one.references, "id") for one in table.columns if one.references}
    indexed = {table.key[0]} | {
        ask(file, f'PRAGMA index_info("{one["name"]}")')[0]["name"]
        for one in ask(file, f'PRAGMA index_list("{table.name}")')
    }
    assert {one.name for one in table.columns if one.index} <= indexed


def test_what_a_row_refers_to_is_there(file, ask):
    """No row refers to a device or rollout that the file has not got, and SQLite finds nothing broken."""
    assert ask(file, "PRAGMA foreign_key_check") == []
    assert ask(file, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_the_usual_questions_are_views(file, ask):
    """What runs where, versions by site, failures by reason, progress, and who is silent."""
    assert [one["runs"] for one in ask(file, "SELECT * FROM runs WHERE device = 'dev-0'")] == ["acme/digits:1"]
    assert [tuple(one.values()) for one in ask(file, "SELECT * FROM versions_by_site ORDER BY 1, 3")] == [
        ("berlin", "digits", "acme/digits:2", 2, 2),
        ("essen", "digits", "acme/digits:1", 1, 1),
        ("essen", "digits", "acme/digits:2", 2, 2),
    ]
    assert [tuple(one.values()) for one in ask(file, "SELECT * FROM failures_by_reason")] == [
        (1, "acme/digits:2", "health-failed", "wrong", 1)
    ]
    [progress] = ask(file, "SELECT * FROM rollout_progress")
    assert (progress["devices"], progress["succeeded"], progress["failed"], progress["percent"]) == (5, 4, 1, 80.0)


def test_a_device_is_silent_after_a_day(file, ask):
    """Counted from when the file was written, so an old file says the same as on its day."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE export SET at = '2027-01-16T08:00:00.000Z'")
        connection.execute("UPDATE devices SET last_seen = '2027-01-15T08:00:00.000Z' WHERE id = 'dev-1'")
        connection.execute("UPDATE devices SET last_seen = '2027-01-15T08:00:01.000Z' WHERE id <> 'dev-1'")
    assert ask(file, "SELECT * FROM silent_devices") == [
        {"device": "dev-1", "last_seen": "2027-01-15T08:00:00.000Z", "days": 1.0}
    ]


def test_figures_are_answered_by_views(file, ask):
    """The newest of each machine side by side, and each figure hour by hour."""
    machines = ask(file, "SELECT * FROM machines")
    assert [(one["device"], one["cpu_percent"], one["disk_free_mb"]) for one in machines] == [
        (f"dev-{number}", number + 2.0, 5.0) for number in range(5)
    ]
    hours = ask(file, "SELECT * FROM telemetry_by_hour WHERE device = 'dev-1' AND figure = 'cpu_percent'")
    assert [(one["hour"], one["samples"], one["least"], one["mean"], one["most"]) for one in hours] == [
        ("2027-01-15T08:00:00.000Z", 6, 0.0, 1.5, 3.0),
        ("2027-01-15T09:00:00.000Z", 3, 2.0, 3.0, 4.0),
    ]


def test_what_is_too_much_can_be_left_out(run, tmp_path, ask):
    """A fleet's history of telemetry may be larger than all else: its table is there, and empty."""
    said = run("export", tmp_path / "small.db", "--without", "telemetry_history")
    assert said["rows"]["telemetry_history"] == 0
    assert said["rows"]["telemetry"] > 0
    assert ask(tmp_path / "small.db", "SELECT * FROM telemetry_by_hour") == []
    refused = run("export", tmp_path / "none.db", "--without", "weather", code=1)["error"]
    assert "there is no table weather" in refused["message"]
    assert "telemetry_history" in refused["remedy"]


def test_a_file_that_is_there_is_kept(run, file):
    """It is refused, and unchanged; --replace writes over it."""
    file.write_bytes(b"mine")

    assert "there already" in run("export", file, code=1)["error"]["message"]
    assert file.read_bytes() == b"mine"
    run("export", file, "--replace")
    assert file.read_bytes().startswith(b"SQLite format 3")


def test_a_file_that_appears_meanwhile_is_kept(run, tmp_path, monkeypatch):
    """Somebody else's file that came while the rows were fetched is not lost."""
    file = tmp_path / "fleet.db"
    fill_it = fleet_file._fill

    def slowly(*parts):
        file.write_bytes(b"mine")
        return fill_it(*parts)

    monkeypatch.setattr(fleet_file, "_fill", slowly)
    assert "there already" in run("export", file, code=1)["error"]["message"]
    assert file.read_bytes() == b"mine"
    assert names(tmp_path) == ["fleet.db"]


def test_a_folder_that_is_not_there_is_said(run, tmp_path):
    """The error names the file."""
    error = run("export", tmp_path / "none/fleet.db", code=1)["error"]
    assert (error["code"], error["element"]) == ("bad-settings", str(tmp_path / "none/fleet.db"))


def test_an_export_that_breaks_off_leaves_what_was_there(run, file, monkeypatch):
    """A link that ends in the middle costs nothing: the old file stays, and no half one lies about."""
    before = file.read_bytes()
    known = fleet_file._known

    def broken(table, page):
        if table.name == "devices":
            raise OSError(5, "Input/output error", "the disk")
        return known(table, page)

    monkeypatch.setattr(fleet_file, "_known", broken)
    run("export", file, "--replace", code=1)
    assert file.read_bytes() == before
    assert names(file.parent) == [file.name]


def test_a_token_of_the_role_analyst_is_enough(server, tmp_path, monkeypatch):
    """It exports, and does nothing else."""
    words = [sys.executable, "-m", "fleet", "token", "--role", "analyst", "--data", str(server.data.root)]
    token = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=stretched(60)
    ).stdout.strip()
    with server.client(token) as http:
        assert http.get("/api/v1/export").status_code == 200
        answer = http.get("/api/v1/export/events")
        assert "forged-message" in [json.loads(line)["kind"] for line in answer.text.splitlines()]
        assert http.get("/api/v1/devices").status_code == 403


def test_the_package_that_is_missing_is_named(run, tmp_path, monkeypatch):
    """Where sqlite-utils is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, "sqlite_utils", None)
    assert "edgefleet[client,export]" in run("export", tmp_path / "fleet.db", code=1)["error"]["remedy"]


class Strange(BaseHTTPRequestHandler):
    """A server that describes whatever its class says."""

    described = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(self.described)))
        self.end_headers()
        self.wfile.write(self.described)

    def log_message(self, *_):
        pass


@pytest.fixture
def strange(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "home"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "table",
    [
        {"name": 'a" (x); DROP TABLE b; --', "key": ["id"], "columns": [{"name": "id", "type": "TEXT"}]},
        {"name": "a", "key": ["id"], "columns": [{"name": 'id" TEXT); --', "type": "TEXT"}]},
        {"name": "a", "key": ["id"], "columns": [{"name": "id", "type": "TEXT, x TEXT"}]},
        {"name": "a", "key": ["no"], "columns": [{"name": "id", "type": "TEXT"}]},
        {"name": "a", "key": [], "columns": [{"name": "id", "type": "TEXT"}]},
        {"name": "a", "key": ["id"], "columns": [{"name": "id", "type": "TEXT", "references": "b"}]},
    ],
)
def test_tables_that_are_none_are_refused(strange, tmp_path, monkeypatch, table):
    """Names that a server gives go into no statement before they were looked at."""
    monkeypatch.setattr(Strange, "described", msgspec.json.encode({"server": "1", "at": 1.0, "tables": [table]}))
    (tmp_path / "home").mkdir()
    config.save(config.Config(url=strange, token="t", ca=""))
    done = CliRunner().invoke(app, ["export", str(tmp_path / "fleet.db"), "--json"])
    assert json.loads(done.stdout)["error"]["code"] == "invalid"
    assert not (tmp_path / "fleet.db").exists()


def peak_kb(process):
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))


@pytest.mark.long
def test_ten_thousand_devices_stay_within_memory(server, user, run, tmp_path):
    """Server and command hold pages, never the fleet: ten thousand devices cost each some megabytes more than five."""

    def exported(name):
        words = [sys.executable, "-c", PEAK, "export", str(tmp_path / name), "--json"]
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=os.environ | user.environment,
            capture_output=True,
            text=True,
            timeout=stretched(110),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["rows"], int(done.stderr.split()[-1])

    _, small = exported("small.db")
    served = peak_kb(server.process)
    fill(server.data.database, [f"many-{number:05}" for number in range(10_000)])
    rows, large = exported("large.db")

    assert (rows["devices"], rows["reports"], rows["members"]) == (10_005, 10_005, 10_005)
    assert large - small < 24 << 10
    assert peak_kb(server.process) - served < 48 << 10


# Runs the command and says the most memory that it had, in KiB; what getrusage says counts the parent's, too.
PEAK = (
    "import re, sys\n"
    "from fleet.client.__main__ import main\n"
    "try:\n    code = main()\n"
    "except SystemExit as end:\n    code = end.code\n"
    "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)\n"
    "sys.exit(code)\n"
)
