"""Rows 41 and 42: secrets in what the server and a device say of themselves, and an audit log that was changed."""

import base64
import io
import json
import sqlite3
import tarfile
import time

import pytest

from fleet.audit import log as audit_log
from fleet.audit.chain import BEGIN, link
from fleet.audit.heads import Heads, audit_signer
from fleet.db import Database
from fleet.people.roles import Grant
from tests.attacks.api.site import PASSWORD
from tests.doubles.identity_provider import SECRET
from tests.parts.api_routes import asked
from tests.parts.programs import CommandFailed

VALUE = "SecretOfAModule-4711"
ENCODED = base64.b64encode(VALUE.encode()).decode()


def key_lines(folder):
    """A line out of the middle of every private key in a folder."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in (data := path.read_bytes()):
            lines = data[data.index(b"PRIVATE KEY") :].decode().splitlines()
            found.add(lines[1])
    return found


def unpacked(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return b"".join(archive.extractfile(one).read() for one in archive if one.isfile())


def test_row_41_secrets(site, edge):
    """Every secret that server and device hold, a password, a session, tokens, keys, a module's secret, the provider's,
    and a variable of the device: in no answer of any route that reads, even an admin's, in no event, row of the audit
    log or line of either log, and not in the bundle that diagnoses the device. The files that hold them are their
    owner's alone, and the password's holder still gets in."""
    data, device = site.system.data, edge.device
    site.operator("paul", Grant("viewer"))
    with site.client("127.0.0.4") as http:
        entered = http.post("/api/v1/session", json={"user": "paul", "password": PASSWORD})
        cookie, csrf = http.cookies["__Host-edgefleet"], entered.json()["csrf"]
        assert http.post("/api/v1/session", json={"user": PASSWORD, "password": "wrong password"}).status_code == 401
        token = site.answered(http.post("/api/v1/tokens", json={"name": "ci"}, headers={"X-Edgefleet-Csrf": csrf}))
        # Where somebody puts them by mistake; the answer goes back to whoever did.
        for path in (f"/api/v1/tokens/{token['token']}", f"/api/v1/operators/{cookie}"):
            assert site.ask("DELETE", path, token["token"]).status_code in {403, 404, 405}
    body = {"name": "token", "slot": edge.slot, "devices": [edge.name], "value": ENCODED}
    site.answered(site.ask("POST", "/api/v1/secrets", json=body))
    keys = key_lines(data.root) | key_lines(device.state)
    assert len(keys) > 6
    tokens = {token["token"], site.system.server.token}
    planted = {PASSWORD, cookie, csrf, VALUE, ENCODED, SECRET, site.secret, *tokens, *keys}

    said, walked = {}, 0
    for method, path, _ in asked():
        if method == "GET":
            answer = site.ask(method, site.place(path, edge) + ("?devices=true" if path == "/metrics" else ""))
            walked += answer.is_success
            said[path] = answer.content + str(answer.headers).encode()
    assert walked > 20
    given = site.answered(site.ask("POST", "/api/v1/commands", json={"name": "diagnose", "device": edge.name}))
    ident = given["commands"][0]["id"]
    shown = f"/api/v1/commands/{ident}"
    device.until(lambda: site.answered(site.ask("GET", shown))["state"] == "done", "it has diagnosed itself")
    said["diagnose"] = unpacked(site.ask("GET", f"{shown}/result").content)
    assert b"digits" in said["diagnose"]
    with site.database.read() as connection:
        said["audit"] = repr(audit_log.page(connection, 0)).encode()
    said["events"] = json.dumps(site.answered(site.ask("GET", "/api/v1/events"))).encode()
    said["server's log"], said["device's"] = site.system.server.log().encode(), device.said().encode()
    leaks = [(place, one[:12]) for place, words in said.items() for one in planted if one.encode() in words]
    assert leaks == []
    held = [path for root in (data.root, device.state) for path in root.rglob("*") if path.is_file()]
    open_ = [path for path in held if path.stat().st_mode & 0o077 and key_in(path)]
    assert open_ == []
    site.answered(site.ask("POST", "/api/v1/secrets/remove", json={one: body[one] for one in body if one != "value"}))
    site.works(edge)


def key_in(path):
    return b"PRIVATE KEY" in path.read_bytes() or path.name in {"operator-token", "fleet.sqlite", "agent.db"}


@pytest.fixture
def kept(site, edge):
    """The log as it was, with heads in a file elsewhere; it is put back afterwards."""
    for number in range(3):
        site.ask("PATCH", f"/api/v1/devices/{edge.name}", json={"labels": {"site": "quagga", "n": str(number)}})
    site.ask("PATCH", f"/api/v1/devices/{edge.name}", json={"labels": {"site": "quagga"}})
    data = site.system.data
    # What the server does each hour.
    database = Database.at(data.database)
    Heads(database, data, time.time, audit_signer(data, b"")).sign()
    database.close()
    shipped = site.system.folder / "shipped.jsonl"
    shipped.write_bytes(data.audit_heads.read_bytes())
    with sqlite3.connect(data.database, timeout=30) as thief:
        rows = {name: thief.execute(f"SELECT * FROM {name}").fetchall() for name in ("audit", "audit_heads")}
        yield thief, shipped
        for name, were in rows.items():
            thief.execute(f"DELETE FROM {name}")
            marks = ",".join("?" * len(were[0]))
            thief.executemany(f"INSERT INTO {name} VALUES ({marks})", were)
        thief.commit()
    thief.close()
    assert verified(site, shipped) == []
    site.works(edge)


def verified(site, shipped):
    """What ``edgefleet audit verify`` finds."""
    try:
        return site.system.cli("audit", "verify", "--heads", shipped)["flaws"]
    except CommandFailed as failed:
        found = json.loads(failed.out)["flaws"]
    assert found
    return found


def newest(thief):
    return thief.execute("SELECT max(id) FROM audit").fetchone()[0]


def edits(thief):
    thief.execute("UPDATE audit SET \"by\" = 'nobody' WHERE id = ?", (newest(thief) - 2,))


def deletes(thief):
    thief.execute("DELETE FROM audit WHERE id = ?", (newest(thief) - 2,))


def truncates(thief):
    """And takes the heads along that the server has."""
    thief.execute("DELETE FROM audit WHERE id > ?", (newest(thief) - 2,))
    thief.execute("DELETE FROM audit_heads")


def chains_anew(thief):
    """With somebody else in one row, and every hash after it right; the server's heads are gone."""
    changed, before = newest(thief) - 2, BEGIN
    thief.execute("DELETE FROM audit_heads")
    thief.execute("UPDATE audit SET \"by\" = 'nobody' WHERE id = ?", (changed,))
    thief.commit()
    for entry in entries(thief):
        before = link(before, entry)
        thief.execute("UPDATE audit SET hash = ? WHERE id = ?", (before, entry.id))


def entries(thief):
    names = audit_log.Entry.__struct_fields__
    columns = ", ".join(f'"{one}"' for one in names)
    rows = thief.execute(f"SELECT {columns} FROM audit ORDER BY id").fetchall()
    return [audit_log.Entry(**dict(zip(names, row, strict=True))) for row in rows]


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        pytest.param(edits, "edited", id="edit", marks=pytest.mark.long),
        pytest.param(deletes, "missing", id="delete", marks=pytest.mark.long),
        pytest.param(truncates, "cut", id="truncate"),
        pytest.param(chains_anew, "re-chained", id="re-chain"),
    ],
)
def test_row_42_audit_log(site, edge, kept, attack, code):
    """Somebody writes into the database file of the server that runs: ``edgefleet audit verify`` finds each of the
    four, and says which row. The server goes on, its next row is in the log, and put back the log is whole again."""
    thief, shipped = kept
    assert verified(site, shipped) == []
    attack(thief)
    thief.commit()
    found = verified(site, shipped)
    assert [one["code"] for one in found][:1] == [code]
    assert found[0]["id"] > 0
    before = newest(thief)
    site.answered(site.ask("PATCH", f"/api/v1/devices/{edge.name}", json={"labels": {"site": "quagga"}}))
    assert newest(thief) == before + 1
    assert code in [one["code"] for one in verified(site, shipped)]
