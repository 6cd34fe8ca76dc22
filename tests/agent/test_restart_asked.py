"""Somebody asks that a module starts again: what it needs is there before it is stopped, nothing is held against it.

The agent's loop stands still meanwhile, so that what is seen is what the restart itself has done.
"""

import asyncio

import pytest

from agent.slots import reason
from modules.errors import EngineBusy, Invalid
from modules.protocol.phases import Phase
from tests.doubles.release import make

ONE, TWO = make(), make("acme/digits:2")


async def standing(device):
    """The instance that serves, on a device whose loop stands still."""
    await device.committed(ONE)
    await device.stop()
    return device.row().current.instance


async def test_it_is_stopped_before_it_starts_again(device):
    """Both at once may not fit into the device's memory; the gateway is told of the new one at once."""
    first = await standing(device)
    device.engine.gates["start"] = asyncio.Event()
    asking = asyncio.create_task(device.executor.restart("main"))
    await device.until(lambda: device.engine.held("start"))
    assert device.engine.stops == [first]
    device.engine.gates["start"].set()
    await asking

    second = device.row().current.instance
    assert second != first
    assert device.route().current.instance == second
    assert (device.row().upkeep.restarts, device.row().upkeep.trouble) == (0, None)


async def test_it_serves_until_its_image_is_there_again(device):
    """Somebody has removed the image: it is loaded from what lies here, and only then is the module stopped."""
    await standing(device)
    device.engine.images.clear()
    device.engine.gates["load"] = asyncio.Event()
    asking = asyncio.create_task(device.executor.restart("main"))
    await device.until(lambda: device.engine.held("load"))
    assert device.engine.stops == []
    device.engine.gates["load"].set()
    await asking

    assert len(device.engine.stops) == 1
    assert device.engine.images == {ONE.manifest.runtimes[0].image.manifest.sha256}


async def test_what_goes_wrong_is_told_and_written_down(device):
    """Whoever asked is told, and the row has it, from which an agent goes on."""
    await standing(device)
    device.engine.start_errors.append(busy := EngineBusy("not now"))
    with pytest.raises(EngineBusy, match="not now"):
        await device.executor.restart("main")

    assert device.row().upkeep.trouble == reason(busy)
    await device.restart()
    await device.until(lambda: device.row().upkeep.trouble is None and device.served(), flowing=5.0)
    await device.stop()


async def test_only_what_is_committed_is_started_again(device):
    """Of a slot that is not there, that has nothing committed, or that is being removed, nothing is touched."""
    first = await standing(device)
    with pytest.raises(Invalid, match="nothing is committed"):
        await device.executor.restart("other")
    removing = device.row().to(Phase.REMOVING, device.clock.now(), by="order")
    device.store.save(removing)
    with pytest.raises(Invalid, match="nothing is committed"):
        await device.executor.restart("main")
    device.store.save(removing.with_(current=None, phase=Phase.COMMITTED))
    with pytest.raises(Invalid, match="nothing is committed"):
        await device.executor.restart("main")

    assert device.engine.answers(first)


async def test_a_module_that_is_being_replaced_is_left_alone(device):
    """While its successor proves itself, it is what the device goes back to."""
    await device.committed(ONE)
    await device.order(main=TWO)
    await device.phase(Phase.PROBATION)
    await device.stop()
    with pytest.raises(EngineBusy, match="being replaced: probation"):
        await device.executor.restart("main")

    assert device.engine.stops == []
