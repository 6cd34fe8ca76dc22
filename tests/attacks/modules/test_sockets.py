"""A module puts something else at the place of its socket: agent and gateway, which are the host's, go nowhere.

The link is made inside the container and followed, if anybody did, on the host.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from agent import socket_folder
from modules.protocol.phases import Phase
from tests.attacks.modules.exposed import HONEST
from tests.attacks.modules.plain import RIGHT, STATUS, answer

LINK = """
import os, signal
os.symlink({target!r}, "/run/edgefleet/s.sock")
signal.pause()
"""
# What else can have the socket's name: made, and left there for whoever comes.
OTHERS = {
    "pipe": "os.mkfifo(place)",
    "folder": "os.mkdir(place)",
    "huge file": "os.truncate(os.open(place, os.O_CREAT | os.O_RDWR), 60 << 20)",
    "setuid file": "os.close(os.open(place, os.O_CREAT)); os.chmod(place, 0o6777)",
    "datagrams": "keep = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); keep.bind(place)",
    "nobody listens": "keep = socket.socket(socket.AF_UNIX); keep.bind(place); keep.close()",
    "nobody accepts": "keep = socket.socket(socket.AF_UNIX); keep.bind(place); keep.listen(0)",
    "second name": "keep = socket.socket(socket.AF_UNIX); keep.bind(place + '2'); os.link(place + '2', place)",
    "abstract": "keep = socket.socket(socket.AF_UNIX); keep.bind(chr(0) + place); keep.listen(9)",
    "device": "os.mknod(place, 0o666 | stat.S_IFBLK, os.makedev(8, 0))",
}
OTHER = """
import os, signal, socket, stat
place = "/run/edgefleet/s.sock"
os.umask(0)
try:
    {making}
except OSError as error:
    print(error.strerror, flush=True)
signal.pause()
"""
# Honest up to its last word before the proof; the connection that it has lasts.
SWAP = """
import os, plain
def status(connection, request):
    os.unlink(plain.PLACE)
    os.symlink({target!r}, plain.PLACE)
    return plain.answer(plain.STATUS)
plain.serve(status=status)
"""
# Tries for as long as it lives, and tells in its answers what became of it.
REPLACE = """
import os, plain
def score(connection, request):
    if b"try" not in request:
        return plain.answer(plain.RIGHT)
    found = []
    for what in (
        lambda: os.unlink(plain.PLACE),
        lambda: os.rename(plain.PLACE, "/run/edgefleet/moved"),
        lambda: os.symlink({target!r}, "/run/edgefleet/more"),
        lambda: os.chmod("/run/edgefleet", 0o777),
        lambda: open("/run/edgefleet/file", "w"),
    ):
        try:
            what()
            found.append("done")
        except OSError as error:
            found.append(error.strerror)
    return plain.answer(repr(found).encode())
plain.serve(score=score)
"""
# Waits until nobody holds its folder closed, as after an agent's death at the wrong moment.
WAIT = """
import os, plain, threading, time
def swap():
    while True:
        time.sleep(0.02)
        try:
            if not plain.turned():
                continue
            os.rename(plain.PLACE, "/run/edgefleet/away")
            os.symlink({target!r}, plain.PLACE)
            return print("swapped")
        except OSError:
            pass
threading.Thread(target=swap, daemon=True).start()
plain.serve()
"""


@asynccontextmanager
async def engines_socket(folder):
    """Root's, as the container engine's is; whoever connects is written down, and gets what a good module answers."""
    asked = []

    async def listen(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(answer(STATUS if b"status" in asked[-1] else RIGHT, b"Connection: close"))
        writer.close()

    async with await asyncio.start_unix_server(listen, folder / "engine.sock"):
        yield str(folder / "engine.sock"), asked


async def test_a_link_to_the_engines_socket_is_not_followed(device, caplog):
    """A module whose socket is a link to the engine's is not ready, and why is told once; the engine hears nothing."""
    async with engines_socket(device.folder) as (target, asked):
        await device.attacked(LINK.format(target=target), ready_within_s=1.0)
        await device.ends(Phase.REVERTED, "not-ready", "not ready within 1 s, .* is not a socket")

        assert (await device.ask()).status == 503
        await device.others_answer()
    assert asked == []
    assert caplog.text.count("is not a socket") == 1


@pytest.mark.parametrize("what", [pytest.param(one, marks=pytest.mark.long) for one in OTHERS])
async def test_something_else_at_the_sockets_place_holds_up_nobody(device, what):
    """A pipe, a folder, a file, a socket that nobody answers at: the module is not ready, and that is all."""
    await device.attacked(OTHER.format(making=OTHERS[what]), ready_within_s=1.0)
    told = await device.ends(Phase.REVERTED, "not-ready", "not ready within 1 s")

    assert told.serving is None
    assert (await device.ask()).status == 503
    await device.others_answer()


@pytest.mark.long
async def test_a_link_put_there_after_the_last_question_is_not_followed(device):
    """It swaps its socket for the link when it has said that it is ready: that ends its way, and nothing is scored."""
    async with engines_socket(device.folder) as (target, asked):
        await device.attacked(SWAP.format(target=target))
        await device.ends(Phase.REVERTED, "over-limit", r"something else than its socket .*s\.sock")

        assert (await device.ask()).status == 503
        await device.others_answer()
    assert asked == []


async def test_a_link_to_another_slots_socket_borrows_no_answers(device):
    """A module that links to its neighbour's socket proves nothing by its right answers, and is not routed."""
    await device.order(other=device.ground.release(HONEST, "other"))
    await device.phase(Phase.COMMITTED, slot="other")
    neighbour = device.socket_folder("other") / "s.sock"

    await device.attacked(LINK.format(target=str(neighbour)), ready_within_s=1.5)
    # The way that the module hopes for is open: who follows the link meets its neighbour.
    await device.until(device.placed)
    await device.until(lambda: (device.socket_folder() / "s.sock").resolve() == neighbour)
    told = await device.ends(Phase.REVERTED, "not-ready", "not ready within 1.5 s, .* is not a socket")

    assert told.serving is None
    assert (await device.ask()).status == 503
    await device.others_answer()


@pytest.mark.long
async def test_a_module_that_serves_can_rearrange_nothing(device):
    """Once it is ready, the folder of its socket takes nothing from it, gives nothing up, and is not its own."""
    await device.attacked(REPLACE.format(target="/var/run/docker.sock"))
    await device.phase(Phase.COMMITTED, slot="evil")

    tried = await device.ask(body=b"try")

    assert tried.body == repr(["Permission denied"] * 3 + ["Operation not permitted", "Permission denied"]).encode()
    assert [path.name for path in device.socket_folder().iterdir()] == ["s.sock"]
    assert (await device.ask()).body == RIGHT
    await device.others_answer()


async def test_where_a_link_is_there_all_the_same_the_gateway_follows_none(device):
    """An agent that died before it closed the folder leaves a moment for the swap: clients then get nobody's answer."""
    async with engines_socket(device.folder) as (target, asked):
        release = await device.attacked(WAIT.format(target=target))
        await device.phase(Phase.COMMITTED, slot="evil")
        await device.stop()
        device.turn(release)
        socket_folder.make(device.socket_folder(), device.group)
        await device.until(lambda: "swapped" in device.logs())

        answers = [(await device.ask()).status for _ in range(3)]
        await device.others_answer()
        await device.restart()
        # The next agent finds it, and starts the module again, at another place.
        await device.until(device.restarts)
        await device.stop()

        assert answers == [503, 503, 503]
        await device.others_answer()
    assert asked == []
