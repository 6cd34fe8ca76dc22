"""Which block of a broadcast goes out when: at the pace of those who take part, and held up by nobody for long."""

import pytest

from fleet.pack import (
    DEAD_AFTER,
    GATHER_MOST_S,
    GATHER_S,
    GONE_S,
    MERGE_S,
    OPEN_PER_DEVICE,
    PATIENCE_PER_BLOCK_S,
    PATIENCE_S,
    SILENT_S,
    SPAN,
    Pack,
    Turn,
)
from modules.digests import BLOCK
from modules.names import DeviceId
from modules.protocol.blobs import JOINED, BlobGet

BLOB = "sha256:" + "a" * 64
BLOCKS = 100
A, B, C = (DeviceId(f"dev-{letter}") for letter in "abc")


class Gathering:
    """A pack and its clock; devices number their requests."""

    def __init__(self, expected, blocks=BLOCKS):
        self.pack = Pack(blocks * BLOCK, expected, 0.0)
        self.now, self.requests, self.last = 0.0, 0, blocks - 1

    def ask(self, device, *numbers, still=(), last=None):
        self.requests += 1
        mask = sum(1 << number - numbers[0] for number in numbers)
        more = {"shared": JOINED, "last": self.last if last is None else last, "still": tuple(still)}
        get = BlobGet(request=self.requests, digest=BLOB, first=numbers[0], mask=mask, **more)
        return self.requests if self.pack.ask(device, get, self.now) else None

    def turns(self):
        """What goes out now: a number to all, or who gets which."""
        found = []
        while isinstance(turn := self.pack.turn(self.now), Turn):
            found.append(turn.number if turn.to_all else turn.requests)
        return found

    def wakes(self):
        """Nothing goes out now; when something may."""
        due = self.pack.turn(self.now)
        assert not isinstance(due, Turn)
        return due


def test_blocks_go_out_once_all_who_are_expected_have_asked():
    """Two of three have asked: they wait for the third; then each block goes once, in order."""
    three = Gathering(3)
    three.ask(A, 0, 1)
    three.ask(B, 0, 1)
    assert three.turns() == []
    three.ask(C, 0, 1)
    assert three.turns() == [0, 1]


def test_who_does_not_come_is_waited_for_a_moment_only():
    """After two seconds in which nobody joined it begins; where somebody always does, after ten."""
    many = Gathering(1000)
    many.ask(A, 0)
    many.ask(B, 0)
    assert many.wakes() == GATHER_S
    for number in range(9):
        many.now = number * 1.0
        many.ask(DeviceId(f"late-{number}"), 0)
    many.now = GATHER_MOST_S - 0.1
    many.ask(C, 0)
    assert many.wakes() == GATHER_MOST_S
    many.now = GATHER_MOST_S
    assert many.turns() == [0]


def started(*devices, expected=None):
    """All of them have had block 0."""
    pack = Gathering(expected or len(devices))
    for device in devices:
        pack.ask(device, 0)
    assert pack.turns() == [0]
    return pack


def test_nobody_is_left_behind_at_once():
    """Whoever has still to ask for the next block is waited for: its link is what it is."""
    three = started(A, B, C)
    three.ask(A, 1)
    three.ask(B, 1)
    assert three.turns() == []
    three.now = 1.0
    three.ask(C, 1)
    assert three.turns() == [1]


def test_a_device_holds_the_others_up_for_seconds_and_no_more():
    """One that never asks again costs its patience once, and not with each block."""
    three = started(A, B, C)
    for number in range(1, 6):
        three.ask(A, number)
        three.ask(B, number)
        waited = 0.0
        while not three.turns():
            three.now += 0.1
            waited += 0.1
            assert waited < PATIENCE_S + 0.2
        assert number == 1 or waited == 0


def test_one_that_is_slow_by_design_costs_little_for_each_block():
    """It asks just before its patience ends, each time: over a hundred blocks, half a second for each and four."""
    slow = started(A, B, C)
    for number in range(1, BLOCKS):
        slow.ask(A, number)
        slow.ask(B, number)
        waited = 0.0
        while not slow.turns():
            slow.now += 0.25
            waited += 0.25
            if waited > PATIENCE_S / 2:
                slow.ask(C, number)
    assert slow.now <= PATIENCE_S + BLOCKS * (PATIENCE_PER_BLOCK_S + 0.25)


def test_who_needs_no_more_is_not_waited_for():
    """A device that misses blocks up to 0 alone has what it needs, and the others go on at once."""
    pack = Gathering(3)
    pack.ask(A, 0, last=0)
    pack.ask(B, 0)
    pack.ask(C, 0)
    assert pack.turns() == [0]
    pack.ask(B, 1)
    pack.ask(C, 1)
    assert pack.turns() == [1]


def test_a_late_device_holds_nobody_up_and_gets_what_has_gone_already_by_itself():
    """It asks for the first blocks while the others are far: they go on, and it gets them after a moment, alone."""
    far = started(A, B)
    for number in range(1, SPAN + 20):
        far.ask(A, number)
        far.ask(B, number)
        assert far.turns() == [number]
    request = far.ask(C, 0, 1)
    far.ask(A, SPAN + 20)
    far.ask(B, SPAN + 20)
    assert far.turns() == [SPAN + 20]
    far.now += MERGE_S
    assert far.turns() == [{C: (request, [0, 1])}]


def test_several_late_devices_share_what_they_missed():
    """What a good part of the devices asks for again goes to all once more, and not to each."""
    late = started(A, B)
    late.ask(A, 1)
    late.ask(B, 1)
    assert late.turns() == [1]
    late.ask(A, 2)
    late.ask(B, 2)
    assert late.turns() == [2]
    late.ask(C, 0, 1)
    late.now += MERGE_S / 2
    late.ask(DeviceId("dev-d"), 0)
    late.now += MERGE_S / 2
    assert late.turns()[0] == 0


def test_a_block_that_few_of_many_miss_goes_to_them_alone():
    """Two of twenty: the other eighteen are not sent what they have."""
    many = [DeviceId(f"dev-{number}") for number in range(20)]
    pack = started(*many)
    for device in many:
        pack.ask(device, 1, 2)
    assert pack.turns() == [1, 2]
    for device in many[2:]:
        pack.ask(device, 3)
    again = [pack.ask(device, 1) for device in many[:2]]
    pack.now += MERGE_S
    assert {device: (request, [1]) for device, request in zip(many, again, strict=False)} in pack.turns()


def test_what_came_meanwhile_is_not_sent_again():
    """A device asks for a block that is under way to it, and its next request says that it has come."""
    pack = started(A, B)
    pack.ask(A, 1)
    pack.ask(B, 1)
    assert pack.turns() == [1]
    pack.ask(C, 1)
    pack.ask(C, 2)
    pack.ask(A, 2)
    pack.ask(B, 2)
    assert pack.turns() == [2]
    pack.now += MERGE_S
    assert pack.turns() == []


def test_a_request_that_still_waits_is_kept():
    """The other of a device's two requests is named in the next, and answered."""
    pack = started(A, B)
    for number in (1, 2):
        pack.ask(A, number)
        pack.ask(B, number)
        pack.turns()
    first = pack.ask(C, 1)
    pack.ask(C, 3, still=(first,))
    pack.now += MERGE_S
    assert {C: (first, [1])} in pack.turns()


def test_a_silent_majority_does_not_stop_the_rest():
    """Most devices leave without a word after the first block: the others go on within seconds."""
    gone = [DeviceId(f"gone-{number}") for number in range(8)]
    pack = started(A, B, *gone)
    pack.ask(A, 1)
    pack.ask(B, 1)
    while not pack.turns():
        pack.now += 0.5
        assert pack.now < 10
    assert pack.now > 1


@pytest.mark.parametrize("numbers", [[BLOCKS], [BLOCKS - 1, BLOCKS], [1 << 24]])
def test_blocks_that_are_not_there_are_not_waited_for(numbers):
    """They are answered as ever: there is none."""
    pack = Gathering(2)
    assert pack.ask(A, *numbers) is None
    assert pack.pack.turn(0.0) is None


def test_one_device_waits_for_few_blocks_at_a_time():
    """However much it asks for: what it may wait for here is bounded."""
    pack = Gathering(5)
    assert pack.ask(A, *range(60)) is not None
    assert pack.ask(A, *range(60, OPEN_PER_DEVICE + 1), still=(1,)) is None
    assert pack.ask(A, *range(60, OPEN_PER_DEVICE), still=(1,)) is not None
    assert pack.ask(B, *range(OPEN_PER_DEVICE + 1)) is None
    assert set(pack.pack.members) == {A}, "whoever may not take part is waited for by nobody"


def test_a_broadcast_that_nobody_asks_for_is_over():
    """It is forgotten a minute after the last request, not before."""
    pack = started(A, B)
    assert not pack.pack.over(GONE_S)
    assert pack.pack.over(GONE_S + 0.1)
    pack.now = 1000.0
    pack.ask(C, 5)
    assert not pack.pack.over(pack.now + 10 * GONE_S)
    pack.pack.leave(C)
    assert not pack.pack.over(pack.now + GONE_S)
    assert pack.pack.over(pack.now + GONE_S + 0.1)


def test_who_leaves_is_waited_for_no_more():
    """It says so, and the others go on at once; what it had asked for is sent to nobody."""
    three = started(A, B, C)
    three.ask(A, 1)
    three.ask(B, 1)
    three.ask(C, 9)
    assert three.turns() == [1]
    three.ask(A, 2)
    three.ask(B, 2)
    three.pack.leave(C)
    three.pack.leave(C)
    assert three.turns() == [2]
    assert three.wakes() is None
    assert C not in three.pack.members


def test_only_who_was_sent_much_and_is_silent_counts_as_dead():
    """Not one that has all it misses, and not one that asks on, or waits for what it asked for."""
    pack = Gathering(4)
    done = DeviceId("dev-done")
    for device in (A, B, C):
        pack.ask(device, 0)
    pack.ask(done, 0, last=0)
    assert pack.turns() == [0]
    for number in range(1, DEAD_AFTER + 10):
        pack.ask(A, number)
        pack.ask(B, number)
        while not pack.turns():
            pack.now += 0.5
    assert pack.pack.dead(pack.now) in ([], [C])
    pack.now += SILENT_S
    pack.ask(A, BLOCKS - 2)
    pack.ask(B, BLOCKS - 2)
    assert pack.pack.dead(pack.now + 0.1) == [C]


def test_the_next_wave_begins_anew():
    """The devices of a second wave, minutes or moments later, gather as the first ones did, and wait for no merging."""
    pack = Gathering(2, blocks=2)
    for number in (0, 1):
        for device in (A, B):
            pack.ask(device, number)
        assert pack.turns() == [number]
    pack.now += SILENT_S + 0.1
    pack.pack.expected = 3
    others = [DeviceId(f"next-{number}") for number in range(3)]
    for device in others[:2]:
        pack.ask(device, 0)
    assert pack.wakes() == pack.now + GATHER_S
    pack.ask(others[2], 0)
    assert pack.turns() == [0]
    for device in others:
        pack.ask(device, 1)
    assert pack.turns() == [1]


def test_a_steady_device_is_waited_for_all_along():
    """Less than half a second for each block is no crime, however many blocks there are: it is never left behind."""
    pack = started(A, B, C)
    for number in range(1, BLOCKS):
        pack.ask(A, number)
        pack.ask(B, number)
        assert pack.turns() == []
        pack.now += 0.4
        assert pack.turns() == []
        pack.ask(C, number)
        assert pack.turns() == [number]


def test_it_is_waited_for_up_to_the_last_block_that_it_misses():
    """Up to that one and including it, and no further."""
    pack = started(A, B)
    pack.ask(C, 0, last=1)
    pack.now += MERGE_S
    pack.turns()
    for device in (A, B):
        pack.ask(device, 1)
    pack.pack.members[C].last = 1
    assert pack.turns() == []
    pack.ask(C, 1, last=1)
    assert pack.turns() == [1]


def test_time_is_counted_once_half_of_the_devices_are_ready():
    """One quick device among four does not use up what the others have; it waits until they count as gone."""
    pack = started(A, B, C, DeviceId("dev-d"))
    pack.ask(A, 1)
    for now in (0.0, PATIENCE_S / 2, PATIENCE_S + 0.5, SILENT_S - 0.1):
        pack.now = now
        assert pack.turns() == []
    assert all(pack.pack.members[one].patience == PATIENCE_S for one in (B, C))
    pack.now = SILENT_S
    assert len(pack.turns()) == 1


def test_a_lost_block_is_asked_for_after_the_last_one():
    """A device has the last block, and asks for one that it lost: it is sent, though there is nothing beyond."""
    pack = Gathering(2, blocks=2)
    pack.ask(A, 0)
    pack.ask(B, 0)
    assert pack.turns() == [0]
    pack.ask(A, 1)
    assert pack.turns() == []
    again = pack.ask(A, 0)
    pack.now += MERGE_S
    assert pack.turns() == [{A: (again, [0])}]


def test_who_asks_again_is_alive():
    """What went out before its last request does not count against it."""
    pack = started(A, B, C)

    def go(numbers):
        for number in numbers:
            pack.ask(A, number)
            pack.ask(B, number)
            while not pack.turns():
                pack.now += 0.5

    go(range(1, 40))
    pack.ask(C, 40)
    go(range(40, 70))
    for number in (97, 98):
        pack.now += SILENT_S / 2 + 0.1
        pack.ask(A, number)
        pack.ask(B, number)
    assert C in pack.pack.members
    assert pack.pack.dead(pack.now) == []


def test_a_device_is_dead_to_the_block_and_to_the_second():
    """Counted from when it was heard last: one block less, or just not long enough, and it is not."""
    pack = started(A, B, C)
    pack.now = heard = 1.0
    for device in (A, B, C):
        pack.ask(device, 1)
    assert pack.turns() == [1]

    def go(number):
        pack.ask(A, number)
        pack.ask(B, number)
        while not pack.turns():
            pack.now += 0.5

    for number in range(2, DEAD_AFTER):
        go(number)
    assert pack.pack.dead(heard + 10 * SILENT_S) == []
    go(DEAD_AFTER)
    assert pack.pack.dead(heard + SILENT_S) == []
    assert pack.pack.dead(heard + SILENT_S + 0.1) == [C]


def test_a_device_exactly_so_far_behind_is_waited_for_and_one_further_is_not():
    """Who is late holds nobody up."""
    for ahead, waits in ((SPAN, True), (SPAN + 1, False)):
        pack = started(A, B, C)
        pack.ask(A, ahead)
        pack.ask(B, ahead)
        assert pack.turns() == ([] if waits else [ahead])


def test_the_last_of_its_patience_is_waited_for_and_then_no_more():
    """To the moment, with this block and with the next; until then somebody looks again just when it ends."""
    pack = started(A, B, C)
    pack.ask(A, 1)
    pack.ask(B, 1)
    for now in (0.0, PATIENCE_S - 0.5, PATIENCE_S - 0.25):
        pack.now = now
        assert pack.wakes() == PATIENCE_S
    pack.now = PATIENCE_S
    assert pack.turns() == [1]
    pack.ask(A, 2)
    pack.ask(B, 2)
    assert pack.turns() == [2]


@pytest.mark.parametrize(("more", "wakes"), [((), PATIENCE_S), (("e",), MERGE_S)])
def test_exactly_half_that_are_ready_are_half(more, wakes):
    """Two of four wait for the other two as long as those have patience; of five, somebody looks again soon."""
    pack = started(A, B, C, DeviceId("dev-d"), *(DeviceId(f"dev-{one}") for one in more))
    pack.ask(A, 1)
    pack.ask(B, 1)
    assert pack.wakes() == wakes


@pytest.mark.parametrize(("devices", "to_all"), [(8, True), (9, False)])
def test_a_block_goes_to_all_again_for_a_fourth_of_those_who_wait(devices, to_all):
    """And to each alone for fewer of them."""
    many = [DeviceId(f"dev-{number}") for number in range(devices)]
    pack = started(*many)
    for device in many:
        pack.ask(device, 1)
    assert pack.turns() == [1]
    for device in many[2:]:
        pack.ask(device, 2)
    first, second = (pack.ask(device, 1) for device in many[:2])
    pack.now += MERGE_S
    assert pack.turns()[0] == (1 if to_all else {many[0]: (first, [1]), many[1]: (second, [1])})


def test_what_follows_a_block_that_waits_is_not_sent_before_it():
    """Though all who miss the later one have asked for it: whoever is behind is waited for once."""
    pack = Gathering(3)
    pack.ask(A, 0)
    pack.ask(B, 0)
    pack.ask(C, 0, last=1)
    assert pack.turns() == [0]
    pack.ask(A, 1, 2)
    pack.ask(B, 1, 2)
    assert pack.turns() == []


def test_blocks_are_as_large_as_the_blob_has_them():
    """The last one may be shorter, and is paid for as it is."""
    pack = Pack(2 * BLOCK + 7, 2, 0.0)
    assert [pack.size_of(number) for number in range(3)] == [BLOCK, BLOCK, 7]


def test_the_times_are_those_that_the_docs_promise():
    """docs/mqtt.md tells operators how long a broadcast waits for whom, and when a device counts as dead."""
    assert (GATHER_S, GATHER_MOST_S, PATIENCE_S, PATIENCE_PER_BLOCK_S) == (2.0, 10.0, 4.0, 0.5)
    assert DEAD_AFTER * BLOCK == 4 << 20


def test_whoever_leaves_or_belongs_to_an_earlier_wave_is_forgotten():
    """Nobody of them is counted, waited for, or taken for dead."""
    pack = started(A, B, C)
    pack.pack.leave(C)
    assert set(pack.pack.members) == {A, B}
    pack.now += SILENT_S + 0.1
    pack.ask(C, 0)
    assert set(pack.pack.members) == {C}


def test_time_comes_back_with_blocks_and_not_by_asking():
    """Half a second for each block that a device gets through; asking for the same again gives nothing."""
    pack = started(A, B, C)
    member = pack.pack.members[C]
    pack.ask(C, 40)
    member.patience = 1.0
    pack.ask(C, 42)
    assert member.patience == 1.0 + 2 * PATIENCE_PER_BLOCK_S
    pack.ask(C, 42)
    pack.ask(C, 7)
    assert member.patience == 1.0 + 2 * PATIENCE_PER_BLOCK_S
    pack.ask(C, 90)
    assert member.patience == PATIENCE_S
