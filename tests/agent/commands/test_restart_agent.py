"""``restart-agent`` and ``decommission``, and an agent that dies at any of their writes."""

import contextlib
import json
import sys

import pytest

from agent import running
from agent.commands.kept import OPEN, Kept
from agent.commands.wipe import Order
from agent.running import DECOMMISSION
from agent.store import Store
from tests.agent.commands.commanding import commanded
from tests.agent.crashing import Dead

# Reading counts as well: the file is opened, and might be made, at each use.
MOST_WRITES = 40


class Dying:
    """An agent that is killed right after its ``at``-th use of a database; nothing that it still tries is done."""

    def __init__(self, patch, at) -> None:
        self.left, self.dead = at, False
        for owner, name in ((Kept, "_writing"), (Store, "together")):
            patch.setattr(owner, name, self._struck(getattr(owner, name)))

    def _struck(self, write):
        dying = self

        @contextlib.contextmanager
        def written(self):
            if dying.dead:
                raise Dead
            with write(self) as given:
                yield given
            dying.left -= 1
            if dying.left == 0:
                dying.dead = True
                raise Dead

        return written


async def test_the_agent_ends_in_order_and_the_next_one_answers(device):
    """*running* goes out, then the agent is asked to end; the next one says *done*, by itself, and does not end."""
    command = device.command("restart-agent")
    device.gets(command)
    await device.until(lambda: device.ends)
    assert [one.state for one in device.answers(command)] == ["running"]
    assert device.store.text(OPEN) == command.id

    await device.kill()
    device.start()
    said = await device.answer(command)
    assert (said.state, said.part, said.note) == ("done", 2, "the agent was started again")
    assert device.store.document(OPEN) is None
    device.gets(command)
    await device.settled()
    await device.close()
    assert device.ends == 1


@pytest.mark.parametrize("name", ["restart-agent", "decommission"])
async def test_an_agent_that_dies_at_any_write_is_answered_for(folder, monkeypatch, name):
    """Killed at each write: the command ends with one last answer, or the device is to be wiped; it is done once."""
    struck = 0
    for at in range(1, MOST_WRITES):
        home = folder / str(at)
        home.mkdir()
        async with commanded(home, running=False) as device:
            await device.does("ping")
            command = device.command(name)
            with monkeypatch.context() as patch:
                dying = Dying(patch, at)
                device.gets(command)
                with contextlib.suppress(AssertionError):
                    device.within_s = 0.3
                    await device.until(lambda one=dying: one.dead or device.ends)
                await device.close_desk()
                struck += dying.dead
            if name == "decommission" and (home / DECOMMISSION).exists():
                order = json.loads((home / DECOMMISSION).read_bytes())
                assert order["id"] == command.id
                assert order["part"] == 2
                continue
            before = device.ends
            began = before or device.kept.known(command.id) is not None
            device.within_s = 10
            await device.kill()
            device.gets(command)
            await device.until(lambda: device.ended(command) or device.ends > before)  # noqa: B023
            assert device.ended(command) or not began, "what had begun is not begun again"
            if name == "restart-agent":
                await device.kill()
                said = await device.answer(command)
                assert said.state == "done"
                assert len({one.part for one in device.answers(command) if one.state != "running"}) == 1
            assert name == "decommission" or device.store.document(OPEN) is None
            await device.close_desk()
            assert device.ends <= 1
        if not dying.dead:
            break
    assert struck > 5
    assert not dying.dead, "there are more writes than were tried"


async def test_what_is_to_be_wiped_is_written_first(device):
    """The file that says so is there before anything is said, with what the wiping needs, and the agent ends."""
    command = device.command("decommission")
    device.gets(command)
    await device.until(lambda: device.ends)
    order = json.loads((device.folder / DECOMMISSION).read_bytes())

    assert order == {
        "id": command.id,
        "device": device.device,
        "part": 2,
        "boot": int(device.store.number("boot")),
        "epoch": device.store.epoch,
    }
    assert Order(**order)
    assert [(one.part, one.state) for one in device.answers(command)] == [(1, "running")]


async def test_a_disk_that_takes_no_word_of_it_keeps_everything(device):
    """What cannot be written down is not begun: *failed*, and the agent goes on."""
    (device.folder / f"{DECOMMISSION}.partial").mkdir()
    said = await device.does("decommission")

    assert (said.state, said.reason.code) == ("failed", "needs-operator")
    assert device.ends == 0


@pytest.mark.parametrize(("manager", "starts"), [("/run/systemd/notify", False), ("", True)])
def test_where_systemd_starts_it_the_agent_only_ends(monkeypatch, manager, starts):
    """Its unit says ``Restart=always``; without a service manager the process becomes a new one, with its own words."""
    became = []
    monkeypatch.setattr("os.execv", lambda *words: became.append(words))
    monkeypatch.setenv("NOTIFY_SOCKET", manager)
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "agent", "run"])
    running.start_again()

    assert became == ([(sys.executable, [sys.executable, "-m", "agent", "run"])] if starts else [])
