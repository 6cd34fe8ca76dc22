"""What a device says of the module that it has committed, all the way to whoever looks."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app
from modules.names import Slug
from modules.protocol.report import Health, Reason, Running, SlotReport
from tests.doubles.device import Device, join
from tests.doubles.publisher import checked
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
WAIT_S = stretched(30)
DEGRADED = {"state": "degraded", "restarts": 6, "reason": {"code": "module-ended", "message": "it ended with 137"}}


@pytest.fixture
def run(fleet, tmp_path, monkeypatch):
    """Runs a command as an operator; returns what it printed."""
    server, _, _ = fleet
    for name, value in (("URL", server.url), ("TOKEN", server.token), ("CA", server.data.ca), ("HOME", tmp_path)):
        monkeypatch.setenv(f"EDGEFLEET_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "300")
    return lambda *words: CliRunner().invoke(app, words).stdout


async def until(http, path, condition):
    """The server's answer once it meets the condition."""
    async with asyncio.timeout(WAIT_S):
        while True:
            shown = checked(await asyncio.to_thread(http.get, path)).json()
            if condition(shown):
                return shown
            await asyncio.sleep(0.05)


async def test_a_degraded_module_is_seen_wherever_somebody_looks(fleet, tmp_path, run):
    """The device, the list of devices and the rollout say that it is degraded and that nobody answers."""
    _, http, owner = fleet
    device = Device(tmp_path / "dev", await asyncio.to_thread(join, http), "dev-sick")
    checked(await asyncio.to_thread(device.enrol))
    manifest = await asyncio.to_thread(owner.upload, "sick", {"model.onnx": b"a graph"})
    await asyncio.to_thread(owner.sign, manifest)
    async with device.connected():
        await device.send_facts()
        await until(http, "/api/v1/devices/dev-sick", lambda shown: shown["facts"])
        wish = {"module": str(manifest.ref), "slot": "sick", "engine": "process", "devices": ["dev-sick"]}
        rollout = checked(await asyncio.to_thread(lambda: http.post("/api/v1/rollouts", json=wish))).json()["id"]
        order = await device.next_order(owner.director_keys)
        digest = order.slots["sick"].digest
        said = {"slot": Slug("sick"), "phase": "committed", "module": str(manifest.ref), "digest": digest}
        serving = Running(module=str(manifest.ref), digest=digest)
        await device.report([SlotReport(**said, serving=serving, current=Health(state="up"))], order=order.counter)
        path = f"/api/v1/rollouts/{rollout}"
        await until(http, path, lambda shown: shown["state"] == "done")

        sick = Health(state="degraded", restarts=6, reason=Reason("module-ended", "it ended with 137"))
        await device.report([SlotReport(**said, current=sick)], order=order.counter)
        shown = await until(http, path, lambda shown: shown["state"] == "failed")
    assert (shown["devices"][0]["serving"], shown["devices"][0]["current"]) == (None, DEGRADED)
    [slot] = checked(await asyncio.to_thread(http.get, "/api/v1/devices/dev-sick")).json()["report"]["slots"]
    assert (slot["serving"], slot["current"]) == (None, DEGRADED)

    assert f"sick: {manifest.ref} (committed, degraded, nobody serves)" in await asyncio.to_thread(
        run, "devices", "list"
    )
    words = "degraded, restarted 6 times: it ended with 137"
    for command in (("devices", "show", "dev-sick"), ("rollouts", "show", rollout)):
        printed = await asyncio.to_thread(run, *command)
        assert words in printed
        assert "nobody" in printed
    document = json.loads(await asyncio.to_thread(run, "rollouts", "show", rollout, "--json"))
    assert document["devices"][0]["current"] == DEGRADED
