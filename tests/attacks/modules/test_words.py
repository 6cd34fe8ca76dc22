"""What a module says in its log, where people read it: on the device's terminal, in its log, in the server's report."""

import asyncio
import http.client
import io
import logging
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import status
from agent.settings import Settings
from modules.protocol.phases import Phase
from modules.words import Lines
from tests.attacks.modules.memory import Peak

pytestmark = pytest.mark.long

# A terminal clears its screen for it, a log gets a line that nobody wrote, and a name is shown from the right.
WORDS = r"\x1b[2J\x1b]0;title\x07\r\nWARNING agent.loop: all is well\r\n\u202egnp.exe\x00\x9b1m"
DIES = f"""
import sys
sys.stdout.write("{WORDS}")
sys.exit(3)
"""
DIES_LATER = f"""
import plain, sys
if plain.turned():
    sys.exit(sys.stdout.write("{WORDS}"))
plain.serve()
"""
LONG = """
import os
while True:
    os.write(1, b"\\xff\\x1b" * 32768)
    os.write(2, b"x" * 65536)
"""
# Its log and its answers, which agent and gateway cannot read.
ANSWERS = f"""
import plain
words = "{WORDS}".encode()
def score(connection, request):
    if b"words" not in request:
        return plain.answer(plain.RIGHT)
    connection.sendall(plain.head(b"Content-Length: 1000000") + words)
    return None
plain.serve(score=score, health=lambda *_: words + b"\\r\\n\\r\\n" if plain.turned() else plain.answer(b""))
"""


@pytest.fixture
def log():
    """The lines of the agent's log, written as the agent writes them."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Lines("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield lambda: written.getvalue().splitlines()
    root.removeHandler(handler)


def readable(lines):
    return all(line.isprintable() and not line.startswith("WARNING agent.loop") for line in lines)


async def test_words_for_a_terminal_reach_none(device, log, capsys, monkeypatch):
    """The log of a module that ends becomes one printable line in the report, in the agent's log and in its status."""
    await device.attacked(DIES)
    told = await device.ends(Phase.REVERTED, "not-ready", "it ended while starting: .*all is well")

    assert told.reason.message.isprintable()
    assert readable(log())
    (certificate := device.folder / "certificate").touch()
    pair = SimpleNamespace(certificate=certificate)
    known = {"load": lambda _: device, "present": lambda _: pair}
    monkeypatch.setattr(status, "identities", type("Identities", (), known))
    monkeypatch.setattr(status, "dates", lambda _: SimpleNamespace(begins=0.0, ends=1e9))
    await asyncio.to_thread(status.show, Settings(state=str(device.folder)), as_json=False)
    printed = capsys.readouterr().out
    assert "all is well" in printed
    assert readable(printed.splitlines())
    await device.others_answer()


async def test_words_at_a_restart_reach_none(device, log):
    """Nor do they get further when a committed module leaves them behind at its next start."""
    release = await device.attacked(DIES_LATER)
    await device.phase(Phase.COMMITTED, slot="evil")
    device.turn(release)
    device.container().kill()
    await device.until(lambda: device.restarts() > 1)

    assert any("restart failed" in line and "all is well" in line for line in log())
    assert readable(log())
    assert "all is well" in device.reported().reason.message
    await device.others_answer()


async def test_words_in_answers_reach_no_log(device, log):
    """What a module answers in place of HTTP stands in the logs of agent and gateway as printable lines, if at all."""
    release = await device.attacked(ANSWERS)
    await device.phase(Phase.COMMITTED, slot="evil")
    # Too long to be waited for, so what came of it has gone out already.
    with pytest.raises(http.client.IncompleteRead):
        await device.ask(body=b"words")
    device.turn(release)
    await device.until(device.restarts)

    assert any("does not begin like HTTP" in line for line in log())
    assert readable(log())
    assert any("stopped in the middle" in line for line in device.program.said().splitlines())
    assert readable(device.program.said().splitlines())
    await device.others_answer()


@pytest.mark.needs("root")
async def test_a_log_without_end_costs_neither_disk_nor_memory(device):
    """A module that writes as fast as it can has two files of 1 MB on the host, and a reason that can be read."""
    sizes = []

    def watch():
        for path in (Path(one.attrs["LogPath"]) for one in device.containers()):
            with suppress(FileNotFoundError):  # it is just being removed, or begins its next file
                sizes.append(sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")))

    with Peak() as peak:
        await device.attacked(LONG, ready_within_s=2.0)
        device.watch = watch
        told = await device.ends(Phase.REVERTED, "not-ready", "not ready within 2 s")

    # The engine looks at a file's size now and then, and then begins the next one.
    assert 1_000_000 < max(sizes) < 3_000_000
    assert len(told.reason.message) <= 2000
    assert peak.grown_mib < 48
    await device.others_answer()
