"""What a module leaves in the folder of its socket, which is the host's: bounded while it may, removed, and told."""

import asyncio
import shutil

import pytest

from agent import socket_folder
from modules.protocol.phases import Phase
from tests.attacks.modules.exposed import HONEST
from tests.attacks.modules.plain import RIGHT
from tests.parts.pace import stretched

# Before it is ready, for as long as it is let.
FILL = """
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for number in range(100):
    try:
        with open(f"/run/edgefleet/{number}", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        print(error.strerror)
"""
# Ready and right, with company.
LITTER = r"""
import os, plain
listener = plain.listen()
for name in ("\x1b[2J\nroot: all is well", "z" * 255, "\u202egnp.exe"):
    open("/run/edgefleet/" + name, "w").close()
here = os.getcwd()
os.chdir("/run/edgefleet")
for _ in range(2000):
    os.mkdir("d")
    os.chdir("d")
os.chdir(here)
os.symlink("/", "/run/edgefleet/link")
os.mkfifo("/run/edgefleet/fifo")
for number in range(5000):
    os.mkdir(f"/run/edgefleet/{number}")
plain.serve(listener)
"""
# Never ready.
LINGER = """
import time
with open("/run/edgefleet/big", "wb") as file:
    file.write(bytes(1 << 20))
time.sleep(600)
"""
# Ready and right; once it is turned it leaves something at each start.
LATER = """
import plain
listener = plain.listen()
if plain.turned():
    open("/run/edgefleet/left", "w").close()
plain.serve(listener)
"""


async def test_filling_the_folder_is_bounded_by_the_modules_memory(device):
    """Each file ends at 64 MiB, and where the folder lies in memory all of them together at what the module was
    granted: then it is the module that ends, and its bytes go with it."""
    before = shutil.disk_usage(device.folder).used
    release = device.ground.release(FILL, ready_within_s=20.0)
    most = 0

    def watch():
        nonlocal most
        most = max(most, shutil.disk_usage(device.folder).used - before)

    device.watch = watch
    await device.attacked(release)
    await device.ends(Phase.REVERTED, "over-limit", "the kernel ended it for using more memory than its limit")

    assert 32 << 20 < most < 80 << 20  # it was granted 64 MiB, and the device's own files are here, too
    assert shutil.disk_usage(device.folder).used - before < 4 << 20
    await device.others_answer()


async def test_what_a_module_leaves_beside_its_socket_reverts_it(device):
    """Files with a terminal's words for names, thousands of folders, deep ones, links and pipes: removed and told, in
    words that can be read, and what a link points to is untouched."""
    await device.attacked(LITTER, ready_within_s=20.0)
    told = await device.ends(Phase.REVERTED, "over-limit", "left something else than its socket")

    assert len(told.reason.message) < 1000
    assert list((device.folder / "i").iterdir()) == [device.socket_folder("other")]
    await device.others_answer()


@pytest.mark.long
async def test_what_it_leaves_at_a_restart_ends_that_start(device):
    """A committed module that litters when it is started again is stopped, restarted with growing pauses and told of;
    without an agent to see it, the next agent clears up behind it."""
    release = await device.attacked(LATER)
    await device.phase(Phase.COMMITTED, slot="evil")
    # An agent that died before it closed the folder: the module serves, so it goes on, and its litter goes.
    await device.stop()
    socket_folder.make(device.socket_folder(), device.group)
    (device.socket_folder() / "left").write_bytes(b"x" * 1000)
    await device.restart()
    await device.until(lambda: [path.name for path in device.socket_folder().iterdir()] == ["s.sock"])
    assert (await device.ask()).body == RIGHT

    device.turn(release)
    device.container().kill()
    await device.until(lambda: device.restarts() > 1)
    async with asyncio.timeout(stretched(20)):
        while (await device.ask()).status != 503:  # noqa: ASYNC110 - while it is being started it may answer
            await asyncio.sleep(0.02)
    told = device.reported()
    await device.stop()

    assert (told.phase, told.reason.code) == (Phase.COMMITTED, "over-limit")
    await device.others_answer()


@pytest.mark.long
async def test_what_a_superseded_module_has_left_goes_with_it(device):
    """A candidate that a newer order stops, before it was ever ready, leaves nothing on the host."""
    await device.attacked(LINGER, ready_within_s=60.0)
    await device.until(lambda: device.placed() and (device.socket_folder() / "big").exists())

    await device.order(evil=device.ground.release(HONEST, "better"), other=device.ground.release(HONEST, "other"))
    await device.phase(Phase.COMMITTED, slot="evil")

    named = {device.socket_folder(slot) for slot in ("evil", "other")}
    await device.until(lambda: set((device.folder / "i").iterdir()) == named and len(device.containers()) == 2)
    assert (await device.ask()).body == RIGHT
    await device.others_answer()
