"""Secrets on the device: opened for the module in the slot, as files in memory, with or without a restart."""

import asyncio
import os
import stat
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent import sealing_key
from agent.secret_files import write
from agent.slots import MAX_RESTARTS
from agent.steps import Refresh
from modules.adjustable import check_secrets
from modules.errors import BadSettings, EngineBusy, Invalid, NeedsOperator
from modules.manifest import SecretFile
from modules.protocol.phases import Phase
from modules.sealing import new_key, public_half
from tests.agent.secret_bench import SecretBench
from tests.doubles.engine import Behaviour
from tests.doubles.release import make

TOKEN, NEXT = b"first-planted-token", b"second-planted-token"


@pytest.fixture
def memory():
    """A folder that lies on a tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
async def bench(tmp_path, memory):
    made = SecretBench(tmp_path, memory)
    made.start()
    yield made
    await made.stop()
    made.store.close()
    made.engine.close()


def release(reload="restart", **more):
    return make("acme/digits:1", secrets=(SecretFile(name="token", reload=reload, **more),))


def given(folder):
    """What a module finds there, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def everywhere(folder, value):
    """Files below a folder that hold these bytes."""
    return [path for path in folder.rglob("*") if path.is_file() and value in path.read_bytes()]


async def test_a_module_is_given_its_secret_in_memory_and_the_disk_never_has_it(bench, memory, tmp_path):
    """From its start until it is removed; the state folder holds what only the device's key opens."""
    await bench.settled(release(), token=bench.sealed(TOKEN, 1))
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
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
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
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    first = bench.row().current.instance
    await bench.give(wanted, token=bench.sealed(NEXT, 2))
    await bench.until(lambda: bench.row().current.instance != first and bench.row().current.given == {"token": 2})
    assert bench.files(bench.row().current.instance) == {"token": NEXT}
    assert bench.files(first) is None
    assert bench.row().phase is Phase.COMMITTED
    assert bench.row().upkeep.restarts == bench.row().upkeep.excused


async def test_a_module_that_asks_for_a_signal_is_told_when_its_file_is_new(bench):
    """The same instance, the new bytes first and then the signal, once for each version; nothing at its start."""
    wanted = release("signal")
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    instance = bench.row().current.instance
    assert bench.engine.signals == []
    await bench.give(wanted, token=bench.sealed(NEXT, 2))
    await bench.until(lambda: bench.row().current.given == {"token": 2})
    assert bench.engine.signals == [(instance, {"token": NEXT})]
    await bench.passes(3)
    assert bench.row().current.instance == instance
    assert len(bench.engine.signals) == 1


async def test_a_module_that_dies_of_the_signal_is_started_again_and_not_blamed(bench):
    """However often: it has the new bytes after each start, and is never reverted or degraded for it."""
    await bench.committed(make("acme/digits:0"))
    wanted = release("signal")
    bench.engine.behaviours[wanted.digest] = Behaviour(dies_of_signal=True)
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    for version in range(2, MAX_RESTARTS + 4):
        first = bench.row().current.instance
        await bench.give(wanted, token=bench.sealed(NEXT, version))
        # A signal is held back as a restart is; what it ends is not, and no time passes in between.
        await bench.until(lambda: len(bench.engine.signals) == version - 1, flowing=1.0)  # noqa: B023
        await bench.until(lambda: bench.row().current.instance != first)  # noqa: B023
        await bench.until(lambda: bench.row().current.given == {"token": version})  # noqa: B023
        assert bench.files(bench.row().current.instance) == {"token": NEXT}
        assert bench.row().upkeep.restarts == bench.row().upkeep.excused
    assert bench.row().phase is Phase.COMMITTED
    assert bench.serves() == "acme/digits:1"
    assert bench.store.failed(wanted.digest) is None


async def test_a_module_that_dies_later_is_not_excused_by_a_signal(bench):
    """What ends long after the signal ends by itself."""
    wanted = release("signal")
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    await bench.give(wanted, token=bench.sealed(NEXT, 2))
    await bench.until(lambda: bench.row().current.given == {"token": 2})
    first = bench.row().current.instance
    bench.clock.advance(31.0)
    bench.engine.crash(first)
    await bench.until(lambda: bench.row().current.instance != first)
    assert (bench.row().upkeep.restarts, bench.row().upkeep.excused) == (1, 0)


async def test_an_engine_that_cannot_signal_is_asked_again(bench):
    """Busy for a while: the module serves on without trouble, and is signalled once the engine is back."""
    wanted = release("signal")
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    bench.engine.hang_up_errors += [EngineBusy("busy for once"), EngineBusy("busy for once")]
    began = bench.clock.monotonic()
    await bench.give(wanted, token=bench.sealed(NEXT, 2))
    await bench.until(lambda: bench.engine.signals)
    assert bench.clock.monotonic() - began >= 10.0, "seconds pass before each further try"
    assert bench.row().upkeep.state == "up"
    await bench.until(lambda: bench.row().current.given == {"token": 2})


async def test_a_module_that_was_replaced_meanwhile_is_given_nothing(bench):
    """A decision of before a commit or a revert: the new bytes are not put where nobody will remove them."""
    wanted = release()
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    await bench.stop()
    first = bench.row()
    given = msgspec.structs.replace(first.current, secrets={"token": bench.sealed(NEXT, 2)})
    bench.store.save(first.with_(current=msgspec.structs.replace(first.current, instance="main-another-99")))
    await bench.executor.take(Refresh(first.with_(current=given)))
    assert bench.files(first.current.instance) == {"token": TOKEN}
    assert bench.row().current.instance == "main-another-99"


async def test_a_version_that_does_not_open_changes_nothing_for_a_module_that_serves(bench):
    """Sealed to an older key of the device: the module goes on with the secret that it has."""
    wanted = release()
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
    first = bench.row().current
    await bench.give(wanted, token=bench.sealed(NEXT, 2, key=public_half(new_key())))
    await bench.passes(6)
    assert bench.row().current.instance == first.instance
    assert bench.files(first.instance) == {"token": TOKEN}
    assert bench.serves()


async def test_a_module_that_somebody_restarts_has_its_secrets_again(bench):
    """As after any start; those of the instance that was stopped are gone."""
    await bench.settled(release(), token=bench.sealed(TOKEN, 1))
    first = bench.row().current.instance
    await bench.loop.restart("main")
    current = bench.row().current
    assert current.instance != first
    assert bench.files(current.instance) == {"token": TOKEN}
    assert bench.files(first) is None
    assert current.given == {"token": 1}


async def test_a_restart_that_another_module_overtakes_leaves_no_secret_behind(bench, memory):
    """While it waits for its image a commit takes the slot: nothing is stopped, and what it had been given is gone."""
    await bench.settled(release(), token=bench.sealed(TOKEN, 1))
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
    await bench.settled(wanted, token=bench.sealed(TOKEN, 1))
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
    await bench.settled(wanted, token=bench.sealed(TOKEN, 2))
    assert bench.files(bench.row().current.instance) == {"token": TOKEN}


async def test_a_module_does_not_start_without_a_secret_that_it_requires(bench):
    """It waits and says which; one that is not required is no reason to wait."""
    await bench.settled(release(required=False))
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
    assert given(folder) == {"token": NEXT}
    assert everywhere(folder, TOKEN) == []


def test_a_certificate_and_its_key_are_never_seen_half_new(memory, monkeypatch):
    """At each step of a renewal, and before the first: what is read through ``..data`` is all of one version, and no
    file's name is ever missing."""
    folder = memory / "secrets" / "1"
    pairs = [{"tls.crt": b"certificate %d" % number, "tls.key": b"key %d" % number} for number in range(3)]
    write(folder, pairs[0], group=os.getgid())
    seen = []

    def looked(step):
        def stepped(*arguments, **more):
            seen.append(given(folder / "..data"))
            assert set(given(folder)) == {"tls.crt", "tls.key"}
            return step(*arguments, **more)

        return stepped

    for place, name in ((Path, "replace"), (Path, "unlink"), (os, "fchmod")):
        monkeypatch.setattr(place, name, looked(getattr(place, name)))
    for pair in pairs[1:]:
        write(folder, pair, group=os.getgid())
        assert given(folder / "..data") == given(folder) == pair

    assert len(seen) >= 2 * 5
    assert all(one in pairs for one in seen), seen
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("..")) == ["tls.crt", "tls.key"]
    assert len(list(folder.iterdir())) == 4


def test_what_an_agent_of_before_or_a_killed_one_has_left_is_replaced(memory):
    """Plain files, half a version, and a link that was not put in its place."""
    folder = memory / "secrets" / "1"
    (folder / "..half").mkdir(parents=True)
    (folder / "..half" / "token").write_bytes(TOKEN)
    (folder / "..link").symlink_to("..half")
    (folder / "token").write_bytes(TOKEN)
    (folder / ".token").write_bytes(TOKEN)
    write(folder, {"token": NEXT}, group=os.getgid())
    assert given(folder) == {"token": NEXT}
    assert everywhere(folder, TOKEN) == []


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
