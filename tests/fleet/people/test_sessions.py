"""Logging in with name and password: what a browser gets, how long it holds, and what ends it."""

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters
from sqlalchemy import select

from fleet.people import passwords
from fleet.people.roles import Grant
from fleet.tables import operators, sessions

ME = "/api/v1/session"


async def test_a_log_in_gives_a_cookie_that_no_script_and_no_other_site_can_use(house):
    """__Host-, HttpOnly, Secure, SameSite=Strict; the database holds the hash alone."""
    answer = await house.log_in()

    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    name, _, rest = cookie.partition("=")
    assert name == "__Host-edgefleet"
    words = {one.strip().lower() for one in rest.split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=43200"} <= words
    assert not any(one.startswith("domain") for one in words)
    value = rest.partition(";")[0]
    with house.database.read() as connection:
        (row,) = connection.execute(select(sessions)).all()
    assert value not in str(tuple(row))
    assert (await house.http.get(ME)).json()["name"] == "anna"


async def test_a_change_needs_the_pages_own_header(house, refused):
    """Reading goes by the cookie alone; a change without the header, or with another session's, is refused."""
    csrf = (await house.log_in()).json()["csrf"]
    body = {"name": "bert", "roles": [{"role": "viewer"}]}

    assert (await house.http.get("/api/v1/operators")).status_code == 200
    refused(await house.http.post("/api/v1/operators", json=body), 403, "forbidden")
    wrong = {"X-Edgefleet-Csrf": csrf[::-1]}
    refused(await house.http.post("/api/v1/operators", json=body, headers=wrong), 403, "forbidden")
    right = {"X-Edgefleet-Csrf": csrf}
    assert (await house.http.post("/api/v1/operators", json=body, headers=right)).status_code == 201


async def test_a_foreign_page_changes_nothing_with_the_cookie(house, refused):
    """The Origin decides before anything else."""
    csrf = (await house.log_in()).json()["csrf"]
    headers = {"X-Edgefleet-Csrf": csrf, "Origin": "https://evil.example"}

    refused(await house.http.delete(ME, headers=headers), 403, "foreign-origin")
    assert (await house.http.get(ME)).status_code == 200


async def test_a_session_that_is_not_used_ends_and_one_that_is_used_ends_all_the_same(house, refused):
    """An hour without a request; twelve hours with many."""
    await house.log_in()
    house.now += 3599
    assert (await house.http.get(ME)).status_code == 200
    house.now += 3599
    assert (await house.http.get(ME)).status_code == 200
    house.now += 3601
    refused(await house.http.get(ME), 401, "unauthorised")

    await house.log_in()
    for _ in range(23):
        house.now += 1800
        assert (await house.http.get(ME)).status_code == 200
    house.now += 1801
    refused(await house.http.get(ME), 401, "unauthorised")
    over = "session: this session is over (log in again) [unauthorised]"
    assert house.events("request-denied") == [(f"GET {ME} from 127.0.0.1: {over}", "")] * 2


@pytest.mark.parametrize(
    "change", [{"disabled": True}, {"roles": [{"role": "viewer"}]}, None], ids=["disabled", "other roles", "password"]
)
async def test_whoever_is_disabled_or_changed_is_out_at_once(house, refused, change):
    """The very next request of the old session is refused."""
    house.add("bert", Grant("operator"))
    await house.log_in("bert")
    cookie = house.http.cookies["__Host-edgefleet"]
    if change is None:
        assert (await house.ask("POST", "/api/v1/operators/bert/password")).status_code == 200
    else:
        assert (await house.ask("PATCH", "/api/v1/operators/bert", json=change)).status_code == 200

    house.http.cookies.set("__Host-edgefleet", cookie)
    refused(await house.http.get(ME), 401, "unauthorised")


async def test_logging_out_ends_the_session_on_the_server(house, refused):
    """The cookie that somebody copied before holds no more."""
    csrf = (await house.log_in()).json()["csrf"]
    cookie = house.http.cookies["__Host-edgefleet"]
    assert (await house.http.delete(ME, headers={"X-Edgefleet-Csrf": csrf})).status_code == 200

    house.http.cookies.set("__Host-edgefleet", cookie)
    refused(await house.http.get(ME), 401, "unauthorised")


async def test_a_name_that_nobody_has_is_answered_as_a_wrong_password_is(house, refused, monkeypatch):
    """The same words, and the work of one whole hash of the same cost: nobody learns who is an operator."""
    house.add("bert")
    await house.ask("PATCH", "/api/v1/operators/bert", json={"disabled": True})
    documents, costs, verify = [], [], PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda *given: (costs.append(extract_parameters(given[1])), verify(*given))[1]
    )
    for name, password in (
        ("anna", "wrong password"),
        ("nobody", "wrong password"),
        ("bert", "turquoise walrus 7 lantern"),
    ):
        documents.append(refused(await house.log_in(name, password), 401, "unauthorised"))
    assert documents[0] == documents[1] == documents[2]
    assert costs == costs[:1] * 3
    assert [message.partition(" from ")[0] for message, _ in house.events("login-refused")] == [
        "'anna'",
        "'nobody'",
        "'bert'",
    ]


async def test_what_fails_has_to_wait_longer_each_time_and_nothing_is_computed_meanwhile(house, refused, monkeypatch):
    """After four failures a second, then two, then four; the right password waits like any other."""
    for _ in range(4):
        refused(await house.log_in(password="wrong password"), 401, "unauthorised")
    monkeypatch.setattr(passwords.Passwords, "right", lambda *_: pytest.fail("a password was checked"))
    answer = await house.log_in()
    refused(answer, 429, "too-many")
    assert answer.headers["retry-after"] == "1"
    monkeypatch.undo()

    house.now += 1.5
    refused(await house.log_in(password="wrong password"), 401, "unauthorised")
    answer = await house.log_in()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    house.now += 60
    assert (await house.log_in()).status_code == 201


async def test_a_password_of_megabytes_is_refused_before_anything_is_computed(house, refused, monkeypatch):
    """Neither its hash nor its length costs the server anything."""
    monkeypatch.setattr(passwords.Passwords, "_turn", lambda *_: pytest.fail("a hash was computed"))
    refused(await house.log_in(password="x" * 1025), 422, "invalid")
    assert (await house.log_in(password="x" * (1 << 20))).status_code == 413


async def test_a_password_that_was_given_has_to_be_changed_before_anything_else(house, refused):
    """The random one of a new operator opens the change alone, to one that is good enough and another."""
    made = (await house.ask("POST", "/api/v1/operators", json={"name": "bert", "roles": [{"role": "admin"}]})).json()
    given = made["password_once"]
    entered = (await house.log_in("bert", given)).json()
    assert entered["must_change_password"]
    headers = {"X-Edgefleet-Csrf": entered["csrf"]}

    refused(await house.http.get("/api/v1/devices"), 403, "forbidden")
    refused(await house.http.post("/api/v1/tokens", json={"name": "ci"}, headers=headers), 403, "forbidden")
    change = ME + "/password"
    for new, why in (
        ("short", "12 characters"),
        ("password1234", "not good enough"),
        ("quiet bert lighthouse 41", "name"),
    ):
        answer = await house.http.put(change, json={"old": given, "new": new}, headers=headers)
        assert why in refused(answer, 422, "invalid")["detail"]
    refused(await house.http.put(change, json={"old": given, "new": given}, headers=headers), 409, "conflict")
    refused(await house.http.put(change, json={"old": "wrong", "new": "x" * 40}, headers=headers), 401, "unauthorised")
    new = "seven quiet lighthouses"
    assert (await house.http.put(change, json={"old": given, "new": new}, headers=headers)).status_code == 200
    refused(await house.http.get(ME), 401, "unauthorised")
    assert (await house.log_in("bert", new)).json()["must_change_password"] is False
    assert (await house.http.get("/api/v1/devices")).status_code == 200
    with house.database.read() as connection:
        assert new not in str(connection.execute(select(operators)).all())


@pytest.mark.parametrize("passwords", [passwords.Passwords()], ids=["at full cost"])
@pytest.mark.long
async def test_of_many_log_ins_at_once_few_wait_and_the_others_are_told_to_come_again(house):
    """Two hashes at a time, eight that wait: the rest is 503 with Retry-After, and other requests go on."""
    house.add("bert")
    answers = await asyncio.gather(
        *(house.http.post(ME, json={"user": f"name{one}", "password": "wrong password"}) for one in range(30)),
        house.http.get("/healthz"),
    )
    health = answers.pop()
    codes = [one.status_code for one in answers]
    assert health.status_code in {200, 503}
    assert codes.count(503) >= 1
    assert set(codes) <= {401, 429, 503}
    assert all(one.headers["retry-after"] == "5" for one in answers if one.status_code == 503)
