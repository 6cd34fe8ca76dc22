"""Who plays what: exactly the shares that were asked for, and the same each time."""

from collections import Counter

import pytest

from agent.simulate import plan
from modules import canonical
from modules.errors import Invalid
from modules.needs import HostFacts

MIXED = {
    "devices": [
        {"share": 7, "labels": {"ring": "main"}},
        {"share": 3, "platform": "linux/arm64", "accelerators": ["cuda"], "memory_mb": 512},
    ],
    "behaviours": [{"share": 90, "kind": "good"}, {"share": 10, "kind": "flaps"}],
    "modules": [{"module": "acme/digits:3", "behaviours": [{"share": 1, "kind": "fails-samples"}, {"share": 3}]}],
}


def read(document):
    return plan.read(canonical.encode(document))


def told(parts):
    return [(part.kit.platform, part.behaviour.kind, part.with_module("acme/digits:3").kind) for part in parts]


def test_the_same_seed_makes_the_same_fleet():
    """Plan, number of devices and seed decide who plays what, and nothing else does."""
    assert told(plan.cast(read(MIXED), 200, 7)) == told(plan.cast(read(MIXED), 200, 7))
    assert told(plan.cast(read(MIXED), 200, 7)) != told(plan.cast(read(MIXED), 200, 8))


@pytest.mark.parametrize("count", [1, 7, 200, 999])
def test_shares_hold_exactly(count):
    """Each part is played as often as its share says, to the device."""
    parts = plan.cast(read(MIXED), count, 1)

    for share, found in (
        (0.3, sum(part.kit.platform == "linux/arm64" for part in parts)),
        (0.1, sum(part.behaviour.kind == "flaps" for part in parts)),
        (0.25, sum(part.with_module("acme/digits:3").kind == "fails-samples" for part in parts)),
    ):
        assert abs(found - share * count) < 1
    assert len(parts) == count


def test_what_is_left_over_goes_where_most_is_missing():
    """Of nine devices in shares of one, one and eight, each of the small ones gets its own."""
    parts = plan.cast(read({"devices": [{"share": 1, "cores": 1}, {"share": 1, "cores": 2}, {"share": 8}]}), 9, 0)

    assert Counter(part.kit.cores for part in parts) == {1: 1, 2: 1, 4: 7}


def test_parts_are_dealt_apart():
    """Being slow has nothing to do with the platform: each kind of hardware has devices of each behaviour."""
    together = Counter(told(plan.cast(read(MIXED), 1000, 1)))

    assert len({platform for platform, kind, _ in together if kind == "flaps"}) == 2


def test_a_bad_module_is_bad_on_good_devices_only_where_it_is_named():
    """What a version does goes before what its device does, and other versions know nothing of it."""
    part = plan.cast(read(MIXED | {"modules": [{"module": "acme/x:1", "behaviours": [{"kind": "nan"}]}]}), 1, 0)[0]

    assert (part.with_module("acme/x:1").kind, part.with_module("acme/x:2").kind) == ("nan", "good")


def test_facts_say_what_the_kit_is():
    """A device's facts have its platform, memory and accelerators, as a real probe would tell them."""
    facts = [part.kit.facts() for part in plan.cast(read(MIXED), 10, 1)]
    arm = [one for one in facts if one.platform == "linux/arm64"]

    assert len(arm) == 3
    assert [(one.memory_mb, one.accelerators[0].providers) for one in arm] == [(512, ("CUDAExecutionProvider",))] * 3
    assert all(isinstance(one, HostFacts) for one in facts)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({"behaviours": [{"kind": "evil"}]}, "kind"),
        ({"behaviours": []}, "behaviours"),
        ({"devices": [{"share": 0}]}, "share"),
        ({"speed": 3}, "speed"),
        ({"modules": [{"module": "acme/x:1", "behaviours": [{}]}] * 2}, "twice"),
        ({"modules": [{"module": "acme", "behaviours": [{}]}]}, "acme"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(document, what):
    """A mistake in the file is said with its place before anything is enrolled."""
    with pytest.raises(Invalid, match=what):
        read(document)
