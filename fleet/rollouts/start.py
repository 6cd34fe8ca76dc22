"""Starting a rollout: everything that can be refused is refused here, before any order exists."""

from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, insert

from fleet import devices
from fleet.registry import Registry
from fleet.rollouts import history, members, phases
from fleet.rollouts.model import Candidate, Policy
from fleet.rollouts.planner import plan
from fleet.tables import rollouts
from modules import canonical
from modules.digests import Blob
from modules.errors import Invalid, Unfit
from modules.manifest import Manifest, check_setting
from modules.names import DeviceId, ModuleRef, Slug
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


def start(connection: Connection, now: float, registry: Registry, wish: Wish) -> int:
    """Enter a rollout, its first wave open; returns its number. The engine issues the orders.

    Raises:
        Missing: no such module or device.
        Conflict: the module is a draft.
        Invalid: settings, fallback, selector or policy do not hold.
        Unfit: no selected device fits; lists the reasons.
    """
    manifest, blob = registry.signed(connection, wish.module)
    document = _slot_order(wish, manifest, blob)
    fitting, misfits = _sort(connection, manifest, wish)
    if not fitting:
        raise Unfit(_why_none(misfits), element=str(wish.module), remedy="select other devices or change the module")
    waves = plan(fitting, wish.policy)
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
    members.add(connection, rollout, wish.slot, document.digest, waves)
    history.add(
        connection, now, rollout, f"started: {len(fitting)} devices in {len(waves)} waves, {len(misfits)} misfits"
    )
    return rollout


def _slot_order(wish: Wish, manifest: Manifest, blob: Blob) -> SlotOrder:
    for name, value in wish.settings.items():
        if name not in manifest.adjustable:
            allowed = ", ".join(sorted(manifest.adjustable)) or "none"
            raise Invalid("the module does not let this be set", element=f"settings.{name}", remedy=f"set: {allowed}")
        check_setting(name, manifest.adjustable[name], value)
    _check_fallback(wish.fallback, manifest.fallback_hosts)
    return SlotOrder(
        manifest=wish.module.target,
        digest=blob.sha256,
        length=blob.length,
        blocks=blob.blocks,
        engine=wish.engine,
        settings=wish.settings,
        fallback=wish.fallback,
    )


def _check_fallback(url: str | None, patterns: Sequence[str]) -> None:
    """Only hosts that the publisher signed; ``*.`` at the beginning of a pattern stands for one name."""
    if url is None:
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    below = host.partition(".")[2]
    if parts.scheme != "https" or parts.username or not host:
        raise Invalid("this is no https address", element="fallback", remedy="write https://host/path")
    if host not in patterns and f"*.{below}" not in patterns:
        raise Invalid(
            f"the module's publisher does not allow the host {host}",
            element="fallback",
            remedy=f"use one of: {', '.join(patterns) or 'none'}",
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


def _why_none(misfits: Sequence[Misfit]) -> str:
    if not misfits:
        return "the selector matches no device"
    shown = "; ".join(f"{one.device}: {', '.join(one.reasons)}" for one in misfits[:_SHOWN])
    return f"none of {len(misfits)} devices fits: {shown}"
