"""A fleet whose offline keys lie with their holders, and devices that check for themselves what its server says."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from agent.fetch import Puller
from agent.shelf import Shelf
from agent.store import Store
from agent.verify import Accepted, Verifier
from fleet.client.signing.keys import load_signer
from fleet.folder import Folder
from modules import canonical, signing
from modules import manifest as manifests
from modules.digests import sha256
from modules.manifest import Manifest
from modules.names import DeviceId, Slug, device_id
from modules.protocol.order import Order, SlotOrder
from modules.trust import repository
from tests.doubles.blob_server import BlobServer
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import FleetServer, fleet_server, initialise
from tests.parts.mosquitto import broker, free_port
from tests.parts.pages import Terminal

PASSPHRASE = "five random words for tests"
DEVICE = device_id("dev-1")
TEAM = Slug("acme")
HOLDERS = {
    "anna": "root-1.pem",
    "ben": "root-2.pem",
    "carol": "root-3.pem",
    "owner": "targets.pem",
    "acme": "team-acme.pem",
}


class KeySite:
    """Broker, server, and the folders of the holders below ``desk``, where commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.desk = folder, folder / "desk"
        self.desk.mkdir()
        self.data = initialise(folder / "fleet")
        self._port = free_port()
        self._ends, self._server = ExitStack(), ExitStack()
        self.broker = self._ends.enter_context(broker(folder / "broker", self.data))
        self.start()
        self.terminal = Terminal(
            self.desk,
            {
                "EDGEFLEET_HOME": str(folder / "client"),
                "EDGEFLEET_PASSPHRASE": PASSPHRASE,
                "EDGEFLEET_FLEET_DATA": str(self.data.root),
            },
        )
        self.terminal.paste(f"edgefleet login {self.server.url} --token {self.server.token} --ca {self.data.ca}")
        self._extra: list[Any] = []

    def start(self, **settings: str) -> None:
        running = fleet_server(self.data, self.broker, port=str(self._port), tick_s="0.2", **settings)
        self.server: FleetServer = self._server.enter_context(running)

    def stop(self) -> None:
        self._server.close()

    def close(self) -> None:
        for one in self._extra:
            one.close()
        with self._ends:
            self.stop()

    @contextmanager
    def another_server(self, data: Folder) -> Iterator[FleetServer]:
        """A second fleet on this broker's machine, for those who begin anew."""
        with broker(self.folder / "broker-2", data) as running, fleet_server(data, running) as server:
            yield server

    def found(self) -> None:
        """Make the keys, and give each to its holder."""
        self.terminal.paste("edgefleet keys init keys --team acme")
        for holder, name in HOLDERS.items():
            (self.desk / holder).mkdir()
            (self.desk / "keys" / name).rename(self.desk / holder / name)

    def signer(self, path: str) -> CryptoSigner:
        """A holder's key, as a thief who also learned the passphrase has it."""
        return load_signer(self.desk / path, PASSPHRASE)

    def keyid(self, path: str) -> str:
        return self.signer(path).public_key.keyid

    def status(self) -> dict[str, dict[str, Any]]:
        rows = json.loads(self.terminal.paste("edgefleet keys status --json"))
        return {row["role"]: row for row in rows}

    def http(self) -> httpx.Client:
        client = self.server.client()
        self._extra.append(client)
        return client

    def file(self, name: str) -> bytes:
        return checked(self.http().get(f"/api/v1/tuf/{name}.json")).content

    def root(self) -> bytes:
        return self.file("root")

    def publish(self, key: str, *versions: bytes) -> list[Manifest]:
        """Sign a version of acme/digits for each of these graphs, with the team's key."""
        made = []
        http = self.http()
        for data in versions:
            uploaded = Publisher(http, team=TEAM).upload("digits", {"model.onnx": data})
            self.send_team(self.with_release(self.file("team-acme"), uploaded, self.signer(key)))
            made.append(uploaded)
        return made

    def with_release(self, team: bytes, made: Manifest, signer: CryptoSigner) -> bytes:
        return repository.add_target(
            team, team=TEAM, path=made.ref.target, data=manifests.encode(made), signers=[signer], now=datetime.now(UTC)
        )

    def send_team(self, data: bytes) -> None:
        checked(self.http().post("/api/v1/tuf/teams/acme", content=data))

    def send(self, **parts: Any) -> httpx.Response:
        """Anything to the route that takes new metadata, as somebody with an operator's token."""
        return self.http().post(
            "/api/v1/tuf-update", content=canonical.encode(parts), headers={"Content-Type": "application/json"}
        )

    def director(self) -> CryptoSigner:
        """The server's own director key, as a thief copies it."""
        return signing.signer_from_pem(self.data.online_key("director").read_bytes())

    def device(self, name: str = "device") -> "FieldDevice":
        made = FieldDevice(self.folder / name, self)
        self._extra.append(made)
        return made


class _Asked(dict[Any, bytes]):
    """What the server answers now, asked anew each time."""

    def __init__(self, ask: Any) -> None:
        super().__init__()
        self._ask = ask

    def get(self, key: Any, default: Any = None) -> Any:
        """As a dictionary has it."""
        found = self._ask(key)
        return default if found is None else found


class FieldDevice:
    """A device's own verifier with its store, in front of the server's files; ``tampered`` puts others there."""

    def __init__(self, folder: Path, site: KeySite) -> None:
        folder.mkdir()
        self._site = site
        self.tampered: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.now = time.time()
        served = BlobServer(_Asked(self._blob), _Asked(self._file))
        self._store = Store(folder)
        puller = Puller(served.send, timeout_s=5.0, tries=2)
        served.deliver = puller.on_block
        root = site.root()
        self._verifier = Verifier(
            device=DEVICE,
            folder=folder / "trust",
            root=root,
            store=self._store,
            shelf=Shelf(folder / "modules"),
            puller=puller,
            now=lambda: self.now,
        )

    async def accept(self, made: Manifest, *, signer: CryptoSigner, counter: int = 1) -> Accepted:
        """Hold an order for this release against everything that the device knows, and remember it.

        Raises:
            Untrusted: it does not hold.
        """
        data = manifests.encode(made)
        slot = SlotOrder(manifest=made.ref.target, digest=sha256(data))
        issued = int(self.now)
        order = Order(
            device=DeviceId(DEVICE), counter=counter, issued=issued, expires=issued + 3600, slots={Slug("main"): slot}
        )
        envelope = signing.sign(canonical.encode(order), payload_type=signing.ORDER_TYPE, signers=[signer])
        accepted = await self._verifier.accept(envelope)
        for name, value in accepted.marks.items():
            self._store.raise_number(name, value)
        return accepted

    def close(self) -> None:
        self._verifier.close()
        self._store.close()

    def _file(self, name: str) -> bytes | None:
        if name in self.tampered:
            return self.tampered[name]
        answer = self._site.http().get(f"/api/v1/tuf/{name}")
        return answer.content if answer.is_success else None

    def _blob(self, digest: str) -> bytes | None:
        if str(digest) in self.blobs:
            return self.blobs[str(digest)]
        answer = self._site.http().get(f"/api/v1/blobs/{digest}")
        return answer.content if answer.is_success else None


def signed_by(data: bytes, *signers: CryptoSigner, change: Any = lambda _signed: None) -> bytes:
    """A thief's metadata: the next version of this, changed, with these signatures alone."""
    file = Metadata.from_bytes(data)
    file.signed.version += 1
    change(file.signed)
    file.signatures.clear()
    for signer in signers:
        file.sign(signer, append=True)
    return file.to_bytes()
