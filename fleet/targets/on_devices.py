"""Whether a device takes a batch job, by what it has said of itself; it has the last word, when the command comes."""

from typing import Any

import msgspec
from sqlalchemy import Connection, select

from fleet.refusals import Missing
from fleet.tables import devices
from fleet.targets.settings import BatchSettings
from modules.errors import Invalid, Unfit
from modules.names import DeviceId, Digest, slug
from modules.protocol.batch import BATCH
from modules.protocol.facts import Facts
from modules.protocol.report import Report

# What a job on a device has is what its slot has.
_ITS_SLOTS = ("workers", "cpu_cores", "memory_mb", "pods")


def check(connection: Connection, device: DeviceId, digest: Digest, asked: Any) -> None:
    """Let a job be asked for that the device can take.

    Raises:
        Missing: there is no such device.
        Unfit: its agent knows no batch jobs, or none of its slots serves the module.
        Invalid: as :func:`check_asked`.
    """
    check_asked(asked)
    wanted = select(devices.c.facts, devices.c.report).where(devices.c.id == device, devices.c.removed.is_(None))
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise Missing("there is no such device", element=device, remedy="see edgefleet devices list")
    if (unfit := why_not(device, row.facts, row.report, digest)) is not None:
        raise unfit


def check_asked(asked: Any) -> None:
    """Let only be asked for what devices have.

    Raises:
        Invalid: a place is no name, or both are the same; or a limit is asked for that only targets have.
    """
    for place in (asked.inputs, asked.outputs):
        slug(place, what="place of a device")
    if asked.inputs == asked.outputs:
        raise Invalid("inputs and outputs are one place", element=asked.inputs, remedy="name two")
    plain = BatchSettings()
    if own := [name for name in _ITS_SLOTS if getattr(asked.settings, name) != getattr(plain, name)]:
        raise Invalid(
            "a job on a device has one worker and the limits of the module's slot",
            element=", ".join(own),
            remedy="leave it out",
        )


def why_not(device: DeviceId, facts_said: bytes | None, report_said: bytes | None, digest: Digest) -> Unfit | None:
    """Why a device that said this of itself takes no job for a module; None: it does."""
    facts = msgspec.json.decode(facts_said, type=Facts) if facts_said else None
    if facts is None or BATCH not in facts.formats:
        why = f"its agent {facts.agent} knows no batch jobs" if facts else "it has not said yet what it is"
        return Unfit(why, element=device, remedy="update its agent" if facts else "bring it online once")
    slots = msgspec.json.decode(report_said, type=Report).slots if report_said else ()
    serving = [slot.serving for slot in slots if slot.serving is not None]
    if digest in {one.digest for one in serving}:
        return None
    has = ", ".join(sorted(one.module for one in serving)) or "nothing"
    return Unfit(f"it does not serve this module; it serves {has}", element=device, remedy="choose what it serves")
