"""Rows 35 to 37: routes without the right, routes that nobody marked, and devices of another group."""

import pytest
from fastapi import APIRouter

from fleet.people.roles import ROLES, WHOLE_FLEET, Grant
from tests.parts.api_routes import asked, unmarked

# Of one principal so many denied requests are told in a minute; further ones come with another token.
TOLD = 20


@pytest.mark.parametrize(
    "role",
    [one if one in {"viewer", "operator"} else pytest.param(one, marks=pytest.mark.long)
     for one in sorted(set(ROLES) - {"admin"})],
)  # fmt: skip
def test_row_35_api_without_rights(site, edge, role):
    """With a real token of each role every route that the role does not grant, for what there really is: 403, each a
    row of the audit log and an event of its own, and nothing changed. (tests/fleet/test_permissions.py walks the rest:
    that each is open to whoever has the right, and to nobody who has all the others.) An admin may do everything."""
    closed = [(method, path, need) for method, path, need in asked() if need not in ROLES[role]]
    assert len(closed) > TOLD
    before = site.everything()
    for some in (closed[start : start + TOLD] for start in range(0, len(closed), TOLD)):
        token, by = site.token(role=role)
        before["tokens"] = site.everything()["tokens"]
        for method, path, need in some:
            answer = site.ask(method, site.place(path, edge), token)
            assert answer.status_code == 403, (method, path, answer.text)
            assert method == "HEAD" or (answer.json()["code"], answer.json()["element"]) == ("forbidden", need)
        rows, told = site.told(f"{by} (")
        assert [(row.action, row.outcome, row.code) for row in rows] == [
            (f"{method} {path}", 403, "forbidden") for method, path, _ in some
        ]
        assert [need for (_, _, need), one in zip(some, told, strict=True) if need not in one.message] == []
    assert site.everything() == before
    site.works(edge)


def everything():
    """What a route that nobody marked would show to everybody."""
    return {}


def test_row_36_new_route_without_permission(site, edge):
    """The walk over all routes, which finds none in the product, finds one that is planted: alone, and in a router of
    routers; and the server that runs has no other routes than those that were walked."""
    assert unmarked() == []
    planted, around = APIRouter(), APIRouter()
    planted.get("/api/v1/everything")(everything)
    around.include_router(planted)
    assert unmarked(planted) == ["/api/v1/everything"]
    assert unmarked(around) == ["/api/v1/everything"]
    for path in ("/api/v1/everything", "/docs", "/openapi.json", "/redoc"):
        assert site.ask("GET", path).status_code == 404
    site.works(edge)


def test_row_37_other_groups_device(site, edge):
    """A token of every role that holds for Berlin alone: each route that names the device, its join, command or rollout
    answers 404 and with the very words that it has for what nobody has, and nothing changed. Rights that only the
    whole fleet has, no such token has: 403, in the same words for every name."""
    token, _ = site.token(*(Grant(role, "site=berlin") for role in sorted(ROLES)))
    before, walked, differ = site.everything(), [], []
    nobody = {"device": "nobody-1", "command": "0" * 32, "rollout": "99999", "join": "99999"}
    present = {"device": edge.name, "command": site.command, "rollout": site.rollout, "join": "1"}
    for method, path, permission in asked():
        for name in (one for one in nobody if f"{{{one}}}" in path):
            walked.append(name)
            mine = {"rollout": nobody["rollout"]} if name == "device" else {}
            theirs = site.ask(method, site.place(path, edge, **mine), token)
            none = site.ask(method, site.place(path, edge, **mine | {name: nobody[name]}), token)
            same = theirs.text.replace(present[name], nobody[name]) == none.text
            if theirs.status_code != (403 if permission in WHOLE_FLEET else 404) or not same:
                differ.append((method, path, theirs.text, none.text))
    assert differ == []
    assert [walked.count(name) >= 3 for name in ("device", "command", "rollout")] == [True] * 3
    assert "join" in walked
    assert site.answered(site.ask("GET", "/api/v1/devices", token)) == []
    assert edge.name not in site.ask("GET", "/metrics?devices=true&telemetry=true", token).text
    assert site.everything() == before
    site.works(edge)
