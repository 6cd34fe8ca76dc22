"""``serve-local`` while its files change and while it is killed: no request is cut, and no process stays."""

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.fleet.client.local.serving import served
from tests.parts.pace import stretched
from tests.parts.programs import until

pytestmark = pytest.mark.long

CHANGES = 10
# Slow enough that every change meets requests that run.
SCRIPT = "import time\n\n\ndef run(data):\n    time.sleep(0.01)\n    return {answer}\n"
PARALLEL = """
import os
from joblib import Parallel, delayed

def run(data):
    return Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(8))
"""


class Hammer(threading.Thread):
    """A client that asks again and again, on one connection that it keeps or on a new one each time."""

    def __init__(self, address, stop, *, keeps):
        super().__init__()
        self._address, self._over, self._keeps = address, stop, keeps
        self.asked, self.broken, self.newest = 0, [], -1

    def run(self):
        while not self._over.is_set():
            with httpx.Client(base_url=self._address, timeout=stretched(60)) as http:
                self._ask(http)
                while self._keeps and not self._over.is_set():
                    self._ask(http)

    def _ask(self, http):
        try:
            answer = http.post("/score", json={"x": "y" * 1000})
            assert answer.status_code == 200, answer.text
            assert answer.json() >= self.newest, "an older version answered after a newer one"
            self.newest, self.asked = answer.json(), self.asked + 1
        except (httpx.HTTPError, AssertionError) as error:
            self.broken.append(repr(error))


@pytest.mark.timeout(600)
def test_no_request_is_cut_however_often_the_script_changes(tmp_path):
    """One address throughout: ten changes under load, on kept connections and on new ones, and every answer comes."""
    file = tmp_path / "source/score.py"
    file.parent.mkdir()
    file.write_text(SCRIPT.format(answer=0))
    with served(file, tmp_path) as (http, said, _):
        stop = threading.Event()
        clients = [Hammer(str(http.base_url), stop, keeps=number % 2 == 0) for number in range(4)]
        for client in clients:
            client.start()
        try:
            for version in range(1, CHANGES + 1):
                file.write_text(SCRIPT.format(answer=version))
                until(
                    lambda version=version: all(one.newest == version for one in clients if one.is_alive()),
                    f"version {version} answers everybody",
                    within_s=stretched(60),
                    said=said,
                )
        finally:
            stop.set()
            for client in clients:
                client.join(60)

    assert [one.broken for one in clients] == [[], [], [], []]
    assert min(one.asked for one in clients) > CHANGES


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def below(pid):
    """The processes that it has started, and those that they have, and so on."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, new = [], [pid]
    while new:
        new = [child for one in new for child in children.get(one, [])]
        found += new
    return found


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)])
def test_nothing_stays_however_it_ends(tmp_path, number, ends):
    """The scoring server, its worker and what the script has started end with the command, killed or asked to."""
    file = tmp_path / "source/score.py"
    file.parent.mkdir()
    file.write_text(PARALLEL)
    with served(file, tmp_path, ends=ends) as (http, said, process):
        assert http.post("/score", json={}, timeout=60).status_code == 200
        started = below(process.pid)
        assert len(started) >= 4  # the server, its worker, two of joblib's
        os.kill(process.pid, number)
        began = time.monotonic()
        until(
            lambda: not [one for one in started if alive(one)],
            "all of them are gone",
            within_s=stretched(30),
            said=lambda: f"{[one for one in started if alive(one)]} {said()}",
        )
        assert time.monotonic() - began < stretched(30)
