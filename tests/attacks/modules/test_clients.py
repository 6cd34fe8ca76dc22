"""What clients send, or make a module do with it, to a committed module in a real container with a real limit."""

import json

import pytest

from modules.manifest import Needs
from modules.protocol.phases import Phase

pytestmark = pytest.mark.long

GREEDY = """
import os, plain, threading, time
def fill():
    return len(b"x" * (512 << 20))
def alone():
    while not plain.turned():
        time.sleep(0.1)
    fill()
def score(connection, request):
    if b"greedy" in request:
        fill()
    return plain.answer(plain.RIGHT)
threading.Thread(target=alone, daemon=True).start()
plain.serve(score=score)
"""


async def test_a_client_that_gets_a_module_killed_does_not_condemn_it(device):
    """The kernel kills it for memory with a client's request in its hands: it is started again, the reason is told, and
    that end is not counted against the version. One that fills its memory by itself is not excused."""
    release = await device.attacked(GREEDY)
    await device.phase(Phase.COMMITTED, slot="evil")
    for time in (1, 2):
        before = device.placed().instance
        got = await device.ask(body=b"greedy")
        assert (got.status, got.headers["retry-after"]) == (503, "1")
        await device.until(lambda before=before: device.placed().instance != before and device.row("evil").serving)
        await device.until(lambda: device.row("evil").upkeep.trouble is None)
        assert (device.row("evil").upkeep.restarts, device.row("evil").upkeep.excused) == (time, time)
    whys = [one.current.reason for sent in device.link.reports(device.key) for one in sent.slots if one.current]
    assert any(why and why.code == "over-limit" and "a client's request" in why.message for why in whys)
    assert (await device.ask()).status == 200
    assert device.store.failed(release.digest) is None

    device.turn(release)
    await device.until(lambda: device.row("evil").upkeep.restarts > 2)
    assert device.row("evil").upkeep.excused == 2
    await device.others_answer()


# What any server of JSON does with it.
READS_JSON = """
import json, plain
def score(connection, request):
    json.loads(request.partition(b"\\r\\n\\r\\n")[2])
    return plain.answer(plain.RIGHT)
plain.serve(score=score)
"""


async def test_a_body_that_is_too_much_for_the_modules_memory_never_reaches_it(device):
    """34 MB of JSON for 128 MiB of memory: 413 with the limit, and the module serves on. What is allowed it bears."""
    await device.attacked(device.ground.release(READS_JSON, needs=Needs(memory_mb=128)))
    await device.phase(Phase.COMMITTED, slot="evil")
    served = device.placed().instance
    huge = await device.ask(body=b"[" + b"1," * (17 << 20) + b"1]")
    assert huge.status == 413
    assert "2097152 bytes: send less at once" in json.loads(huge.body)["message"]
    most = await device.ask(body=b"[" + b"1," * ((1 << 20) - 2) + b"1]")

    assert most.status == 200
    assert (device.placed().instance, device.row("evil").upkeep.restarts) == (served, 0)
    assert device.container().attrs["State"]["OOMKilled"] is False
