"""What each command does on the device, and what it says of it."""

import asyncio
import json

import msgspec
import pytest

from agent.commands import logs
from modules.errors import EngineBusy, NeedsOperator, NoSpace
from modules.protocol.commands import PIECE, RESULT_LIMIT
from modules.protocol.phases import Phase
from tests.doubles.engine import Behaviour
from tests.doubles.release import BODY, make

GOOD, NEW = make("acme/digits:1"), make("acme/digits:2")


async def test_ping_says_which_agent_it_is(device):
    """Version, the machine's uptime, the clock and the slots."""
    await device.committed(GOOD)
    said = await device.does("ping")

    assert said.note.startswith("agent ")
    assert "up " in said.note
    assert "2027-01-15" in said.note
    assert said.note.endswith("1 slot")


async def test_a_restarted_module_is_another_instance_and_no_crash(device):
    """Stopped and started again, ready, routed; nothing is counted against it, and the order's phase does not move."""
    await device.committed(GOOD)
    before = device.row()
    said = await device.does("restart-module", slot="main")
    after = device.row()

    assert said.state == "done"
    assert after.current.instance in said.note
    assert after.current.instance != before.current.instance
    assert device.engine.stops == [before.current.instance]
    assert (after.phase, after.upkeep.restarts, after.upkeep.state) == (Phase.COMMITTED, 0, "up")
    assert after.target.times == before.target.times
    assert device.route().current.instance == after.current.instance
    await device.passes(5)
    assert device.engine.starts == [before.current.instance, after.current.instance], "and the loop leaves it alone"


async def test_a_module_that_does_not_start_again_is_said_and_started_on(device):
    """*failed* with its reason; the loop goes on as after any end of a module, and it serves again."""
    await device.committed(GOOD)
    device.engine.behaviours[GOOD.digest] = Behaviour(exits=True)
    said = await device.does("restart-module", slot="main")
    assert (said.state, said.reason.code) == ("failed", "not-ready")
    assert device.row().upkeep.trouble is not None

    device.engine.behaviours.clear()
    await device.until(device.served, flowing=0.5)
    assert device.row().phase is Phase.COMMITTED


async def test_what_a_restart_needs_is_made_sure_of_before_the_stop(device):
    """An engine that has lost the image, and cannot be given it now: the module that runs is left alone."""
    await device.committed(GOOD)
    device.engine.images.clear()
    device.engine.load_errors = [NoSpace("full"), NoSpace("full")]
    said = await device.does("restart-module", slot="main")

    assert (said.state, said.reason.code) == ("failed", "no-space")
    assert device.engine.stops == []
    assert device.served()
    assert device.row().upkeep.trouble is None


@pytest.mark.parametrize("slot", ["other", "main"])
async def test_there_is_nothing_to_restart(device, slot):
    """A slot that nobody ordered, or in which nothing is committed yet."""
    device.server.silent = True
    await device.order(main=GOOD)
    said = await device.does("restart-module", slot=slot)

    assert (said.state, said.reason.code) == ("failed", "invalid")


async def test_a_module_that_is_being_replaced_is_not_restarted(device):
    """On probation two instances stand in the slot: it is not touched."""
    await device.committed(GOOD)
    await device.order(main=NEW)
    await device.phase(Phase.PROBATION)
    stops = list(device.engine.stops)
    said = await device.does("restart-module", slot="main")

    assert (said.state, said.reason.code) == ("failed", EngineBusy.code)
    assert device.engine.stops == stops


async def test_a_killed_restart_leaves_a_module_that_serves(device):
    """The agent dies when the old instance is stopped and the new one is not there: the next one starts it."""
    await device.committed(GOOD)
    device.engine.gates["start"] = asyncio.Event()
    command = device.command("restart-module", slot="main")
    device.gets(command)
    await device.until(lambda: device.engine.stops)
    await device.kill()
    device.engine.gates.clear()
    device.start()
    await device.until(device.served, flowing=0.5)
    device.gets(command)
    assert (await device.answer(command)).state == "failed"
    await device.close()


class Log:
    """An engine's log that a test writes."""

    def __init__(self, device, monkeypatch) -> None:
        self.text, self.asked = "", 0
        monkeypatch.setattr(device.engine, "logs", self.logs)

    async def logs(self, instance, *, tail_bytes):
        self.asked += 1
        return self.text.encode()[-tail_bytes:].decode(errors="replace")


@pytest.fixture
def log(device, monkeypatch):
    return Log(device, monkeypatch)


async def test_logs_are_the_newest_lines(device, log):
    """So many as were asked for, the newest last."""
    await device.committed(GOOD)
    log.text = "".join(f"line {number}\n" for number in range(50))
    command = device.command("logs", slot="main", arguments={"lines": 3})
    device.gets(command)
    said = await device.answer(command)

    assert (said.state, said.note) == ("done", "3 lines")
    assert device.result(command) == b"line 47\nline 48\nline 49\n"
    assert {one.content for one in device.answers(command) if one.data} == {"text/plain"}


async def test_what_a_module_writes_moves_nobodys_cursor(device, log):
    """ESC, carriage returns, bidirectional marks and bytes that are no text come as something to look at."""
    await device.committed(GOOD)
    log.text = "\x1b]0;title\x07 \x1b[2J\r\nname\u202egpj\n\x00\x9b31m\n"
    command = device.command("logs", slot="main")
    device.gets(command)
    await device.answer(command)
    text = device.result(command).decode()

    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count("\n") == 3


async def test_followed_logs_come_as_they_are_written(device, log):
    """Each new line once, repeated ones and those of the next instance too; it ends when its time is over."""
    await device.committed(GOOD)
    log.text = "ok\nok\n"
    command = device.command("logs", slot="main", arguments={"follow_s": 30})
    read = device.clock.sleep

    async def written(seconds):
        log.text += "ok\nhalf a l" if log.asked == 1 else "ine\nok\n" if log.asked == 2 else ""
        await read(seconds)

    device.clock.sleep = written
    device.gets(command)
    said = await device.answer(command, flowing=0.5)

    assert device.result(command).decode().splitlines() == ["ok", "ok", "ok", "half a line", "ok"]
    assert said.note == "5 lines"


async def test_a_log_without_end_ends(device, log):
    """A result has at most so many bytes, and pieces of one size; the note says that there is more."""
    await device.committed(GOOD)
    log.text = "".join(f"{number:08} {'x' * 1000}\n" for number in range(5000))
    command = device.command("logs", slot="main", arguments={"lines": 5000, "follow_s": 3600})
    device.gets(command)
    while device.ended(command) is None:
        log.text = "".join(f"{device.clock.monotonic()} {number} {'y' * 1000}\n" for number in range(3000))
        device.clock.advance(1.0)
        await asyncio.sleep(0.01)

    assert len(device.result(command)) == RESULT_LIMIT
    assert max(len(one.data) for one in device.answers(command)) == PIECE
    assert "no more than a result may have" in device.ended(command).note


def test_new_lines_are_found_behind_the_ones_that_were_seen():
    """Two ends of one log: what overlaps is not said twice, what was lost in between is no reason to say nothing."""
    assert logs.added(["a", "b"], ["a", "b", "c"]) == ["c"]
    assert logs.added(["a", "b", "c"], ["b", "c", "d"]) == ["d"]
    assert logs.added(["a", "a"], ["a", "a", "a"]) == ["a"]
    assert logs.added(["a", "b"], ["a", "b"]) == []
    assert logs.added([], ["a"]) == ["a"]
    assert logs.added(["a", "b"], ["x", "y"]) == ["x", "y"]
    assert logs.added(["a"], []) == []


async def test_there_is_no_log_of_nothing(device):
    """A slot that nobody ordered has no log."""
    said = await device.does("logs", slot="other")

    assert (said.state, said.reason.code) == ("failed", "invalid")


async def test_a_profile_is_of_the_committed_modules_own_samples(device):
    """Counted and timed for so many seconds, beside whatever else is asked; provider and memory with it."""
    release = make("acme/digits:1", bodies=(BODY, b'{"x": [2.0]}'))
    await device.committed(release)
    command = device.command("profile", slot="main", arguments={"seconds": 5})
    device.gets(command)
    said = await device.answer(command, flowing=0.02)
    found = json.loads(device.result(command))

    assert said.state == "done"
    assert found["requests"] > 2
    assert (found["errors"], found["module"], found["provider"]) == (0, "acme/digits:1", "CPUExecutionProvider")
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert (found["memory_mb"], found["seconds"] >= 5) == (50.0, True)
    shares = [one.progress for one in device.answers(command) if one.progress is not None]
    assert shares == sorted(shares)
    assert device.row().upkeep.state == "up"


async def test_a_profile_counts_what_is_not_answered(device):
    """What has ended gives no latency but errors; once it is started again, it is asked where it is then."""
    await device.committed(GOOD)
    await device.stop()
    command = device.command("profile", slot="main", arguments={"seconds": 5})
    device.engine.crash(device.row().current.instance)
    device.gets(command)
    await device.until(lambda: len(device.answers(command)) > 1, flowing=0.02)
    device.start()
    await device.answer(command, flowing=0.02)
    found = json.loads(device.result(command))

    assert found["errors"] > 0
    assert found["requests"] > found["errors"]
    await device.close()


@pytest.mark.parametrize("prove", ["ready-only", ""])
async def test_a_profile_needs_samples(device, prove):
    """Nothing committed, or a module that brings no samples along."""
    if prove:
        await device.committed(make("acme/digits:1", prove=prove))
    said = await device.does("profile", slot="main", arguments={"seconds": 1})

    assert (said.state, said.reason.code) == ("failed", "invalid")


async def test_collect_now_says_everything_though_nothing_has_changed(device):
    """A new report and the facts go out at once, and telemetry is asked to look and to send."""
    await device.committed(GOOD)
    await device.passes(5)
    reports, facts = len(device.link.reports(device.key)), len(device.link.facts(device.key))
    assert (await device.does("collect-now")).state == "done"

    assert len(device.link.reports(device.key)) > reports
    assert len(device.link.facts(device.key)) > facts
    assert device.telemetry.collected == 1


async def test_an_agent_that_cannot_renew_says_so(device):
    """*failed*, with what to do."""
    said = await device.does("rotate-key")

    assert (said.state, said.reason.code) == ("failed", NeedsOperator.code)
    assert "cannot renew" in said.reason.message


async def test_a_renewed_certificate_is_named(device):
    """What renews is called once, and its serial is the note."""
    calls = []

    async def renew():
        calls.append(True)
        return "0abc"

    await device.close_desk()
    device.renew = renew
    device.open_desk()
    said = await device.does("rotate-key")
    await device.close()

    assert (said.state, said.note, len(calls)) == ("done", "certificate 0abc", 1)


async def test_answers_are_numbered_without_a_gap(device, log):
    """Parts 1, 2, 3, ... of each command, running until the last."""
    await device.committed(GOOD)
    log.text = "x" * 1000 + "\n"
    command = device.command("logs", slot="main", arguments={"lines": 10, "follow_s": 5})
    device.gets(command)
    await device.answer(command, flowing=0.5)
    said = device.answers(command)

    assert [one.part for one in said] == list(range(1, len(said) + 1))
    assert [one.state for one in said] == ["running"] * (len(said) - 1) + ["done"]
    assert all(msgspec.json.encode(one) for one in said)
