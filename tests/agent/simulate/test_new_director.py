"""A director's key is replaced while devices are connected, and while they are away: no order is refused."""

import base64
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from securesystemslib.signer import Key
from sqlalchemy import select

from fleet.db import Database
from fleet.tables import devices
from modules.errors import Untrusted
from modules.protocol.order import LIMIT
from modules.signing import ORDER_TYPE, opened, signer_from_pem
from modules.trust import drafts
from tests.agent.simulate.rolling import QUICK, ended, names, published, roll_out, until
from tests.doubles.device import join
from tests.doubles.publisher import checked
from tests.parts.pace import stretched
from tests.parts.programs import until as until_true
from tests.parts.simulator import enroll, simulator
from tests.parts.warm import ROOT

pytestmark = pytest.mark.needs("mosquitto")


def replace_director(server, http, owner):
    """As the runbook has it: a key made on the server, named by the owner."""
    command = [sys.executable, "-m", "fleet", "keys", "new", "director", "--data", server.data.root]
    subprocess.run(command, cwd=ROOT, check=True, timeout=stretched(60), capture_output=True)
    staged = checked(http.get("/api/v1/tuf-staged-keys")).json()["director"]
    present = checked(http.get("/api/v1/tuf/targets.json")).content
    made = drafts.next_targets(present, now=datetime.now(UTC), directors=[Key.from_dict(staged.pop("keyid"), staged)])
    signed = drafts.add_signatures(made.targets, role="targets", signers=[owner.targets_signer])
    body = {"targets": base64.b64encode(signed).decode(), "director": base64.b64encode(made.director).decode()}
    assert checked(http.post("/api/v1/tuf-update", json=body)).json() == {"changed": ["targets"]}


def resigned(server, chosen):
    """Of each device, whether the order that is kept for it is signed by the server's present key, and published."""
    director = signer_from_pem(server.data.online_key("director").read_bytes()).public_key
    database = Database.at(server.data.database)
    try:
        with database.read() as connection:
            rows = connection.execute(select(devices).where(devices.c.id.in_(chosen))).all()
    finally:
        database.close()
    assert len(rows) == len(chosen)
    for row in rows:
        try:
            opened(row.order_envelope, payload_type=ORDER_TYPE, keys=[director], limit=LIMIT)
        except Untrusted:
            yield False
        else:
            yield bool(row.order_published == row.order_counter)


@pytest.mark.long
def test_devices_follow_a_new_director_with_their_orders_signed_again(fleet, tmp_path):
    """Twelve devices get their orders signed again by each new director, and take them, connected or back again."""
    server, http, owner = fleet
    first, second = published(owner, "before"), published(owner, "after")
    enroll(tmp_path, join(http, uses=12), 12, "--prefix", "loyal")
    loyal = names("loyal", 12)
    with simulator(tmp_path, 12, "--prefix", "loyal", *QUICK) as running:
        assert until(http, roll_out(http, first, loyal), ended)["state"] == "done"
        replace_director(server, http, owner)
        until_true(lambda: set(resigned(server, loyal)) == {True}, "every order is signed by the new key", within_s=60)
        assert until(http, roll_out(http, second, loyal), ended)["state"] == "done"
    assert "refused" not in running.summary["done"]
    assert running.summary["phases"] == {"committed": 12}

    replace_director(server, http, owner)
    until_true(lambda: set(resigned(server, loyal)) == {True}, "every order is signed by the newest key", within_s=60)
    with simulator(tmp_path, 12, "--prefix", "loyal", *QUICK) as running:
        until_true(lambda: sum(one["what"] == "phase" for one in running.record()) >= 12, "they take it", within_s=60)
    assert "refused" not in running.summary["done"]
