"""Commands through a real server and a real broker, to a device that speaks the real protocol."""

import asyncio
import contextlib
import time

import aiomqtt
import pytest

from fleet.commands.sending import LOOK_EVERY_S
from modules.protocol.commands import PIECE, RESULT_LIMIT
from tests.doubles.device import WAIT_S, Device, join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker, free_port

pytestmark = pytest.mark.needs("mosquitto")


async def api(http, method, path, **more):
    return await asyncio.to_thread(lambda: http.request(method, f"/api/v1/{path}", **more))


async def got(http, path, condition=bool):
    """The server's answer once it meets the condition."""
    async with asyncio.timeout(WAIT_S):
        while not condition(answer := checked(await api(http, "GET", path)).json()):  # noqa: ASYNC110 - HTTP tells nobody
            await asyncio.sleep(0.05)
    return answer


async def give(http, name, **body):
    return checked(await api(http, "POST", "commands", json={"name": name} | body)).json()["commands"][0]["id"]


def over(shown):
    return shown["ended"] is not None


@contextlib.asynccontextmanager
async def obeying(device, keys, done):
    """The device is connected and answers every command."""
    async with device.connected():
        task = asyncio.create_task(device.obey(keys, done))
        try:
            yield
            assert not task.done() or await task is None
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def known(fleet, tmp_path):
    """Enrols a device of this name that has said what it is, and is gone again."""
    _, http, _ = fleet

    async def make(name):
        device = Device(tmp_path / name, await asyncio.to_thread(join, http), name)
        checked(await asyncio.to_thread(device.enrol))
        async with device.connected():
            await device.send_facts()
            await got(http, f"devices/{name}", lambda shown: shown["facts"] and shown["online"])
        await got(http, f"devices/{name}", lambda shown: not shown["online"])
        return device

    return make


async def test_a_device_gets_a_command_and_its_answers_come_back(fleet, known):
    """Parts with progress, a result of several pieces, and the end; all of it shown, and the result fetched."""
    _, http, owner = fleet
    device = await known("dev-obeys")
    pieces = [b"a" * PIECE, b"b" * PIECE, b"c"]
    said = [
        {"state": "running", "progress": 0.1, "data": pieces[0], "content": "application/zip"},
        {"state": "running", "progress": 0.6, "data": pieces[1]},
        {"state": "done", "data": pieces[2], "note": "all of it"},
    ]
    async with obeying(device, owner.director_keys, lambda _: said):
        ident = await give(http, "diagnose", device="dev-obeys")
        shown = await got(http, f"commands/{ident}", over)
    assert {key: shown[key] for key in ("state", "answers", "bytes", "note", "device", "name")} == {
        "state": "done", "answers": 3, "bytes": 2 * PIECE + 1, "note": "all of it", "device": "dev-obeys",
        "name": "diagnose",
    }  # fmt: skip
    assert shown["by"].startswith("token ")
    result = checked(await api(http, "GET", f"commands/{ident}/result"))
    assert result.content == b"".join(pieces)
    assert result.headers["content-type"] == "application/zip"
    assert result.headers["content-disposition"] == f'attachment; filename="dev-obeys-diagnose-{ident[:8]}.zip"'
    events = checked(await api(http, "GET", "events")).json()
    assert ("command-given", "dev-obeys", shown["by"]) in {(one["kind"], one["device"], one["by"]) for one in events}


async def test_a_whole_result_of_four_mebibytes_arrives(fleet, known):
    """More parts at once than of any other kind of message wait for their turn."""
    _, http, owner = fleet
    device = await known("dev-large")
    said = [{"state": "running", "data": bytes([number]) * PIECE} for number in range(RESULT_LIMIT // PIECE)]
    async with obeying(device, owner.director_keys, lambda _: [*said, {"state": "done"}]):
        ident = await give(http, "diagnose", device="dev-large")
        shown = await got(http, f"commands/{ident}", lambda shown: over(shown) or shown["answers"] == len(said) + 1)
    assert (shown["state"], shown["bytes"]) == ("done", RESULT_LIMIT)
    data = checked(await api(http, "GET", f"commands/{ident}/result")).content
    assert data == b"".join(one["data"] for one in said)


@pytest.mark.long
async def test_a_device_that_was_away_gets_what_still_holds(fleet, known):
    """When it comes back, at once; what has expired it does not get, and that is an event."""
    _, http, owner = fleet
    device = await known("dev-away")
    short = await give(http, "ping", device="dev-away", expires_s=1)
    ident = await give(http, "ping", device="dev-away")
    await got(http, f"commands/{ident}", lambda shown: shown["sent"])
    await asyncio.sleep(1.5)
    began = time.monotonic()
    async with device.connected():
        command = await device.next_command(owner.director_keys)
        assert command.id == ident
        assert time.monotonic() - began < WAIT_S / 2
        await device.answer(command, {"state": "done"})
        assert (await got(http, f"commands/{ident}", over))["state"] == "done"
        shown = await got(http, f"commands/{short}", over)
        assert (shown["state"], shown["answers"]) == ("expired", 0)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert device.commands.empty()
    events = checked(await api(http, "GET", "events")).json()
    assert ("command-expired", "dev-away") in {(one["kind"], one["device"]) for one in events}


async def test_what_is_cancelled_reaches_nobody(fleet, known):
    _, http, _ = fleet
    device = await known("dev-calm")
    ident = await give(http, "ping", device="dev-calm")
    assert checked(await api(http, "DELETE", f"commands/{ident}")).json()["state"] == "cancelled"
    async with device.connected():
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert device.commands.empty()
    again = await api(http, "DELETE", f"commands/{ident}")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_a_forged_answer_changes_nothing(fleet, known):
    """One that another device signed, at the topic of a command of this one, through the broker."""
    _, http, owner = fleet
    device, other = await known("dev-honest"), await known("dev-forger")
    ident = await give(http, "ping", device="dev-honest")
    async with device.connected():
        command = await device.next_command(owner.director_keys)
        device.key, own = other.key, device.key
        await device.answer(command, {"state": "done", "note": "I am another"})
        device.key = own

        def said(events):
            return [one for one in events if one["device"] == "dev-honest" and one["kind"] == "forged-message"]

        await got(http, "events", said)
        assert (await got(http, f"commands/{ident}"))["answers"] == 0
        device.answered.clear()
        await device.answer(command, {"state": "done"})
        assert (await got(http, f"commands/{ident}", over))["note"] == ""


async def test_who_waits_for_an_answer_has_it_when_it_comes(fleet, known):
    """A request with ``wait_s`` ends with the next part, with the end, or with its time."""
    _, http, owner = fleet
    device = await known("dev-slow")
    ident = await give(http, "ping", device="dev-slow")
    began = time.monotonic()
    assert (await got(http, f"commands/{ident}?wait_s=1", lambda _: True))["answers"] == 0
    assert time.monotonic() - began >= 1
    async with device.connected():
        command = await device.next_command(owner.director_keys)
        waits = asyncio.create_task(got(http, f"commands/{ident}?wait_s=30", lambda _: True))
        await asyncio.sleep(0.5)
        assert not waits.done()
        await device.answer(command, {"state": "running", "data": b"one"})
        assert (await waits)["answers"] == 1
        waits = asyncio.create_task(got(http, f"commands/{ident}?wait_s=30&from=2", lambda _: True))
        await device.answer(command, {"state": "done"})
        shown = await waits
    assert (shown["state"], [one["part"] for one in shown["parts"]]) == ("done", [2])


@pytest.fixture
def own(tmp_path_factory):
    """A fleet of one's own: broker and server can be started again where they were."""
    folder = tmp_path_factory.mktemp("own")
    data = initialise(folder / "data")
    ports = {"device_port": free_port(), "service_port": free_port()}
    server_port = str(free_port())

    def start_broker():
        return broker(folder / "broker", data, **ports)

    def start_server(running):
        return fleet_server(data, running, port=server_port)

    return start_broker, start_server


@pytest.mark.long
async def test_neither_a_new_server_nor_a_new_broker_loses_a_command(own, tmp_path):
    """The server ends between sending and the answer, then the broker: each time the command comes again, unchanged."""
    start_broker, start_server = own
    with contextlib.ExitStack() as brokers, contextlib.ExitStack() as servers:
        running = brokers.enter_context(start_broker())
        server = servers.enter_context(start_server(running))
        with server.client() as http:
            owner = Publisher(http)
            await asyncio.to_thread(owner.found)
            device = Device(tmp_path / "dev-b", await asyncio.to_thread(join, http), "dev-b")
            checked(await asyncio.to_thread(device.enrol))
            with contextlib.suppress(aiomqtt.MqttError):  # its goodbye, which no broker takes any more
                async with device.connected():
                    await device.send_facts()
                    await got(http, "devices/dev-b", lambda shown: shown["facts"])
                    ident = await give(http, "ping", device="dev-b")
                    first = await device.arrived_command()
                    command = device.command(owner.director_keys, first)
                    await got(http, f"commands/{ident}", lambda shown: shown["state"] == "sent")

                    await asyncio.to_thread(servers.close)
                    await device.answer(command, {"state": "running"})  # which nobody hears
                    server = await asyncio.to_thread(servers.enter_context, start_server(running))
                    assert await device.arrived_command() == first
                    await device.answer_again(command)
                    with server.client() as again:
                        await got(again, f"commands/{ident}", lambda shown: shown["state"] == "running")
                    await asyncio.to_thread(brokers.close)
            await asyncio.to_thread(brokers.enter_context, start_broker())
            async with device.connected():
                assert await device.arrived_command() == first
                await device.answer_again(command)
                await device.answer(command, {"state": "done"})
                with server.client() as again:
                    shown = await got(again, f"commands/{ident}", over)
            assert (shown["state"], shown["answers"]) == ("done", 2)
