"""What an agent does on a state folder that is to be wiped, and says on one that was: nothing else runs there any more.

The file that says so was written before anything was done. Each step may be cut at any moment and is done again by the
next start; the identity is needed for all of them, and goes last, after the last answer went out. Only what an agent
made is removed: by its containers' labels, and by name in its own folders.
"""

import asyncio
import contextlib
import fnmatch
import importlib
import itertools
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent import identity as identities
from agent import installation as installations
from agent import socket_folder
from agent.clock import Clock, SystemClock
from agent.engines.contract import ContainerEngine
from agent.gateway import table as gateway_table
from agent.identity import CERTIFICATE, KEY, Identity, sync_folder, write_private
from agent.link import Link
from agent.occupied import LOCK, occupied
from agent.own_key import OwnKey
from agent.running import DECOMMISSION, DECOMMISSIONED
from agent.service import notify, watchdog
from agent.settings import Settings
from agent.store import Store
from modules import canonical, signing
from modules.bounds import Count, Epoch, Number
from modules.errors import BadSettings, EdgefleetError, Invalid, LinkLost
from modules.names import DeviceField
from modules.protocol.commands import Answer, CommandId
from modules.protocol.report import Reason
from modules.protocol.routing import Table
from modules.words import printable

#: The exit code that tells systemd not to start the agent again (deploy/agent/edgefleet-agent.service): EX_CONFIG.
EX_CONFIG: Final = os.EX_CONFIG
#: How long an engine that had modules of ours is waited for, and the broker, at each start.
ENGINE_WITHIN_S: Final = 600.0
BROKER_WITHIN_S: Final = 3600.0
_AGAIN_S: Final = 2.0
_NAME: Final = "decommission"
#: A file that is no order to wipe this device, beside its own name.
REFUSED: Final = f"{DECOMMISSION}.refused"
_ORDER_BYTES: Final = 16 << 10
_WORDS: Final = 200
#: What an agent makes in its state folder, but for its identity, in the order in which it goes.
OURS: Final = (
    "blobs",
    "modules",
    "processes",
    "trust",
    "telemetry.db*",
    "commands.db*",
    "agent.kept.json*",
    "agent.db*",
    "installation*",
)
_log = logging.getLogger(__name__)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file: which command it is, and the number of its last answer.

    ``boot`` and ``epoch`` are what a session with the broker needs, whose places in the database go with it.
    """

    id: CommandId
    device: DeviceField
    part: Number
    boot: Count = 0
    epoch: Epoch = ""


def begin(state: Path, order: Order) -> None:
    """From now on this folder is to be wiped, synced."""
    write_private(state / DECOMMISSION, msgspec.json.encode(order))


def ordered(settings: Settings) -> bool:
    """Whether this device is to be wiped, or was; an order that is none, or another device's, is set aside.

    Such a file was not written by this agent: it takes nothing away, and the device goes on as it was.
    """
    state = Path(settings.state)
    if not (state / DECOMMISSION).exists():
        return (state / DECOMMISSIONED).exists()
    try:
        _order(settings)
    except (Invalid, OSError) as error:
        _log.error("nothing is removed for %s: %s; it is set aside as %s", state / DECOMMISSION, error, REFUSED)
        with contextlib.suppress(OSError):
            (state / DECOMMISSION).replace(state / REFUSED)
        return (state / DECOMMISSIONED).exists()
    return True


def run(settings: Settings) -> int:
    """Wipe the device, or say that this was done; the exit code."""
    state = Path(settings.state)
    if (state / DECOMMISSION).exists():
        ours = occupied(Path(settings.runtime), make=True, otherwise="set a runtime folder of its own for each agent")
        with occupied(state), ours:
            asyncio.run(wipe(settings))
    said = printable((state / DECOMMISSIONED).read_text(errors="replace").strip(), _WORDS)
    sys.stderr.write(f"edgefleet-agent: {state}: {said} (enrol it anew: edgefleet-agent enroll JOIN-BUNDLE)\n")
    return EX_CONFIG


async def wipe(settings: Settings, clock: Clock | None = None) -> None:
    """Remove all of it; returns when nothing is left but the words that it was."""
    clock = clock or SystemClock()
    beats = itertools.count()
    notify("READY=1\nSTATUS=being decommissioned")
    feeding = asyncio.create_task(watchdog(lambda: next(beats), clock), name="watchdog")
    try:
        await _wipe(settings, clock)
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _wipe(settings: Settings, clock: Clock) -> None:
    state = Path(settings.state)
    _log.warning("this device was decommissioned: everything of edgefleet is removed here")
    identity = _identity(settings)
    left: list[str] = []
    if identity is not None:
        left += await _stop_all(settings, identity, clock)
    left += await asyncio.to_thread(_remove_files, settings)
    if identity is not None:
        await _say(settings, identity, left, clock)
    _remove(settings.identity)
    words = f"this device was decommissioned on {time.strftime('%Y-%m-%d', time.gmtime(clock.now()))}"
    write_private(state / DECOMMISSIONED, f"{words}\n".encode())
    _remove(state / DECOMMISSION)
    sync_folder(state)
    _log.warning("%s", words)


def _order(settings: Settings) -> Order:
    """What the file says.

    Raises:
        Invalid: it is no such order, or not this device's.
        OSError: it cannot be read.
    """
    path = Path(settings.state) / DECOMMISSION
    if not path.is_file():
        raise Invalid("not a file", element=path.name)
    with path.open("rb") as stream:
        order = canonical.decode(stream.read(_ORDER_BYTES + 1), Order, limit=_ORDER_BYTES, what=path.name)
    identity = _identity(settings)
    if identity is not None and identity.device != order.device:
        raise Invalid(f"it is for the device {order.device}, and this is {identity.device}", element=path.name)
    return order


def _identity(settings: Settings) -> Identity | None:
    """None where it has gone already: then everything before it has."""
    try:
        return identities.load(settings.identity)
    except EdgefleetError:
        return None


async def _stop_all(settings: Settings, identity: Identity, clock: Clock) -> list[str]:
    """Stop every module and let its image go; which engines could not be asked, though they had modules of ours."""
    engines = importlib.import_module("agent.wiring").engines
    known: Mapping[str, ContainerEngine] = engines(settings, identity, installations.look(settings))
    used = await asyncio.to_thread(_used, Path(settings.state), known)
    left = []
    for name, engine in known.items():
        ends = clock.monotonic() + (ENGINE_WITHIN_S if name in used else 0.0)
        while problem := await _stop(engine, settings.stop_grace_s):
            if clock.monotonic() >= ends:
                left += [f"what ran on the {name} engine ({problem})"] if name in used else []
                break
            await clock.sleep(_AGAIN_S)
    return left


async def _stop(engine: ContainerEngine, grace_s: float) -> str:
    """Why not everything of this installation has gone from an engine; empty: it has."""
    try:
        for one in await engine.list():
            await engine.stop(one.instance, grace_s=grace_s)
        await engine.let_go_images([])
    except (EdgefleetError, OSError) as error:
        return str(error)
    return ""


def _used(state: Path, known: Mapping[str, ContainerEngine]) -> set[str]:
    """Engines that something of ours may run on."""
    try:
        store = Store(state, read_only=True)
    except EdgefleetError:
        # Gone already, or damaged: then a first look has to do, which finds what is there.
        return set() if not (state / "agent.db").exists() else set(known)
    try:
        slots = store.slots()
    finally:
        store.close()
    placed = [one for slot in slots for one in (slot.candidate, slot.current, slot.previous) if one]
    return {one.wanted.engine for one in placed}


def _remove_files(settings: Settings) -> list[str]:
    """Routes, sockets, secrets, modules, blobs and databases; what is left behind, in words."""
    state = Path(settings.state)
    _empty_table(settings.table)
    for folder in settings.instances.glob("*"):
        socket_folder.clear(folder)
    _remove(settings.instances)
    _remove(settings.secrets)
    left = []
    for pattern in OURS:
        for path in sorted(state.glob(pattern)):
            target = f"{path} -> {path.readlink()}" if path.is_symlink() else ""
            _remove(path)
            left += [f"what {target} leads to"] if target else []
    sync_folder(state)
    known = (*OURS, LOCK, f"{DECOMMISSION}*", f"{DECOMMISSIONED}*", settings.identity.name)
    strange = [path.name for path in state.iterdir() if not any(fnmatch.fnmatch(path.name, one) for one in known)]
    return left + [f"{state / name}, which no agent made" for name in sorted(strange)]


def _empty_table(table: Path) -> None:
    """No route leads anywhere, and the copies of key and certificate that the gateway could read are gone."""
    if table.parent.is_dir():
        generation = 1
        with contextlib.suppress(EdgefleetError, OSError):
            generation = gateway_table.read(table).generation + 1
        gateway_table.write(table, Table(generation=generation, slots={}))
        for name in (KEY, CERTIFICATE):
            _remove(table.parent / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


async def _say(settings: Settings, identity: Identity, left: list[str], clock: Clock) -> None:
    """The last answer, as long as there is a key to sign it with. Where nobody can be told, the device goes silent."""
    try:
        order, signer = _order(settings), OwnKey(settings.identity)
    except (OSError, BadSettings, Invalid) as error:
        _log.error("nobody is told of it: %s", error)
        return
    state: Literal["done", "failed"] = "failed" if left else "done"
    answer = Answer(
        id=order.id,
        device=order.device,
        name=_NAME,
        part=order.part,
        state=state,
        note="" if left else "everything of edgefleet was removed",
        reason=Reason("needs-operator", f"all else was removed, and left behind: {'; '.join(left)}"[:2000])
        if left
        else None,
    )
    envelope = signing.sign(canonical.encode(answer), payload_type=signing.ANSWER_TYPE, signers=[signer])
    said = asyncio.Event()
    boots = itertools.count(order.boot + 1)

    async def on_connect() -> None:
        with contextlib.suppress(LinkLost):
            await link.publish(link.topics.answer(order.device), envelope)
            said.set()

    link = Link(
        identity,
        settings.identity,
        on_message=lambda _topic, _payload: None,
        on_connect=on_connect,
        next_boot=lambda: next(boots),
        epoch=lambda: order.epoch,
        keepalive_s=settings.keepalive_s,
        clock=clock,
    )
    session = asyncio.create_task(link.run(), name="link")
    try:
        async with asyncio.timeout(BROKER_WITHIN_S):
            await said.wait()
    except TimeoutError:
        _log.error("the broker did not answer, so nobody is told that this device was decommissioned")
    finally:
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)
