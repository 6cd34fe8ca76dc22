"""What a device does with a command that it follows: once, whatever comes again, and answered as need be."""

import asyncio

import msgspec
import pytest

from agent.commands import answers, collect_now, desk
from agent.commands.kept import FILE, OPEN
from modules import signing
from modules.errors import NoSpace
from modules.protocol.commands import LIMIT, TRY
from tests.doubles import keys


async def test_a_command_is_followed_and_answered(device):
    """One ping, one signed answer under its id, nothing refused."""
    command = device.command()
    device.gets(command)
    said = await device.answer(command)

    assert (said.state, said.part, said.id, said.device) == ("done", 1, command.id, device.device)
    assert "agent " in said.note
    assert device.refused() == []


async def test_a_command_that_comes_again_is_answered_again_and_not_followed_again(device):
    """The very same command: the same answers once more, and what it does is done once."""
    command = device.command("collect-now")
    device.gets(command)
    await device.answer(command)
    device.clock.advance(answers.AGAIN_S + 1)
    device.gets(command)
    await device.until(lambda: len(device.answers(command)) == 2)

    assert len({msgspec.json.encode(one) for one in device.answers(command)}) == 1
    assert device.telemetry.collected == 1


async def test_a_command_signed_anew_is_the_same_command(device):
    """The signature is not the command's content: an envelope with another signature under it changes nothing."""
    command = device.command("collect-now")
    device.gets(command)
    await device.answer(command)
    device.publisher.name_directors(
        [device.publisher.director, other := type(device.publisher.director).generate_ed25519()]
    )
    device.clock.advance(answers.AGAIN_S + 1)
    device.gets(command, signer=other)
    await device.until(lambda: len(device.answers(command)) == 2)

    assert (device.telemetry.collected, device.refused()) == (1, [])


async def test_a_broker_that_repeats_a_command_is_answered_ever_more_seldom(device):
    """In an hour of repetitions, as many as are looked at at all, a handful of answers goes out."""
    command = device.command()
    device.gets(command)
    await device.answer(command)
    for _ in range(int(3600 / desk.LOOK_EVERY_S)):
        device.clock.advance(desk.LOOK_EVERY_S)
        device.gets(command)
        await device.until(lambda: not device.desk._queue)
    await device.settled()

    assert 4 <= len(device.answers(command)) <= 9


async def test_a_flood_waits_in_a_short_line(device, caplog):
    """Of a thousand commands at once a few are followed; the rest is dropped, for the server says it again. That is
    logged once for each flood."""
    flood = [device.command() for _ in range(1000)]
    for command in flood:
        device.gets(command)
    assert len(device.desk._queue) == desk.WAITING
    await device.settled()

    followed = [one for one in flood if device.answers(one)]
    assert followed == flood[: desk.WAITING]
    assert dropped(caplog) == 1
    device.gets(flood[-1])
    await device.answer(flood[-1])
    for _ in range(desk.WAITING + 2):
        device.gets(device.command())
    assert dropped(caplog) == 2


@pytest.mark.parametrize(("more", "waiting"), [(0, desk.WAITING), (1, desk.WAITING_LARGE)])
async def test_what_is_longer_than_a_command_without_a_body_waits_in_a_shorter_line(device, more, waiting):
    """To the byte; of each topic that may be longer."""
    for number in range(desk.WAITING):
        device.delivers(b"x" * (signing.envelope_limit(LIMIT) + more), (TRY, f"{number:032x}"))
    assert len(device.desk._queue) == waiting


def dropped(caplog):
    """How often it was said that commands are dropped."""
    return len([one for one in caplog.records if "some are dropped" in one.message])


async def test_a_flood_before_the_first_look_is_a_flood(device, caplog):
    """What a broker keeps for a device comes all at once, with its first session."""
    await device.desk.close()
    made = desk.Desk(device.parts)
    for _ in range(desk.WAITING + 2):
        command = device.command()
        made.take((command.name, command.id), device.signed(command))
    assert dropped(caplog) == 1
    await made.close()
    assert {"commands", "answers"}.isdisjoint(one.get_name() for one in asyncio.all_tasks())


async def test_commands_are_looked_at_within_a_budget(device):
    """After the first few, one look every few seconds: nobody makes a device check signatures all day."""
    began = device.clock.monotonic()
    for _ in range(desk.BUDGET):
        await device.does()
    assert device.clock.monotonic() - began < 1.0
    device.clock.advance(desk.LOOK_EVERY_S / 2)
    for looks in range(1, 6):
        await device.does()
        assert device.clock.monotonic() - began == pytest.approx(looks * desk.LOOK_EVERY_S, abs=1.0)


async def test_answers_wait_for_the_link(device):
    """What is said while there is no session goes out with the next one."""
    command = device.command()
    device.link.connected = False
    device.gets(command)
    await device.until(lambda: (known := device.kept.known(command.id)) and known.state == "done")
    await asyncio.sleep(0.1)  # for whoever sends to find that there is no session
    assert device.answers(command) == []

    device.link.connected = True
    device.desk.on_connect()
    assert (await device.answer(command)).state == "done"


async def test_an_agent_that_ended_while_it_followed_a_command_says_so(device, monkeypatch):
    """Killed in the middle of one: the next agent says *failed*, without following it again."""
    hold = asyncio.Event()

    async def look():
        await hold.wait()

    monkeypatch.setattr(device.host, "look", look)
    command = device.command("collect-now")
    device.gets(command)
    await device.until(lambda: device.desk._following)
    await device.kill()
    device.gets(command)
    said = await device.answer(command)

    assert (said.state, said.reason.code) == ("failed", "transient")
    assert device.telemetry.collected == 0
    await device.close()


async def test_an_agent_that_died_before_it_had_remembered_a_command_looks_for_none(device):
    """What says that a command has no last answer goes where there is none: the next idle agent loads nothing."""
    device.store.keep_text(OPEN, "0" * 32)
    await device.kill()
    await device.until(lambda: device.store.document(OPEN) is None)
    await device.close()


async def test_a_full_disk_follows_nothing(device):
    """What cannot be remembered is not done: with room again, it is, when it comes again."""
    (device.folder / FILE).unlink(missing_ok=True)
    device.store._db.execute("PRAGMA query_only = ON")
    command = device.command("collect-now")
    device.gets(command)
    await device.settled()
    assert (device.telemetry.collected, device.answers(command)) == (0, [])

    device.store._db.execute("PRAGMA query_only = OFF")
    device.gets(command)
    assert (await device.answer(command)).state == "done"


async def test_a_defect_in_a_command_is_said(device, monkeypatch, caplog):
    """A handler that meets a defect: *failed* with its name, and the next command is followed."""

    async def broken():
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(device.host, "look", broken)
    said = await device.does("collect-now")
    assert (said.state, said.reason.code, said.reason.message) == ("failed", "bug", "ZeroDivisionError: by nought")
    assert (await device.does()).state == "done"


async def test_a_defect_in_an_answer_keeps_no_other_back(device, monkeypatch, caplog):
    """One answer cannot be signed or sent: it is logged, and the next one goes out."""
    publish, broken = device.link.publish, [ZeroDivisionError("by nought")]

    async def once(*arguments, **more):
        if arguments[0] == device.link.topics.answer(device.device) and broken:
            raise broken.pop()
        await publish(*arguments, **more)

    monkeypatch.setattr(device.link, "publish", once)
    first = device.command()
    device.gets(first)
    await device.settled()
    assert (device.answers(first), broken) == ([], [])
    assert (await device.does()).state == "done"
    assert "an answer met a defect" in caplog.text


async def test_a_defect_in_a_look_is_in_the_report(device, monkeypatch, caplog):
    """Whoever gave the command hears why nothing comes, and the next one is followed."""

    def defect(_):
        monkeypatch.undo()
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(device.desk._kept, "known", defect)
    device.gets(device.command())
    await device.until(device.refused)
    assert "oh" in device.refused()[0]
    assert "please report it" in caplog.text
    await device.does()


async def test_progress_is_told_once_a_second_and_each_answer_has_the_next_number(device, monkeypatch):
    """Whatever share an arm takes it for; what is said in between is left away, and takes no number."""
    numbers = []

    async def run(_command, parts, saying):
        for passed, share in ((0.0, -0.5), (0.75, 0.25), (0.25, 0.5), (1.0, 1.5)):
            parts.clock.advance(passed)
            saying.progress(share)
            numbers.append(saying.next_part)
        return "done"

    monkeypatch.setattr(collect_now, "run", run)
    command = device.command("collect-now")
    device.gets(command)
    await device.answer(command)
    assert [(one.part, one.progress) for one in device.answers(command)[:-1]] == [(1, 0.0), (2, 0.5), (3, 1.0)]
    assert (numbers, device.ended(command).part) == ([2, 2, 3, 4], 4)


async def test_only_so_many_are_followed_at_a_time(device, monkeypatch):
    """Beyond them a command is not begun; it is when it comes again."""
    hold = asyncio.Event()

    async def look():
        await hold.wait()

    monkeypatch.setattr(device.host, "look", look)
    slow = [device.command("collect-now") for _ in range(desk.AT_ONCE)]
    for one in slow:
        device.gets(one)
    await device.until(lambda: len(device.desk._following) == desk.AT_ONCE)
    late = device.command()
    device.gets(late)
    await device.until(lambda: not device.desk._queue)
    assert device.kept.known(late.id) is None

    hold.set()
    await device.settled()
    device.gets(late)
    assert (await device.answer(late)).state == "done"


async def test_a_command_needs_no_network_to_be_verified(device):
    """Once trust metadata is here, nothing is asked for a command."""
    await device.does()
    asked = len(device.metadata.asked)
    device.metadata.down = True
    await device.does()

    assert len(device.metadata.asked) == asked


async def test_a_command_of_a_new_director_is_believed_after_one_look(device):
    """The owner named another key: the device fetches that, and follows."""
    await device.does()
    device.publisher.replace_director()
    device.clock.advance(61)

    assert (await device.does()).state == "done"


async def test_a_command_that_is_being_followed_is_not_taken_for_one_that_broke_off(device, monkeypatch):
    """Another one's last answer met a full disk, and comes later; this one goes on to its own end."""
    hold = asyncio.Event()

    async def look():
        await hold.wait()

    def full(_):
        raise NoSpace("database or disk is full", element=FILE)

    monkeypatch.setattr(device.host, "look", look)
    slow, lost = device.command("collect-now"), device.command()
    device.gets(slow)
    await device.until(lambda: device.desk._following)
    with monkeypatch.context() as disk:
        disk.setattr(device.desk._kept, "say", full)
        device.gets(lost)
        await device.until(lambda: not device.desk._resumed)
    await device.does()
    assert (await device.answer(lost)).state == "failed"
    hold.set()

    assert (await device.answer(slow)).state == "done"


async def test_strangers_have_metadata_fetched_once_a_minute_at_most(device):
    """Whose signature is not known may be a new director's; a flood of such commands brings no flood of questions."""

    async def asked():
        command = device.command()
        device.gets(command, signer=keys.signer())
        assert (await device.answer(command)).part == 1
        return len(device.metadata.asked)

    await device.does()
    before = len(device.metadata.asked)
    assert await asked() == before
    device.clock.advance(61.0)
    assert (after := await asked()) > before
    assert await asked() == after


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (NoSpace("it is full", element="x"), "no-space", "x: it is full"),
        (OSError(5, "Input/output error", "x"), "needs-operator", "x: Input/output error"),
        (OSError("odd"), "needs-operator", "disk: odd"),
    ],
)
async def test_what_fails_says_why(device, monkeypatch, error, code, says):
    """The answer is *failed*, with the reason and what it is about."""

    async def fails():
        raise error

    monkeypatch.setattr(device.host, "look", fails)
    said = await device.does("collect-now")

    assert (said.state, said.reason.code, said.part) == ("failed", code, 1)
    assert said.reason.message.startswith(says)
