"""Devices and policy to waves."""

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from fleet.rollouts.model import MAX_WAVES, Candidate, Policy, Wave
from fleet.rollouts.planner import plan
from modules.errors import Invalid
from modules.names import DeviceId

RULES = st.one_of(
    st.builds(Wave, percent=st.floats(min_value=0.1, max_value=100)),
    st.builds(Wave, count=st.integers(min_value=1, max_value=50)),
    st.builds(Wave, growth=st.floats(min_value=1.1, max_value=10)),
    st.just(Wave(label="*")),
)


def candidates(count, **labels):
    return [Candidate(DeviceId(f"dev-{i:03}"), labels) for i in range(count)]


def names(waves):
    return [[one.device for one in wave.devices] for wave in waves]


def sizes(count, *rules):
    return [len(wave.devices) for wave in plan(candidates(count), Policy(waves=rules))]


@given(st.integers(min_value=1, max_value=40), st.lists(RULES, min_size=1, max_size=5))
def test_every_device_is_in_exactly_one_wave_and_no_wave_is_empty(count, rules):
    """Whatever the policy, nobody is left out and nobody is updated twice."""
    devices = candidates(count)
    try:
        waves = plan(devices, Policy(waves=tuple(rules)))
    except Invalid:
        reject()  # a label that matches nobody, or too many waves
    assert sorted(name for wave in names(waves) for name in wave) == [one.device for one in devices]
    assert all(wave.devices for wave in waves)


def test_without_a_policy_there_is_one_wave_of_all():
    """The default is everybody at once."""
    assert names(plan(candidates(3), Policy())) == [["dev-000", "dev-001", "dev-002"]]


@pytest.mark.parametrize(
    ("count", "rules", "expected"),
    [
        (10, [Wave(percent=10.0), Wave(count=3)], [1, 3, 6]),
        (10, [Wave(count=1), Wave(percent=10.0), Wave(percent=50.0), Wave(percent=100.0)], [1, 4, 5]),
        (5, [Wave(percent=1.0)], [1, 4]),
        (100, [Wave(percent=55.0), Wave(percent=100.0)], [55, 45]),
        (3, [Wave(count=5), Wave(count=5)], [3]),
        (20, [Wave(growth=2.0)], [1, 2, 4, 8, 5]),
        (20, [Wave(count=3), Wave(growth=1.5)], [3, 4, 6, 7]),
        (4, [Wave(growth=1.1)], [1, 2, 1]),
    ],
)
def test_how_large_the_waves_are(count, rules, expected):
    """A percent is the share of all that have it after the wave, rounded up; a count is a count; growth goes on."""
    assert sizes(count, *rules) == expected


def test_a_label_takes_its_devices_out_of_their_order():
    """The canaries come first, wherever their names stand."""
    devices = [*candidates(2), Candidate(DeviceId("zzz"), {"ring": "canary"})]
    waves = plan(devices, Policy(waves=(Wave(label="ring=canary"),)))
    assert names(waves) == [["zzz"], ["dev-000", "dev-001"]]


def test_a_label_that_matches_nobody_is_refused():
    """A wave of canaries without canaries would let the second wave be the first."""
    with pytest.raises(Invalid, match="no device that is left matches 'ring=canary'"):
        plan(candidates(3), Policy(waves=(Wave(label="ring=canary"),)))


def test_a_label_that_matches_fewer_than_the_minimum_is_refused():
    """It could never be judged."""
    devices = [*candidates(2), Candidate(DeviceId("zzz"), {"ring": "canary"})]
    with pytest.raises(Invalid, match="matches 1 devices, and 2 are the minimum"):
        plan(devices, Policy(waves=(Wave(label="ring=canary", minimum=2),)))


def test_too_many_waves_are_refused():
    """A hundred waves is the end; one more is refused with the number."""
    rules = tuple(Wave(count=1) for _ in range(MAX_WAVES))
    assert len(plan(candidates(MAX_WAVES), Policy(waves=rules))) == MAX_WAVES
    with pytest.raises(Invalid, match=f"{MAX_WAVES + 1} waves are more than the {MAX_WAVES} allowed"):
        plan(candidates(MAX_WAVES + 1), Policy(waves=rules))


def test_each_wave_carries_what_is_asked_of_it():
    """Its own word where it has one, else the policy's; the rest that no rule names too."""
    first, rest = plan(
        candidates(3), Policy(waves=(Wave(count=1, failure_percent=50.0, soak="1h"),), failure_percent=5.0, soak="1m")
    )
    assert (first.asked.rule, first.asked.threshold.success_percent, first.asked.threshold.soak_s) == (
        "count 1", 50.0, 3600,
    )  # fmt: skip
    assert (rest.asked.threshold.success_percent, rest.asked.threshold.soak_s) == (95.0, 60)
