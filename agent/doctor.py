"""``edgefleet-agent doctor``: each thing that the agent needs, tried, with what to do where it is missing."""

import asyncio
import errno
import shutil
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from agent import folders
from agent import identity as identities
from agent import installation as installations
from agent.answering import answering, gateway
from agent.broker_tls import broker_context
from agent.certificate_dates import dates, day
from agent.clock import BUILT
from agent.engines.contract import LONGEST_SOCKET, ContainerEngine, check_socket
from agent.engines.docker import DockerEngine
from agent.https_lane import tried
from agent.identity import Identity
from agent.mqtt_client import refusal
from agent.occupied import LOCK, holder
from agent.owner import foreign, give_back
from agent.settings import Settings
from agent.store import Store
from agent.wiring import engines
from modules.certificate_life import due_at, last_from
from modules.errors import BadSettings, EdgefleetError
from modules.needs import Engine

_TIMEOUT_S: Final = 5.0
_REFUSES_WITHIN_S: Final = 1.0
_VSOCK_REFUSED_SINCE: Final = 23


class Finding(msgspec.Struct, frozen=True):
    """One check: what was looked at, whether it is well, and what was found."""

    what: str
    ok: bool
    found: str


def examine(settings: Settings, *, as_json: bool) -> int:
    """Print the findings; 0 if all is well, 1 if something needs the operator."""
    findings = asyncio.run(findings_of(settings))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(findings)).decode() + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.found}\n")
    return 0 if all(finding.ok for finding in findings) else 1


async def findings_of(settings: Settings) -> list[Finding]:
    """Every check. A running agent may ask, too: what takes long is done in threads."""
    findings = [_clock(), await asyncio.to_thread(_disk, settings), _runtime(settings)]
    try:
        identity = identities.load(settings.identity)
    except EdgefleetError as error:
        return [*findings, Finding("identity", ok=False, found=str(error))]
    findings += [_identity(settings, identity), _agent(settings), *await _slots(settings)]
    findings.append(await asyncio.to_thread(_gateway, settings))
    findings.append(await asyncio.to_thread(_broker, settings, identity))
    findings.append(await asyncio.to_thread(_blobs, settings, identity))
    known = engines(settings, identity, installations.look(settings))
    engine_findings = [await _engine(name, engine) for name, engine in known.items()]
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
    below = folders.of_state(settings)
    problems = (folders.not_one(below), *(_unwritable(one) for one in (folder, *below) if one.is_dir()))
    if problem := next(filter(None, problems), ""):
        return Finding("disk", ok=False, found=problem)
    if strange := foreign(folder):
        found = f"{strange} is not of the user that {folder} belongs to, which the agent runs as"
        return Finding("disk", ok=False, found=f"{found} ({give_back(settings.state)})")
    free = shutil.disk_usage(folder).free
    if free <= settings.disk_reserve:
        return Finding("disk", ok=False, found=f"{free >> 20} MiB free in {folder} (free some: nothing new is fetched)")
    return Finding("disk", ok=True, found=f"{free >> 20} MiB free in {folder}")


def _runtime(settings: Settings) -> Finding:
    """The modules' sockets and the routing table; the folder itself comes with the agent's first start."""
    folder = Path(settings.runtime)
    try:
        check_socket(settings.instances / LONGEST_SOCKET)
    except BadSettings as error:
        return Finding("runtime folder", ok=False, found=str(error))
    below = folders.of_runtime(settings)
    problems = (folders.not_one(below), *(_unwritable(one) for one in (folder, *below) if one.is_dir()))
    if problem := next(filter(None, problems), ""):
        return Finding("runtime folder", ok=False, found=problem)
    return Finding("runtime folder", ok=True, found=str(folder))


def _unwritable(folder: Path) -> str:
    """Why nothing can be written there, tried; empty where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"\0")
            trial.flush()
    except OSError as error:
        if error.errno == errno.EROFS:
            return f"{folder} is read-only: what runs goes on, and nothing is remembered (remount it writable)"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return f"{folder} is full (free disk space)"
        return f"{folder} cannot be written: {error.strerror} (run this as the agent's user, or give the folder to it)"
    return ""


def _identity(settings: Settings, identity: Identity) -> Finding:
    path = identities.present(settings.identity).certificate
    try:
        life = dates(path.read_bytes())
    except (OSError, ValueError) as error:
        return Finding("identity", ok=False, found=f"{path}: {error} (enrol again)")
    now, due = time.time(), due_at(life.begins, life.ends, identity.device)
    found = f"device {identity.device} of {identity.fleet}, certificate until {day(life.ends)}"
    if life.ends <= now:
        return Finding("identity", ok=False, found=f"{found}: it has ended, and the broker refuses it (enrol again)")
    if now >= last_from(life.begins, life.ends):
        why = f"its renewal has been due since {day(due)}: see the agent's log, or enrol again in time"
        return Finding("identity", ok=False, found=f"{found} ({why})")
    return Finding("identity", ok=True, found=f"{found}, renewal due {day(due)}")


def _agent(settings: Settings) -> Finding:
    state = Path(settings.state)
    process = holder(state)
    if process is not None:
        return Finding("agent", ok=True, found=f"runs, process {process or 'unknown'}")
    if not (state / LOCK).exists():
        return Finding("agent", ok=True, found="has not been started yet")
    found = "does not run: nothing is restarted, updated or reported (systemctl start edgefleet-agent)"
    return Finding("agent", ok=False, found=found)


async def _slots(settings: Settings) -> list[Finding]:
    """The database, and whether the module of each slot answers."""
    state = Path(settings.state)
    if not (state / LOCK).exists():
        return []
    try:
        store = Store(state, read_only=True)
    except EdgefleetError as error:
        return [Finding("database", ok=False, found=str(error))]
    try:
        slots = store.slots()
    finally:
        store.close()
    answers = await answering(slots)
    findings = [Finding("database", ok=True, found=f"{len(slots)} slot{'' if len(slots) == 1 else 's'}")]
    for slot in slots:
        serving = slot.serving
        who = serving.wanted.module if serving else "nothing yet"
        ok = serving is None or answers[slot.slot]
        findings.append(Finding(f"slot {slot.slot}", ok=ok, found=who if ok else f"{who} does not answer"))
    return findings


def _gateway(settings: Settings) -> Finding:
    where = settings.gateway_address
    try:
        listed = gateway(where).slots
    except OSError as error:
        if not (Path(settings.state) / LOCK).exists():
            return Finding("gateway", ok=True, found="has not been started yet")
        found = f"{where}: {error} (systemctl start edgefleet-gateway, or set gateway_address)"
        return Finding("gateway", ok=False, found=found)
    return Finding(
        "gateway", ok=True, found=f"{where}, slots: {', '.join(str(one.get('slot', '?')) for one in listed) or 'none'}"
    )


def _broker(settings: Settings, identity: Identity) -> Finding:
    where = f"{identity.broker.host}:{identity.broker.port}"
    try:
        context = broker_context(identity, settings.identity)
        with (
            socket.create_connection((identity.broker.host, identity.broker.port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=identity.broker.host) as secured,
        ):
            if why := _refused(secured):
                return Finding("broker", ok=False, found=f"{where}: {why}; serving goes on")
            return Finding("broker", ok=True, found=f"{where} over {secured.version()}")
    except (OSError, EdgefleetError) as error:
        return Finding("broker", ok=False, found=f"{where}: {error} (serving goes on; check network and broker)")


def _refused(secured: ssl.SSLSocket) -> str:
    """Why the broker does not take our certificate: with TLS 1.3 it says so when the handshake is over for us.

    One that takes it waits for what we say.
    """
    secured.settimeout(_REFUSES_WITHIN_S)
    try:
        secured.recv(1)
    except TimeoutError:
        return ""
    except OSError as error:
        return refusal(error)
    return refusal(None)


def _blobs(settings: Settings, identity: Identity) -> Finding:
    """Which way large blobs come; what does not work is no trouble of the device's, as they come over MQTT then."""
    url = settings.blob_url or identity.blob_url
    if settings.pull_by == "mqtt" or not url:
        why = "pull_by" if settings.pull_by == "mqtt" else "no blob_url is set, and the join bundle had none"
        return Finding("blobs", ok=True, found=f"over MQTT ({why})")
    if why := tried(url, settings.identity):
        return Finding("blobs", ok=True, found=f"over MQTT: {url} cannot be used: {why}")
    return Finding("blobs", ok=True, found=f"over HTTPS from {url}")


async def _engine(name: str, engine: ContainerEngine) -> Finding:
    try:
        facts = await engine.facts()
        namesakes = await engine.namesakes() if isinstance(engine, DockerEngine) else ()
    except EdgefleetError as error:
        return Finding(f"engine {name}", ok=False, found=str(error))
    found = f"{facts.version} {facts.detail}".strip() + _way_out(facts)
    if namesakes:
        found += f"; not of this state folder, though of a device of this name: {', '.join(namesakes)}"
        found += " (if no other agent runs here: docker rm --force them)"
    return Finding(f"engine {name}", ok=True, found=found)


def _way_out(engine: Engine) -> str:
    """AF_VSOCK belongs to no network namespace, so that only the engine's own profile of system calls refuses it.

    Docker's has done so since 23.0; its 20.10 did for a while and went back. A profile of ours would have to take the
    place of the engine's whole one.
    """
    major = engine.version.partition(".")[0]
    if not engine.detail.startswith("Docker") or not major.isdecimal() or int(major) >= _VSOCK_REFUSED_SINCE:
        return ""
    return (
        "; a module can open AF_VSOCK sockets, which reach the host of a virtual machine and its guests"
        f" (update Docker to {_VSOCK_REFUSED_SINCE}.0 or newer)"
    )
