"""One attack's own copy of the world: what the server offers, what the broker delivers, what the link makes of it."""

import asyncio
from collections.abc import Callable

from modules.digests import sha256
from modules.protocol import blobs as wire
from modules.signing import COMMAND_TYPE, ORDER_TYPE
from tests.attacks.mutations.world import COMMANDS, Blunderer, World
from tests.doubles.blob_server import BlobServer

#: Makes of one block on its way what arrives: any number of messages.
Mangle = Callable[["Link", wire.Block], list[bytes]]


class Link(BlobServer):
    """The fleet server and the way to it; ``mangles`` have a part in each block that comes."""

    def __init__(self, blobs, files) -> None:
        super().__init__(blobs, files)
        self.mangles: list[Mangle] = []
        self.late: list[bytes] = []
        self.count = 0

    async def send(self, payload: bytes) -> None:
        get = wire.decode_get(payload)
        self.asked.append(get)
        loop = asyncio.get_running_loop()
        for block in self._answer(get):
            late, self.late = self.late, []
            for one in (*self._mangled(block), *late):
                loop.call_soon(self.deliver, one)
            self.count += 1
        await asyncio.sleep(0)

    def _mangled(self, block: wire.Block) -> list[bytes]:
        for mangle in self.mangles:
            came = mangle(self, block)
            if came != [wire.encode(block)]:
                return came
        return [wire.encode(block)]


class Scene:
    """What attacks change. ``orders`` and ``commands`` (with their topics' levels) come in this order.

    ``published`` are the manifests' digests that count by their paths, ``signed_manifests`` what is in them.
    ``poisoned``: who holds an online key has spoilt the metadata's versions, which only a new key mends. ``lost``: the
    device's copy of the metadata is gone. ``swapped``: the engine holds other layers than it was given.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.files, self.blobs = dict(world.files), dict(world.blobs)
        self.link = Link(self.blobs, self.files)
        self.published = {path: set(digests) for path, digests in world.published.items()}
        self.blunderer = Blunderer(world)
        self.signed_manifests = {one.digest: one.data for one in world.releases.values()}
        self.orders = [world.signed(world.order(), ORDER_TYPE)]
        self.commands: list[tuple[tuple[str, ...], bytes]] = []
        self.poisoned = self.lost = False
        self.swapped: list[str] | None = None

    def give_commands(self) -> None:
        """The honest commands, too."""
        for name in COMMANDS:
            command = self.world.command(name)
            self.commands.append(((name, command.id), self.world.signed(command, COMMAND_TYPE)))

    def offer(self, data: bytes) -> str:
        digest = sha256(data)
        self.blobs[digest] = data
        return digest

    def honest_again(self) -> None:
        """The attack is over; what was published meanwhile stays so."""
        self.link.mangles.clear()
        self.link.late.clear()
        self.blobs.update(self.world.blobs)
        self.files.clear()
        self.files.update(self.world.files)
        self.swapped = None
