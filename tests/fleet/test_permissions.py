"""Each route asks for the permission that the docs name, and for no other: tried on every route with every role."""

import re
import time

import pytest
from sqlalchemy import func, select

from fleet import setup, tokens
from fleet.db import Database
from fleet.folder import Folder
from fleet.people import roles
from fleet.people.roles import PERMISSIONS, ROLES
from fleet.tables import events
from tests.house.tree import ROOT
from tests.parts.api_routes import asked
from tests.parts.application import application

DOCUMENTED = re.compile(r"^- `(\w+) (/[^`]*)` \((\w+:\w+)\)", re.MULTILINE)
# Something for each name in a path; nothing of it exists.
NAMES = {"device": "dev-none", "digest": "sha256:" + "0" * 64, "rollout": "999", "action": "pause", "version": "1"}


class Clock:
    """So far from one request to the next that each refusal is told."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
async def ask(tmp_path, monkeypatch):
    """Asks a route of a real application as one of the roles, of all permissions but one, and of one alone."""
    folder = Folder(tmp_path / "data")
    setup.initialise(folder, time.time)
    held = {f"no {one}": PERMISSIONS - {one} for one in PERMISSIONS} | {one: frozenset({one}) for one in PERMISSIONS}
    monkeypatch.setattr(roles, "ROLES", held | ROLES)
    database = Database.at(folder.database)
    with database.write() as connection:
        held = {role: tokens.create(connection, time.time(), kind="api", role=role) for role in held | ROLES}
    clock = Clock()
    async with application(folder, clock) as http:

        async def answer(method, path, role):
            clock.now += 10
            shape = re.sub(r"{name}", NAMES["digest"] if "/blobs/" in path else "none", path)
            place = re.sub(r"{(\w+)}", lambda match: NAMES.get(match[1], "none"), shape)
            return await http.request(method, place, headers={"Authorization": f"Bearer {held[role]}"})

        def denials():
            with database.read() as connection:
                wanted = select(func.count()).where(events.c.kind == "request-denied")
                return connection.execute(wanted).scalar_one()

        answer.denials = denials
        yield answer
    database.close()


def test_the_docs_name_the_permission_of_every_route():
    """The list in docs/http.md is the one that the code asks, and each permission there is one."""
    documented = set(DOCUMENTED.findall((ROOT / "docs/http.md").read_text(encoding="utf-8")))
    assert documented == set(asked())
    assert {permission for _, _, permission in documented} <= PERMISSIONS


def test_no_role_has_a_permission_that_does_not_exist_and_admin_has_all():
    """A typing error in a role never reaches a server."""
    assert frozenset().union(*ROLES.values()) == PERMISSIONS == ROLES["admin"]
    assert roles.WHOLE_FLEET < PERMISSIONS


async def test_every_route_is_closed_without_its_permission_and_open_with_it_alone(ask):
    """403 that names the permission for whoever has all the others; no 401 or 403 for whoever has this one."""
    wrong = []
    for method, path, permission in asked():
        without, alone = await ask(method, path, f"no {permission}"), await ask(method, path, permission)
        named = method == "HEAD" or permission in without.text
        if without.status_code != 403 or not named or alone.status_code in {401, 403, 500}:
            wrong.append((method, path, without.status_code, alone.status_code))
    assert wrong == []


@pytest.mark.parametrize(
    "role",
    [one if one in {"viewer", "releaser"} else pytest.param(one, marks=pytest.mark.long)
     for one in sorted(ROLES)],
)  # fmt: skip
async def test_each_role_may_do_what_it_grants_and_each_refusal_is_an_event(ask, role):
    """On every route: open where the role has the permission, else 403 with an event of its own."""
    wrong, refused = [], 0
    for method, path, permission in asked():
        status = (await ask(method, path, role)).status_code
        refused += status == 403
        if (status == 403) == (permission in ROLES[role]) or status in {401, 500}:
            wrong.append((method, path, status))
    assert wrong == []
    assert ask.denials() == refused
