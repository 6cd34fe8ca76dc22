"""Telemetry on its way: several samples in a message, one message at a time, deleted when the server has it."""

import itertools

import pytest

from agent.answering import Told
from modules import signing
from modules.names import Slug
from tests.agent.telemetry.stand import DEVICE

BUILT_1970 = 1000.0


async def test_the_first_samples_are_sent_at_once_and_later_ones_together(stand):
    """An operator sees a new device's figures soon; after that a message has what came in ten minutes."""
    device = stand()
    await device.step()
    assert [len(one.samples) for one in device.messages()] == [1]
    device.ack(1)
    await device.minutes(10)
    assert len(device.messages()) == 1
    await device.minutes(1)

    first, second = device.messages()
    assert (first.number, second.number, first.device, first.stream) == (1, 2, DEVICE, "host")
    assert [round(one.at - first.samples[0].at) for one in second.samples] == [60 * n for n in range(1, 12)]
    assert first.epoch == device.store.epoch


async def test_nothing_is_deleted_before_the_server_has_it(stand):
    """Published is not acknowledged: the same message is sent again, by a new agent too, and by no other number."""
    device = stand()
    await device.step()
    for _ in range(3):
        device.again()
        device.clock.advance(61.0)
        await device.step(look=False)
    device.ack(0)
    device.ack(1, epoch="f" * 16)

    assert all(one == device.messages()[0] for one in device.messages())
    assert len(device.messages()) == 4
    assert device.kept.pending().number == 1
    device.ack(1)
    assert device.kept.pending() is None


async def test_one_message_is_under_way_at_a_time(stand):
    """The next one goes when the server has the last one, so the highest number says it of all before."""
    device = stand(telemetry_send_s=0.0)
    await device.minutes(5)
    assert [one.number for one in device.once()] == [1]
    device.ack(1)
    await device.step(look=False)

    assert [one.number for one in device.once()] == [1, 2]
    assert len(device.once()[1].samples) == 4


async def test_what_is_not_acknowledged_is_sent_again_ever_more_seldom(stand):
    """A server that does not answer is not asked every minute for ever; a new session asks at once."""
    device = stand()
    await device.step()
    await device.minutes(24 * 60, look=False)
    sent = len(device.messages())
    assert 20 < sent < 40
    device.duty.on_connect()
    await device.step(look=False)

    assert len(device.messages()) == sent + 1


async def test_an_offline_device_keeps_samples_and_sends_all_of_them_once(stand):
    """Hours without a session, and a restart in them: each sample arrives, none twice, with the time it was taken."""
    device = stand()
    began = device.clock.now()
    device.link.connected = False
    await device.minutes(100)
    device.again()
    await device.minutes(100)
    device.link.connected = True
    await device.step(look=False)
    samples = [sample for one in await device.drain() for sample in one.samples]

    assert [round(one.at - began) for one in samples] == [60 * n for n in range(1, 201)]
    assert len({one.number for one in device.once()}) == len(device.once())


async def test_a_link_that_breaks_while_sending_loses_nothing(stand):
    """Half a publish is no publish."""
    device = stand()
    device.link.breaks = True
    await device.step()
    assert device.messages() == []
    device.link.breaks = False
    device.duty.on_connect()
    await device.step(look=False)

    assert [one.number for one in device.messages()] == [1]


async def test_a_device_that_lost_its_database_counts_anew(stand):
    """Numbers of before say nothing in a new epoch: what is under way gets one of this epoch, and keeps its samples."""
    device = stand()
    await device.step()
    (before,) = device.messages()
    device.store.close()
    for name in ("agent.db", "agent.db-wal", "agent.db-shm"):
        (device.folder / name).unlink(missing_ok=True)
    device.again()
    await device.step(look=False)
    after = device.messages()[-1]

    assert after.epoch == device.store.epoch != before.epoch
    assert (after.number, after.samples) == (1, before.samples)
    assert await device.drain()


async def test_never_more_than_the_budget_in_a_day(stand):
    """Whatever waits, resent messages included, no 24 hours see more bytes than the setting says."""
    device = stand(telemetry_day_bytes=64 << 10, telemetry_every_s=1.0, telemetry_send_s=0.0)
    device.link.connected = False
    for _ in range(1500):
        device.clock.advance(1.0)
        await device.duty._look()
    device.link.connected = True
    sent = []
    for minute in range(0, 2 * 24 * 60, 5):
        device.clock.advance(300.0)
        count = len(device.link.published)
        await device.step(look=False)
        sent += [(minute, len(payload)) for _, payload, _ in device.link.published[count:]]
        if minute % 35 and len(device.link.published) > count:
            device.ack(device.kept.pending().number)
    windows = [sum(size for at, size in sent if begin <= at < begin + 1440) for begin in range(0, 2 * 1440, 30)]

    assert 50_000 < max(windows) <= 64 << 10


async def test_restarts_and_reboots_bring_no_new_budget(stand):
    """An agent that is started again and again sends no more than one that runs."""
    device = stand(telemetry_day_bytes=64 << 10)
    for number in range(200):
        if number % 2:
            device.clock.reboot()
        device.again()
        device.clock.advance(1.0)
        await device.step()

    assert 10_000 < sum(len(payload) for _, payload, _ in device.link.published) <= 17_000


@pytest.mark.parametrize("reboot", [False, True])
async def test_a_clock_that_was_not_set_is_put_right_where_it_can_be(stand, reboot):
    """Samples of 1970 get their true time once the clock is set in the same boot; after another one nobody knows it."""
    device = stand()
    device.link.connected = False
    device.clock.time = BUILT_1970
    await device.minutes(2)
    device.clock.jump(1_800_000_000.0)
    if reboot:
        device.clock.reboot()
    device.clock.advance(60.0)
    device.link.connected = True
    await device.step(look=False)
    (message,) = device.messages()
    true = device.clock.now()

    assert [round(true - one.at) for one in message.samples] == ([round(true)] * 2 if reboot else [120, 60])


async def test_a_clock_that_jumps_moves_no_sample(stand):
    """Set forward by a year and back, samples of one boot are as far apart as they were taken."""
    device = stand()
    device.link.connected = False
    for jump in (365 * 86400.0, -365 * 86400.0, 3600.0, -3600.0):
        device.clock.jump(jump)
        await device.minutes(1)
    device.link.connected = True
    await device.step(look=False)
    (message,) = device.messages()
    at = [one.at for one in message.samples]

    assert [round(b - a) for a, b in itertools.pairwise(at)] == [60, 60, 60]


async def test_a_document_stays_within_its_bounds(stand):
    """However much waits, a message is one that the server reads, in the room that the budget leaves it."""
    device = stand(telemetry_streams=("gateway",), telemetry_send_s=0.0, telemetry_day_bytes=64 << 10)
    slots = [{"slot": Slug(f"slot-{n}-" + "x" * 50), "answered": {"local": n}} for n in range(64)]
    device.said = Told(1, slots)
    device.link.connected = False
    await device.minutes(60)
    device.link.connected = True
    await device.step(look=False)
    (message,) = device.messages()
    (_, envelope, _) = device.link.published[0]

    assert len(envelope) <= 16 << 10
    assert len(message.samples) > 20
    assert signing.envelope_limit(64 << 10) > len(envelope)
