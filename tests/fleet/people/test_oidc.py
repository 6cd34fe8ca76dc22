"""Logging in at an identity provider: the whole way over HTTP, and six ID tokens that are none."""

import json

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from fleet.people.roles import Grant, read_mapping
from modules.errors import BadSettings
from tests.doubles.forged_tokens import FORGED
from tests.doubles.identity_provider import CLIENT, SECRET, identity_provider
from tests.parts.application import application

ROLES = {"berlin-operators": [{"role": "operator", "selector": "site=berlin"}], "admins": [{"role": "admin"}]}


@pytest.fixture
async def house(made):
    found, settings = made
    with identity_provider(found.clock) as provider:
        given = {
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT,
            "oidc_client_secret": SECRET,
            "oidc_roles": json.dumps(ROLES),
        }
        async with application(found.folder, found.clock, **settings, **given) as http:
            found.http, found.provider = http, provider
            yield found


async def go(house, **changed):
    """A browser's way to the provider and back; ``changed`` are parts of the address that it comes back with."""
    house.http.cookies.clear()
    left = await house.http.get("/api/v1/oidc/login")
    assert left.status_code == 303
    async with httpx.AsyncClient() as browser:
        there = await browser.get(left.headers["location"])
    back = dict(httpx.URL(there.headers["location"]).params) | changed
    return await house.http.get("/api/v1/oidc/callback", params=back)


async def test_whoever_the_provider_knows_gets_the_roles_of_their_groups(house):
    """Code, PKCE and ID token hold: a session as after a password, with the roles of the mapping and no password."""
    answer = await go(house)

    assert answer.status_code == 200, answer.text
    me = (await house.http.get("/api/v1/session")).json()
    assert me["name"] == "vera@example.org"
    assert me["roles"] == [[{"role": "operator", "selector": "site=berlin"}]]
    (one,) = (await house.ask("GET", "/api/v1/operators")).json()
    assert (one["password"], one["must_change_password"]) == (False, False)
    assert "SameSite=strict" in answer.headers["set-cookie"] or "samesite=strict" in str(answer.headers).lower()


async def test_other_groups_are_other_roles_from_the_next_log_in_on(house, refused):
    """And none is no log-in."""
    await go(house)
    house.provider.claims["groups"] = "admins"
    await go(house)
    assert (await house.http.get("/api/v1/operators")).status_code == 200
    house.provider.claims["groups"] = ["strangers"]
    refused(await go(house), 403, "forbidden")
    assert "identity provider" in house.events("login-refused")[0][0]


async def test_nobody_becomes_an_operator_who_has_a_password_here_or_another_subject(house, refused):
    """A name that the provider gives to somebody else opens nothing."""
    house.add("vera@example.org", Grant("admin"))
    refused(await go(house), 409, "conflict")
    house.provider.claims |= {"email": "otto@example.org"}
    await go(house)
    house.provider.claims |= {"sub": "9999"}
    refused(await go(house), 409, "conflict")


async def test_whoever_is_disabled_here_stays_out(house, refused):
    """Whatever the provider says."""
    await go(house)
    await house.ask("PATCH", "/api/v1/operators/vera@example.org", json={"disabled": True})
    refused(await go(house), 401, "unauthorised")


async def test_a_way_back_that_did_not_begin_here_is_refused(house, refused):
    """Another state, another code, no cookie, and a code that was used: CSRF on the log-in gets nobody in."""
    refused(await go(house, state="x" * 43), 401, "unauthorised")
    refused(await go(house, code="guessed"), 401, "unauthorised")
    house.http.cookies.clear()
    refused(await house.http.get("/api/v1/oidc/callback", params={"code": "x", "state": ""}), 401, "unauthorised")
    assert house.http.cookies.get("__Host-edgefleet") is None


async def test_who_keeps_failing_waits_and_keeps_out_no_other_address(house, refused):
    """429 for the address that failed; another one logs in."""
    for _ in range(8):
        last = await go(house, state="x" * 43)
    refused(last, 429, "too-many")
    house.http._transport.client = ("192.0.2.9", 1234)
    assert (await go(house)).status_code == 200


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_an_id_token_that_is_none_opens_nothing(house, refused, forge):
    """Refused with an event, no operator is added and no session given."""
    house.provider.forge = lambda nonce: forge(house.provider, nonce)
    document = refused(await go(house), 401, "unauthorised")
    assert "word does not hold" in document["detail"]
    assert (await house.ask("GET", "/api/v1/operators")).json() == []
    assert house.http.cookies.get("__Host-edgefleet") is None
    assert len(house.events("login-refused")) == 1


async def test_a_provider_that_changes_its_key_is_followed(house):
    """A key that is not known is asked for, at most once a minute."""
    await go(house)
    house.provider.key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig", "alg": "RS256"})
    provider = house.provider
    provider.forge = lambda nonce: jwt.encode({"alg": "RS256", "kid": "two"}, provider.said(nonce), provider.key)
    house.now += 60
    assert (await go(house)).status_code == 200
    before = provider.asked.count("/keys")
    provider.forge = lambda _: "rubbish"
    for passed in (0, 59, 0):
        house.now += passed
        await go(house)
    assert provider.asked.count("/keys") == before


async def test_a_provider_is_asked_for_its_addresses_and_keys_once_an_hour(house):
    """And at once where the clock was set back behind the last time."""
    for passed, times in ((0, 1), (0, 1), (3599, 1), (1, 2), (-7200, 3)):
        house.now += passed
        assert (await go(house)).status_code == 200
        asked = [house.provider.asked.count(path) for path in ("/.well-known/openid-configuration", "/keys")]
        assert asked == [times, times]


async def test_a_log_in_that_the_provider_does_not_know_is_no_outage(house, refused):
    """It may say so in three ways; whatever else it answers is its trouble, and is told as that."""
    for status in (400, 401, 402, 403, 404, 500):
        house.now += 60  # whoever fails has to wait
        house.provider.token = lambda _, status=status: (status, {})
        if status in {400, 401, 403}:
            refused(await go(house), 401, "unauthorised")
        else:
            assert f"it answered {status}" in refused(await go(house), 503, "link-lost")["detail"]


async def test_two_people_are_told_apart_by_all_of_what_they_are_called_there(house, refused):
    """As much as can be kept, and nobody whose name is longer: cut off, it might be another's."""
    most = 255 - len(f"{house.provider.issuer} ")
    house.provider.claims["sub"] = "x" * most
    assert (await go(house)).status_code == 200
    house.provider.claims["sub"] += "y"
    assert "longer than" in refused(await go(house), 401, "unauthorised")["detail"]


async def test_without_a_provider_there_is_no_such_way(made, refused):
    """404 that says what to do instead."""
    found, settings = made
    async with application(found.folder, found.clock, **settings) as http:
        refused(await http.get("/api/v1/oidc/login"), 404, "missing")


@pytest.mark.parametrize(
    "mapping", ["", "[]", '{"a": [{"role": "boss"}]}', '{"a": [{"role": "viewer", "selector": ""}]}']
)
def test_a_mapping_that_is_none_stops_the_server_at_its_start(mapping):
    """A typing error gives nobody rights, and is told before anybody logs in."""
    with pytest.raises(BadSettings, match="oidc_roles"):
        read_mapping(mapping)
