"""Devices and policy to waves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts.model import Candidate, Count, Label, Percent, Policy
from fleet.rollouts.planner import plan
from modules.errors import Invalid
from modules.names import DeviceId

RULES = st.one_of(
    st.builds(Percent, st.floats(min_value=0.1, max_value=100)),
    st.builds(Count, st.integers(min_value=1, max_value=50)),
    st.sampled_from([Label("ring=canary"), Label("*")]),
)


def candidates(count, **labels):
    return [Candidate(DeviceId(f"dev-{i:03}"), labels) for i in range(count)]


@given(st.lists(st.sampled_from(["canary", "stable"]), max_size=40), st.lists(RULES, min_size=1, max_size=5))
def test_every_device_is_in_exactly_one_wave_and_no_wave_is_empty(rings, rules):
    """Whatever the policy, nobody is left out and nobody is updated twice."""
    given_devices = [Candidate(DeviceId(f"dev-{i:03}"), {"ring": ring}) for i, ring in enumerate(rings)]
    waves = plan(given_devices, Policy(waves=tuple(rules)))
    assert sorted(device for wave in waves for device in wave) == [one.device for one in given_devices]
    assert all(waves)


def test_without_a_policy_there_is_one_wave_of_all():
    """The default is everybody at once."""
    assert plan(candidates(3), Policy()) == (("dev-000", "dev-001", "dev-002"),)


def test_sizes_are_shares_of_all_devices_or_counts_and_the_rest_comes_last():
    """10 % of ten is one device, then three, then the six that no rule names."""
    waves = plan(candidates(10), Policy(waves=(Percent(10.0), Count(3))))
    assert [len(wave) for wave in waves] == [1, 3, 6]


def test_a_share_is_rounded_up():
    """1 % of five devices is one device, never an empty canary wave."""
    assert [len(wave) for wave in plan(candidates(5), Policy(waves=(Percent(1.0),)))] == [1, 4]


def test_a_label_puts_its_devices_first():
    """Canaries by label go before the rest, wherever their names sort."""
    devices = [*candidates(2, ring="stable"), Candidate(DeviceId("zzz"), {"ring": "canary"})]
    assert plan(devices, Policy(waves=(Label("ring=canary"),))) == (("zzz",), ("dev-000", "dev-001"))


def test_a_policy_without_waves_or_with_too_many_is_refused():
    """A policy that says nothing, or never ends, is refused at the door."""
    for waves in ((), (Count(1),) * 101):
        with pytest.raises(Invalid, match="waves"):
            plan(candidates(1), Policy(waves=waves))
