"""A device's verifier with everything around it that is real: a trust repository, a shelf, a store, pulls."""

from datetime import UTC, datetime

from agent.fetch import Puller
from agent.shelf import Shelf
from agent.store import Store
from agent.verify import Accepted, Verifier
from modules import canonical, signing
from modules.data_rule import DataRule
from modules.names import DeviceId, device_id
from modules.protocol.order import Order
from modules.settable import Adjustable
from tests.doubles import keys
from tests.doubles.blob_server import BlobServer
from tests.doubles.release import make

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DEVICE = device_id("dev-1")
DATA = DataRule(kind="personal", regions=("eu-west",))
ADJUSTABLE = {"probation_s": Adjustable(default=300.0, minimum=10.0, maximum=600.0)}


class Trusting:
    """A device's verifier, its fleet server, and the publisher behind it."""

    def __init__(self, folder) -> None:
        self.publisher = keys.Publisher(now=NOW)
        self.release = make(
            "acme/digits:2", prove="ready-only", adjustable=ADJUSTABLE, fallback_hosts=("*.example",), data=DATA
        )
        self.publisher.release("acme/digits:2", data=self.release.data)
        self.server = BlobServer(self.publisher.targets, self.publisher.files)
        self.store, self.shelf = Store(folder), Shelf(folder / "modules")
        puller = Puller(self.server.send, timeout_s=0.05, tries=2)
        self.server.deliver = puller.on_block
        self.now = NOW.timestamp()
        self.folder, self.puller = folder, puller
        self.verifier = self.new_verifier()

    def new_verifier(self, device: DeviceId = DEVICE) -> Verifier:
        return Verifier(
            device=device,
            folder=self.folder / "trust",
            root=self.publisher.first_root,
            store=self.store,
            shelf=self.shelf,
            puller=self.puller,
            now=lambda: self.now,
        )

    def restart(self, device: DeviceId = DEVICE) -> None:
        """What a new process of the agent knows: what is on disk."""
        self.verifier.close()
        self.store.close()
        self.store = Store(self.folder)
        self.verifier = self.new_verifier(device)

    def close(self) -> None:
        self.verifier.close()
        self.store.close()

    def envelope(self, signer=None, *, ordered=None, **more) -> bytes:
        slots = {"main": ordered or self.release.ordered()}
        issued = int(self.now)
        order = {"device": DEVICE, "counter": 5, "issued": issued, "expires": issued + 3600, "slots": slots} | more
        return signing.sign(
            canonical.encode(Order(**order)),
            payload_type=signing.ORDER_TYPE,
            signers=[signer or self.publisher.director],
        )

    async def accept(self, **more) -> Accepted:
        """Verify an order, and remember what the inbox remembers of an accepted one."""
        accepted = await self.verifier.accept(self.envelope(**more))
        self.store.keep(accepted.roles)
        for name, value in accepted.marks.items():
            self.store.raise_number(name, value)
        return accepted

    def marks(self) -> dict[str, float]:
        return dict(self.store._db.execute("SELECT name, value FROM numbers").fetchall())
