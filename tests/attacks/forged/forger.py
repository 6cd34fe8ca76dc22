"""Modules that no honest tool would sign or order, brought to a device with every right signature.

The team's key, the director's, the server's program (owned_server.py) and its database are all the attacker's. The
order is the server's own, so that a device may pull what it names: what is left is what the device looks at itself.
"""

import itertools
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select
from tuf.api.metadata import Metadata, TargetFile, Targets

from fleet import revisions
from fleet.client.signing.offline_keys import team_signers
from fleet.db import Database
from fleet.orders import Orders
from fleet.tables import devices, rollouts
from modules import canonical, signing
from modules.digests import measure_bytes, sha256
from modules.manifest import Image, Manifest, Needs, OnnxGraph, Proof, Runtime
from modules.names import DeviceId, Digest, Slug
from modules.protocol.order import SlotOrder
from modules.trust import roles
from tests.attacks.standing import Standing, contents
from tests.parts.system import TEAM

FORGED = "forged"
GRAPH = "model/model.onnx"
_ENDS = ("rejected", "reverted", "committed")


class Forger:
    """The attacker of one device, whose fleet is his alone."""

    def __init__(self, standing: Standing) -> None:
        self.standing, self.system = standing, standing.system
        self._numbers = itertools.count(1)

    def module(self, **entries: Any) -> dict[str, Any]:
        """The document of a module that would be accepted as it is; ``entries`` change those of its graph."""
        config, layer = measure_bytes(b"config"), measure_bytes(b"layer")
        image = Image(name="scoring", manifest=measure_bytes(b"manifest"), config=config, layers=(layer,))
        manifest = Manifest(
            team=Slug(TEAM),
            name=Slug(FORGED),
            version=str(next(self._numbers)),
            serve=OnnxGraph(file=GRAPH),
            files=(),
            runtimes=(Runtime(image=image),),
            needs=Needs(memory_mb=16),
            proof=Proof(prove="ready-only", ready_within_s=5.0, probation_s=0.5),
        )
        document: dict[str, Any] = msgspec.to_builtins(manifest)
        return document | {"files": [self.upload(b"g") | {"path": GRAPH} | entries]}

    def upload(self, data: bytes) -> dict[str, Any]:
        """Have the server keep these bytes; returns how a manifest names them truly."""
        blob = measure_bytes(data)
        with self.system.server.client() as http:
            http.put(f"/api/v1/blobs/{blob.sha256}", content=data).raise_for_status()
        return {"sha256": blob.sha256, "length": blob.length, "blocks": blob.blocks}

    def orders(
        self,
        data: bytes,
        version: str,
        *,
        path: str = "",
        length: int | None = None,
        hashes: Any = None,
        digest: str = "",
    ) -> str:
        """Have these bytes published as a module's manifest, and ordered beside what runs; the order's short name.

        ``path``, ``length`` and ``hashes`` are what the team signs of them, where that is another thing; ``digest`` is
        what team and director say.
        """
        self.upload(data)
        named = digest or sha256(data)
        target = path or f"modules/{TEAM}/{FORGED}/{version}.json"
        signed = TargetFile(len(data) if length is None else length, hashes or {"sha256": named[7:]}, target)
        self._publish(signed)
        return self._decide(SlotOrder(manifest=target, digest=Digest(named), engine="process"))

    def clears(self) -> None:
        """The slot is to be empty again: an order as honest as any, which the device follows."""
        self._decide(None)
        device = self.standing.device
        device.until(lambda: self.followed() == self._counter, "the next order is followed")
        device.until(lambda: device.slot(FORGED) is None, "the slot is empty")

    def followed(self) -> int:
        """The number of the order that the device follows."""
        return int(self.system.report(self.standing.name).get("order", 0))

    def refusal(self, order: str) -> dict[str, Any]:
        """Why the device refused it, as it told the server."""

        def look() -> Any:
            assert self.followed() < self._counter, f"the device follows {order}"
            return next((one["reason"] for one in self.standing.refusals() if one["what"] == order), None)

        found: dict[str, Any] = self.standing.device.until(look, f"the refusal of {order} is reported")
        return found

    def ended(self) -> dict[str, Any]:
        """What the device told the server of the slot, once its way has ended or can go no further."""

        def look() -> Any:
            told = self.standing.told(FORGED)
            return told and (told["phase"] in _ENDS or told["reason"] is not None) and told

        found: dict[str, Any] = self.standing.device.until(look, "what was ordered goes no further")
        return found

    def kept(self) -> dict[str, str]:
        """What lies on the device's disk of any module: its layout, its manifest, its blobs."""
        state = self.standing.device.state
        return contents(state / "modules") | contents(state / "blobs")

    def running(self) -> list[str]:
        """The slots whose modules run out of the device's folder, whoever started them."""
        state, found = self.standing.device.state, []
        named = {one.wanted.digest: one.slot for one in self.standing.device.slots()}
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes().split(b"\0")
            except OSError:
                continue
            if {b"modules.scoring", b"--module"} <= set(words):
                place = Path(words[words.index(b"--module") + 1].decode())
                if place.is_relative_to(state):
                    found.append(named.get(Digest(f"sha256:{place.name}"), place.name))
        return found

    def wrong(self) -> list[str]:
        """Blobs on the device's disk that are not what they are called."""
        found = (path for path in (self.standing.device.state / "blobs").iterdir() if not path.suffix)
        return [path.name for path in found if sha256(path.read_bytes()) != f"sha256:{path.name}"]

    def laid_out(self, data: bytes) -> bool:
        """Whether the device has made a folder of the module with this manifest."""
        return self._place(sha256(data)).exists()

    def _place(self, digest: Digest) -> Path:
        return self.standing.device.state / "modules" / digest.removeprefix("sha256:")

    def _publish(self, target: TargetFile) -> None:
        (signer,) = team_signers([str(self.system.folder / "keys")], Slug(TEAM))
        with self.system.server.client() as http:
            listed = http.get(f"/api/v1/tuf/{roles.team_role(Slug(TEAM))}.json").raise_for_status().content
            metadata = Metadata[Targets].from_bytes(listed)
            metadata.signed.targets[target.path] = target
            metadata.signed.version += 1
            metadata.signed.expires += timedelta(seconds=1)
            metadata.sign(signer)
            response = http.post(f"/api/v1/tuf/teams/{TEAM}", content=metadata.to_bytes())
            assert response.is_success, response.text

    def _decide(self, document: SlotOrder | None) -> str:
        """By the server's own code, in its own database; it publishes what lies there."""
        device, now = DeviceId(self.standing.name), time.time()
        director = signing.signer_from_pem(self.system.data.online_key("director").read_bytes())
        # For so long that the server does not renew it before the device has judged it.
        orders = Orders(lambda _: director, life_s=30 * 86_400)
        database = Database.at(self.system.data.database)
        try:
            with database.write() as connection:
                if document is None:
                    revisions.empty(connection, now, "attacker", device, FORGED)
                else:
                    some = connection.scalar(select(func.max(rollouts.c.id))) or 0
                    data = canonical.encode(document)
                    revisions.decide(connection, now, "attacker", device, FORGED, rollout=some, document=data)
                self._counter = orders.issue(connection, now, device)
                envelope = connection.scalar(select(devices.c.order_envelope).where(devices.c.id == device))
        finally:
            database.close()
        assert envelope is not None
        return f"order {sha256(envelope)[7:19]}"
