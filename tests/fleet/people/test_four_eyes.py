"""Four eyes (row 44 of the attack table): a rollout begins once another person than who started it has approved it."""

import pytest
from sqlalchemy import select

from fleet.audit import log
from fleet.people.roles import Grant
from fleet.rollouts import auto
from fleet.tables import members, rollouts, slots
from modules.names import Slug
from tests.doubles.fleet_rows import SmallFleet
from tests.parts.application import application

ROLLOUTS, RULES, TOKENS = "/api/v1/rollouts", "/api/v1/auto-rollouts", "/api/v1/tokens"
BODY = {"slot": "digits", "engine": "process"}
RULE = {"name": "night", "model": "acme/digits", **BODY}


@pytest.fixture
async def careful(made):
    """A server with four_eyes on, a device and a module; both operators may start and approve, and have two tokens."""
    house, settings = made
    house.fleet = SmallFleet(house.folder.root, house.database)
    house.now = house.fleet.now
    house.fleet.engine._needs_another = True
    house.fleet.add_device("dev-a")
    house.ref = house.fleet.add_module("digits")
    for name in ("anna", "bert"):
        house.add(name, Grant("rollout-manager"), Grant("approver"))
    async with application(house.folder, house.clock, four_eyes=True, **settings) as http:
        house.http = http
        house.held = {}
        for name in ("anna", "bert"):
            csrf = {"X-Edgefleet-Csrf": (await house.log_in(name)).json()["csrf"]}
            for token in ("laptop", "ci"):
                answer = await http.post(TOKENS, json={"name": token}, headers=csrf)
                house.held[name, token] = answer.json()["token"]
        yield house


async def start(house, token):
    answer = await house.ask("POST", ROLLOUTS, token, json=BODY | {"module": str(house.ref)})
    assert answer.status_code == 201, answer.text
    house.fleet.tick()
    return f"{ROLLOUTS}/{answer.json()['id']}"


async def shown(house, rollout):
    house.fleet.tick()
    return (await house.ask("GET", rollout)).json()


def ordered(house):
    """The slots that the device has an order for; the server's own engine is at work, too."""
    with house.database.read() as connection:
        return list(connection.scalars(select(slots.c.slot).where(slots.c.device == "dev-a")))


async def test_row_44_who_starts_a_rollout_does_not_approve_it(careful, refused):
    """403 by each of one's tokens and in one's session, told in events and audit; nothing is ordered before."""
    rollout = await start(careful, careful.held["anna", "laptop"])
    child = await careful.ask("POST", TOKENS, careful.held["anna", "ci"], json={"name": "child"})
    for token in (careful.held["anna", "laptop"], careful.held["anna", "ci"], child.json()["token"]):
        document = refused(await careful.ask("POST", f"{rollout}/approve", token), 403, "forbidden")
        assert document["detail"] == "you started this rollout, and another person has to approve it"
    csrf = (await careful.log_in("anna")).json()["csrf"]
    mine = await careful.http.post(f"{rollout}/approve", headers={"X-Edgefleet-Csrf": csrf})
    refused(mine, 403, "forbidden")

    waiting = await shown(careful, rollout)
    assert (waiting["wave"], waiting["state"], ordered(careful)) == (0, "running", [])
    assert waiting["started_by"] == "anna (token laptop)"
    assert "waits for another person's approval" in waiting["waits_for"]
    denied = careful.events("request-denied")
    assert [by for _, by in denied] == ["anna (token laptop)", "anna (token ci)", "anna (token child)", "anna"]
    assert all("another person has to approve it" in said and "[forbidden]" in said for said, _ in denied)
    with careful.database.read() as connection:
        rows = [row.by for row in log.page(connection, 0) if row.outcome == 403]
    assert rows == [by for _, by in denied]

    assert (await careful.ask("POST", f"{rollout}/approve", careful.held["bert", "ci"])).status_code == 200
    begun = await shown(careful, rollout)
    assert (begun["wave"], ordered(careful)) == (1, ["digits"])


async def test_row_44_what_a_rule_starts_its_maker_does_not_approve(careful, refused):
    """Nobody was there when it started: whoever made the rule is who started it."""
    assert (await careful.ask("POST", RULES, careful.held["anna", "ci"], json=RULE)).status_code == 201
    ref = careful.fleet.add_module("digits", tags={"stage": "field"})
    with careful.database.write() as connection:
        auto.signed(connection, ref)
    careful.fleet.tick()
    (found,) = (await careful.ask("GET", ROLLOUTS)).json()
    rollout = f"{ROLLOUTS}/{found['id']}"
    assert found["started_by"] == "rule night of anna (token ci)"
    refused(await careful.ask("POST", f"{rollout}/approve", careful.held["anna", "laptop"]), 403, "forbidden")
    assert ((await shown(careful, rollout))["wave"], ordered(careful)) == (0, [])
    assert (await careful.ask("POST", f"{rollout}/approve", careful.held["bert", "laptop"])).status_code == 200
    assert (await shown(careful, rollout))["wave"] == 1


async def test_row_44_nobodys_token_is_no_second_person(careful, refused):
    """The token of the data folder, and any without an operator: it neither starts, nor makes a rule, nor approves."""
    body = BODY | {"module": str(careful.ref)}
    for path, wanted in ((ROLLOUTS, body), (RULES, RULE)):
        assert "nobody's token" in refused(await careful.ask("POST", path, json=wanted), 403, "forbidden")["detail"]
    assert (await careful.ask("GET", ROLLOUTS)).json() == (await careful.ask("GET", RULES)).json() == []
    rollout = await start(careful, careful.held["anna", "laptop"])
    refused(await careful.ask("POST", f"{rollout}/approve"), 403, "forbidden")
    assert ((await shown(careful, rollout))["wave"], ordered(careful)) == (0, [])


async def begun(house):
    """A rollout of Anna's that Bert has approved, and its device has an order."""
    rollout = await start(house, house.held["anna", "laptop"])
    assert (await house.ask("POST", f"{rollout}/approve", house.held["bert", "ci"])).status_code == 200
    await shown(house, rollout)
    assert ordered(house) == ["digits"]
    return rollout


async def test_row_44_who_starts_a_rollout_does_not_let_it_go_on(careful, refused):
    """Paused, or ended and tried again: another person does; 403 for each token of its starter's, and for nobody's."""
    rollout = await begun(careful)
    assert (await careful.ask("POST", f"{rollout}/pause", careful.held["bert", "ci"])).status_code == 200
    for token in (careful.held["anna", "laptop"], careful.held["anna", "ci"], None):
        document = refused(await careful.ask("POST", f"{rollout}/resume", token), 403, "forbidden")
        assert "another" in document["detail"]
        assert (await shown(careful, rollout))["state"] == "paused"
    assert (await careful.ask("POST", f"{rollout}/resume", careful.held["bert", "laptop"])).status_code == 200
    with careful.database.write() as connection:
        connection.execute(members.update().values(standing="failed"))
        connection.execute(rollouts.update().values(state="failed"))
    refused(await careful.ask("POST", f"{rollout}/retry", careful.held["anna", "laptop"]), 403, "forbidden")
    assert (await careful.ask("POST", f"{rollout}/retry", careful.held["bert", "laptop"])).status_code == 200


async def test_one_that_waits_for_approval_anyway_may_be_resumed(careful):
    """Its starter has paused it before it began: it still begins with another person's word alone."""
    rollout = await start(careful, careful.held["anna", "laptop"])
    for action in ("pause", "resume"):
        assert (await careful.ask("POST", f"{rollout}/{action}", careful.held["anna", "laptop"])).status_code == 200
    assert ((await shown(careful, rollout))["wave"], ordered(careful)) == (0, [])


async def test_row_44_the_way_back_needs_nobody_else(careful):
    """Whoever started it stops it, and takes it back, alone."""
    rollout = await begun(careful)
    for action in ("pause", "revert"):
        assert (await careful.ask("POST", f"{rollout}/{action}", careful.held["anna", "ci"])).status_code == 200
    await shown(careful, rollout)
    assert ordered(careful) == []


async def test_row_44_a_slot_is_emptied_by_two_people(careful, refused):
    """The first is told that it waits, with whichever token; of other content, or a day later, anew."""
    await begun(careful)
    place = "/api/v1/devices/dev-a/slots/digits"
    refused(await careful.ask("DELETE", place), 403, "forbidden")
    for token in (careful.held["anna", "laptop"], careful.held["anna", "ci"]):
        answer = await careful.ask("DELETE", place, token)
        assert (answer.status_code, "another person" in answer.json()["waits_for"]) == (202, True)
    (told,) = careful.events("emptying-waits")
    assert told[1] == "anna (token laptop)"
    assert ordered(careful) == ["digits"]

    careful.now += 86400
    assert (await careful.ask("DELETE", place, careful.held["bert", "ci"])).status_code == 202
    with careful.database.write() as connection:
        connection.execute(slots.update().values(revision=slots.c.revision + 1))
    assert (await careful.ask("DELETE", place, careful.held["anna", "ci"])).status_code == 202
    assert ordered(careful) == ["digits"]
    answer = await careful.ask("DELETE", place, careful.held["bert", "ci"])
    assert (answer.status_code, "counter" in answer.json()) == (200, True)
    assert ordered(careful) == []
    refused(await careful.ask("DELETE", place, careful.held["bert", "ci"]), 404, "missing")


async def test_a_plan_says_that_the_first_wave_waits(careful):
    """Before anything is started."""
    answer = await careful.ask("POST", f"{ROLLOUTS}/plan", json=BODY | {"module": str(careful.ref)})
    (wave,) = answer.json()["waves"]
    assert (wave["threshold"]["approval"], wave["threshold"]["four_eyes"]) == (True, True)


async def test_a_rule_whose_maker_nobody_knows_starts_nothing(careful):
    """One of before: it says so once a version is signed, and has to be made anew."""
    rule = auto.Rule(name=Slug("old"), wish=auto.Wish(module=careful.ref, **BODY))
    with careful.database.write() as connection:
        auto.add(connection, careful.now, rule)
        auto.signed(connection, careful.fleet.registry.signed(connection, careful.ref)[0].ref)
    later = careful.fleet.add_module("digits")
    with careful.database.write() as connection:
        auto.signed(connection, later)
    careful.fleet.tick()
    assert (await careful.ask("GET", ROLLOUTS)).json() == []
    assert "nobody's token" in careful.events("auto-rollout-refused")[-1][0]


async def test_without_the_setting_whoever_may_approve_approves(house):
    """As ever, and with nobody's token."""
    fleet = SmallFleet(house.folder.root, house.database)
    fleet.add_device("dev-a")
    body = BODY | {"module": str(fleet.add_module("digits")), "policy": {"approval": True}}
    made = (await house.ask("POST", ROLLOUTS, json=body)).json()
    assert (made["wave"], made["started_by"]) == (0, "token 1 (admin)")
    assert (await house.ask("POST", f"{ROLLOUTS}/{made['id']}/approve")).status_code == 200
