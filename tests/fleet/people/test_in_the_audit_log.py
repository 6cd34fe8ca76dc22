"""Log-ins, log-outs and what is done with passwords and tokens are rows of the audit log; no secret is in any."""

from sqlalchemy import select

from fleet.audit import log
from fleet.people.roles import Grant
from fleet.tables import events
from tests.fleet.people.conftest import ADMIN, PASSWORD

SESSION, NEW = "/api/v1/session", "lantern 9 walrus turquoise"


def rows(house):
    with house.database.read() as connection:
        return [(one.by, one.action, one.target, one.outcome, one.code) for one in log.page(connection, 0)]


async def test_each_log_in_and_log_out_is_a_row_by_whoever_it_was(house):
    """Of one that failed nobody is known; the name that was tried is there where somebody has it."""
    csrf = {"X-Edgefleet-Csrf": (await house.log_in()).json()["csrf"]}
    assert (await house.http.delete(SESSION, headers=csrf)).status_code == 200
    await house.log_in(password="wrong password")
    await house.log_in("nobody-has-this", "wrong password")

    posted = f"POST {SESSION}"
    assert rows(house) == [
        (ADMIN, posted, f"{SESSION} as {ADMIN}", 201, ""),
        (ADMIN, f"DELETE {SESSION}", SESSION, 200, ""),
        ("", posted, f"{SESSION} as {ADMIN}", 401, "unauthorised"),
        ("", posted, SESSION, 401, "unauthorised"),
    ]
    assert len(house.events("login-refused")) == 2
    assert house.events("request-denied") == []


async def test_whoever_is_denied_is_named_before_anything_else_is_looked_at(house, refused):
    """A page without the session's header, and a token that is nobody's any more."""
    house.add("bert", Grant("viewer"))
    await house.log_in("bert")
    refused(await house.http.post("/api/v1/operators", json={}), 403, "forbidden")
    refused(await house.ask("GET", "/api/v1/devices", "eft_" + "x" * 43), 401, "unauthorised")

    assert [(one[0], one[3]) for one in rows(house)][1:] == [("bert", 403), ("", 401)]
    assert [by for _, by in house.events("request-denied")] == ["bert", ""]


async def test_no_secret_gets_into_audit_or_events(house):
    """Not from a body, an answer, a cookie, nor from where somebody has put it by mistake."""
    csrf = (await house.log_in()).json()["csrf"]
    cookie = next(iter(house.http.cookies.jar)).value
    headers = {"X-Edgefleet-Csrf": csrf}
    token = (await house.http.post("/api/v1/tokens", json={"name": "ci"}, headers=headers)).json()["token"]
    given = (await house.http.post("/api/v1/operators/anna/password", headers=headers)).json()["password_once"]
    await house.log_in(password=given)
    headers = {"X-Edgefleet-Csrf": (await house.log_in(password=given)).json()["csrf"]}
    await house.http.put(f"{SESSION}/password", json={"old": given, "new": NEW}, headers=headers)
    await house.log_in(PASSWORD, "wrong password")
    await house.log_in(token, "wrong password")
    for path in (f"/api/v1/tokens/{token}", f"/api/v1/operators/{cookie}/password"):
        await house.ask("DELETE", path)
        await house.ask("DELETE", path, "eft_wrong")
        await house.ask("POST", path, "eft_wrong")

    with house.database.read() as connection:
        said = str(log.page(connection, 0)) + str(connection.execute(select(events)).all())
    assert "eft_..." in said
    assert [one for one in (csrf, cookie, token, given, NEW, PASSWORD, house.token) if one in said] == []
