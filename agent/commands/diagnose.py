"""``diagnose``: what somebody who cannot come to the device has to know, in one archive without secrets.

A tar.gz of JSON documents and the newest lines of the agent's log. No module's log, input, output, file or setting of
text is in it. A part that cannot be had says why, and the others come.
"""

import asyncio
import importlib
import io
import json
import os
import platform
import shutil
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509

from agent import identity as identities
from agent import running
from agent.clock import Clock
from agent.commands.answers import Saying
from agent.commands.parts import Parts
from agent.commands.redacted import GONE, Redactor, names_a_secret, secret_files
from agent.engines.contract import ContainerEngine
from agent.identity import CA
from agent.outbox import READS
from agent.report import build
from agent.slots import Slot
from modules import __version__
from modules.errors import EdgefleetError
from modules.protocol.commands import Command

CONTENT: Final = "application/gzip"
# Of one member, before it is compressed.
_MOST: Final = 1 << 20
_WITHIN_S: Final = 60.0


async def run(_command: Command, parts: Parts, saying: Saying) -> str:
    """The archive as result."""
    saying.began()
    look: dict[str, Callable[[], Awaitable[Any]]] = {
        "about.json": lambda: _about(parts.clock),
        "settings.json": lambda: _settings(parts),
        "facts.json": lambda: _now(msgspec.to_builtins(parts.host.facts)),
        "report.json": lambda: _now(msgspec.to_builtins(_report(parts))),
        "slots.json": lambda: _now([_row(slot) for slot in parts.store.slots()]),
        "findings.json": lambda: _findings(parts),
        "engines.json": lambda: _engines(parts),
        "gateway.json": lambda: _gateway(parts),
        "disk.json": lambda: asyncio.to_thread(_disk, Path(parts.settings.state), Path(parts.settings.runtime)),
        "certificates.json": lambda: asyncio.to_thread(_certificates, parts.settings.identity),
        "trust.json": lambda: asyncio.to_thread(_trust, parts.settings.trust),
        "agent.log": _log,
    }
    found: dict[str, Any] = {}
    for number, (name, call) in enumerate(look.items()):
        saying.progress(number / len(look), name)
        found[name] = await _said(call)
    archive = await asyncio.to_thread(_packed, found, parts)
    saying.result(archive, CONTENT)
    return f"{len(archive)} bytes, {len(found)} files"


async def _said(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await call()
    except Exception as error:  # noqa: BLE001 - a part that is broken is what is looked for
        return {"not to be had": f"{type(error).__name__}: {error}"}


def _packed(found: dict[str, Any], parts: Parts) -> bytes:
    settings = parts.settings
    redactor = Redactor(settings.identity, files=secret_files(Path(settings.state), Path(settings.runtime)))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in found.items():
            left = redactor.document(content)
            text = left if isinstance(left, str) else json.dumps(left, indent=1, default=str)
            data = text.encode(errors="replace")[:_MOST]
            member = tarfile.TarInfo(f"{parts.device}/{name}")
            member.size, member.mtime = len(data), int(parts.clock.now())
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


async def _now(content: Any) -> Any:
    return content


async def _about(clock: Clock) -> dict[str, Any]:
    return {
        "agent": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "reads": READS,
        "clock": clock.now(),
        "up_s": clock.monotonic(),
        "user": os.geteuid(),
        "process": os.getpid(),
        "service": bool(os.environ.get("NOTIFY_SOCKET")),
        "zone": time.tzname,
    }


async def _settings(parts: Parts) -> dict[str, Any]:
    values = msgspec.to_builtins(parts.settings)
    return {name: GONE if value and names_a_secret(name) else value for name, value in values.items()}


def _report(parts: Parts) -> Any:
    store = parts.store
    return build(
        store.slots(),
        store.refusals(),
        device=parts.device,
        number=max(1, int(store.number("report"))),
        now=parts.clock.now(),
        order=int(store.number("order")),
        agent=__version__,
        epoch=store.epoch,
    )


def _row(slot: Slot) -> Any:
    """A slot's row; what an order has set of a module's text settings, or sealed for it, is nobody's business here."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            inner = {name: _WITHHELD.get(name, cut) for name in value}
            return {name: inner[name](one) for name, one in value.items()}
        return [cut(one) for one in value] if isinstance(value, list | tuple) else value

    return cut(msgspec.to_builtins(slot))


def _plain(settings: Any) -> Any:
    return {name: value if isinstance(value, bool | int | float) else GONE for name, value in settings.items()}


def _versions(secrets: Any) -> Any:
    return {name: one["version"] for name, one in secrets.items()}


_WITHHELD: Final = {"settings": _plain, "environment": _plain, "secrets": _versions}


async def _findings(parts: Parts) -> Any:
    doctor = await asyncio.to_thread(importlib.import_module, "agent.doctor")
    return msgspec.to_builtins(await doctor.findings_of(parts.settings))


async def _engines(parts: Parts) -> dict[str, Any]:
    return {name: await _engine(engine) for name, engine in parts.engines.items()}


async def _engine(engine: ContainerEngine) -> Any:
    try:
        facts, instances = await engine.facts(), await engine.list()
    except EdgefleetError as error:
        return str(error)
    return {"facts": msgspec.to_builtins(facts), "instances": msgspec.to_builtins(instances)}


async def _gateway(parts: Parts) -> Any:
    told = await parts.told()
    if told is None:
        return "it does not answer"
    return {"generation": told.generation, "slots": told.slots}


def _disk(*folders: Path) -> dict[str, Any]:
    found = {}
    for folder in folders:
        usage = shutil.disk_usage(folder)
        entries = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        found[str(folder)] = {"total": usage.total, "free": usage.free, "files": entries}
    return found


def _certificates(identity: Path) -> list[dict[str, str]]:
    own = identities.present(identity).certificate
    return [
        {
            "file": name,
            "subject": one.subject.rfc4514_string(),
            "serial": f"{one.serial_number:x}",
            "from": one.not_valid_before_utc.isoformat(),
            "until": one.not_valid_after_utc.isoformat(),
        }
        for name, data in (
            (own.name, identities.certificate_of(own.read_bytes())),
            (CA, (identity / CA).read_bytes()),
        )
        for one in x509.load_pem_x509_certificates(data)
    ]


def _trust(folder: Path) -> dict[str, Any]:
    """Version and end of each role's metadata that is here."""
    found = {}
    for path in sorted((folder / "metadata").glob("*.json")):
        signed = msgspec.json.decode(path.read_bytes()).get("signed", {})
        found[path.stem] = {"version": signed.get("version"), "expires": signed.get("expires")}
    return found


async def _log() -> str:
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    return "".join(f"{time.strftime(stamp, time.gmtime(at))} {line}\n" for at, line in list(running.recent))
