"""Outages: broker and server go and come back, and nobody has to do anything."""

import asyncio
import contextlib

import pytest

from modules.protocol.report import Report, SlotReport
from modules.signing import REPORT_TYPE
from tests.doubles.device import Device, join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
WAIT_S = stretched(30)


async def until(condition):
    """Wait for something that another process does; asks again every 50 ms."""
    async with asyncio.timeout(WAIT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what it waits for is another process
            await asyncio.sleep(0.05)


async def test_orders_reports_and_acknowledgements_survive_broker_and_server(tmp_path):
    """A new broker gets every order again; a new server reads what was reported while it was away."""
    data = initialise(tmp_path / "data")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(broker(tmp_path / "broker", data))
        ports = {"device_port": first.device_port, "service_port": first.service_port}
        server = stack.enter_context(fleet_server(data, first))
        http = stack.enter_context(server.client())
        owner = Publisher(http)
        owner.found()
        manifest = owner.upload("digits", {"model.onnx": b"graph"})
        owner.sign(manifest)
        device = Device(tmp_path / "dev", join(http), "dev-away")
        checked(device.enrol())
        async with device.connected():
            await device.send_facts()
            await until(lambda: checked(http.get("/api/v1/devices/dev-away")).json()["facts"])
            body = {"module": str(manifest.ref), "slot": "digits", "engine": "process"}
            rollout = checked(http.post("/api/v1/rollouts", json=body)).json()["id"]
            order = await device.next_order(owner.director_keys)

        first.process.kill()
        first.process.wait(10)
        await until(lambda: checked(http.get("/healthz")).json()["broker"] != "connected")
        second = stack.enter_context(broker(tmp_path / "broker", data, **ports))
        await until(lambda: checked(http.get("/healthz")).json()["broker"] == "connected")

        server.process.terminate()
        server.process.wait(20)
        async with device.connected():
            again = await device.next_order(owner.director_keys)
            assert again == order
            slot = SlotReport(
                slot="digits", phase="committed", module=str(manifest.ref), digest=order.slots["digits"].digest
            )
            await device.report([slot], order=order.counter)

            server = stack.enter_context(fleet_server(data, second))
            http = stack.enter_context(server.client())
            await device.acknowledgement(device.number)
        await until(lambda: checked(http.get(f"/api/v1/rollouts/{rollout}")).json()["state"] == "done")
        assert "no session with the broker" in server.log()


@pytest.mark.long
async def test_a_flood_of_one_device_does_not_keep_another_waiting(fleet, tmp_path):
    """A thousand forged messages of one device are refused, and the other's report is acknowledged all the same."""
    _, http, _ = fleet
    loud, quiet = (Device(tmp_path / name, join(http), name) for name in ("dev-loud", "dev-quiet"))
    for device in (loud, quiet):
        checked(device.enrol())
    async with loud.connected(), quiet.connected():
        garbage = loud.signed(Report(device="dev-quiet", number=1, issued=0, order=0, agent="0"), REPORT_TYPE)
        for _ in range(1000):
            await loud.client.publish(loud.topics.report(loud.name), garbage)
        await quiet.acknowledgement(await quiet.report([], order=0))
