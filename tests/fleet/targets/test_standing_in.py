"""Endpoints as fallbacks of devices: what an order says of one, what is refused, and the tokens that travel with it."""

import asyncio
import re

import msgspec
import pytest
from sqlalchemy import update

from fleet.authority import Authority
from fleet.folder import Folder
from fleet.orders import Orders
from fleet.rollouts.engine import Engine
from fleet.target_tables import endpoints, targets
from fleet.targets import secrets, standing_in
from fleet.targets.contract import Standing
from fleet.targets.endpoints import Endpoints
from fleet.targets.host_certificates import HostCertificates
from modules import access_tokens
from modules.protocol.facts import Facts
from modules.protocol.order import SEALED_AS, Cloud
from modules.sealing import new_key, open_sealed, public_half
from modules.signing import FACTS_TYPE
from tests.doubles.device import HOST_FACTS
from tests.fleet.targets.test_endpoints import create, show

PLANS = "/api/v1/rollouts/plan"
URL = "https://lab.example:8700"
KEY = new_key()
LIFE_S = 30 * 86_400


async def stands(cloud, *, url=URL, **settings):
    """An endpoint in the region lab that answers there, and a device."""
    await create(cloud, settings={"devices": True, "host_name": "lab.example"} | settings)
    async with asyncio.timeout(20):
        while (await show(cloud))["state"] != "failed":  # noqa: ASYNC110 - another task's row; its next look keeps the url
            await asyncio.sleep(0.05)
    standing = msgspec.json.encode(Standing(state="ready", url=url)).decode()
    with cloud.database.write() as connection:
        connection.execute(update(endpoints).values(standing=standing))
        attached = '{"docker": "unix:///nonexistent.sock", "region": "lab"}'
        connection.execute(update(targets).values(attached=attached))
    cloud.fleet.add_device("dev-a")
    facts = Facts(device="dev-a", number=2, issued=0.0, agent="0", host=HOST_FACTS, sealing=public_half(KEY))
    cloud.fleet.ingest.commit([cloud.fleet.said("dev-a", "facts", facts, FACTS_TYPE)])


def wished(cloud):
    folder = Folder(cloud.folder.root)
    return Endpoints(cloud.fleet.registry, secrets.Sealer(folder), HostCertificates(Authority.load(folder.ca)))


async def asked(cloud, fallback="endpoint:digits", ref=None, **terms):
    """The API's answer to what a rollout with this fallback would do."""
    ref = ref or str(cloud.fleet.add_module("digits", fallback_hosts=("lab.example", "other.example")))
    wish = {"module": ref, "slot": "digits", "engine": "process", "fallback": fallback, "fallback_terms": terms}
    return await cloud.ask("POST", PLANS, json=wish)


def terms_of(cloud, fallback="endpoint:digits", **terms):
    ref = cloud.fleet.add_module("digits")
    with cloud.database.read() as connection:
        return standing_in.terms(connection, wished(cloud), ref, fallback, terms)


async def test_an_endpoint_says_where_it_is_and_whom_to_believe(cloud):
    """Address, region and the fleet's authority come from it; what the operator says besides counts more."""
    await stands(cloud)
    found = terms_of(cloud, when=["overloaded"], requests_a_day=7)
    ca = Authority.load(Folder(cloud.folder.root).ca).pem
    assert found == Cloud(
        url=f"{URL}/digits", region="lab", ca=ca, endpoint="digits", when=("overloaded",), requests_a_day=7
    )
    assert terms_of(cloud, region="moon", ca="PEM").region == "moon"


async def test_an_address_without_terms_is_an_order_as_ever(cloud):
    """Agents of before know it; with terms it is one that they skip."""
    assert terms_of(cloud, "https://other.example/x") is None
    assert terms_of(cloud, "https://other.example/x", when=[]) == Cloud(url="https://other.example/x", when=())
    assert terms_of(cloud, None) is None


@pytest.mark.parametrize(
    ("settings", "wish", "why"),
    [
        ({}, {"fallback": "endpoint:none"}, "there is no such endpoint"),
        ({"devices": False}, {}, "no device can come in there.*devices=true"),
        ({"url": "http://lab.example:1"}, {}, "plain HTTP"),
        ({"url": ""}, {}, "nobody answers there yet"),
        ({}, {"url": "https://x"}, "there is no 'url'.*when, region"),
        ({}, {"token": "x"}, "there is no 'token'"),
        ({}, {"fallback": None, "region": "lab"}, "terms, and no fallback"),
        ({}, {"when": ["sometimes"]}, "when"),
        ({}, {"waiting": 0}, "waiting"),
        ({}, {"region": "Not A Region"}, "region"),
        ({}, {"fallback": "https://evil.example/", "region": "lab"}, "allows the host evil.example"),
    ],
)
async def test_what_cannot_stand_in_is_refused_before_any_order(cloud, settings, wish, why):
    """One sentence says what is wrong, and mostly what to do."""
    await stands(cloud, **settings)
    answer = await asked(cloud, **wish)
    assert answer.status_code in {404, 409, 422}, answer.text
    assert re.search(why, answer.text), answer.text


async def test_another_model_does_not_stand_in(cloud):
    """An endpoint that serves something else would give other answers."""
    await stands(cloud)
    other = str(cloud.fleet.add_module("faces", fallback_hosts=("lab.example",)))
    answer = await asked(cloud, ref=other)
    assert (answer.status_code, "which cannot answer for acme/faces" in answer.text) == (409, True)


def ordering(cloud):
    """Orders with tokens, in place of the small fleet's."""
    fleet = cloud.fleet
    fleet.orders = Orders(
        lambda _connection: fleet.director,
        life_s=LIFE_S,
        tokens=lambda connection, now, chosen: standing_in.Tokens(wished(cloud), connection, now, chosen),
    )
    fleet.engine = Engine(fleet.database, fleet.registry, fleet.orders, fleet.clock, fleet.mishaps)


async def test_a_token_travels_sealed_and_is_made_anew_in_time(cloud):
    """Only the device opens it; the order is renewed at half of the token's life, long before its own."""
    await stands(cloud, devices=False, auth="token", token_life_s=3600)
    fleet = cloud.fleet
    ordering(cloud)
    ref = fleet.add_module("digits", fallback_hosts=("lab.example",))
    with cloud.database.read() as connection:
        terms = standing_in.terms(connection, wished(cloud), ref, "endpoint:digits", {})
    fleet.start(ref, devices=("dev-a",), cloud=terms)

    def token():
        sealed = fleet.order("dev-a").slots["digits"].cloud.token
        place = {"device": "dev-a", "slot": "digits", "name": SEALED_AS, "version": sealed.version}
        return sealed.version, open_sealed(sealed.sealed, KEY, **place).decode()

    version, text = token()
    assert version == int(fleet.now) + 3600
    with cloud.database.read() as connection:
        secret = wished(cloud).token_secret(wished(cloud).row(connection, "digits"))
    access_tokens.check(secret, text, now=fleet.now)
    assert text.encode() not in msgspec.json.encode(fleet.order("dev-a"))

    fleet.now += 1700
    fleet.tick()
    assert token() == (version, text)
    fleet.now += 200
    fleet.tick()
    assert token()[0] == int(fleet.now) + 3600

    # Of two endpoints the one whose token ends first says when.
    await create(cloud, name="longer", settings={"auth": "token", "token_life_s": 86400})
    one = fleet.order("dev-a").slots["digits"]
    other = msgspec.structs.replace(one, cloud=msgspec.structs.replace(one.cloud, endpoint="longer"))
    with cloud.database.read() as connection:
        made = standing_in.Tokens(wished(cloud), connection, fleet.now, ["dev-a"])
        _, due = made.given("dev-a", {"digits": one, "other": other})
    assert due == fleet.now + 1800


async def test_with_certificates_there_is_no_token(cloud):
    """A device that comes in by its certificate is given none, and its order lives as long as ever."""
    await stands(cloud, auth="token")
    ordering(cloud)
    cloud.fleet.start(cloud.fleet.add_module("digits", fallback_hosts=("lab.example",)), cloud=terms_of(cloud))
    assert cloud.fleet.order("dev-a").slots["digits"].cloud.token is msgspec.UNSET


async def test_a_rollout_may_say_that_nobody_answers(cloud):
    """Without an address, by the case never; with one, that is a fallback which is asked in no case."""
    answer = await asked(cloud, fallback=None, when=[])
    assert answer.status_code in {200, 422}, answer.text
    assert "no fallback that they are of" not in answer.text
    assert "no fallback that they are of" in (await asked(cloud, fallback=None, when=["unhealthy"])).text
