"""The fault table: in each phase the step fails, hangs, meets a full disk or a dead engine, and what must follow.

In every row the slot is served all the time: by the module that worked, or by the new one once it was proved.
"""

import errno
import os
import shutil
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from modules.errors import EngineBusy, NoEngine, NoSpace, Untrusted
from modules.manifest import Limits
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from tests.agent.workbench import FACTS
from tests.doubles.engine import Behaviour, could_not_start
from tests.doubles.release import WRONG, make

GOOD = make("acme/digits:1")
NEW = make("acme/digits:2", limits=Limits(memory_mb=64))
TO_FETCHING = ["accepted", "fitted", "fetching"]
TO_STAGED = [*TO_FETCHING, "verified", "staged"]
PROVED = ["starting", "probation", "committed"]
REVERTED = ["starting", "reverting", "reverted"]
FAILED = ["starting", "probation", "reverting", "reverted"]
ENDS = {Phase.COMMITTED, Phase.REVERTED, Phase.REJECTED}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DAMAGED = OSError(errno.EIO, os.strerror(errno.EIO))
FORBIDDEN = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "modules")


class Fault(NamedTuple):
    """What breaks, the reason that a report gives for it, the phases of the new version; and what mends it."""

    name: str
    breaks: Callable
    code: str
    chain: list[str]
    mends: Callable | None = None


def server(**faults):
    return lambda device, _: [setattr(device.server, name, value) for name, value in faults.items()]


def engine(**faults):
    return lambda device, _: [setattr(device.engine, name, value) for name, value in faults.items()]


def behaves(**how):
    return lambda device, _: device.engine.behaviours.update({NEW.digest: Behaviour(**how)})


def facts(**of_host):
    def change(device, _):
        device.host.facts = msgspec.structs.replace(device.host.facts, **of_host)

    return change


def spoils(times):
    def change(device, _):
        for blob in NEW.manifest.files:
            device.server.spoil[blob.sha256, 0] = times

    return change


def failed_before(device, _):
    device.store.remember_failed(NEW.digest, Reason("wrong-answer", "it was wrong"), 0.0)


def no_room(_, patch):
    patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))


def write_fails(name, error=FULL):
    def change(_, patch):
        def fail(*_args, **_more):
            raise error

        patch.setattr(os, name, fail)

    return change


def room_again(_, patch):
    patch.undo()


def defect(device, patch):
    def fail(*_):
        raise RuntimeError("nobody thought of this")

    patch.setattr(device.shelf, "lay_out", fail)


def in_the_way(device, _):
    for blob in NEW.manifest.files:
        if not device.blobs.has(blob):  # the good one has some of them
            (device.blobs.path(blob.sha256) / "x").mkdir(parents=True)


def changed_here(device, _):
    for blob in NEW.manifest.files:
        if not device.blobs.has(blob):
            device.blobs.path(blob.sha256).write_bytes(bytes(blob.length))


def out_of_the_way(device, _):
    for blob in NEW.manifest.files:
        shutil.rmtree(device.blobs.path(blob.sha256), ignore_errors=True)


def loses_a_blob(device, _):
    """Somebody tidies the disk after the fetch: the layers of an image that the engine then forgets."""
    device.engine.images |= {image(NEW)}

    original = device.shelf.lay_out

    def forget(*arguments):
        device.engine.images.discard(image(NEW))
        device.shelf.lay_out = original
        original(*arguments)

    device.shelf.lay_out = forget


def image(release):
    return release.manifest.runtimes[0].image.manifest.sha256


NO_ENGINE = NoEngine("it does not answer")
# fmt: off
FAULTS = [
    # accepted
    Fault("the host is too small", facts(memory_mb=1), "unfit", ["accepted", "rejected"]),
    Fault("the content failed before", failed_before, "unfit", ["accepted", "rejected"]),
    Fault("no engine at the last look", facts(engines=()), "no-engine", [*TO_STAGED, *PROVED],
          facts(engines=FACTS.engines)),
    # fetching
    Fault("blocks come wrong", spoils(1000), "transfer-stalled", [*TO_STAGED, *PROVED], spoils(0)),
    Fault("a block comes wrong once", spoils(1), "", [*TO_STAGED, *PROVED]),
    Fault("the server lacks a file", server(lacks={NEW.manifest.files[0].sha256}), "missing", [*TO_STAGED, *PROVED],
          server(lacks=set())),
    Fault("the server is silent", server(silent=True), "transfer-stalled", [*TO_STAGED, *PROVED], server(silent=False)),
    Fault("the link is lost", server(down=True), "link-lost", [*TO_STAGED, *PROVED], server(down=False)),
    Fault("no room for the files", no_room, "no-space", [*TO_STAGED, *PROVED], room_again),
    Fault("the disk fills while fetching", write_fails("pwrite"), "no-space", [*TO_STAGED, *PROVED], room_again),
    Fault("the engine is down", engine(down=True), "no-engine", [*TO_STAGED, *PROVED], engine(down=False)),
    Fault("the disk cannot write a block", write_fails("pwrite", DAMAGED), "needs-operator", [*TO_STAGED, *PROVED],
          room_again),
    Fault("a folder is where a file is to be", in_the_way, "needs-operator", [*TO_STAGED, *PROVED], out_of_the_way),
    # verified
    Fault("the image is not the signed one", engine(load_errors=[Untrusted("other layers")]), "untrusted",
          [*TO_FETCHING, "verified", "rejected"]),
    Fault("the engine's disk is full", engine(load_errors=[NoSpace("full")]), "no-space", [*TO_STAGED, *PROVED]),
    Fault("the engine is busy loading", engine(load_errors=[EngineBusy("busy")]), "engine-busy",
          [*TO_STAGED, *PROVED]),
    Fault("the disk is full for the layout", write_fails("link"), "no-space", [*TO_STAGED, *PROVED], room_again),
    Fault("the layout may not be made", write_fails("link", FORBIDDEN), "needs-operator", [*TO_STAGED, *PROVED],
          room_again),
    Fault("a defect of this program", defect, "bug", [*TO_STAGED, *PROVED], room_again),
    Fault("a blob was changed on this disk", changed_here, "",
          [*TO_FETCHING, "verified", "fetching", "verified", "staged", *PROVED]),
    Fault("a blob went missing", loses_a_blob, "",
          [*TO_FETCHING, "verified", "fetching", "verified", "staged", *PROVED]),
    # starting
    Fault("the engine refuses to start it", engine(start_errors=[could_not_start()]), "not-ready",
          [*TO_STAGED, *REVERTED]),
    Fault("the engine holds another image", engine(start_errors=[Untrusted("no such image")]), "untrusted",
          [*TO_STAGED, *REVERTED]),
    Fault("the engine is down at the start", engine(start_errors=[NO_ENGINE] * 5), "no-engine",
          [*TO_STAGED, *["starting", "staged"] * 5, *PROVED]),
    Fault("the engine is busy once", engine(start_errors=[EngineBusy("busy")]), "engine-busy",
          [*TO_STAGED, "starting", "staged", *PROVED]),
    Fault("the engine is busy at many starts", engine(start_errors=[EngineBusy("busy")] * 5), "engine-busy",
          [*TO_STAGED, *["starting", "staged"] * 5, *PROVED]),
    Fault("the disk is full at the start", engine(start_errors=[FULL]), "no-space",
          [*TO_STAGED, "starting", "staged", *PROVED]),
    Fault("a file cannot be read at the start", engine(start_errors=[DAMAGED] * 5), "needs-operator",
          [*TO_STAGED, *["starting", "staged"] * 5, *PROVED]),
    Fault("it ends at the start", behaves(exits=True), "not-ready", [*TO_STAGED, *REVERTED]),
    Fault("it has too little memory to start", behaves(exits=True, oom=True), "over-limit", [*TO_STAGED, *REVERTED]),
    Fault("it is never ready", behaves(hangs=True), "not-ready", [*TO_STAGED, *REVERTED]),
    Fault("its status is none", behaves(status=b"[]"), "not-ready", [*TO_STAGED, *REVERTED]),
    Fault("it answers wrong", behaves(answer=WRONG), "wrong-answer", [*TO_STAGED, *REVERTED]),
    Fault("it fell back to another provider", behaves(provider="XnnpackExecutionProvider"), "over-limit",
          [*TO_STAGED, *REVERTED]),
    Fault("it uses too much memory", behaves(memory_mb=65.0), "over-limit", [*TO_STAGED, *REVERTED]),
    # probation
    Fault("it dies on probation", behaves(dies_after_s=100.0), "not-ready", [*TO_STAGED, *FAILED]),
    Fault("it runs out of memory", behaves(dies_after_s=100.0, oom=True), "over-limit", [*TO_STAGED, *FAILED]),
]
# fmt: on


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_what_follows_a_fault(device, monkeypatch, fault):
    """The phases and the reported reason are those of the table, and the slot is served all the time."""
    await device.committed(GOOD)
    watch(device)
    with monkeypatch.context() as patch:
        fault.breaks(device, patch)
        await device.order(main=NEW)
        if fault.mends:
            await device.until(lambda: fault.code in codes(device), flowing=0.2)
            fault.mends(device, patch)
        flows(device)
        await device.until(lambda: device.row().phase in ENDS and device.row().wanted.digest == NEW.digest)

    assert device.chain() == fault.chain
    await device.until(lambda: fault.code in codes(device))
    expected = "acme/digits:2" if fault.chain[-1] == "committed" else "acme/digits:1"
    assert device.serves() == expected
    assert (device.store.failed(NEW.digest) is not None) == (
        fault.chain[-1] == "reverted" or fault.breaks is failed_before
    )


def watch(device):
    def look():
        assert device.served(), f"nobody answers: {device.route()}"

    device.watch = look


def flows(device):
    """From now on time passes, as long as the newest report says why the slot waits: a reason may be gone soon."""
    look = device.watch

    def pass_by():
        look()
        row, newest = device.row(), device.link.reports(device.key)[-1:]
        if [(told.phase, told.reason) for report in newest for told in report.slots] == [(row.standing, row.reason)]:
            device.clock.advance(5.0)

    device.watch = pass_by


def codes(device):
    return {code for _, code in device.said()}
