"""A policy as it is written, at the door."""

import datetime as dt

import msgspec
import pytest

from fleet.rollouts import policy as policies
from fleet.rollouts.model import Policy, Wave
from fleet.rollouts.planner import plan
from modules.errors import Invalid
from tests.fleet.rollouts.test_planner import candidates

P95 = {"measure": "p95_ms", "at_most": 50}


def test_an_empty_policy_is_everybody_at_once():
    """What a rollout without a policy has always done."""
    assert policies.read({}) == Policy()


@pytest.mark.parametrize("name", policies.PRESETS)
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_every_preset_suits_every_size_of_fleet(name, count):
    """A preset is read, and plans one device as well as a thousand."""
    waves = plan(candidates(count), policies.read({"preset": name}))
    assert sum(len(wave.devices) for wave in waves) == count


def test_what_is_written_replaces_the_presets_parts():
    """The rest stays the preset's."""
    read = policies.read({"preset": "careful", "on_failure": "pause", "waves": [{"count": 2}]})
    assert (read.on_failure, read.waves, read.failure_percent) == ("pause", (Wave(count=2),), 0.0)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"preset": "reckless"}, "'reckless' is not a known preset.*use careful, standard, all-at-once"),
        ({"preset": ["careful"]}, "is not a known preset"),
        ({"wafes": []}, "unknown field `wafes`"),
        ({"waves": []}, "there is no wave"),
        ({"waves": [{}]}, "wave 1: it has 0 rules"),
        ({"waves": [{"count": 1}, {"count": 1, "percent": 5}]}, "wave 2: it has 2 rules"),
        ({"waves": [{"percent": 50}, {"percent": 50}]}, "up to 50 % after one up to 50 %"),
        ({"waves": [{"percent": 50}, {"count": 2}, {"percent": 20}]}, "up to 20 % after one up to 50 %"),
        ({"waves": [{"growth": 2}, {"count": 1}]}, "a wave of count 1 after growth 2 would have no device"),
        (
            {"waves": [{"percent": 100}, {"count": 1}]},
            "a wave of count 1 after 100 % would have no device.*put it before",
        ),
        ({"waves": [{"percent": 100}, {"label": "ring=late"}]}, "a wave of label ring=late after 100 %"),
        ({"waves": [{"percent": 100}, {"percent": 100}]}, "up to 100 % after one up to 100 %"),
        ({"waves": [{"count": 1}, {"percent": 100}, {"growth": 2}]}, "a wave of growth 2 after 100 %"),
        ({"waves": [{"percent": 0}]}, "waves"),
        ({"waves": [{"percent": 101}]}, "waves"),
        ({"waves": [{"count": -1}]}, "waves"),
        ({"waves": [{"count": 0.5}]}, "waves"),
        ({"waves": [{"count": True}]}, "waves"),
        ({"waves": [{"label": "ring=="}]}, "selector"),
        ({"waves": [{"count": 1}] * 101}, "waves"),
        ({"success_percent": 95, "failure_percent": 10}, "95 % must succeed while 10 % may fail"),
        (
            {"waves": [{"count": 5, "failure_percent": 1}], "success_percent": 100},
            "wave 1.*100 % must succeed while 1 %",
        ),
        ({"waves": [{"count": 2, "minimum": 3}]}, "its 2 devices can never be the 3 of minimum"),
        ({"waves": [{"count": 2}], "minimum": 3}, "its 2 devices can never be the 3 of minimum"),
        ({"soak": 90}, "soak"),
        ({"soak": "90"}, "policy.soak: it is not of the form.*write 90s, 30m, 2h or 7d"),
        ({"soak": "-1h"}, "soak"),
        ({"soak": "400d"}, "more than a year"),
        ({"deadline": "0s"}, "no device could be in time"),
        ({"deadline": "99999999d"}, "more than a year"),
        ({"concurrency": 0}, "concurrency"),
        ({"budget": {"label": "Site"}}, "'Site' is not a valid label"),
        ({"budget": {"label": "site", "at_most": 0}}, "at_most"),
        ({"starts": "tomorrow"}, "'tomorrow' is not a moment with a time zone"),
        ({"starts": "2027-03-01T22:00:00"}, "not a moment with a time zone"),
        ({"starts": "0001-01-01T00:00:00+23:59"}, "not a moment with a time zone"),
        ({"on_failure": "explode"}, "policy.on_failure.*explode.*write pause, revert-wave or revert"),
        ({"windows": [{"begins": "24:00", "minutes": 5}]}, r"policy.windows\[0\].begins.*07:30"),
        ({"windows": [{"begins": "22:00", "minutes": 0}]}, "minutes"),
        ({"windows": [{"begins": "22:00"}]}, "minutes"),
        ({"windows": [{"begins": "22:00", "minutes": 5, "days": ["someday"]}]}, "someday"),
        ({"windows": [{"begins": "22:00", "minutes": 60, "days": ["sat"]}]}, "may wait 167 hours for a window.*1d"),
        ({"windows": [{"begins": "22:00", "minutes": 60}], "deadline": "23h"}, "may wait 23 hours"),
        ({"windows": [{"begins": "22:00", "minutes": 60, "days": []}]}, "window 1, days: it is on no day.*mon, tue"),
        ({"windows": [{"begins": "00:00", "minutes": 1440}, {"begins": "1:00", "minutes": 9}]}, "begins"),
        ({"windows": [{"begins": "22:60", "minutes": 9}]}, "begins"),
        ({"windows": [{"begins": "22:00", "minutes": 1441}]}, "minutes"),
        ({"windows": [{"begins": "22:00", "minutes": 9, "days": ["feb-31"]}]}, "feb-31.*some of mon, tue"),
        ({"windows": [{"begins": "22:00", "minutes": 9, "days": "sat"}]}, "days"),
        ({"windows": [{"begins": "22:00", "minutes": 9, "until": "23:00"}]}, "until"),
        ({"windows": [{}]}, "begins"),
        (
            {"windows": [{"begins": "22:00", "minutes": 60}], "gates": [P95 | {"window_s": 3600}]},
            "may wait 23 hours for a window and is measured for 3600 seconds then, and the deadline is 1d",
        ),
        ({"gates": [P95 | {"window_s": 3600}], "deadline": "1h"}, "gate 1, window_s: it is measured for 3600 seconds"),
        ({"gates": [P95, P95 | {"window_s": 90}], "deadline": "60s"}, "gate 2, window_s"),
        (
            {"gates": [{"measure": "provider", "is": "A"}, P95, {"measure": "provider", "is": "B"}]},
            "gates ask for A and for B at once",
        ),
        ({"failure_percent": float("nan")}, "failure_percent|policy"),
        ({"success_percent": "95"}, "success_percent"),
    ],
)
def test_a_policy_that_cannot_be_met_is_refused_with_where_and_what_to_do(written, says):
    """Nothing is guessed: each mistake is named with its place."""
    with pytest.raises(Invalid, match=says) as refused:
        policies.read(written)
    assert refused.value.element.startswith(("policy", "selector"))


@pytest.mark.parametrize(
    "policy",
    [
        {"preset": "careful", "windows": [{"begins": "22:00", "minutes": 60}], "deadline": "7d", "gates": [P95]},
        {
            "preset": "standard",
            "budget": {"label": "site"},
            "windows": [{"days": ["mon"], "begins": "22:00", "minutes": 9}],
            "deadline": "8d",
        },
        {"gates": [{"measure": "provider", "is": "CPUExecutionProvider"}], "waves": [{"growth": 2}]},
    ],
)
def test_what_is_shown_of_a_policy_can_be_given_to_the_next_rollout(policy):
    """As JSON, as an operator would copy it."""
    read = policies.read(policy)
    assert policies.read(msgspec.json.decode(msgspec.json.encode(policies.written(read)))) == read


def test_a_soak_may_be_longer_than_the_deadline():
    """The deadline ends with the commit and the soak begins there: done within the hour and watched for a day."""
    read = policies.read({"deadline": "1h", "soak": "1d", "gates": [P95]})
    assert read.measure.for_s == 25 * 3600


def test_a_moment_that_is_over_is_no_start():
    """A year that was mistyped would begin at once; a command that comes some minutes late is meant."""
    policy = policies.read({"starts": "2027-03-01T22:00:00+01:00"})
    at = policies.starts(policy)
    for now in (at - 1e6, at, at + 600):
        assert policies.starts(policy, now) == at
    with pytest.raises(Invalid, match=r"2027-03-01T22:00:00.* is over.*begin at once"):
        policies.starts(policy, at + 86400)


def test_a_start_is_a_moment_wherever_it_was_written():
    """The time zone counts."""
    policy = policies.read({"starts": "2027-03-01T22:00:00+01:00"})
    assert policies.starts(policy) == dt.datetime(2027, 3, 1, 21, tzinfo=dt.UTC).timestamp()
    assert policies.starts(policies.read({})) is None


@pytest.mark.parametrize(
    ("windows", "hours"),
    [
        ([{"begins": "22:00", "minutes": 60}], 23),
        ([{"begins": "00:00", "minutes": 1440}], 0),
        ([{"begins": "23:00", "minutes": 120, "days": ["sun"]}], 166),
        (
            [{"begins": "00:00", "minutes": 60, "days": ["mon"]}, {"begins": "00:00", "minutes": 60, "days": ["tue"]}],
            143,
        ),
    ],
)
def test_how_long_a_device_may_wait_for_a_window(windows, hours):
    """Over midnight and over the end of the week."""
    read = policies.read({"windows": windows, "deadline": "8d"})
    assert policies.longest_wait_s(read.windows) == hours * 3600


def test_what_devices_are_to_measure_follows_from_the_gates():
    """Nothing without a gate that needs it; else in the longest window, as long as a device may take and soaks."""
    assert policies.read({}).measure is None
    assert policies.read({"gates": [{"measure": "restarts", "at_most": 1}]}).measure is None
    gates = [{"measure": "p95_ms", "at_most": 9, "window_s": 600}]
    measure = policies.read({"gates": gates, "deadline": "1h", "soak": "30m"}).measure
    assert (measure.window_s, measure.for_s) == (600, 5400)
    short = [{"measure": "nan_percent", "at_most": 0, "window_s": 2}, {"measure": "p50_ms", "at_most": 9}]
    assert policies.read({"gates": short}).measure.window_s == 5
    assert policies.read({"gates": short[1:]}).measure.window_s == 60
