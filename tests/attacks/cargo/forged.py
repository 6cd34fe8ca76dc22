"""A manifest that no honest tool would sign or order, brought to a device with every right signature.

The team's key and the director's are both the attacker's here, and so is the server's database: what is left is what
the device looks at itself.
"""

import base64
import time
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import insert
from tuf.api.metadata import Metadata, TargetFile, Targets

from fleet.client.signing.offline_keys import team_signers
from fleet.db import Database
from fleet.tables import modules
from modules import canonical, signing
from modules.digests import sha256
from modules.names import Slug
from modules.protocol.order import LIMIT, Order, SlotOrder
from modules.trust import roles
from tests.attacks.standing import Standing
from tests.parts.system import TEAM
from tests.parts.wiretap import Wiretap

FORGED = "forged"


def ordered(standing: Standing, tap: Wiretap, document: dict[str, Any], version: str) -> None:
    """Have the document published by its team, and ordered by the director beside what the device runs."""
    data = canonical.encode(document | {"team": TEAM, "name": FORGED, "version": version})
    target = f"modules/{TEAM}/{FORGED}/{version}.json"
    _published(standing, data, target, version)
    envelope = standing.device.until(lambda: tap.orders and tap.orders[-1], "the broker has its order")
    payload = base64.b64decode(msgspec.json.decode(envelope)["payload"])
    order = canonical.decode(payload, Order, limit=LIMIT, what="order")
    slots = {**order.slots, FORGED: SlotOrder(manifest=target, digest=sha256(data))}
    forged = msgspec.structs.replace(order, counter=order.counter + 1, slots=slots)
    director = signing.signer_from_pem(standing.system.data.online_key("director").read_bytes())
    tap.give_order(signing.sign(canonical.encode(forged), payload_type=signing.ORDER_TYPE, signers=[director]))


def _published(standing: Standing, data: bytes, target: str, version: str) -> None:
    system = standing.system
    database = Database.at(system.data.database)
    values = {"team": TEAM, "name": FORGED, "version": version, "digest": sha256(data), "length": len(data)}
    with database.write() as connection:
        connection.execute(insert(modules).values(**values, state="draft", created=time.time()))
    database.close()
    (signer,) = team_signers([str(system.folder / "keys")], Slug(TEAM))
    with system.server.client() as http:
        http.put(f"/api/v1/blobs/{sha256(data)}", content=data).raise_for_status()
        listed = http.get(f"/api/v1/tuf/{roles.team_role(Slug(TEAM))}.json").raise_for_status().content
        metadata = Metadata[Targets].from_bytes(listed)
        metadata.signed.targets[target] = TargetFile.from_data(target, data, ["sha256"])
        metadata.signed.version += 1
        metadata.signed.expires += timedelta(seconds=1)
        metadata.sign(signer)
        response = http.post(f"/api/v1/tuf/teams/{TEAM}", content=metadata.to_bytes())
        assert response.is_success, response.text
