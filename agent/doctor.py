"""``edgefleet-agent doctor``: each thing that the agent needs, tried, with what to do where it is missing."""

import asyncio
import shutil
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from agent import identity as identities
from agent.engines.contract import ContainerEngine
from agent.identity import CA, CERTIFICATE, KEY, Identity
from agent.settings import Settings
from agent.verify import BUILT
from agent.wiring import engines
from modules.errors import EdgefleetError

_TIMEOUT_S: Final = 5.0


class Finding(msgspec.Struct, frozen=True):
    """One check: what was looked at, whether it is well, and what was found."""

    what: str
    ok: bool
    found: str


def examine(settings: Settings, *, as_json: bool) -> int:
    """Print the findings; 0 if all is well, 1 if something needs the operator."""
    findings = list(asyncio.run(_all(settings)))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(findings)).decode() + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.found}\n")
    return 0 if all(finding.ok for finding in findings) else 1


async def _all(settings: Settings) -> list[Finding]:
    findings = [_clock(), _disk(settings)]
    try:
        identity = identities.load(settings.identity)
    except EdgefleetError as error:
        return [*findings, Finding("identity", ok=False, found=str(error))]
    findings.append(Finding("identity", ok=True, found=f"device {identity.device} of {identity.fleet}"))
    findings.append(await asyncio.to_thread(_broker, settings, identity))
    engine_findings = [await _engine(name, engine) for name, engine in engines(settings, identity).items()]
    # One engine that answers is enough.
    any_ok = any(finding.ok for finding in engine_findings)
    return findings + [msgspec.structs.replace(one, ok=one.ok or any_ok) for one in engine_findings]


def _clock() -> Finding:
    now = time.time()
    ok = now >= BUILT.timestamp()
    return Finding("clock", ok=ok, found=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _disk(settings: Settings) -> Finding:
    folder = Path(settings.state)
    if not folder.is_dir():
        return Finding("disk", ok=False, found=f"{folder} does not exist (create it, or set state)")
    free = shutil.disk_usage(folder).free
    return Finding("disk", ok=free > settings.disk_reserve, found=f"{free >> 20} MiB free in {folder}")


def _broker(settings: Settings, identity: Identity) -> Finding:
    where = f"{identity.broker.host}:{identity.broker.port}"
    try:
        context = ssl.create_default_context(cafile=str(settings.identity / CA))
        context.load_cert_chain(settings.identity / CERTIFICATE, settings.identity / KEY)
        with (
            socket.create_connection((identity.broker.host, identity.broker.port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=identity.broker.host) as secured,
        ):
            return Finding("broker", ok=True, found=f"{where} over {secured.version()}")
    except OSError as error:
        return Finding("broker", ok=False, found=f"{where}: {error} (serving goes on; check network and broker)")


async def _engine(name: str, engine: ContainerEngine) -> Finding:
    try:
        facts = await engine.facts()
    except EdgefleetError as error:
        return Finding(f"engine {name}", ok=False, found=str(error))
    return Finding(f"engine {name}", ok=True, found=f"{facts.version} {facts.detail}".strip())
