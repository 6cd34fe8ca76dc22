"""Starting a rollout: everything that can be refused is refused here, before any order exists."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import Connection, insert

from fleet import devices, orders
from fleet.registry import Registry
from fleet.rollouts import history, members, phases
from fleet.rollouts.model import Candidate, Policy
from fleet.rollouts.planner import plan
from fleet.tables import rollouts
from modules import canonical
from modules.adjustable import check_fallback, check_settings
from modules.errors import Unfit
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef, Slug
from modules.needs import fits
from modules.protocol.order import SettingValue, SlotOrder

_SHOWN = 10


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for; ``waive`` lets devices try content again that failed on them before."""

    module: ModuleRef
    slot: Slug
    selector: str = "*"
    devices: tuple[DeviceId, ...] | None = None
    engine: Literal["docker", "process"] = "docker"
    settings: dict[str, SettingValue] = {}
    fallback: str | None = None
    waive: bool = False
    policy: Policy = Policy()


class Misfit(msgspec.Struct, frozen=True):
    """A device that was selected but cannot run the module, with every reason."""

    device: str
    reasons: tuple[str, ...]


def start(connection: Connection, now: float, registry: Registry, wish: Wish, *, by: str = "") -> int:
    """Enter a rollout of the operator ``by``, its first wave open; returns its number. The engine issues the orders.

    From now on the slot of every device, in whichever wave, belongs to it: an older rollout takes none of them back.

    Raises:
        Missing: no such module or device.
        Conflict: the module is a draft.
        Invalid: settings, fallback, selector or policy do not hold, or a device's order would become too large.
        Unfit: no selected device fits; lists the reasons.
    """
    manifest, digest = registry.signed(connection, wish.module)
    document = _slot_order(wish, manifest, digest)
    fitting, misfits = _sort(connection, manifest, wish)
    if not fitting:
        raise Unfit(_why_none(misfits), element=str(wish.module), remedy="select other devices or change the module")
    waves = plan(fitting, wish.policy)
    orders.check(connection, [one.device for one in fitting], wish.slot, document, waive=wish.waive)
    values = {
        "module": str(wish.module),
        "slot": wish.slot,
        "state": phases.RUNNING,
        "wave": 1,
        "waves": len(waves),
        "policy": canonical.encode(wish.policy),
        "document": canonical.encode(document),
        "waive": wish.waive,
        "misfits": msgspec.to_builtins(misfits),
        "created": now,
    }
    rollout = int(connection.execute(insert(rollouts).values(**values).returning(rollouts.c.id)).scalar_one())
    members.retire(connection, [device for wave in waves for device in wave], wish.slot, by=rollout)
    members.add(connection, rollout, wish.slot, document.digest, waves)
    what = f"started: {_some(fitting, 'device')} in {_some(waves, 'wave')}, {_some(misfits, 'misfit')}"
    history.add(connection, now, rollout, what, by=by)
    return rollout


def _slot_order(wish: Wish, manifest: Manifest, digest: Digest) -> SlotOrder:
    check_settings(manifest, wish.settings)
    check_fallback(wish.fallback, manifest.fallback_hosts)
    return SlotOrder(
        manifest=wish.module.target,
        digest=digest,
        engine=wish.engine,
        settings=wish.settings,
        fallback=wish.fallback,
    )


def _sort(connection: Connection, manifest: Manifest, wish: Wish) -> tuple[list[Candidate], list[Misfit]]:
    fitting, misfits = [], []
    for candidate, host in devices.chosen(connection, wish.selector, wish.devices):
        reasons = fits(manifest, host, engine=wish.engine).unmet if host else ("has sent no facts yet",)
        if reasons:
            misfits.append(Misfit(candidate.device, reasons))
        else:
            fitting.append(candidate)
    return fitting, misfits


def _some(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")


def _why_none(misfits: Sequence[Misfit]) -> str:
    if not misfits:
        return "the selector matches no device"
    shown = "; ".join(f"{one.device}: {', '.join(one.reasons)}" for one in misfits[:_SHOWN])
    return f"none of {len(misfits)} devices fits: {shown}"
