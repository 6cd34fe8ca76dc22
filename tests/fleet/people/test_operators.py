"""Operators: who is added with which roles, on the server's machine and by an admin, and what is refused."""

import json
import os
import pwd
import time

import pytest

from fleet.__main__ import main
from fleet.audit import log
from fleet.people import roles
from fleet.people.roles import ROLES, Grant
from modules.errors import Invalid

OPERATORS = "/api/v1/operators"


async def test_a_role_that_does_not_exist_is_refused_with_the_list(house, refused):
    """Nobody is added, and whoever typed it sees what there is."""
    body = {"name": "bert", "roles": [{"role": "superuser"}]}
    document = refused(await house.ask("POST", OPERATORS, json=body), 422, "invalid")
    assert "superuser" in document["detail"]
    assert all(role in document["remedy"] for role in ROLES)
    refused(await house.ask("PATCH", f"{OPERATORS}/anna", json={"roles": [{"role": "root"}]}), 422, "invalid")
    assert [one["name"] for one in (await house.ask("GET", OPERATORS)).json()] == ["anna"]
    (first, _) = house.events("people-refused")
    assert "superuser" in first[0]
    assert "[invalid]" in first[0]
    assert first[1] == "token 1 (admin)"


async def test_a_bound_that_no_selector_can_read_is_refused_with_an_event(house, refused):
    """Over the API as elsewhere."""
    body = {"name": "bert", "roles": [{"role": "viewer", "selector": "site=ber lin"}]}
    assert refused(await house.ask("POST", OPERATORS, json=body), 422, "invalid")["element"] == "selector"
    assert len(house.events("people-refused")) == 1


@pytest.mark.parametrize(
    ("grant", "why"),
    [
        (Grant("operator", "site=ber lin"), "cannot read"),
        (Grant("operator", ""), "not a valid selector"),
        (Grant("operator", "host.arch=arm64"), "cannot bound what somebody may see"),
        (Grant("operator", "memory>=4"), "cannot bound what somebody may see"),
        (Grant("releaser", "*", ("Not A Team",)), "team"),
        (Grant("releaser", "*", ()), "no teams"),
    ],
)
def test_a_bound_that_is_none_is_refused(grant, why):
    """Unreadable selectors, and those by what a device says of itself, which it could change."""
    with pytest.raises(Invalid) as caught:
        roles.check([grant])
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["", "A", "anna b", "anna\n", "-anna", "x" * 51, "anna/../b", "änna"])
async def test_a_name_that_is_none_is_refused(house, refused, name):
    """In the body and in the path."""
    refused(await house.ask("POST", OPERATORS, json={"name": name, "roles": [{"role": "viewer"}]}), 422, "invalid")


async def test_a_name_is_given_once_and_each_change_says_who_made_it(house, refused):
    """An event for each, with what was before."""
    body = {"name": "bert", "roles": [{"role": "operator", "selector": "site=berlin"}, {"role": "viewer"}]}
    assert (await house.ask("POST", OPERATORS, json=body)).status_code == 201
    refused(await house.ask("POST", OPERATORS, json=body), 409, "conflict")
    await house.ask("PATCH", f"{OPERATORS}/bert", json={"roles": [{"role": "admin"}]})
    await house.ask("PATCH", f"{OPERATORS}/bert", json={"disabled": True})
    refused(await house.ask("PATCH", f"{OPERATORS}/nobody", json={"disabled": True}), 404, "missing")

    by = "token 1 (admin)"
    assert house.events("operator-added")[-1] == ("bert: operator (site=berlin), viewer", by)
    assert house.events("operator-changed") == [
        ("bert: admin; before: operator (site=berlin), viewer", by),
        ("bert: disabled", by),
    ]


async def test_whoever_is_no_admin_makes_no_operators_and_each_try_is_an_event(house, refused):
    """403 that names the permission, and who tried what."""
    house.add("bert", Grant("operator"), Grant("releaser"))
    csrf = (await house.log_in("bert")).json()["csrf"]
    body = {"name": "carl", "roles": [{"role": "admin"}]}
    answer = await house.http.post(OPERATORS, json=body, headers={"X-Edgefleet-Csrf": csrf})
    assert refused(answer, 403, "forbidden")["element"] == "user:write"
    asked = "POST /api/v1/operators from 127.0.0.1"
    why = "user:write: the roles operator, releaser may not do this [forbidden]"
    assert house.events("request-denied") == [(f"{asked}: {why}", "bert")]


async def test_the_last_admin_is_neither_disabled_nor_demoted(house, refused):
    """409 that names both ways out, and nothing changed; an admin with a bound, or a disabled one, is no other."""
    house.add("bert", Grant("admin", "site=berlin"))
    house.add("carl", Grant("admin"))
    assert (await house.ask("PATCH", f"{OPERATORS}/carl", json={"disabled": True})).status_code == 200
    for body in (
        {"disabled": True},
        {"roles": [{"role": "viewer"}]},
        {"roles": [{"role": "admin", "selector": "a=b"}]},
    ):
        document = refused(await house.ask("PATCH", f"{OPERATORS}/anna", json=body), 409, "conflict")
        assert "nobody else is an admin" in document["detail"]
        assert "edgefleet operators add NAME admin" in document["remedy"]
        assert "edgefleet-fleet operators disable NAME --force" in document["remedy"]
    found = {one["name"]: one for one in (await house.ask("GET", OPERATORS)).json()}
    assert (found["anna"]["roles"], found["anna"]["disabled"]) == ([{"role": "admin"}], None)

    more = {"roles": [{"role": "viewer"}, {"role": "admin"}]}
    assert (await house.ask("PATCH", f"{OPERATORS}/anna", json=more)).status_code == 200
    assert (await house.ask("PATCH", f"{OPERATORS}/bert", json={"disabled": True})).status_code == 200
    assert (await house.ask("PATCH", f"{OPERATORS}/carl", json={"disabled": False})).status_code == 200
    assert (await house.ask("PATCH", f"{OPERATORS}/anna", json={"disabled": True})).status_code == 200
    refused(await house.ask("PATCH", f"{OPERATORS}/carl", json={"disabled": True}), 409, "conflict")


def test_the_servers_machine_ends_the_last_admin_if_that_is_said(tmp_path, capsys):
    """Refused without --force; with it done, and told as ever."""
    data = ["--data", str(tmp_path / "data")]
    assert main(["init", *data]) == 0
    for words in (("disable", "admin"), ("roles", "admin", "viewer")):
        assert main(["operators", *words, *data]) == 1
        assert "--force" in capsys.readouterr().err
        assert main(["operators", *words, "--force", *data]) == 0
        capsys.readouterr()
        assert main(["operators", "enable", "admin", *data]) == 0
        assert main(["operators", "roles", "admin", "admin", *data]) == 0


async def test_who_keeps_asking_fills_no_table(house):
    """Of a thousand refusals a minute twenty become events."""
    house.add("bert", Grant("viewer"))
    await house.log_in("bert")
    for _ in range(50):
        assert (await house.http.get(OPERATORS)).status_code == 403
    assert len(house.events("request-denied")) == 20
    house.now += 61
    await house.http.get(OPERATORS)
    assert len(house.events("request-denied")) == 21


def test_the_first_start_makes_one_admin_whose_password_is_shown_once(tmp_path, capsys):
    """Another one in each fleet; it is nowhere in the folder, and the operator's token is there as ever."""
    shown = []
    for name in ("first", "second"):
        assert main(["init", "--data", str(tmp_path / name)]) == 0
        lines = capsys.readouterr().out.splitlines()
        shown.append(lines[[one.startswith("The first operator is 'admin'") for one in lines].index(True) + 1])
        assert lines[-1] == (tmp_path / name / "operator-token").read_text().strip()
    assert shown[0] != shown[1]
    assert all(len(one) == 27 for one in shown)
    for path in (tmp_path / "first").rglob("*"):
        assert not path.is_file() or shown[0].encode() not in path.read_bytes()
    assert main(["operators", "list", "--data", str(tmp_path / "first"), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["operators"]
    assert (one["name"], one["roles"], one["must_change_password"]) == ("admin", [{"role": "admin"}], True)


def test_the_servers_machine_adds_disables_and_gives_passwords(made, capsys, monkeypatch):
    """Without a log-in and without the server; an unknown role is refused with the list."""
    found, settings = made
    monkeypatch.setenv("EDGEFLEET_FLEET_DATABASE", settings.get("database", ""))

    def run(*words, code=0):
        assert main(["operators", *words, "--data", str(found.folder.root), *(("--json",) if not code else ())]) == code
        said = capsys.readouterr()
        return said.err if code else json.loads(said.out)

    added = run("add", "bert", "operator", "viewer", "--selector", "site=berlin", "--team", "acme")
    assert added["roles"][0] == {"role": "operator", "selector": "site=berlin", "teams": ["acme"]}
    assert len(added["password_once"]) == 27
    assert "name some of admin, analyst" in run("add", "carl", "boss", code=1)
    assert "there is an operator of this name" in run("add", "bert", "viewer", code=1)
    assert run("roles", "bert", "releaser")["roles"] == [{"role": "releaser"}]
    assert run("disable", "bert")["disabled"] <= time.time()
    assert run("enable", "bert")["disabled"] is None
    assert run("reset-password", "bert")["password_once"] != added["password_once"]
    assert "there is no such operator" in run("disable", "nobody", code=1)
    assert [one["name"] for one in run("list")["operators"]] == ["bert"]
    by = f"server: {pwd.getpwuid(os.getuid()).pw_name}"
    assert {one for _, one in found.events("operator-changed")} == {by}
    with found.database.read() as connection:
        rows = [(row.by, row.action, row.target, row.outcome) for row in log.page(connection, 0)]
    done = ("add", "roles", "disable", "enable", "reset-password")
    assert rows == [(by, f"edgefleet-fleet operators {one}", "bert", 0) for one in done]
