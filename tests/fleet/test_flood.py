"""One device that sends as fast as it can, through a real broker, beside another that only says what it must."""

import asyncio
import time

import pytest

from modules.signing import REPORT_TYPE
from tests.doubles.device import Device, join
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
FLOOD = 20_000
DIFFERENT = 500
REPORTS = 20
# The bound for what reaches a device.
SOON_S = 5.0


async def enrolled(folder, http, name):
    device = Device(folder / name, await asyncio.to_thread(join, http), name)
    response = await asyncio.to_thread(device.enrol)
    assert response.is_success, response.text
    return device


async def flood(device, envelopes, ended):
    """Reports without a pause, each with the number after the last."""
    sent = 0
    paho = device.client._client
    topic = device.topics.up(device.name, "report")
    while not ended.is_set() and sent < FLOOD:
        for envelope in envelopes:
            paho.publish(topic, envelope, qos=1)
        sent += len(envelopes)
        await asyncio.sleep(0.01)  # the other device lives in this process, too
        while paho.want_write() and len(paho._out_messages) > DIFFERENT:  # noqa: ASYNC110 - the library tells nobody
            await asyncio.sleep(0.005)
    return sent


async def test_a_device_that_floods_keeps_nobody_else_waiting(fleet, tmp_path):
    """Thousands of reports of one device are under way; each report of the other is acknowledged as soon as ever."""
    _, http, _ = fleet
    loud, quiet = await enrolled(tmp_path, http, "dev-loud"), await enrolled(tmp_path, http, "dev-quiet")
    envelopes = [loud.signed(loud.document(number, [], order=0), REPORT_TYPE) for number in range(1, DIFFERENT + 1)]
    ended, took = asyncio.Event(), []
    async with loud.connected(), quiet.connected():
        flooding = asyncio.create_task(flood(loud, envelopes, ended))
        await loud.acknowledgement(1)
        for _ in range(REPORTS):
            began = time.monotonic()
            await quiet.acknowledgement(await quiet.report([], order=0))
            took.append(time.monotonic() - began)
        ended.set()
        assert await flooding >= DIFFERENT
        await loud.acknowledgement(DIFFERENT)
    assert max(took) < stretched(SOON_S)
