"""Secrets on the device: opened for the module in the slot, as files in memory, with or without a restart."""

import asyncio
import os
import stat
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent import sealing_key
from agent.launch import Launcher
from agent.secret_files import write
from agent.secrets_here import SecretFiles
from modules.adjustable import check_secrets
from modules.errors import BadSettings, Invalid, NeedsOperator
from modules.manifest import SecretFile
from modules.protocol.order import Secret
from modules.protocol.phases import Phase
from modules.sealing import new_key, public_half, seal
from tests.agent.workbench import DEVICE, Bench
from tests.doubles.release import make

TOKEN, NEXT = b"first-planted-token", b"second-planted-token"


@pytest.fixture
def memory():
    """A folder that lies on a tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


class SecretBench(Bench):
    """A device whose runtime folder lies in memory."""

    memory: Path

    def build(self):
        super().build()
        self.public = sealing_key.ensure(self.folder / "identity")
        self.secrets = SecretFiles(self.memory / "secrets", self.folder / "identity", DEVICE)
        launcher = Launcher(
            store=self.store,
            shelf=self.shelf,
            instances=self.folder / "i",
            facts=lambda: self.host.facts,
            group=self.group,
            clock=self.clock,
            secrets=self.secrets,
        )
        self.executor._hands.launcher = launcher

    def sealed(self, value, version, *, name="token", slot="main", key=None):
        where = {"device": DEVICE, "slot": slot, "name": name, "version": version}
        return Secret(version=version, sealed=seal(value, key or self.public, **where))

    async def give(self, release, **secrets):
        await self.order(main=msgspec.structs.replace(release.ordered(), secrets=secrets))

    def files(self, instance):
        folder = self.secrets.folder(instance.rpartition("-")[2])
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


@pytest.fixture
async def bench(tmp_path, memory):
    SecretBench.memory = memory
    made = SecretBench(tmp_path)
    made.start()
    yield made
    await made.stop()
    made.store.close()
    made.engine.close()


def release(reload="restart", **more):
    return make("acme/digits:1", secrets=(SecretFile(name="token", reload=reload, **more),))


async def settled(bench, wanted, **secrets):
    """The module serves with these secrets."""
    bench.server.blobs.update(wanted.blobs)
    bench.shelf.keep_manifest(wanted.digest, wanted.data)
    await bench.give(wanted, **secrets)
    await bench.phase(Phase.PROBATION)
    bench.clock.advance(wanted.manifest.proof.probation_s + 1)
    await bench.phase(Phase.COMMITTED)


def everywhere(folder, value):
    """Files below a folder that hold these bytes."""
    return [path for path in folder.rglob("*") if path.is_file() and value in path.read_bytes()]


async def test_a_module_is_given_its_secret_in_memory_and_the_disk_never_has_it(bench, memory, tmp_path):
    """From its start until it is removed; the state folder holds what only the device's key opens."""
    await settled(bench, release(), token=bench.sealed(TOKEN, 1))
    instance = bench.row().current.instance
    assert bench.files(instance) == {"token": TOKEN}
    assert bench.row().current.given == {"token": 1}
    assert everywhere(tmp_path, TOKEN) == []
    folder = bench.secrets.folder(instance.rpartition("-")[2])
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o440
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    await bench.order()
    await bench.until(lambda: bench.store.slot("main") is None)
    assert everywhere(memory, TOKEN) == []


async def test_a_new_version_comes_as_a_file_without_a_restart_where_the_module_reads_it_anew(bench, memory):
    """The same instance, the new bytes, none of the old; after a restart of the agent, too."""
    wanted = release("file")
    await settled(bench, wanted, token=bench.sealed(TOKEN, 1))
    instance = bench.row().current.instance
    await bench.give(wanted, token=bench.sealed(NEXT, 2))
    await bench.until(lambda: bench.files(instance) == {"token": NEXT})
    await bench.until(lambda: bench.row().current.given == {"token": 2})
    assert bench.row().current.instance == instance
    assert everywhere(memory, TOKEN) == []
    await bench.restart()
    await bench.passes(3)
    assert bench.row().current.instance == instance
    assert bench.files(instance) == {"token": NEXT}
    await bench.stop()


async def test_a_new_version_restarts_a_module_that_reads_it_at_its_start_and_counts_as_no_failure(bench):
    """Another instance of the same module with the new bytes; nothing is fetched, proved or reverted for it."""
    wanted = release()
    await settled(bench, wanted, token=bench.sealed(TOKEN, 1))
    first = bench.row().current.instance
    await bench.give(wanted, token=bench.sealed(NEXT, 2))
    await bench.until(lambda: bench.row().current.instance != first and bench.row().current.given == {"token": 2})
    assert bench.files(bench.row().current.instance) == {"token": NEXT}
    assert bench.files(first) is None
    assert bench.row().phase is Phase.COMMITTED
    assert bench.row().upkeep.restarts == bench.row().upkeep.excused


async def test_a_version_that_does_not_open_changes_nothing_for_a_module_that_serves(bench):
    """Sealed to an older key of the device: the module goes on with the secret that it has."""
    wanted = release()
    await settled(bench, wanted, token=bench.sealed(TOKEN, 1))
    first = bench.row().current
    await bench.give(wanted, token=bench.sealed(NEXT, 2, key=public_half(new_key())))
    await bench.passes(6)
    assert bench.row().current.instance == first.instance
    assert bench.files(first.instance) == {"token": TOKEN}
    assert bench.serves()


async def test_a_module_that_somebody_restarts_has_its_secrets_again(bench):
    """As after any start; those of the instance that was stopped are gone."""
    await settled(bench, release(), token=bench.sealed(TOKEN, 1))
    first = bench.row().current.instance
    await bench.loop.restart("main")
    current = bench.row().current
    assert current.instance != first
    assert bench.files(current.instance) == {"token": TOKEN}
    assert bench.files(first) is None
    assert current.given == {"token": 1}


async def test_a_restart_that_another_module_overtakes_leaves_no_secret_behind(bench, memory):
    """While it waits for its image a commit takes the slot: nothing is stopped, and what it had been given is gone."""
    await settled(bench, release(), token=bench.sealed(TOKEN, 1))
    await bench.stop()
    first = bench.row().current
    bench.engine.images.clear()
    bench.engine.gates["load"] = asyncio.Event()
    asking = asyncio.create_task(bench.executor.restart("main"))
    await bench.until(lambda: bench.engine.held("load"))
    bench.store.save(bench.row().with_(current=msgspec.structs.replace(first, instance="main-another-99")))
    bench.engine.gates["load"].set()
    await asking
    assert bench.row().current.instance == "main-another-99"
    assert bench.engine.stops == []
    assert [path.name for path in (memory / "secrets").iterdir()] == [first.instance.rpartition("-")[2]]


async def test_a_module_whose_secret_does_not_open_any_more_is_not_stopped_to_be_restarted(bench):
    """It goes on with the secret that it has; who asked is told why."""
    wanted = release()
    await settled(bench, wanted, token=bench.sealed(TOKEN, 1))
    first = bench.row().current.instance
    await bench.give(wanted, token=bench.sealed(NEXT, 2, key=public_half(new_key())))
    await bench.passes(6)
    with pytest.raises(NeedsOperator, match="not sealed to this device"):
        await bench.loop.restart("main")
    assert bench.row().current.instance == first
    assert bench.engine.stops == []
    assert bench.files(first) == {"token": TOKEN}
    assert bench.serves()


async def test_a_secret_that_does_not_open_condemns_no_module(bench):
    """A new module waits and says what to do; once the secret is set again, it comes to the end of its way."""
    wanted = release()
    bench.server.blobs.update(wanted.blobs)
    bench.shelf.keep_manifest(wanted.digest, wanted.data)
    await bench.give(wanted, token=bench.sealed(TOKEN, 1, key=public_half(new_key())))
    await bench.until(
        lambda: bench.row().reason is not None and "not sealed to this device" in bench.row().reason.message
    )
    assert bench.row().phase is Phase.STAGED
    assert bench.store.failed(wanted.digest) is None
    await settled(bench, wanted, token=bench.sealed(TOKEN, 2))
    assert bench.files(bench.row().current.instance) == {"token": TOKEN}


async def test_a_module_does_not_start_without_a_secret_that_it_requires(bench):
    """It waits and says which; one that is not required is no reason to wait."""
    await settled(bench, release(required=False))
    wanted = make("acme/digits:2", secrets=(SecretFile(name="token"),))
    bench.server.blobs.update(wanted.blobs)
    bench.shelf.keep_manifest(wanted.digest, wanted.data)
    await bench.give(wanted)
    await bench.until(lambda: bench.row().reason is not None and "requires a secret" in bench.row().reason.message)
    assert bench.row().current.wanted.module == "acme/digits:1"


def test_an_order_that_gives_a_secret_which_the_manifest_does_not_declare_is_refused():
    """As a setting that it does not declare."""
    check_secrets(release().manifest, ["token"])
    with pytest.raises(Invalid, match="declares no such secret"):
        check_secrets(release().manifest, ["token", "other"])


def test_secrets_are_written_to_memory_alone(tmp_path, memory):
    """On a disk nothing is written, and the message says what to set."""
    write(memory / "secrets" / "1", {"token": TOKEN}, group=os.getgid())
    with pytest.raises(NeedsOperator, match="memory alone"):
        write(tmp_path / "secrets" / "1", {"token": TOKEN}, group=os.getgid())
    assert everywhere(tmp_path, TOKEN) == []


def test_who_has_a_file_open_reads_one_version_to_its_end(memory):
    """A new one takes its name; one that is not given any more goes."""
    folder = memory / "secrets" / "1"
    write(folder, {"token": TOKEN, "other": b"x"}, group=os.getgid())
    with (folder / "token").open("rb") as reading:
        write(folder, {"token": NEXT}, group=os.getgid())
        assert reading.read() == TOKEN
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"token": NEXT}


def test_the_devices_key_is_made_once_and_a_damaged_one_is_said(tmp_path):
    """Readable for the agent alone; apart from the key of its certificate, so that a renewal changes nothing."""
    public = sealing_key.ensure(tmp_path)
    assert sealing_key.ensure(tmp_path) == public
    assert stat.S_IMODE((tmp_path / sealing_key.KEY).stat().st_mode) == 0o600
    (tmp_path / sealing_key.PUBLIC).unlink()  # a power cut between the two
    assert sealing_key.ensure(tmp_path) == public
    (tmp_path / sealing_key.PUBLIC).write_bytes(b"short")
    with pytest.raises(BadSettings, match="damaged"):
        sealing_key.ensure(tmp_path)
