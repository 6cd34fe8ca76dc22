"""What a device was given: its certificates, and what was decided for its slots."""

from typing import Any

import msgspec
from sqlalchemy import Connection, select

from fleet.tables import certificates, slot_revisions
from modules.names import DeviceId, ModuleRef
from modules.protocol.order import SlotOrder


def certificates_of(connection: Connection, device: DeviceId, limit: int) -> list[dict[str, Any]]:
    """Every certificate that is still remembered, the newest first; ``issued`` is None of those from before."""
    mine = select(certificates).where(certificates.c.device == device)
    rows = connection.execute(mine.order_by(certificates.c.issued.desc(), certificates.c.expires.desc()).limit(limit))
    return [
        {"serial": row.serial, "issued": row.issued or None, "ends": row.expires, "revoked": row.revoked}
        for row in rows
    ]


def decisions(connection: Connection, device: DeviceId, limit: int) -> list[dict[str, Any]]:
    """What its slots were to run, the newest decision first; ``module`` is None where a slot was emptied."""
    mine = select(slot_revisions).where(slot_revisions.c.device == device)
    newest = mine.order_by(slot_revisions.c.at.desc(), slot_revisions.c.revision.desc()).limit(limit)
    return [
        {
            "at": row.at,
            "slot": row.slot,
            "revision": row.revision,
            "module": _module(row.document),
            "rollout": row.rollout,
            "by": row.by,
        }
        for row in connection.execute(newest)
    ]


def _module(document: bytes | None) -> str | None:
    if document is None:
        return None
    return str(ModuleRef.from_target(msgspec.json.decode(document, type=SlotOrder).manifest))
