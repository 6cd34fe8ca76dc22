"""One module in two slots, one of which comes and goes: what the slots share stays as long as either needs it."""

import json
import os
import signal

import pytest

from tests.attacks.scene import SLOT
from tests.attacks.scene import scene as made
from tests.doubles.publisher import checked

pytestmark = [pytest.mark.needs("mosquitto"), pytest.mark.long, pytest.mark.timeout(300)]
OTHER = "other"
ASKED = b'{"data": [1.0]}'


@pytest.fixture
def scene():
    with made() as one:
        yield one


def order(scene, manifest, slot):
    body = {"module": str(manifest.ref), "slot": slot, "devices": [scene.device.name], "engine": "process"}
    checked(scene.http.post("/api/v1/rollouts", json=body | {"supersede": True}))


def empty(scene, slot):
    checked(scene.http.delete(f"/api/v1/devices/{scene.device.name}/slots/{slot}"))


def answers(scene, slot):
    scored = scene.device.score(slot, ASKED)
    return json.loads(scored.body)["y"] if scored.status == 200 else scored.status


def test_a_slot_that_comes_and_goes_takes_nothing_from_the_other(scene):
    """Ordered beside, updated, emptied in the middle of that, and ordered again while it goes."""
    first = scene.current
    mine = answers(scene, SLOT)

    order(scene, first, OTHER)
    scene.device.reaches(OTHER, "committed")
    assert answers(scene, OTHER) == mine

    second = scene.release()
    order(scene, second, OTHER)
    scene.device.until(lambda: scene.device.phase(OTHER) not in {"committed", ""}, "the update has begun")
    empty(scene, OTHER)
    scene.device.until(lambda: scene.device.slot(OTHER) is None, "the slot is gone")
    assert answers(scene, OTHER) == 404
    for process in scene.processes():
        os.kill(process, signal.SIGKILL)
    scene.device.until(lambda: not set(scene.processes()) & {process}, "it has ended")
    scene.device.until(lambda: answers(scene, SLOT) == mine, "what it needs to start again is there")

    order(scene, first, OTHER)
    scene.device.reaches(OTHER, "committed")
    empty(scene, OTHER)
    scene.device.until(lambda: scene.device.phase(OTHER) in {"removing", ""}, "the slot goes")
    order(scene, first, OTHER)
    scene.device.until(lambda: scene.device.phase(OTHER) == "committed" and answers(scene, OTHER) == mine, "it is back")

    empty(scene, SLOT)
    scene.device.until(lambda: scene.device.slot(SLOT) is None, "the first slot is gone")
    assert answers(scene, OTHER) == mine
    scene.device.until(
        lambda: [one["slot"] for one in scene.system.report(scene.device.name)["slots"]] == [OTHER], "the server knows"
    )
