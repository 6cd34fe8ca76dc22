import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agent.engines import processes
from agent.engines.contract import Launch
from agent.engines.process import LOG_LIMIT, ProcessEngine
from agent.unix_http import UnixConnection
from modules.digests import measure_bytes, sha256
from modules.errors import Invalid, NoEngine, NotReady
from modules.manifest import EntryScript, File, Manifest, Proof, Runtime, encode
from tests.doubles.disk import Disk
from tests.parts.pace import stretched

ROOT = Path(__file__).parents[3]
PARALLEL = b"""
import os
from joblib import Parallel, delayed

def run(data):
    return Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(8))
"""
HEARS = b"""
import signal
heard = 0

def init():
    def again(*_):
        global heard
        heard += 1
    signal.signal(signal.SIGHUP, again)

def run(data):
    return heard
"""
SCRIPT = b"def init():\n    pass\n\ndef run(data):\n    return data\n"


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def interpreter(tmp_path):
    """A Python that has edgefleet[scoring]: this one, told where the sources are."""
    return program(tmp_path / "python", f'PYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"')


@pytest.fixture
def launch(tmp_path):
    def make(*, script=SCRIPT, **changes) -> Launch:
        module, sockets = tmp_path / "module", tmp_path / "run"
        (module / "files/source").mkdir(parents=True, exist_ok=True)
        sockets.mkdir(exist_ok=True)
        (module / "files/source/score.py").write_bytes(script)
        blob = measure_bytes(script)
        manifest = Manifest(
            team="acme", name="echo", version="1", serve=EntryScript(script="source/score.py"), runtimes=(Runtime(),),
            files=(File(path="source/score.py", sha256=blob.sha256, length=blob.length, blocks=blob.blocks),),
            proof=Proof(prove="ready-only"),
        )  # fmt: skip
        (module / "manifest.json").write_bytes(encode(manifest))
        values = {
            "instance": "echo-01234567-1", "slot": "echo", "digest": sha256(encode(manifest)),
            "module_dir": str(module), "socket_dir": str(sockets), "runtime": Runtime(),
            "providers": ("CPUExecutionProvider",), "memory_mb": 256,
            "group": os.getgid(),
        }  # fmt: skip
        return Launch(**(values | changes))

    return make


@pytest.fixture
async def engines(tmp_path):
    """Makes engines over one state folder, as agents after each other; ends what they started."""
    made = []

    def make(interpreter: str) -> ProcessEngine:
        made.append(ProcessEngine(tmp_path / "state", interpreter))
        return made[-1]

    yield make
    for engine in reversed(made):
        for instance in await engine.list():
            await engine.stop(instance.instance, grace_s=0)


async def until(condition, *, within_s: float = 30.0):
    """The first true answer of an asynchronous question."""
    async with asyncio.timeout(stretched(within_s)):
        while not (answer := await condition()):  # noqa: ASYNC110 - another process knows; it sends no event
            await asyncio.sleep(0.02)
    return answer


async def ended(engine: ProcessEngine):
    instances = await engine.list()
    return instances if all(one.state == "exited" for one in instances) else None


def ask(launch: Launch, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with closing(UnixConnection(launch.socket, 10)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()


async def serves(launch: Launch) -> bool:
    try:
        status, _ = await asyncio.to_thread(ask, launch, "POST", "/score", b'{"a":1}')
    except (OSError, http.client.HTTPException):
        return False
    return status == http.client.OK


async def _heard(launch: Launch, times: int) -> bool:
    return (await asyncio.to_thread(ask, launch, "POST", "/score", b"{}"))[1] == str(times).encode()


def mark(tmp_path: Path) -> str:
    """The variable by which the instance's process says whose it is."""
    return f"EDGEFLEET_RECORD={record(tmp_path).parent}"


def record(tmp_path: Path) -> Path:
    return tmp_path / "state/echo-01234567-1/record.json"


class TestLife:
    async def test_serves_and_goes(self, engines, interpreter, launch, tmp_path):
        """An instance answers on its socket, shows with its use, and is gone with all its processes when stopped."""
        engine, wanted = engines(interpreter), launch()

        started = await engine.start(wanted)
        await until(lambda: serves(wanted))

        assert await engine.list() == [started]
        assert (started.state, started.slot, started.digest) == ("running", "echo", wanted.digest)
        assert started.image == interpreter
        usage = await engine.usage(wanted.instance)
        assert 10 < usage.memory_mb < 1000
        assert usage.tasks >= 1
        assert await engine.logs(wanted.instance, tail_bytes=10_000)
        leader = processes.find(mark(tmp_path))
        members = processes.session(leader)
        await engine.stop(wanted.instance, grace_s=10)
        assert await engine.list() == []
        assert await engine.usage(wanted.instance) is None
        assert await engine.logs(wanted.instance, tail_bytes=10) == ""
        assert all(not processes.is_alive(processes.Identity(one.pid, one.ticks, leader.boot)) for one in members)
        await engine.stop(wanted.instance, grace_s=10)

    async def test_a_signal_reaches_the_script(self, engines, interpreter, launch):
        """SIGHUP for the server is passed on to a script that asks for it; what is not there hears nothing."""
        engine, wanted = engines(interpreter), launch(script=HEARS)
        await engine.start(wanted)
        await until(lambda: serves(wanted))

        await engine.hang_up(wanted.instance)
        await until(lambda: _heard(wanted, 1))
        await engine.stop(wanted.instance, grace_s=10)
        await engine.hang_up(wanted.instance)

    async def test_start_is_idempotent(self, engines, interpreter, launch):
        """Starting what runs already gives the same process."""
        engine = engines(interpreter)
        first = await engine.start(launch())

        assert await engine.start(launch()) == first

    async def test_outlives_the_agent(self, engines, interpreter, launch, tmp_path):
        """An instance serves on when the agent's process has ended, and the next agent finds and stops it."""
        wanted = launch()
        agent = (
            "import asyncio, sys, msgspec\nfrom pathlib import Path\nfrom agent.engines.contract import Launch\n"
            "from agent.engines.process import ProcessEngine\n"
            "launch = msgspec.json.decode(sys.argv[3], type=Launch)\n"
            "asyncio.run(ProcessEngine(Path(sys.argv[1]), sys.argv[2]).start(launch))\n"
        )
        told = msgspec.json.encode(wanted).decode()
        command = [sys.executable, "-c", agent, str(tmp_path / "state"), interpreter, told]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=60, cwd=ROOT)
        await until(lambda: serves(wanted))
        engine = engines(interpreter)

        (found,) = await engine.list()

        assert (found.instance, found.state) == (wanted.instance, "running")
        await engine.stop(wanted.instance, grace_s=10)
        assert not await serves(wanted)

    async def test_started_and_not_written_down(self, engines, interpreter, launch, tmp_path):
        """A process whose agent died before writing its id down is found by its socket, not started twice."""
        wanted = launch()
        started = await engines(interpreter).start(wanted)
        path = record(tmp_path)
        known = json.loads(path.read_bytes())
        path.write_text(json.dumps(known | {"process": None}))

        again = await engines(interpreter).start(wanted)

        assert again == started
        assert json.loads(path.read_bytes())["process"] == known["process"]

    async def test_what_it_started_is_on_the_disk(self, engines, launch, tmp_path, monkeypatch):
        """An agent that dies next knows the process again: half a record, or none, would leave it to nobody."""
        disk = Disk(monkeypatch)
        await engines(program(tmp_path / "python", "exit 3")).start(launch())

        assert disk.synced(record(tmp_path))

    async def test_exit_code(self, engines, launch, tmp_path):
        """A process that ends by itself shows with its exit code."""
        engine = engines(program(tmp_path / "fails", "echo broken >&2; exit 3"))
        await engine.start(launch())

        (instance,) = await until(lambda: ended(engine))

        assert (instance.state, instance.exit_code, instance.oom) == ("exited", 3, False)
        assert await engine.logs(instance.instance, tail_bytes=100) == "broken\n"

    async def test_killed(self, engines, launch, tmp_path):
        """A process that was killed shows with the signal."""
        engine = engines(program(tmp_path / "killed", "kill -KILL $$"))
        await engine.start(launch())

        (instance,) = await until(lambda: ended(engine))

        assert (instance.exit_code, instance.detail) == (128 + signal.SIGKILL, "killed by signal 9")

    async def test_deaf_process(self, engines, launch, tmp_path):
        """A process that ignores the request to end is killed after its grace, with its children."""
        engine = engines(program(tmp_path / "deaf", 'trap "" TERM; sleep 600 & echo started; wait; sleep 600'))
        wanted = launch()
        await engine.start(wanted)
        await until(lambda: engine.logs(wanted.instance, tail_bytes=100))
        leader = processes.find(mark(tmp_path))
        members = processes.session(leader)
        before = time.monotonic()

        await engine.stop(wanted.instance, grace_s=0.3)

        assert 0.3 <= time.monotonic() - before < 10
        assert len(members) >= 2
        assert all(not processes.is_alive(processes.Identity(one.pid, one.ticks, leader.boot)) for one in members)

    @pytest.mark.parametrize("then", ["started again", "stopped"])
    async def test_what_a_killed_server_leaves(self, engines, interpreter, launch, then, tmp_path):
        """The script's worker and joblib's, which nobody ends with a killed server, end before it is started again."""
        engine, wanted = engines(interpreter), launch(script=PARALLEL)
        await engine.start(wanted)
        await until(lambda: serves(wanted))
        leader = processes.find(mark(tmp_path))
        members = [processes.Identity(one.pid, one.ticks, leader.boot) for one in processes.session(leader)]
        assert len(members) >= 4  # server, worker, two of joblib's
        assert (await engine.usage(wanted.instance)).tasks >= len(members)

        os.kill(leader.pid, signal.SIGKILL)
        await until(lambda: ended(engine))
        await (engine.start(wanted) if then == "started again" else engine.stop(wanted.instance, grace_s=0))

        assert [one for one in members if processes.is_alive(one)] == []


class TestSafety:
    async def test_a_renamed_record_is_no_lost_process(self, engines, interpreter, launch, tmp_path):
        """Whoever renames an instance's folder does not hide its process: it is shown, and stopped, under that name."""
        wanted = launch()
        await engines(interpreter).start(wanted)
        leader = processes.find(mark(tmp_path))
        record(tmp_path).parent.rename(tmp_path / "state" / "bobs")
        engine = engines(interpreter)

        (instance,) = await engine.list()
        assert (instance.instance, instance.state) == ("bobs", "running")
        await engine.stop("bobs", grace_s=5)

        assert await engine.list() == []
        assert not processes.is_alive(leader)

    def test_who_names_the_socket_is_not_the_instance(self, engines, launch, tmp_path):
        """A start that was not written down is known by its own mark: a person's program on that socket is not it."""
        wanted = launch()
        engine = engines(program(tmp_path / "short", "exit 0"))
        asyncio.run(engine.start(wanted))
        asyncio.run(until(lambda: ended(engine)))
        path = record(tmp_path)
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"process": None, "exit_code": None}))
        command = [sys.executable, "-c", "input()", wanted.socket]
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as stranger:
            (instance,) = asyncio.run(engines(str(tmp_path / "short")).list())
            asyncio.run(engine.stop(wanted.instance, grace_s=0))

            assert instance.state == "exited"
            assert stranger.poll() is None
            stranger.communicate(b"\n")

    async def test_reused_process_id(self, engines, interpreter, launch, tmp_path):
        """A process that got the id of one of ours is neither taken for it nor stopped for it."""
        wanted = launch()
        await engines(interpreter).start(wanted)
        stranger = processes.find(mark(tmp_path))
        path = record(tmp_path)
        known = json.loads(path.read_bytes())
        earlier = known["process"] | {"ticks": stranger.ticks - 1}
        path.write_text(json.dumps(known | {"process": earlier}))
        engine = engines(interpreter)

        (instance,) = await engine.list()
        await engine.stop(wanted.instance, grace_s=0)

        assert (instance.state, instance.exit_code) == ("exited", None)
        assert processes.is_alive(stranger)
        assert processes.end(stranger, grace_s=5, kill_s=5)

    async def test_other_boot(self, engines, interpreter, launch, tmp_path):
        """After a reboot nothing is taken to run on the word of an old record."""
        wanted = launch()
        await engines(interpreter).start(wanted)
        alive = processes.find(mark(tmp_path))
        path = record(tmp_path)
        known = json.loads(path.read_bytes())
        path.write_text(json.dumps(known | {"process": known["process"] | {"boot": "another"}}))

        (instance,) = await engines(interpreter).list()

        assert instance.state == "exited"
        assert processes.end(alive, grace_s=5, kill_s=5)

    async def test_log_is_bounded(self, engines, launch, tmp_path):
        """A module that writes without end fills no disk: its log starts again with its end."""
        engine = engines(program(tmp_path / "loud", f"head -c {LOG_LIMIT + 10} /dev/zero; echo end; sleep 600"))
        wanted = launch()
        await engine.start(wanted)
        log = record(tmp_path).with_name("log")
        await until(lambda: asyncio.to_thread(lambda: log.exists() and log.read_bytes().endswith(b"end\n")))

        await engine.list()

        assert log.stat().st_size <= LOG_LIMIT
        assert (await engine.logs(wanted.instance, tail_bytes=4)) == "end\n"

    async def test_name_that_leaves_the_folder(self, engines, interpreter):
        """An instance's name never leads out of the state folder."""
        with pytest.raises(Invalid):
            await engines(interpreter).stop("../elsewhere", grace_s=0)


class TestInterpreter:
    async def test_facts(self, engines, interpreter):
        """The report names the interpreter and the versions in it, and that nothing isolates."""
        facts = await engines(interpreter).facts()

        assert facts.name == "process"
        assert interpreter in facts.detail
        assert "onnxruntime 1." in facts.detail
        assert "not isolated" in facts.detail

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            pytest.param("exit 1", "does not run", id="when it fails"),
            pytest.param("echo hello", "does not run", id="when it is no Python"),
            pytest.param(f'exec "{sys.executable}" -I -S "$@"', "has no edgefleet", id="when it lacks edgefleet"),
        ],
    )
    async def test_unfit(self, text, why, engines, tmp_path):
        """An interpreter that cannot serve is the operator's to change."""
        with pytest.raises(NoEngine, match=why):
            await engines(program(tmp_path / "unfit", text)).facts()

    async def test_missing(self, engines, launch, tmp_path):
        """Without the interpreter nothing starts, and nothing is left of the attempt."""
        engine = engines(str(tmp_path / "missing"))

        with pytest.raises(NoEngine):
            await engine.facts()
        with pytest.raises(NotReady):
            await engine.start(launch())

        assert await engine.list() == []
