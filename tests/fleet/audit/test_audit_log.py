"""What a server writes into its audit log, on both databases and through its real API."""

import asyncio
import shutil
import time

import httpx
import msgspec
import pytest
from sqlalchemy import delete, func, select, update

from fleet import tokens
from fleet.app import create_app
from fleet.audit import log
from fleet.audit.chain import Entry, verify
from fleet.audit.heads import Heads, audit_signer
from fleet.audit.middleware import LOOKS
from fleet.db import Database
from fleet.folder import Folder
from fleet.settings import Settings
from fleet.setup import new_online_key
from fleet.tables import audit, events
from tests.parts.mosquitto import free_port


def fill(database, count):
    for number in range(count):
        with database.write() as connection:
            log.add(connection, 1000.0 + number, by="ann", action="POST /x", target=f"/x/{number}", outcome=200)


def rows(database):
    with database.read() as connection:
        return log.page(connection, 0)


def heads(database, tmp_path):
    folder = Folder(tmp_path)
    return Heads(database, folder, time.time, audit_signer(folder, new_online_key()))


def test_what_was_written_fits(database, tmp_path):
    """Rows come back from the database as they were hashed, and a head covers them; of no rows there is none."""
    signed = heads(database, tmp_path)
    assert not signed.sign()
    fill(database, 5)

    assert signed.sign()
    assert not signed.sign()  # nothing new

    found = verify(rows(database), signed.all(), {signed.key.keyid: signed.key})
    assert (found.flaws, found.rows, found.proved) == ((), 5, 5)
    assert Folder(tmp_path).audit_heads.read_bytes().splitlines() == signed.all()


def test_foreign_words_do_not_break_it(database, tmp_path):
    """Control characters, long names and every kind of letter are kept in a form that fits, too."""
    with database.write() as connection:
        for said in ("\x1b[31m" + "x" * 5000, "ünï\u2028\x00", '"}\n{', "\ud800"):
            log.add(connection, time.time(), by=said, action=said, target=said, origin=said, code=said)

    assert verify(rows(database), [], {}).flaws == ()
    assert all(len(one.by) <= 300 and "\x1b" not in one.by for one in rows(database))
    assert msgspec.convert(msgspec.to_builtins(rows(database)), list[Entry]), "whoever reads the log can read it"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (update(audit).where(audit.c.id == 2).values(by="bob"), "edited"),
        (delete(audit).where(audit.c.id == 2), "missing"),
        (delete(audit).where(audit.c.id > 3), "cut"),
    ],
)
def test_whoever_writes_to_the_database_is_found(database, tmp_path, change, code):
    """A row that was changed, removed or cut off behind the server's back."""
    fill(database, 5)
    signed = heads(database, tmp_path)
    signed.sign()
    with database.write() as connection:
        connection.execute(change)

    found = verify(rows(database), signed.all(), {signed.key.keyid: signed.key})
    assert next(flaw.code for flaw in found.flaws) == code


def test_newest_are_found_by_who_and_what(database):
    """The list is filtered where the rows are; what is looked for is not a pattern."""
    with database.write() as connection:
        for by, action in (("ann", "POST /a"), ("bob", "POST /b"), ("ann", "DELETE /b%")):
            log.add(connection, 1.0, by=by, action=action)
    with database.read() as connection:
        assert [one.id for one in log.newest(connection, limit=10, by="ann")] == [3, 1]
        assert [one.id for one in log.newest(connection, limit=10, action="/b")] == [3, 2]
        assert [one.id for one in log.newest(connection, limit=10, action="%")] == [3]
        assert [one.id for one in log.newest(connection, limit=1, before=3)] == [2]


@pytest.fixture
async def site(tmp_path, initialised):
    """An application that answers, a way to ask it as a role, and its database."""
    folder = Folder(tmp_path / "data")
    shutil.copytree(initialised, folder.root)
    database = Database.at(folder.database)
    with database.write() as connection:
        held = {role: tokens.create(connection, time.time(), kind="api", role=role) for role in ("admin", "metrics")}
    application = create_app(Settings(data=folder.root, broker_host="127.0.0.1", broker_service_port=free_port()))
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=transport, base_url="https://localhost") as http,
    ):

        async def ask(method, path, role="", **more):
            headers = {"Authorization": f"Bearer {held[role]}"} if role else {}
            return await http.request(method, path, headers=headers, **more)

        # The tasks of its duties are this fixture's, not the test's.
        while not {"blocks-3", "heads"} <= {task.get_name() for task in asyncio.all_tasks()}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield ask, database
    database.close()


def told(database):
    return [(one.by.split(" ")[-1], one.action, one.target, one.outcome, one.code) for one in rows(database)]


async def test_each_change_is_in_it(site):
    """Who changed what, from where, with what outcome; whoever only reads is not."""
    ask, database = site
    await ask("GET", "/api/v1/devices", "admin")
    await ask("POST", "/api/v1/join-tokens", "admin", json={"uses": 2})
    await ask("POST", "/api/v1/join-tokens", "admin", json={"uses": 0})

    route = "POST /api/v1/join-tokens"
    assert told(database) == [
        ("(admin)", route, "/api/v1/join-tokens", 409, "conflict"),  # there is no root of trust yet
        ("(admin)", route, "/api/v1/join-tokens", 422, ""),
    ]
    assert {one.origin for one in rows(database)} == {"127.0.0.1"}


async def test_each_denied_request_is_in_it_and_an_event(site):
    """Without a token, with one that does not hold, and with one that may not; reading, too."""
    ask, database = site
    await ask("GET", "/api/v1/devices")
    await ask("GET", "/api/v1/devices", "metrics")

    assert told(database) == [
        ("", "GET /api/v1/devices", "/api/v1/devices", 401, "unauthorised"),
        ("(metrics)", "GET /api/v1/devices", "/api/v1/devices", 403, "forbidden"),
    ]
    with database.read() as connection:
        found = connection.execute(select(events.c.message).where(events.c.kind == "request-denied")).scalars().all()
    assert ["[unauthorised]" in found[0], "[forbidden]" in found[1]] == [True, True]


async def test_what_only_looks_is_not_in_it(site):
    """A preview or plan changes nothing, however it ends; who was denied one is in it all the same."""
    ask, database = site
    given = await ask("POST", "/api/v1/commands/preview", "admin", json={"name": "ping", "selector": "site=none"})
    assert given.status_code == 200, given.text
    for path in sorted(LOOKS):
        place = path.format(endpoint="none", team="acme", name="none")
        assert (await ask("POST", place, "admin", json={})).status_code not in {403, 404, 405}, path
    assert told(database) == []

    await ask("POST", "/api/v1/commands/preview", "metrics", json={"name": "ping", "selector": "site=none"})
    assert [one[3] for one in told(database)] == [403]


async def test_strangers_do_not_fill_it(site):
    """Of denied requests there are so many rows a minute, and no more."""
    ask, database = site
    for _ in range(60):
        await ask("DELETE", "/api/v1/devices/dev-none")

    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(audit)).scalar_one() == 20


async def test_an_answer_goes_out_where_the_log_cannot_be_written(site):
    """What was done was done; that it is not in the log is said by the server's health."""
    ask, database = site
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit RENAME TO gone")

    answer = await ask("POST", "/api/v1/join-tokens", "admin", json={"uses": 2})

    assert answer.status_code == 409
    health = (await ask("GET", "/healthz")).json()
    assert health["mishaps"]["audit"] == 1
