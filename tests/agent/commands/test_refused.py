"""Commands that are not to be followed: nothing is done, the next report says so, and whoever can be answered is.

Each test asks the same four things: what ran, what was answered, what the report says, and what is on the disk.
"""

import json

import msgspec
import pytest

from agent.commands import desk, kept
from modules import canonical, signing
from modules.order_rules import LONGEST_LEAP
from modules.protocol.commands import COMMANDS, LIMIT
from modules.signing import ORDER_TYPE
from tests.agent.commands.commanding import commanded
from tests.doubles import keys
from tests.doubles.bad_values import BAD, spoilt


async def refuses(device, command, says, *, answered=True, known=True):
    """A command that was just delivered is refused in these words; what it would do was not done."""
    await device.until(device.refused)
    await device.settled()
    (refusal,) = device.refused()
    assert says in refusal
    await device.until(lambda: device.link.reports(device.key)[-1].refusals)
    assert says in device.link.reports(device.key)[-1].refusals[0].reason.message
    assert device.telemetry.collected == 0
    assert device.engine.starts == []
    states = [one.state for one in device.answers(command)]
    assert states == (["refused"] if answered else [])
    on_disk = device.kept.known(command.id)
    assert (on_disk is not None) is known
    if known:
        assert on_disk.state == "refused"
    assert device.store.document(kept.OPEN) is None


async def test_a_forged_command_is_refused(device):
    """Signed by somebody who is no director: the broker's own key, say."""
    command = device.command("collect-now")
    device.gets(command, signer=keys.signer())
    await refuses(device, command, "0 of 1 signatures hold")


async def test_an_unsigned_command_is_refused(device):
    """An envelope without any signature, and the bare document: neither is followed."""
    command = device.command("collect-now")
    bare = signing.sign(canonical.encode(command), payload_type=signing.COMMAND_TYPE, signers=[])
    device.delivers(bare, (command.name, command.id))
    await refuses(device, command, "0 of 1 signatures hold")

    device.delivers(canonical.encode(command), (command.name, "f" * 32))
    await device.until(lambda: len(device.refused()) > 1)
    assert "not a valid document" in device.refused()[-1]


async def test_a_device_signs_no_commands(device):
    """A device's own key is nobody's director: a thief of it commands nobody, not even that device."""
    command = device.command("collect-now")
    device.gets(command, signer=device.signer)
    await refuses(device, command, "0 of 1 signatures hold")


async def test_an_order_is_no_command(device):
    """The director's signature under another kind of document, with a command's words in it, is not enough."""
    command = device.command("collect-now")
    device.gets(command, kind=ORDER_TYPE)
    await refuses(device, command, "the payload type is")


async def test_a_command_of_a_director_who_was_replaced_is_refused(device):
    """The owner has named another director since, and the device knows: the old key's commands are nothing."""
    old = device.publisher.director
    new = device.publisher.replace_director()
    await device.does("ping")
    assert new is device.publisher.director
    command = device.command("collect-now")
    device.gets(command, signer=old)
    await refuses(device, command, "0 of 1 signatures hold")


async def test_a_command_for_another_device_is_refused(device):
    """Signed by the director, and carried to the wrong device by the broker."""
    command = device.command("collect-now", device="dev-other")
    device.gets(command)
    await refuses(device, command, "the command is for dev-other")


@pytest.mark.parametrize(
    ("issued", "expires", "says"),
    [
        (-1000, -1, "it expired at"),
        (-1000, 0, "it expired at"),
        (LONGEST_LEAP.total_seconds() + 1, LONGEST_LEAP.total_seconds() + 60, "it is from"),
    ],
)
async def test_a_command_that_is_not_for_now_is_refused(device, issued, expires, says):
    """Expired, to the second, or further ahead than a clock may be wrong."""
    now = int(device.clock.now())
    command = device.command("collect-now", issued=now + int(issued), expires=now + int(expires))
    device.gets(command)
    await refuses(device, command, says)


async def test_a_command_that_is_as_far_ahead_as_a_clock_may_be_wrong_is_followed(device):
    """To the second."""
    now = int(device.clock.now())
    device.clock.time = float(now)
    leap = int(LONGEST_LEAP.total_seconds())
    await device.does("collect-now", issued=now + leap, expires=now + leap + 60)


async def test_a_device_without_a_clock_goes_by_what_its_orders_taught(device):
    """Its clock says 1970: what had expired when it last heard an order of this director stays expired."""
    now = device.clock.now()
    director = next(iter(keyids(device)))
    device.store.raise_number(f"time {director}", now)
    device.clock.jump(-now)
    old = device.command("collect-now", issued=int(now) - 1000, expires=int(now) - 1)
    device.gets(old)
    await refuses(device, old, "it expired at")


@pytest.mark.parametrize("topic", [("ping", "{id}"), ("collect-now", "0" * 32)])
async def test_a_command_under_another_topic_is_refused(device, topic):
    """A broker that moves a command under another name or id cannot have its answer taken for another's."""
    command = device.command("collect-now")
    device.gets(command, topic=(topic[0], topic[1].format(id=command.id)))
    await refuses(device, command, "it came as", answered=False, known=False)

    device.gets(command)
    assert (await device.answer(command)).state == "done", "and at its own topic it is followed"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "format-disk"}, "there is no such command"),
        ({"name": "collect-now", "slot": "main"}, "takes no slot"),
        ({"name": "restart-module"}, "needs a slot"),
        ({"name": "logs", "slot": "main", "arguments": {"lines": 10_001}}, "not a number from 1 to 10000"),
        ({"name": "logs", "slot": "main", "arguments": {"shell": 1}}, "no such argument"),
        ({"name": "profile", "slot": "main", "arguments": {"seconds": 0.5}}, "not a number from 1 to 300"),
        ({"expires": 4_000_000_000}, "it has to expire"),
    ],
)
async def test_what_is_not_in_the_closed_list_is_refused(device, change, says):
    """A name, an argument or a life that the list does not have, though the director signed it."""
    command = msgspec.structs.replace(device.command("collect-now"), **change)
    device.gets(command)
    await refuses(device, command, says)


async def test_a_command_that_is_too_large_is_refused_unread(device, monkeypatch):
    """Its size is looked at before anything is parsed; only its length is kept until its turn comes."""
    monkeypatch.setattr(desk.signing, "unverified", lambda *_, **__: pytest.fail("it was parsed"))
    command = device.command()
    device.delivers(b"x" * (signing.envelope_limit(LIMIT) + 1), (command.name, command.id))
    assert [len(one.envelope) for one in device.desk._queue] == [0]
    await refuses(device, command, "is more than a command may have", answered=False, known=False)


async def test_a_message_that_is_as_large_as_a_command_may_be_is_read(device):
    """To the byte; this one is unreadable."""
    command = device.command()
    device.delivers(b"x" * signing.envelope_limit(LIMIT), (command.name, command.id))
    await refuses(device, command, "JSON is malformed", answered=False, known=False)


async def test_a_payload_that_is_too_large_is_refused(device):
    """Within the envelope's bound, and beyond the command's."""
    command = device.command()
    document = json.loads(canonical.encode(command)) | {"more": "x" * LIMIT}
    device.gets(canonical.encode(document), topic=(command.name, command.id))
    await refuses(device, command, "allowed", answered=False, known=False)


@pytest.mark.parametrize("change", [{"name": "decommission"}, {"expires": 1_800_000_700}])
async def test_other_content_under_a_known_id_is_refused(device, change):
    """A known id with anything else behind it, signed: reported, neither followed nor answered."""
    ping = device.command("ping")
    device.gets(ping)
    await device.answer(ping)
    other = msgspec.structs.replace(ping, **change)
    device.gets(other)
    await device.until(device.refused)
    await device.settled()

    assert "this id came before, with other content" in device.refused()[0]
    assert [one.state for one in (*device.answers(ping), *device.answers(other))].count("done") == 1 + (
        other.name == "ping"
    )
    assert device.ends == 0
    assert not (device.folder / "decommission.json").exists()
    assert device.kept.known(ping.id).name == "ping"


async def test_what_was_refused_stays_refused(device):
    """A forged command spends its id: the answer that it is refused is the last, so the real one is not followed."""
    command = device.command("collect-now")
    device.gets(command, signer=keys.signer(), topic=None)
    forged = msgspec.structs.replace(command, expires=command.expires + 1)
    await device.until(lambda: device.ended(command))
    device.gets(forged)
    await device.settled()

    assert device.telemetry.collected == 0
    assert [one.state for one in device.answers(command)] == ["refused"]


async def test_forged_commands_push_no_real_one_out(device):
    """However many ids a broker spends, what was followed stays known, and its repetition does nothing."""
    command = device.command("collect-now")
    device.gets(command)
    await device.answer(command)
    for _ in range(kept.MOST_REFUSED + 10):
        forged = device.command("ping")
        device.gets(forged, signer=STRANGER)
        await device.until(lambda one=forged: device.ended(one))
    device.gets(command)
    await device.settled()

    assert device.telemetry.collected == 1
    assert len(device.kept.all()) == kept.MOST_REFUSED + 1
    assert device.refused() == [one for one in device.refused() if one.startswith("command ping")]


async def test_strangers_words_reach_the_report_as_one_refusal(device):
    """A flood of garbage under ever new names makes one line of the report, not one each."""
    for number in range(40):
        device.delivers(b"garbage", (f"name-{number}", f"{number:032x}"))
        await device.until(lambda: not device.desk._queue)
    device.delivers(b"garbage", ("ping",))
    device.delivers(b"garbage", ())
    await device.settled()

    assert sorted(device.refused()) == [
        "command: command: its topic names no command",
        "command: envelope: not a valid document: JSON is malformed: invalid character (byte 0)",
    ]


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
async def test_no_value_of_any_field_is_more_than_refused(device, caplog, value):
    """Each field of a command replaced by each bad value, signed by the director: looked at, and nothing is begun.

    Half of a field's values may be as good as the honest one (a time, a number): then it is a command like any other.
    """
    honest = json.loads(canonical.encode(device.command("logs", slot="main", arguments={"lines": 5.0})))
    looked_at = 0
    for payload in spoilt(honest, value):
        device.gets(None, payload=payload, topic=("logs", honest["id"]))
        await device.settled()
        looked_at += 1

    assert looked_at >= len(honest)
    assert "defect" not in caplog.text
    assert device.engine.starts == []
    assert (await device.does("ping")).state == "done"


async def test_an_empty_message_says_nothing(device):
    """A topic that is cleared is no command."""
    device.delivers(b"", ("ping", "0" * 32))
    await device.settled()

    assert device.refused() == []


async def test_expired_metadata_lets_no_command_through(device):
    """What the owner's names rest on has expired, and nothing newer comes: nobody is believed."""
    await device.does()
    device.clock.advance(15 * 86_400)
    device.metadata.down = True
    command = device.command("collect-now")
    device.gets(command)
    await refuses(device, command, "so nothing new is accepted")


async def test_a_lost_file_lets_nothing_be_done_twice(folder):
    """Commands of before are stale once the file is lost or damaged; what is issued after that is followed."""
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"garbage" * 1000)):
        async with commanded(folder) as device:
            old = device.command("collect-now")
            device.gets(old)
            await device.answer(old)
            await device.kill()
            spoil(folder / kept.FILE)
            device.start()
            device.clock.advance(1.0)
            device.gets(old)
            await device.until(device.refused)
            assert "may have been followed" in device.refused()[0]
            assert device.telemetry.collected == 1
            new = device.command("collect-now")
            device.gets(new)
            assert (await device.answer(new)).state == "done"
            device.telemetry.collected = 0
            device.store._db.execute("DELETE FROM refusals")
            device.clock.advance(1.0)


async def test_a_lost_database_forgets_no_command(folder):
    """Database and commands lost together: the file that is kept beside them still has the floor."""
    async with commanded(folder) as device:
        old = device.command("collect-now")
        device.gets(old)
        await device.answer(old)
        await device.close_desk()
        await device.stop()
        device.store.close()
        for path in (*folder.glob("agent.db*"), *folder.glob("commands.db*")):
            path.unlink()
        device.build()
        device.open_desk()
        device.start()
        device.gets(old)
        await device.until(device.refused)

        assert "may have been followed" in device.refused()[0]
        assert device.telemetry.collected == 1
        await device.close()


def keyids(device):
    return [device.publisher.director.public_key.keyid]


def test_every_command_of_the_list_has_an_arm():
    """Each name has a file with ``run``."""
    for name in COMMANDS:
        module = __import__(f"agent.commands.{name.replace('-', '_')}", fromlist=["run"])
        assert callable(module.run), name


STRANGER = keys.signer()
