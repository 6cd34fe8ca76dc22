"""What lies outside somebody's rights does not exist for them: asked on every route, with devices planted outside."""

import json
import re

import pytest
from sqlalchemy import select, update

from fleet import events as happenings
from fleet import joins, pending, removal, tokens
from fleet.command_tables import commands
from fleet.export.columns import TABLES
from fleet.joins import Terms
from fleet.people import roles
from fleet.people.roles import ROLES, WHOLE_FLEET, Grant
from fleet.rollouts import auto
from fleet.rollouts.start import Wish
from fleet.tables import devices, rollouts, slots
from fleet.tables import joins as join_rows
from fleet.tables import pending as waiting
from modules import manifest as manifests
from modules.digests import sha256
from modules.names import DeviceId, ModuleRef, Slug, Version
from tests.doubles.fleet_rows import SmallFleet
from tests.doubles.publisher import module
from tests.parts.api_routes import api_routes, asked
from tests.parts.application import application

# In the name of everything that is planted outside, and nowhere else.
FOREIGN = "quagga"
# Blobs have no owner but their digest, trust metadata names all teams (docs/operate.md), there is no provider here, and
# pods have tokens of their own (tests/fleet/targets/test_content.py). Of uploads: test_scopes_of_uploads.py.
ELSEWHERE = ("/blobs/", "/tuf", "/oidc/", "/content/", "/batch-content/", "/fallbacks/{team}/", "/uploads/{team}/")
# Options that show more.
MORE = {
    "/metrics": "?devices=true&telemetry=true",
    "/api/v1/devices/{device}/telemetry": "?since=0",
    "/api/v1/devices/{device}/fits": "?module=acme/linear:1",
}
DEVICE, MINE, ABSENT = f"{FOREIGN}-1", "berlin-1", "nobody-1"


def plant(house):
    """Two devices in Berlin and four elsewhere, rollouts over both, over one side each, and all that comes of them."""
    fleet = SmallFleet(house.folder.root, house.database)
    house.now = fleet.now
    for name in ("berlin-1", "berlin-2"):
        fleet.add_device(name, labels={"site": "berlin"})
    for name in (DEVICE, f"{FOREIGN}-2", f"{FOREIGN}-gone"):
        fleet.add_device(name, labels={"site": FOREIGN})
    fleet.add_device(f"{FOREIGN}-misfit", labels={"site": FOREIGN}, host=None)
    ref = fleet.add_module("linear")
    elsewhere = module("zebra", "linear", "1", {"model.onnx": b"graph of linear"})
    data = manifests.encode(elsewhere)
    with house.database.write() as connection:
        fleet.registry.draft(connection, fleet.now, elsewhere.ref, data)
        fleet.registry.sign(connection, elsewhere.ref, sha256(data), len(data))
    both = fleet.start(ref, slot=Slug("both"))
    theirs = fleet.start(ref, slot=Slug("theirs"), selector=f"site={FOREIGN}")
    mine = fleet.start(ref, slot=Slug("mine"), selector="site=berlin")
    other = fleet.start(elsewhere.ref, slot=Slug("other"))
    fleet.publish()
    for name in (DEVICE, f"{FOREIGN}-2", MINE):
        fleet.report(name, "reverted", slot="both")
        fleet.measured(name, 1)
    commands_, _ = fleet.give("ping", selector="*")
    any_ = ModuleRef(Slug("acme"), Slug("linear"), Version.parse("0"))
    with house.database.write() as connection:
        removal.remove_device(connection, fleet.now, f"{FOREIGN}-gone")
        happenings.record(connection, fleet.now, "trouble", f"{DEVICE} is troubled", device=DEVICE)
        happenings.record(connection, fleet.now, "trouble", f"{FOREIGN} as a whole")
        happenings.record(connection, fleet.now, "trouble", "mine", device=MINE)
        for name, selector in ((f"{FOREIGN}-rule", f"site={FOREIGN}"), ("all", f"zone!={FOREIGN}")):
            wish = Wish(module=any_, slot=Slug("auto"), selector=selector)
            auto.add(connection, fleet.now, auto.Rule(name=Slug(name), wish=wish))
        for site in (FOREIGN, "berlin"):
            terms = Terms(life_s=86400, uses=5, labels={"site": site}, by=f"who is in {site}")
            join = joins.add(connection, fleet.now, terms, approve=True, hash=site)
            more = {"fingerprint": site, "public_key": "", "address": "192.0.2.1", "life_s": 86400}
            pending.add(connection, fleet.now, join=join, name=DeviceId(f"{site}-new"), **more)
        waits = f"{DEVICE} failed"
        connection.execute(update(rollouts).where(rollouts.c.id != mine).values(waits_for=waits))
    return {"both": both, "theirs": theirs, "mine": mine, "other": other, "ref": ref} | {
        name: commands_[name] for name in (DEVICE, MINE)
    }


@pytest.fixture
async def berlin(made):
    """A planted fleet, its application, and a token of every role that holds for Berlin and the team acme alone."""
    house, settings = made
    house.planted = plant(house)
    grants = tuple(Grant(role, "site=berlin", ("acme",)) for role in sorted(ROLES))
    with house.database.write() as connection:
        house.scoped = tokens.create(
            connection, house.now, kind="api", role="", name="berlin", roles=roles.plain(roles.check(grants))
        )
    async with application(house.folder, house.clock, **settings) as http:
        house.http = http
        yield house


def named(path, **values):
    """A route's path with these names, and something for each other one."""
    others = {"slot": "both", "action": "pause", "table": "devices", "team": "acme", "version": "1", "rule": "all"}
    return re.sub(r"{(\w+)}", lambda match: str((others | values).get(match[1], "none")), path)


def walked():
    for route in api_routes():
        for method in route.methods:
            yield method, route.path


async def test_no_answer_of_any_route_names_what_lies_outside(berlin):
    """Every route that reads, for whatever of ours it can name, with every option that shows more."""
    asked, leaks = 0, []
    for method, path in walked():
        if method != "GET" or any(one in path for one in ELSEWHERE):
            continue
        for rollout in (berlin.planted["mine"], berlin.planted["both"]):
            for table in [one.name for one in TABLES] if "{table}" in path else [""]:
                ours = {"device": MINE, "command": berlin.planted[MINE]}
                place = named(path, rollout=rollout, table=table, name="linear", **ours)
                place += MORE.get(path, "")
                answer = await berlin.ask(method, place, berlin.scoped)
                asked += answer.status_code == 200
                if answer.status_code not in {200, 403} or FOREIGN in answer.text + str(answer.headers):
                    leaks.append((place, answer.status_code, answer.text[:2000]))
    assert leaks == []
    assert asked > 30


async def test_what_lies_outside_is_answered_as_what_does_not_exist(berlin):
    """Each route that names a device, one that waits or a join: the very answer of what there is not; nothing changed.

    It is 404, or, for a right that only the whole fleet has, 403 for every name.
    """
    before = everything(berlin)
    differ, walks = [], set()
    nobody = {"device": (DEVICE, ABSENT), "waiting": (f"{FOREIGN}-new", "nobody-new"), "join": ("1", "9999")}
    for method, path, permission in asked():
        for kind in (one for one in nobody if f"{{{one}}}" in path):
            walks.add((kind, path))
            there, nowhere = nobody[kind]
            mine = {"rollout": berlin.planted["mine"]}
            theirs = await berlin.ask(method, named(path, **mine | {kind: there}), berlin.scoped)
            absent = await berlin.ask(method, named(path, **mine | {kind: nowhere}), berlin.scoped)
            said = theirs.text.replace(f'"{there}"', f'"{nowhere}"')
            if theirs.status_code != (403 if permission in WHOLE_FLEET else 404) or said != absent.text:
                differ.append((method, path, theirs.text, absent.text))
    assert differ == []
    assert [sum(kind == one for one, _ in walks) for kind in nobody] >= [6, 2, 1]
    assert everything(berlin) == before


async def test_commands_outside_do_not_exist_and_none_reaches_a_device_outside(berlin, refused):
    """404 as for an id that nobody gave; a selector means one's own devices alone, and a name outside none."""
    before, asked = everything(berlin), 0
    for method, path in walked():
        if "{command}" in path:
            asked += 1
            theirs = await berlin.ask(method, named(path, command=berlin.planted[DEVICE]), berlin.scoped)
            absent = await berlin.ask(method, named(path, command="0" * 32), berlin.scoped)
            assert theirs.status_code == 404
            assert theirs.text.replace(berlin.planted[DEVICE], "0" * 32) == absent.text
    assert asked == 3
    for name in ("ping", "decommission"):
        for device in (DEVICE, ABSENT):
            body = {"name": name, "device": device}
            refused(await berlin.ask("POST", "/api/v1/commands", berlin.scoped, json=body), 404, "missing")
    assert everything(berlin) == before

    listed = (await berlin.ask("GET", "/api/v1/commands", berlin.scoped)).json()
    assert [one["device"] for one in listed] == ["berlin-2", "berlin-1"]
    assert (await berlin.ask("GET", f"/api/v1/commands?device={DEVICE}", berlin.scoped)).json() == []
    body = {"name": "ping", "selector": "*"}
    given = (await berlin.ask("POST", "/api/v1/commands", berlin.scoped, json=body)).json()
    assert [one["device"] for one in given["commands"]] == ["berlin-1", "berlin-2"]
    assert given["misfits"] == []


async def test_a_device_is_wiped_only_by_who_may_both_command_and_remove_it(berlin, refused):
    """Commands for the whole fleet and removals in Berlin alone: nothing elsewhere is wiped."""
    grants = roles.plain((Grant("operator"), Grant("installer", "site=berlin")))
    with berlin.database.write() as connection:
        token = tokens.create(connection, berlin.now, kind="api", role="", name="both", roles=grants)
    body = {"name": "decommission", "device": DEVICE}
    refused(await berlin.ask("POST", "/api/v1/commands", token, json=body), 404, "missing")
    answer = await berlin.ask("POST", "/api/v1/commands", token, json=body | {"device": MINE})
    assert answer.status_code == 201


async def test_rollouts_outside_do_not_exist_and_shared_ones_are_only_read(berlin, refused):
    """404 on every route for one without a device or module of ours; 403 for a change of one that has others, too."""
    before = everything(berlin)
    for method, path in walked():
        if "{rollout}" not in path:
            continue
        for rollout in (berlin.planted["theirs"], berlin.planted["other"]):
            answer = await berlin.ask(method, named(path, device=MINE, rollout=rollout), berlin.scoped)
            refused(answer, 404, "missing")
        answer = await berlin.ask(method, named(path, device=MINE, rollout=berlin.planted["both"]), berlin.scoped)
        if method == "GET":
            assert answer.status_code == 200
        else:
            refused(answer, 403, "forbidden")
    assert everything(berlin) == before
    pause = f"/api/v1/rollouts/{berlin.planted['mine']}/pause"
    assert (await berlin.ask("POST", pause, berlin.scoped)).status_code == 200


async def test_what_one_may_do_with_a_thing_is_what_its_routes_let_one_do(berlin):
    """What the server says of a device, rollout or team, tried on every route that names one; a page asks it."""
    mine = (await berlin.ask("GET", f"/api/v1/session/permissions?device={MINE}&team=acme", berlin.scoped)).json()
    assert {"device:read", "device:write", "command:write", "module:write"} <= set(mine)
    wrong, things = [], {"device": (DEVICE,), "team": ("zebra",), "rollout": ("theirs", "both", "other")}
    for kind, values in things.items():
        for value in values:
            thing = str(berlin.planted.get(value, value))
            said = await berlin.ask("GET", f"/api/v1/session/permissions?{kind}={thing}", berlin.scoped)
            for method, path, permission in asked():
                if f"{{{kind}}}" in path:
                    answer = await berlin.ask(method, named(path, **{"device": MINE} | {kind: thing}), berlin.scoped)
                    outside = answer.status_code == 403 or f"no such {kind}" in answer.text
                    if outside == (permission in said.json()):
                        wrong.append((method, path, thing, answer.status_code, answer.text[:200]))
    assert wrong == []


async def test_one_s_own_is_there(berlin):
    """Two devices, two rollouts, one module; of the shared rollout one's own devices and counts."""
    ask = berlin.ask
    assert [one["id"] for one in (await ask("GET", "/api/v1/devices", berlin.scoped)).json()] == [
        "berlin-1",
        "berlin-2",
    ]
    listed = (await ask("GET", "/api/v1/rollouts", berlin.scoped)).json()
    assert [one["id"] for one in listed] == [str(berlin.planted[one]) for one in ("mine", "both")]
    shared = (await ask("GET", f"/api/v1/rollouts/{berlin.planted['both']}", berlin.scoped)).json()
    assert [one["device"] for one in shared["devices"]] == ["berlin-1", "berlin-2"]
    assert sum(shared["counts"].values()) == 2
    assert (shared["history"], shared["misfits"]) == ([], [])
    assert [one["ref"] for one in (await ask("GET", "/api/v1/modules", berlin.scoped)).json()] == ["acme/linear:1"]
    assert (await ask("GET", "/api/v1/events", berlin.scoped)).json()[0]["message"] == "mine"
    measured = (await ask("GET", "/metrics?devices=true", berlin.scoped)).text
    assert 'edgefleet_device_online{device="berlin-1"}' in measured
    assert 'edgefleet_devices{online="false"} 2.0' in measured


async def test_a_rollout_is_cut_to_what_its_maker_may_reach(berlin, refused):
    """Its selector says so from then on, so that late joiners elsewhere stay out; a device elsewhere is not there."""
    body = {"module": "acme/linear:1", "slot": "new", "engine": "process", "policy": {"late_joiners": True}}
    made = (await berlin.ask("POST", "/api/v1/rollouts", berlin.scoped, json=body)).json()
    assert [one["device"] for one in made["devices"]] == ["berlin-1", "berlin-2"]
    with berlin.database.read() as connection:
        kept = connection.execute(select(rollouts.c.selector).where(rollouts.c.id == int(made["id"]))).scalar_one()
    assert kept == "site=berlin"
    named_ = body | {"devices": [MINE, DEVICE], "policy": {}}
    refused(await berlin.ask("POST", "/api/v1/rollouts", berlin.scoped, json=named_), 404, "missing")
    refused(await berlin.ask("POST", "/api/v1/rollouts/plan", berlin.scoped, json=named_), 404, "missing")
    other = body | {"module": "zebra/linear:1"}
    refused(await berlin.ask("POST", "/api/v1/rollouts", berlin.scoped, json=other), 404, "missing")
    rule = {"name": "mine", "model": "acme/linear", "slot": "new"}
    assert (await berlin.ask("POST", "/api/v1/auto-rollouts", berlin.scoped, json=rule)).json()[
        "selector"
    ] == "site=berlin"
    refused(await berlin.ask("DELETE", "/api/v1/auto-rollouts/all", berlin.scoped), 404, "missing")


async def test_what_is_in_the_way_outside_is_not_named(berlin, refused):
    """A module that others use is not removed, and a slot that another team's rollout fills is not taken: in words
    that name one's own devices and rollouts alone."""
    document = refused(await berlin.ask("DELETE", "/api/v1/modules/acme/linear/1", berlin.scoped), 409, "conflict")
    assert "device berlin-1, slot both" in document["detail"]
    assert document["detail"].endswith("; and what is outside of what your rights are for")
    assert FOREIGN not in document["detail"]

    body = {"module": "acme/linear:1", "slot": "other", "engine": "process"}
    for path in ("/api/v1/rollouts", "/api/v1/rollouts/plan"):
        document = refused(await berlin.ask("POST", path, berlin.scoped, json=body), 409, "conflict")
        assert (
            document["detail"]
            == "a rollout outside of what your rights are for is open and fills this slot of berlin-1"
        )


async def test_of_rollouts_of_another_team_nothing_is_exported(berlin):
    """Not even where one's own devices stand in them."""
    answer = await berlin.ask("GET", "/api/v1/export/members", berlin.scoped)
    members = {(one["rollout"], one["device"]) for one in map(json.loads, answer.text.splitlines())}
    mine = {berlin.planted[one] for one in ("mine", "both")}
    assert members == {(rollout, device) for rollout in mine for device in ("berlin-1", "berlin-2")}


async def test_a_device_is_counted_in_a_rollout_where_one_bound_has_both(berlin):
    """Acme's modules in Berlin, and zebra's elsewhere: of zebra's rollout nothing of Berlin, in no export or metric."""
    two = [Grant(role, "site=berlin", ("acme",)) for role in ("analyst", "metrics")]
    two += [Grant(role, f"site={FOREIGN}", ("zebra",)) for role in ("analyst", "metrics")]
    with berlin.database.write() as connection:
        token = tokens.create(connection, berlin.now, kind="api", role="", name="two", roles=roles.plain(tuple(two)))
    exported = (await berlin.ask("GET", "/api/v1/export/members", token)).text.splitlines()
    other = berlin.planted["other"]
    devices_ = {one["device"] for one in map(json.loads, exported) if one["rollout"] == other}
    assert devices_ == {DEVICE, f"{FOREIGN}-2"}

    measured = (await berlin.ask("GET", "/metrics", token)).text
    counts = re.findall(rf'edgefleet_rollout_devices{{[^}}]*rollout="{other}"[^}}]*}} (\S+)', measured)
    assert sum(map(float, counts)) == 2


async def test_rights_for_two_groups_want_one_of_them_named(berlin, refused):
    """A rollout has one selector: it is not guessed which group was meant."""
    two = roles.plain((Grant("rollout-manager", "site=berlin"), Grant("rollout-manager", f"site={FOREIGN}")))
    with berlin.database.write() as connection:
        token = tokens.create(connection, berlin.now, kind="api", role="", name="two", roles=two)
    body = {"module": "acme/linear:1", "slot": "new", "engine": "process"}
    document = refused(await berlin.ask("POST", "/api/v1/rollouts/plan", token, json=body), 422, "invalid")
    assert document["remedy"] == f"begin the selector with site=berlin or site={FOREIGN}"
    planned = await berlin.ask("POST", "/api/v1/rollouts/plan", token, json=body | {"selector": "site=berlin"})
    assert planned.status_code == 200
    assert len((await berlin.ask("GET", "/api/v1/devices", token)).json()) == 5


async def test_nobody_labels_a_device_out_of_their_own_rights_or_into_them(berlin, refused):
    """The labels stay as they were."""
    gone = await berlin.ask("PATCH", f"/api/v1/devices/{MINE}", berlin.scoped, json={"labels": {"site": "paris"}})
    refused(gone, 403, "forbidden")
    taken = await berlin.ask("PATCH", f"/api/v1/devices/{DEVICE}", berlin.scoped, json={"labels": {"site": "berlin"}})
    refused(taken, 404, "missing")
    kept = {"labels": {"site": "berlin", "ring": "canary"}}
    assert (await berlin.ask("PATCH", f"/api/v1/devices/{MINE}", berlin.scoped, json=kept)).status_code == 200
    with berlin.database.read() as connection:
        found = dict(connection.execute(select(devices.c.id, devices.c.labels)).all())
    assert (found[MINE], found[DEVICE]) == (kept["labels"], {"site": FOREIGN})


async def test_what_is_about_the_whole_fleet_is_no_part_of_a_bounded_role(berlin, refused):
    """An admin for Berlin makes no operators, and founds no trust."""
    for method, path in (
        ("GET", "/api/v1/operators"),
        ("POST", "/api/v1/operators"),
        ("POST", "/api/v1/tuf-bootstrap"),
        ("GET", "/api/v1/audit"),
        ("GET", "/api/v1/audit/rows"),
        ("GET", "/api/v1/audit/heads"),
    ):
        refused(await berlin.ask(method, path, berlin.scoped), 403, "forbidden")


@pytest.mark.parametrize(
    ("selector", "mine"),
    [
        ("site!=quagga", ["berlin-1", "berlin-2"]),
        ("site in (berlin,rome)", ["berlin-1", "berlin-2"]),
        ("id=berlin-2", ["berlin-2"]),
        ("id in (berlin-1,quagga-1)", ["berlin-1", "quagga-1"]),
        ("nothing=here", []),
        ("nothing!=here", ["berlin-1", "berlin-2", "quagga-1", "quagga-2", "quagga-misfit"]),
        ("site=berlin,id!=berlin-1", ["berlin-2"]),
    ],
)
async def test_each_form_of_a_selector_bounds_what_is_seen(berlin, selector, mine):
    """As rollouts read them, for devices and whatever belongs to them."""
    with berlin.database.write() as connection:
        grants = roles.plain((Grant("viewer", selector), Grant("analyst", selector)))
        token = tokens.create(connection, berlin.now, kind="api", role="", name="x", roles=grants)
    assert [one["id"] for one in (await berlin.ask("GET", "/api/v1/devices", token)).json()] == mine
    lines = (await berlin.ask("GET", "/api/v1/export/labels", token)).text.splitlines()
    assert len(lines) == len(mine)


def everything(house):
    """The rows that a route could change, but those that count who asked."""
    with house.database.read() as connection:
        kept = (devices.c.id, devices.c.labels, devices.c.removed)
        rows = connection.execute(select(*kept).order_by(devices.c.id)).all()
        ordered = connection.execute(select(slots.c.device, slots.c.slot, slots.c.rollout)).all()
        states = connection.execute(select(rollouts.c.id, rollouts.c.state, rollouts.c.approved)).all()
        given = connection.execute(select(commands.c.id, commands.c.device, commands.c.state)).all()
        let_in = connection.execute(select(join_rows.c.id, join_rows.c.revoked, join_rows.c.uses_left)).all()
        let_in += connection.execute(select(waiting.c.name, waiting.c.state, waiting.c.join)).all()
    return rows, *(sorted(map(tuple, some)) for some in (ordered, states, given)), let_in
