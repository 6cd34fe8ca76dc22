"""What is asked about one device: whether a module fits it, and what it was given."""

import time

import pytest
from sqlalchemy import insert, update

from fleet import device_past, setup, tokens
from fleet.db import Database
from fleet.folder import Folder
from fleet.refusals import Missing
from fleet.rollouts import fitting
from fleet.rollouts.start import Wish, prepare
from fleet.tables import certificates
from fleet.tables import tokens as token_rows
from modules.errors import Unfit
from modules.manifest import Needs
from modules.names import DeviceId, ModuleRef, Slug
from tests.doubles.fleet_rows import SmallFleet
from tests.parts.application import application


def fits(fleet, device, ref, slot=None):
    with fleet.database.read() as connection:
        return fitting.fitting(connection, fleet.registry, DeviceId(device), ref, slot)


def test_a_fit_is_what_a_rollout_would_decide(small_fleet):
    """With every reason, for each engine; a draft is looked at, too, and what is not there is said."""
    small_fleet.add_device("dev-a")
    small_fleet.add_device("dev-silent", host=None)
    small = small_fleet.add_module("digits")
    large = small_fleet.add_module("giant", sign_it=False, needs=Needs(memory_mb=1 << 20, cpu_cores=500))
    found = fits(small_fleet, "dev-a", small)
    by = {one["engine"]: one for one in found["engines"]}
    assert (found["fits"], by["process"]["fits"], by["process"]["reasons"]) == (True, True, ())
    assert by["process"]["hardware"].endswith(" cpu")
    refused = fits(small_fleet, "dev-a", large)
    why = " ".join(reason for one in refused["engines"] for reason in one["reasons"])
    assert not refused["fits"]
    assert "MiB of memory" in why
    assert "cores" in why
    assert {one["reasons"] for one in fits(small_fleet, "dev-silent", small)["engines"]} == {("has sent no facts yet",)}
    for device, ref in (("dev-none", small), ("dev-a", ModuleRef.parse("acme/none:1"))):
        with pytest.raises(Missing):
            fits(small_fleet, device, ref)


def test_the_reasons_are_those_of_the_plan(small_fleet):
    small_fleet.add_device("dev-a")
    giant = small_fleet.add_module("giant", needs=Needs(memory_mb=1 << 20))
    (alone,) = (one for one in fits(small_fleet, "dev-a", giant)["engines"] if one["engine"] == "process")
    wish = Wish(module=giant, slot=Slug("digits"), engine="process")
    with small_fleet.database.read() as connection, pytest.raises(Unfit) as refused:
        prepare(connection, small_fleet.now, small_fleet.registry, wish)
    assert alone["reasons"]
    assert all(reason in str(refused.value) for reason in alone["reasons"])


def test_what_was_decided_and_given_is_told_newest_first(small_fleet):
    small_fleet.add_device("dev-a")
    small_fleet.add_device("dev-b")
    first = small_fleet.start(small_fleet.add_module("digits"))
    small_fleet.now += 60
    second = small_fleet.start(small_fleet.add_module("speech"))
    with small_fleet.database.write() as connection:
        for number in (1, 2):
            row = {"serial": f"{number}", "device": "dev-a", "expires": 100.0 * number, "issued": 10.0 * number}
            connection.execute(insert(certificates).values(**row))
        decided = device_past.decisions(connection, DeviceId("dev-a"), 10)
        given = device_past.certificates_of(connection, DeviceId("dev-a"), 10)
    assert [(one["rollout"], one["module"]) for one in decided] == [
        (second, "acme/speech:1"), (first, "acme/digits:1"),
    ]  # fmt: skip
    assert [one["serial"] for one in given] == ["2", "1"]


async def test_who_has_no_right_to_a_team_learns_nothing_of_its_modules(tmp_path):
    """A module of another team is answered as one that is not there."""
    folder = Folder(tmp_path / "data")
    setup.initialise(folder, time.time)
    database = Database.at(folder.database)
    fleet = SmallFleet(folder.root, database)
    fleet.add_device("dev-a")
    ref = fleet.add_module("digits")
    with database.write() as connection:
        made = tokens.create(connection, time.time(), kind="api", role="viewer")
        grants = [{"role": "viewer", "teams": ["other"]}]
        connection.execute(update(token_rows).where(token_rows.c.role == "viewer").values(roles=grants))
    database.close()
    admin = folder.operator_token.read_text().strip()
    async with application(folder, time.time) as http:
        said = {}
        for name, token in (("bounded", made), ("admin", admin)):
            headers = {"Authorization": f"Bearer {token}"}
            said[name] = await http.get(f"/api/v1/devices/dev-a/fits?module={ref}", headers=headers)
    assert (said["admin"].status_code, said["admin"].json()["fits"]) == (200, True)
    assert (said["bounded"].status_code, said["bounded"].json()["code"]) == (404, "missing")
