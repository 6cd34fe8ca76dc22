"""A slot begins to have more to do than it can, or has caught up: told at once, seldom, and for the fleet to see."""

import itertools

import pytest

from agent.answering import Told
from modules.names import Slug
from modules.protocol.telemetry import STARTS_AT, too_much
from tests.agent.telemetry.test_duty import running, until

WATCH_S, HOUR_S = 5, 3600


class Slots:
    """What a gateway has counted of its slots; ``works`` lets seconds pass in which a slot has requests."""

    def __init__(self, device, *names) -> None:
        self.device, self.asked, self.answers = device, 0, True
        self.counts = {name: [0, 0, 0] for name in names or ("digits",)}
        device.duty._gateway._told = self.told

    async def told(self):
        self.asked += 1
        if not self.answers:
            return None
        return Told(1, [self._slot(name, *counts) for name, counts in self.counts.items()])

    @staticmethod
    def _slot(name, requests, overloaded, fallback):
        counted = {"requests": requests, "errors": 0, "seconds": 1.0, "latencies": []}
        return {
            "slot": name,
            "counts": {"one": counted},
            "pressed": {"overloaded": overloaded},
            "answered": {"local": requests, "fallback": fallback},
        }

    async def works(self, seconds, *, slot="digits", each_s=100, too_much=0, afar=0):
        """So many requests a second, of them so many too many, and so many that the cloud answers; each is sent."""
        for _ in range(0, seconds, WATCH_S):
            for number, more in enumerate((each_s, too_much, afar)):
                self.counts[slot][number] += more * WATCH_S
            self.device.clock.advance(WATCH_S)
            await self.device.duty._guarded(self.device.duty._watch)
            if self.device.duty._sends.is_set():
                self.device.duty._sends.clear()
                await self.device.step(look=False)
                await self.device.drain()

    def said(self, slot="digits"):
        """The samples of the newest message."""
        return [one.figures for one in self.device.once()[-1].samples if one.slot == slot]


@pytest.fixture
def busy(stand):
    """A device that looks once an hour, and whose first samples have gone: they are sent at once anyway."""

    async def make(*names, **settings):
        given = {"telemetry_streams": ("gateway",), "telemetry_every_s": float(HOUR_S)} | settings
        found = Slots(stand(**given), *names)
        await found.device.step()
        await found.device.minutes(1)
        await found.device.drain()
        found.device.link.published.clear()
        found.device.duty._sends.clear()
        found.asked = 0
        return found

    return make


async def test_who_begins_to_have_too_much_to_do_waits_for_no_look(busy):
    """Within a quarter of a minute it is told, in figures of its own: in those of all the hour nobody would see it."""
    slots = await busy()
    await slots.works(1800)
    assert slots.device.once() == []
    await slots.works(15, too_much=10)

    before, since = slots.said()
    assert (before["seconds"], before["overloaded"], before["requests"]) == (1800, 0, 180_000)
    assert (since["overloaded"], since["requests"]) == (since["seconds"] * 10, since["seconds"] * 100)
    assert too_much(since) >= STARTS_AT > since["overloaded"] / before["requests"]
    at = [one.at for one in slots.device.once()[-1].samples]
    assert at[1] - at[0] == since["seconds"]


async def test_what_the_samples_say_adds_up(busy):
    """Each request is in one sample, whatever was told early: the day's requests in the cloud are their sum."""
    slots = await busy()
    for _ in range(4):
        await slots.works(600)
        await slots.works(WATCH_S, too_much=20, afar=7)
        await slots.device.step()  # in the middle of what is told then
        await slots.works(35, too_much=20, afar=7)
    await slots.works(300)
    await slots.device.step()
    slots.device.duty.collect_now()
    await slots.device.step()
    await slots.device.drain()

    every = [one.figures for message in slots.device.once() for one in message.samples]
    assert sum(one["fallback"] for one in every) == 4 * 40 * 7
    assert sum(one["overloaded"] for one in every) == 4 * 40 * 20
    assert sum(one["requests"] for one in every) == 100 * sum(one["seconds"] for one in every)


@pytest.mark.parametrize("more", [{"too_much": 100}, {"too_much": 4}])
async def test_a_burst_and_what_is_little_start_nothing(busy, more):
    """Five seconds of far too much, again and again; or less than a twentieth for a long time."""
    slots = await busy()
    for _ in range(10):
        await slots.works(WATCH_S if more["too_much"] > STARTS_AT * 100 else 60, **more)
        await slots.works(WATCH_S)
    assert slots.device.once() == []


async def test_who_has_caught_up_says_so_after_a_while(busy):
    """Two minutes without any of it; then the newest figures have nothing more of it."""
    slots = await busy()
    await slots.works(60, too_much=50)
    assert len(slots.device.once()) == 1
    await slots.works(60)
    await slots.works(WATCH_S, afar=1)
    await slots.works(115)
    assert len(slots.device.once()) == 1
    await slots.works(WATCH_S)

    before, since = slots.said()
    assert len(slots.device.once()) == 2
    assert (before["overloaded"] > 0, before["fallback"]) == (True, WATCH_S)
    assert (since["overloaded"], since["fallback"], since["seconds"]) == (0, 0, 120)
    await slots.works(1800)
    assert len(slots.device.once()) == 2


@pytest.mark.parametrize(("on", "off"), [(15, 10), (15, 125), (200, 200)])
async def test_who_goes_to_and_fro_sends_little(busy, on, off):
    """At most two messages in two minutes, never two within half a minute: not so many as its day's bytes allow."""
    slots = await busy()
    sent = []
    for _ in range(HOUR_S // (on + off)):
        for seconds, many in ((on, 50), (off, 0)):
            for _ in range(0, seconds, WATCH_S):
                await slots.works(WATCH_S, too_much=many)
                new = len(slots.device.link.published) - len(sent)
                sent += [slots.device.clock.monotonic()] * new

    assert 2 <= len(sent) <= HOUR_S / 60
    assert min(b - a for a, b in itertools.pairwise(sent)) >= 30
    assert 24 * sum(len(envelope) for _, envelope, _ in slots.device.link.published) < 1 << 20


async def test_while_it_lasts_it_is_said_again_and_again(busy):
    """What was told ten minutes ago counts no more, and the next look may be far away."""
    slots = await busy()
    await slots.works(900, too_much=1, afar=1)
    assert slots.device.once() == []
    await slots.works(1800, too_much=50)
    messages = slots.device.once()
    apart = [b.issued - a.issued for a, b in itertools.pairwise(messages)]
    assert (len(messages), max(apart) <= 310) == (6, True)
    assert all(message.samples[-1].figures["overloaded"] > 0 for message in messages)


async def test_slots_are_told_apart(busy):
    """One that begins later is told of, and what is known of the other does not get lost by it."""
    slots = await busy("digits", "faces")
    for _ in range(4):
        await slots.works(WATCH_S, too_much=50)
    for _ in range(12):
        await slots.works(WATCH_S, slot="faces", too_much=50)
    digits, faces = slots.said(), slots.said("faces")

    assert digits[-1]["overloaded"] > 0
    assert too_much(faces[-1]) >= STARTS_AT


async def test_where_nobody_would_answer_the_gateway_is_asked_at_looks_only(busy):
    """Without an endpoint that takes what is too much, nothing could be started for it."""
    slots = await busy()
    slots.device.relieved = False
    await slots.works(600, too_much=50)
    assert (slots.asked, slots.device.once()) == (0, [])
    await slots.device.step()
    assert slots.said()[-1]["overloaded"] == 600 * 50


async def test_a_look_tells_of_a_turn_at_once_too(busy):
    """What begins where nobody watches, and what is over by the next look; samples of another stream go on waiting."""
    slots = await busy(telemetry_streams=("gateway", "host"))
    slots.device.relieved = False
    for sent, many in ((0, 0), (1, 50), (1, 50), (2, 0), (2, 0)):
        slots.counts["digits"][1] += many
        await slots.device.minutes(1)
        await slots.device.drain()
        assert [one.stream for one in slots.device.once()] == ["gateway"] * sent
    assert slots.said()[-1]["overloaded"] == 0


async def test_what_is_urgent_goes_whole(busy):
    """Where one message does not hold what waits, of earlier looks and many slots, the newest goes all the same."""
    names = [f"slot-{number:02}" for number in range(60)]
    slots = await busy(*names)
    await slots.device.minutes(2)
    for _ in range(3):
        for name in names[:-1]:
            slots.counts[name][0] += 100
        await slots.works(WATCH_S, slot=names[-1], too_much=50)

    assert len(slots.device.once()) > 1
    told = {Slug(one.slot): one.figures for message in slots.device.once() for one in message.samples}
    assert set(told) == set(names)
    assert told[names[-1]]["seconds"] == 10


async def test_a_gateway_that_is_started_again_meanwhile_begins_anew(busy):
    """Counts that went back are no turn, and nothing is below zero."""
    slots = await busy()
    await slots.works(60)
    await slots.works(WATCH_S, too_much=50)
    slots.answers = False
    await slots.works(WATCH_S)
    slots.answers = True
    slots.counts["digits"] = [0, 0, 0]
    await slots.works(2 * WATCH_S, too_much=50)
    await slots.works(60)
    assert slots.device.once() == []
    await slots.works(15, too_much=50)
    assert all(value >= 0 for figures in slots.said() for value in figures.values())
    assert slots.said()[-1]["overloaded"] > 0


async def test_a_gateway_that_starts_after_the_agent_is_watched_all_the_same(busy):
    """It did not answer at the last look, and the next is an hour away; what was told before that counts no more."""
    slots = await busy()
    await slots.works(15, too_much=50)
    slots.answers = False
    await slots.device.step()
    slots.answers = True
    slots.device.link.published.clear()
    await slots.works(30, too_much=50)
    assert slots.said()[-1]["overloaded"] > 0


async def test_the_task_watches_between_its_looks(stand):
    """Nobody calls for it: five seconds after a look the gateway is asked, and no other sample is taken."""
    device = stand(telemetry_streams=("gateway", "host"), telemetry_every_s=float(HOUR_S))
    slots = Slots(device)
    async with running(device):
        await until(lambda: slots.asked == 1)
        for count in range(2, 7):
            slots.counts["digits"][1] += 50
            device.clock.advance(WATCH_S)
            device.duty._looks.set()
            await until(lambda count=count: slots.asked == count)
        await until(lambda: [one.stream for one in device.messages()][:1] == ["host"])
        device.ack(1)
        await until(lambda: "gateway" in [one.stream for one in device.messages()])
    assert [len(one.samples) for one in device.once() if one.stream == "host"] == [1]
