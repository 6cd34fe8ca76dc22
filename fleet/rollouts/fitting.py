"""Whether one device could have a module: asked with what plans rollouts, so that no answer differs from theirs."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from fleet import devices, sealed_secrets
from fleet.registry import Registry
from fleet.rollouts import candidates
from modules.manifest import Manifest
from modules.names import DeviceId, ModuleRef, Slug
from modules.needs import ENGINES


class Fitting(msgspec.Struct, frozen=True):
    """With one engine: the kind of hardware that it would be judged with, or every reason why it does not fit."""

    engine: str
    fits: bool
    hardware: str
    reasons: tuple[str, ...]


def fitting(
    connection: Connection, registry: Registry, device: DeviceId, ref: ModuleRef, slot: Slug | None = None
) -> dict[str, Any]:
    """With each engine that a rollout may ask for; with a slot, whether the module's secrets are there, too.

    A draft is looked at as well: who registers it wants to know before anybody signs.

    Raises:
        Missing: there is no such device or module.
    """
    manifest = registry.manifest(registry.digest(connection, ref))
    lacking = sealed_secrets.lacking(connection, manifest, slot, [device]) if slot else {}
    found = devices.chosen(connection, "*", [device])
    by_engine = []
    for engine in ENGINES:
        fit, misfits = candidates.sort(manifest, engine, found, lacking=lacking)
        hardware = fit[0].hardware if fit else ""
        reasons = misfits[0].reasons if misfits else ()
        by_engine.append(Fitting(engine=engine, fits=bool(fit), hardware=hardware, reasons=reasons))
    return {
        "device": device,
        "module": str(ref),
        "fits": any(one.fits for one in by_engine),
        "engines": [msgspec.to_builtins(one) for one in by_engine],
        "needs": _needs(manifest),
    }


def _needs(manifest: Manifest) -> dict[str, Any]:
    """What it asks for, to stand beside what the device has."""
    needs = manifest.needs
    return {
        "memory_mb": needs.memory_mb,
        "disk_mb": needs.disk_mb,
        "cpu_cores": needs.cpu_cores,
        "runtimes": sorted({f"{one.platform} {one.accelerator}" for one in manifest.runtimes}),
    }
