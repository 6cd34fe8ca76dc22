"""Which images the engine keeps, and how those that are gone come back."""

import asyncio

import msgspec

from modules.errors import EngineBusy
from modules.manifest import Needs
from modules.protocol.phases import Phase
from tests.doubles.engine import Behaviour
from tests.doubles.release import make

FIRST = make("acme/digits:1")
SECOND = make("acme/digits:2")
THIRD = make("acme/digits:3")


def image(release):
    return release.manifest.runtimes[0].image.manifest.sha256


async def test_images_go_when_no_revert_can_need_them(device):
    """The engine keeps the image of what serves and of the version before it; of a removed slot it keeps none. A first
    try that the engine is too busy for is followed by another."""
    for release, kept in ((FIRST, [FIRST]), (SECOND, [FIRST, SECOND]), (THIRD, [SECOND, THIRD])):
        await device.committed(release)
        await device.until(lambda kept=kept: device.engine.images == {image(one) for one in kept})
    device.engine.let_go_errors = [EngineBusy("once"), EngineBusy("twice")]
    await device.order()
    await device.until(lambda: device.engine.images == set())


async def test_an_image_of_before_gets_this_devices_name(device):
    """What an older agent loaded is named by this one at its first tidying, so that no other agent takes it away."""
    await device.committed(FIRST)
    device.engine.named.clear()
    await device.restart()
    await device.until(lambda: device.engine.named == {image(FIRST)})
    await device.stop()


async def test_an_image_that_is_ordered_again_while_it_is_let_go_of_is_not_missing(device):
    """An order for the version whose image just goes waits for that, and brings the image back."""
    for release in (FIRST, SECOND):
        await device.committed(release)
    await device.order(main=THIRD)
    await device.phase(Phase.PROBATION)
    await device.until(lambda: device.loop._let_go == device.store.slots())
    device.engine.gates["let_go"] = asyncio.Event()
    device.clock.advance(1000)
    await device.phase(Phase.COMMITTED)
    await device.until(lambda: device.engine.held("let_go"))
    await device.order(main=FIRST)
    await device.phase(Phase.VERIFIED)
    await device.until(lambda: image(FIRST) in device.engine.images)  # not gone yet
    device.engine.gates["let_go"].set()
    await device.phase(Phase.PROBATION)

    assert image(FIRST) in device.engine.images


async def test_a_lost_image_is_found_though_the_disk_is_full(device):
    """What a module needs to start again lies here, so a restart asks for no room for it."""
    large = make("acme/digits:1", needs=Needs(disk_mb=100))
    await device.committed(large)
    device.host.facts = msgspec.structs.replace(device.host.facts, disk_free_mb=0)
    device.engine.images.clear()
    device.engine.crash(device.row().current.instance)
    await device.restarted()

    assert device.engine.images == {large.manifest.runtimes[0].image.manifest.sha256}


async def test_images_that_somebody_removed_are_made_again(device):
    """After the engine was cleaned up, a crashed module comes back from the layers that lie here, offline too."""
    await device.committed(FIRST)
    device.server.silent = True
    device.engine.images.clear()
    device.engine.crash(device.row().current.instance)
    await device.restarted()
    assert device.engine.images


async def test_a_revert_brings_the_previous_image_back(device):
    """An engine that is cleaned up every night has lost the image of the version before, which must still be had."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    device.engine.images.clear()
    device.engine.behaviours[SECOND.digest] = Behaviour(exits=True)
    device.engine.crash(device.row().current.instance)
    await device.phase(Phase.REVERTED, flowing=5.0)

    assert device.serves() == "acme/digits:1"
    assert device.served()
    assert image(FIRST) in device.engine.images


async def test_going_back_needs_no_disk_for_files_that_are_there(device):
    """A full disk does not refuse the version that lies on it."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    device.host.facts = msgspec.structs.replace(device.host.facts, disk_free_mb=0)
    large = make("acme/digits:1", needs=Needs(disk_mb=100))
    await device.order(main=large)
    await device.phase(Phase.PROBATION)
