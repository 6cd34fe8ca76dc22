"""A module on a device is tried out from afar, through a real server and a real broker."""

import asyncio
import base64
import contextlib

import msgspec
import pytest
from sqlalchemy import select

from fleet import tokens
from fleet.command_tables import commands
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.settings import Settings
from fleet.setup import opened
from modules.protocol.commands import TRIAL_BODY, Trial, Tried
from modules.protocol.facts import TRIES
from tests.doubles.device import READS, Device, join
from tests.doubles.publisher import checked
from tests.fleet.commands.test_command_flow import api, got
from tests.fleet.test_flow import roll_out, signed_module

pytestmark = pytest.mark.needs("mosquitto")
PICTURE = bytes(range(256)) * (TRIAL_BODY // 256)
TRIED = Tried(
    status=200, ms=7.5, content_type="application/json", body=b"[7]", module="acme/tried:1", served_by="local"
)


@contextlib.asynccontextmanager
async def serving(fleet, folder, name, formats=(*READS, TRIES)):
    """A device with a slot, online."""
    _, http, owner = fleet
    device = Device(folder / name, await asyncio.to_thread(join, http), name)
    checked(await asyncio.to_thread(device.enrol))
    async with device.connected():
        await device.send_facts(formats=formats)
        await got(http, f"devices/{name}", lambda shown: shown["facts"] and shown["online"])
        manifest = await asyncio.to_thread(signed_module, owner, f"m-{name}")
        await roll_out(http, manifest, devices=[name])
        await device.next_order(owner.director_keys)
        yield device


async def tries(http, device, body=b"{}", kind="application/json", **more):
    headers = {"Content-Type": kind} | more.pop("headers", {})
    return await api(http, "POST", f"devices/{device}/slots/digits/try", content=body, headers=headers, params=more)


async def test_what_is_sent_arrives_and_the_answer_comes_back(fleet, tmp_path):
    """The largest picture, as its type; the device's word comes back, and no picture stays on the server."""
    server, http, owner = fleet
    asked = []

    def answer(command):
        asked.append(command)
        return [{"state": "done", "data": msgspec.json.encode(TRIED), "content": "application/json"}]

    async with serving(fleet, tmp_path, "dev-tried") as device:
        task = asyncio.create_task(device.obey(owner.director_keys, answer))
        found = checked(await tries(http, "dev-tried", PICTURE, "image/jpeg")).json()
        large = await tries(http, "dev-tried", PICTURE + b"x")
        task.cancel()
        await asyncio.wait([task])
    assert asked[0].trial == Trial(content_type="image/jpeg", body=PICTURE)
    assert (found["state"], found["answer"]["module"], found["answer"]["ms"]) == ("done", "acme/tried:1", 7.5)
    assert base64.b64decode(found["answer"]["body"]) == b"[7]"
    assert large.status_code == 413
    assert len(asked) == 1
    database = opened(Settings(data=server.data.root))
    with database.read() as connection:
        kept = connection.execute(select(commands.c.envelope, commands.c.id).where(commands.c.name == "try-module"))
        assert [tuple(one) for one in kept] == [(b"", found["command"])]
    database.close()
    events = checked(await api(http, "GET", "events")).json()
    assert [one["message"] for one in events if one["kind"] == "command-given"] == [
        f"try-module of slot digits, seconds 20, score with {TRIAL_BODY} bytes, {found['command']}"
    ]


async def test_who_may_not_ask_sends_nothing(fleet, tmp_path):
    """A viewer; an operator of another team; a device whose owner says no; one that is away; one without the slot."""
    server, http, _ = fleet
    database = opened(Settings(data=server.data.root))
    tokened = {}
    with database.write() as connection:
        for name, grant in (
            ("viewer", Grant("viewer")),
            ("others", Grant("operator", teams=("other",))),
            ("own", Grant("operator", teams=("acme",))),
        ):
            given = roles.plain(roles.check([grant]))
            tokened[name] = tokens.create(connection, 0.0, kind="api", role="", name=name, roles=given)
    database.close()

    async def code(device, who=""):
        bearer = {"Authorization": f"Bearer {tokened[who]}"} if who else {}
        answer = await tries(http, device, headers=bearer, within_s=1)
        return answer.json().get("code", answer.json().get("state"))

    async with serving(fleet, tmp_path, "dev-closed", READS):
        assert await code("dev-closed") == "unfit"
    async with serving(fleet, tmp_path, "dev-open"):
        assert await code("dev-open", "viewer") == "forbidden"
        assert await code("dev-open", "others") == "missing"
        nowhere = await api(http, "POST", "devices/dev-open/slots/other/try", content=b"{}")
        assert nowhere.json()["code"] == "missing"
        given = await api(http, "GET", "commands?device=dev-open")
        assert given.json() == []
        assert await code("dev-open", "own") == "expired"
    await got(http, "devices/dev-open", lambda shown: not shown["online"])
    assert await code("dev-open") == "conflict"


async def test_what_is_no_answer_is_none(fleet, tmp_path):
    """A device that says anything else than what it must say is not believed, and that is said."""
    _, http, owner = fleet
    async with serving(fleet, tmp_path, "dev-liar") as device:
        said = [{"state": "done", "data": b'{"status": 200, "ms": -1}', "content": "text/html"}]
        task = asyncio.create_task(device.obey(owner.director_keys, lambda _: said))
        answer = await tries(http, "dev-liar")
        task.cancel()
        await asyncio.wait([task])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
