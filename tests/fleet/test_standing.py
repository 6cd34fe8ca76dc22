"""How the server stands: its keys, its certificates, its broker and its settings, as the API tells them."""

import shutil
import time

import pytest
from sqlalchemy import insert

from fleet import broker_look, key_standing, selectors, setup, tokens
from fleet.blobs import Blobs
from fleet.db import Database
from fleet.folder import Folder
from fleet.metadata import Metadata
from fleet.online_keys import new_online_key
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.registry import Registry
from fleet.settings import Settings
from fleet.tables import certificates, devices
from modules.trust import roles
from tests.doubles.publisher import Publisher
from tests.parts.application import application
from tests.parts.mosquitto import HOST, broker, free_port

DAY = 86_400


@pytest.fixture
def data(tmp_path):
    folder = Folder(tmp_path / "data")
    setup.initialise(folder, time.time)
    return folder


def looked(data, running, **changed):
    ports = {"broker_port": running.device_port, "broker_service_port": running.service_port}
    given = Settings(data=data.root, broker_host=HOST, **ports | changed)
    return {one.name: one for one in broker_look.look(given, session="connected", connected=True)}


@pytest.mark.needs("mosquitto")
def test_a_broker_as_we_write_it_is_seen_to_be_well(data, tmp_path):
    with broker(tmp_path / "broker", data) as running:
        seen = looked(data, running)
        assert [name for name, one in seen.items() if one.ok is not True] == []
        assert seen["devices' listener"].ends > time.time() + 100 * DAY
        # Rules that somebody changed by hand, and rules that lie on another machine.
        rules = tmp_path / "broker" / "devices.acl"
        rules.write_text("topic readwrite #\n")
        assert looked(data, running)["access rules"].ok is False
        shutil.move(rules, tmp_path / "elsewhere")
        assert looked(data, running)["access rules"].ok is None


@pytest.mark.needs("mosquitto")
def test_each_fault_of_a_broker_is_one_sentence(data, tmp_path):
    """Who has no certificate comes in; nobody answers; another fleet's authority certified it."""

    def open_to_all(text):
        for name in ("require_certificate", "use_identity_as_username", "use_username_as_clientid"):
            text = text.replace(f"{name} true", f"{name} false")
        return text.replace("allow_anonymous false", "allow_anonymous true")

    with broker(tmp_path / "broker", data, edit=open_to_all) as running:
        seen = looked(data, running)
        assert seen["devices' listener: certificates"].ok is False
        assert "who has no certificate" in seen["devices' listener: certificates"].says
        absent = looked(data, running, broker_port=free_port())["devices' listener"]
        assert (absent.ok, "cannot be reached" in absent.says) == (False, True)
        other = Folder(tmp_path / "other")
        setup.initialise(other, time.time)
        foreign = looked(other, running)["devices' listener"]
        assert (foreign.ok, "devices refuse" in foreign.says) == (False, True)


def test_roles_stand_as_they_are_and_as_the_calendar_has_them(data):
    """Offline keys are due at half of a life, online ones only where nobody signed; a key may be another server's."""
    database, blobs = Database.at(data.database), Blobs(data.blobs)

    def stood(days=0, scope=EVERYTHING):
        metadata = Metadata(database, blobs, Registry(blobs), data, time.time)
        with database.read() as connection:
            found = key_standing.standings(connection, metadata, time.time() + days * DAY, scope)
        return {one.role: one for one in found}

    try:
        assert stood() == {}
        metadata, owner = Metadata(database, blobs, Registry(blobs), data, time.time), Publisher()
        owner.prepare(metadata.online_keys())
        made = owner.founded
        metadata.bootstrap(
            root=made.root, targets=made.targets, director=made.director, teams={owner.team: owner.metadata}
        )
        found = stood()
        assert {one.state for one in found.values()} == {"ok"}
        assert {name for name, one in found.items() if one.here} == {"snapshot", "timestamp", "director"}
        assert (found["root"].threshold, len(found["root"].keys), found["director"].expires) == (2, 3, None)
        later = {name: one.state for name, one in stood(days=roles.life(roles.TARGETS).days * 0.6).items()}
        assert later == {
            "root": "ok", "targets": "due", "snapshot": "expired", "timestamp": "expired", "director": "ok",
            "team-acme": "due",
        }  # fmt: skip
        # Of a role for the modules of another team: the fleet's own roles, and no other team's.
        assert "team-acme" not in stood(scope=Scope((Area(selectors.parse("*"), frozenset({"other"})),)))
        data.online_key("timestamp").write_bytes(new_online_key())
        assert {one.role for one in stood().values() if one.state == "foreign"} == {"timestamp"}
    finally:
        database.close()


async def test_the_api_tells_dates_and_settings_and_no_secret(data):
    """Devices whose certificates end next come first; only who has the right sees how the server was set."""
    database = Database.at(data.database)
    with database.write() as connection:
        viewer = tokens.create(connection, time.time(), kind="api", role="viewer")
        for number, left in enumerate((40, 3, -1)):
            row = {"id": f"dev-{number}", "labels": {}, "certificate": "", "public_key": "", "enrolled": 0.0}
            row |= {"online": False, "boot": 0, "facts_number": 0, "report_number": 0, "order_counter": 0}
            connection.execute(insert(devices).values(**row, order_published=0))
            ends = time.time() + left * DAY
            connection.execute(insert(certificates).values(serial=f"{number}", device=f"dev-{number}", expires=ends))
    database.close()
    admin = data.operator_token.read_text().strip()
    async with application(data, time.time, oidc_client_secret="hush", keep_events_s=90 * DAY) as http:

        async def asked(path, token):
            return await http.get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})

        found = (await asked("certificates?limit=2", viewer)).json()
        assert [one["device"] for one in found["devices"]] == ["dev-2", "dev-1"]
        assert found["buckets"] == {"ended": 1, "7d": 1, "30d": 0, "90d": 1, "later": 0}
        assert {"ca", "server", "broker"} < {one["name"] for one in found["fleet"]}
        assert (await asked("settings", viewer)).status_code == 403
        assert (await asked("broker", viewer)).status_code == 403
        told = await asked("settings", admin)
        by = {one["name"]: one for one in told.json()}
        assert "hush" not in told.text
        assert by["oidc_client_secret"]["value"] == "(set)"
        kept = by["keep_events_s"]
        assert (kept["variable"], kept["changed"]) == ("EDGEFLEET_FLEET_KEEP_EVENTS_S", True)
        broker_seen = (await asked("broker", admin)).json()
        assert [one["ok"] for one in broker_seen if one["name"] == "devices' listener"] == [False]
