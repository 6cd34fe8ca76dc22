"""What /healthz says to whom: it is open to everybody, and names nothing of the fleet to those who may not see it."""

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import Grant

TEAM = "quagga"


def plant(house):
    """A team whose metadata is about to end, as the server's upkeep says it; of a kind of its own, for upkeep says it
    anew meanwhile."""
    app = house.http._transport.app
    app.state.services.mishaps.warn("planted", [f"team-{TEAM} ends on 2030-01-01", "ca ends on 2030-01-02"])


def token(house, *grants):
    with house.database.write() as connection:
        given = roles.plain(roles.check(grants))
        return tokens.create(connection, house.now, kind="api", role="", name="x", roles=given)


async def warnings(house, by):
    answer = await house.ask("GET", "/healthz", by)
    assert answer.status_code == 200
    return answer.json()["warnings"]


async def test_only_who_may_read_the_fleets_events_is_told_which_teams_metadata_ends(house):
    """Everybody else hears of how many and which kind: without a token, with a wrong one, or without the right."""
    plant(house)
    house.http.cookies.clear()
    said = [(await house.http.get("/healthz")).json()["warnings"]]
    few = (token(house, Grant("releaser")), token(house, Grant("viewer", "site=berlin")))
    said += [await warnings(house, by) for by in ("eft_wrong", *few)]
    assert said == [["2 of planted: ask as who may read events"]] * 4
    for by in (None, token(house, Grant("viewer"))):
        assert TEAM in str(await warnings(house, by))
    await house.log_in()
    assert TEAM in (await house.http.get("/healthz")).text


async def test_a_token_that_cannot_be_looked_up_takes_nothing_from_the_answer(house):
    """It counts as none: a load balancer that sends one learns that the server is there."""
    plant(house)
    with house.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE tokens RENAME TO gone")
    assert await warnings(house, None) == ["2 of planted: ask as who may read events"]
