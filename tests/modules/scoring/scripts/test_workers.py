"""Several workers of one script, asynchronous scripts, and what reaches the log."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.parts.pace import stretched

SCRIPT = """
import asyncio, json, logging, os, sys, threading, time
async def init():
    global lock
    lock = asyncio.Lock()
async def run(data):
    asked = json.loads(data)
    if asked.get("wait"):
        open(asked["wait"] + str(os.getpid()), "w").close()
        while not os.path.exists(asked["wait"]):
            await asyncio.sleep(0.01)
    if asked.get("print"):
        print("one\\ntwo")
        print("half", end="")
        print(" line")
        sys.stderr.write("an error\\n")
        logging.getLogger("plants").info("informed")
        logging.getLogger("plants").debug("too much")
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        os.write(1, b"")
    if asked.get("raise"):
        raise ValueError("no such plant")
    async with lock:
        return {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
"""


@pytest.fixture(scope="module")
def server(start, script):
    return start("--script", script(SCRIPT), WORKER_COUNT="3", EDGEFLEET_LIMITS='{"max_queue": 2}').ready()


def test_busy_and_idle(server, tmp_path):
    """Requests go to idle workers, so that three run at once; the next wait, and what is over the queue is 429."""
    gate = tmp_path / "gate"
    running = [server.later(body={"wait": str(gate)}) for _ in range(3)]
    server.until(lambda: len(list(tmp_path.iterdir())) == 3, "three runs at once")
    waiting = [server.later(body={}) for _ in range(2)]
    server.until(lambda: 'queue_depth{model="score"} 2' in server.ask("/metrics").body.decode(), "the queue")
    reply = server.ask(body={})
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert server.ask("/").status == 200
    gate.touch()
    assert len({reply().json["pid"] for reply in running}) == 3
    assert [reply().status for reply in waiting] == [200, 200]


HEARS = """
import os, pathlib, signal
heard = 0
def again(*_):
    global heard
    heard += 1
    pathlib.Path(os.environ["HEARD"], f"{heard} {os.getpid()}").touch()
def init():
    signal.signal(signal.SIGHUP, again)
def run(data):
    return os.getpid()
"""
DEAF = "import os\ndef init():\n    pass\ndef run(data):\n    return os.getpid()\n"


def test_a_signal_is_passed_on_to_each_worker_and_harms_none(start, script, tmp_path):
    """SIGHUP, which says that secrets are new, comes to every worker whose script asks for it, as often as it is sent;
    a script that does not ask serves on, and so does the server."""
    hearing = start("--script", script(HEARS), WORKER_COUNT="2", HEARD=str(tmp_path)).ready()
    for times in (1, 2):
        hearing.process.send_signal(signal.SIGHUP)
        hearing.until(lambda: len(list(tmp_path.glob(f"{times} *"))) == 2, "both workers hear it")  # noqa: B023
    assert hearing.ask(body={}).json in {int(path.name.split()[1]) for path in tmp_path.glob("2 *")}

    deaf = start("--script", script(DEAF)).ready()
    before = deaf.ask(body={}).json
    deaf.process.send_signal(signal.SIGHUP)
    deaf.process.send_signal(signal.SIGHUP)
    assert [deaf.ask(body={}).json for _ in range(3)] == [before] * 3
    assert deaf.process.poll() is None


def test_one_at_a_time(start, script, tmp_path):
    """A worker runs one request at a time, an asynchronous one too, so that whatever ends it ends no other request."""
    server = start("--script", script(SCRIPT), EDGEFLEET_SETTINGS='{"score_timeout_ms": 2000}').ready()
    gate = tmp_path / "gate"
    first = server.later(body={"wait": str(gate)})
    server.until(lambda: list(tmp_path.iterdir()), "the first run")
    second = server.later(body={})
    assert (first().status, second().status) == (500, 200)


def test_asynchronous_failure(server):
    """What an asynchronous ``run`` raises is a 500 like any other."""
    reply = server.ask(body={"raise": True})
    assert (reply.status, "ValueError: no such plant" in reply.json["message"]) == (500, True)


def test_threads_are_shared(server):
    """The granted cores are divided among the workers."""
    assert server.ask(body={}).json["threads"] == "1"


def test_one_dies(server):
    """When one worker dies the others serve, and it is replaced."""
    pid = server.ask(body={}).json["pid"]
    before = server.log.count("a new worker is running")
    noticed = server.log.count("starting a new worker")
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: server.log.count("starting a new worker") > noticed, "notice of the death")
    assert server.ask(body={}).status == 200
    server.until(lambda: server.log.count("a new worker is running") > before, "the new worker")
    assert not Path(f"/proc/{pid}").exists()


def test_many_at_once(start, script):
    """A hundred requests from ten clients are answered once each, with their own answers."""
    server = start("--script", script("def run(data): return data"), WORKER_COUNT="2").ready()
    wrong = []

    def client(number):
        connection = server.connect()
        for one in range(10):
            connection.request("POST", "/score", f"{number}-{one}")
            answer = json.loads(connection.getresponse().read())
            wrong.extend([] if answer == f"{number}-{one}" else [answer])
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


@pytest.mark.parametrize("line", ["one", "two", "half line", "an error", "from a thread", "INFO plants: informed"])
def test_log_lines(server, line):
    """Each printed, written or logged line is a record of its own with the request's id in front."""
    server.ask(body={"print": True}, headers={"x-request-id": "log-1"})
    assert f"\n[log-1] {line}\n" in server.log
    assert "too much" not in server.log


def test_structured_log(start, script):
    """For machines each line is a JSON object with level, logger, request id and message."""
    environment = {"EDGEFLEET_LOG_FORMAT": "json", "AZUREML_LOG_LEVEL": "INFO"}
    server = start("--script", script(SCRIPT), **environment).ready()
    server.ask(body={"print": True}, headers={"x-request-id": "log-2"})
    records = [json.loads(line) for line in server.log.splitlines()]
    mine = [record for record in records if record.get("request_id") == "log-2"]
    assert [record["message"] for record in mine if record["logger"] == "print"] == [
        "one", "two", "half line", "from a thread",
    ]  # fmt: skip
    assert {"level": "info", "logger": "plants", "message": "informed"}.items() <= mine[-2].items() or any(
        record["logger"] == "plants" for record in mine
    )
    assert all(record["time"].endswith("Z") for record in mine)


def test_worker_timeout(start, script):
    """``WORKER_TIMEOUT`` bounds a run as well, where it is shorter than ``SCORING_TIMEOUT_MS``."""
    seconds = f"{round(stretched(0.5), 1):g}"  # init() has no more, either
    server = start("--script", script("import time\ndef run(data): time.sleep(600)"), WORKER_TIMEOUT=seconds).ready()
    reply = server.ask(body=b"x")
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert f"stopped after {seconds} s" in reply.json["message"]
