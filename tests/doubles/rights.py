"""Rights to blobs for tests: of those that are about something else, and orders as rows where nobody sends facts."""

import time

import msgspec
from sqlalchemy import insert, select, update

from fleet import revisions
from fleet.refusals import Missing
from fleet.tables import devices, rollouts
from modules import manifest as manifests
from modules.digests import sha256
from modules.protocol.order import SlotOrder


class Everything:
    """Every device may have every blob, but those in ``without``, which may have none."""

    def __init__(self):
        self.without = set()

    async def may(self, device, blob, waiting=()):
        return device not in self.without

    async def check(self, device, blob, waiting=()):
        if device in self.without:
            raise Missing("there is no such blob", element=blob)


def enrolled(database, device):
    """A device that the server knows, if it does not yet: its certificate came from elsewhere."""
    row = {"id": device, "labels": {}, "certificate": "", "public_key": "", "enrolled": 0.0, "online": True, "boot": 0}
    row |= {"facts_number": 0, "report_number": 0, "order_counter": 0, "order_published": 0}
    with database.write() as connection:
        if connection.scalar(select(devices.c.id).where(devices.c.id == device)) is None:
            connection.execute(insert(devices).values(**row))


def ordered(database, device, manifest, *, slot="digits"):
    """A slot of the device is to have this module, as its next order says."""
    document = SlotOrder(manifest=manifest.ref.target, digest=sha256(manifests.encode(manifest)), engine="process")
    row = {"module": str(manifest.ref), "slot": slot, "state": "running", "wave": 1, "waves": 1, "plan": b"[]"}
    row |= {"policy": b"{}", "document": msgspec.json.encode(document), "waive": False, "misfits": []}
    with database.write() as connection:
        rollout = connection.execute(insert(rollouts).values(**row, created=0.0)).inserted_primary_key[0]
        given = {"rollout": rollout, "document": row["document"]}
        revisions.decide(connection, time.time(), "test", device, slot, **given)
        counted = update(devices).where(devices.c.id == device)
        connection.execute(counted.values(order_counter=devices.c.order_counter + 1))
