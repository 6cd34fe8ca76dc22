"""A policy as it was written, read and checked at the door: what can never be met is refused. Pure."""

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from fleet import selectors
from fleet.rollouts import gates
from fleet.rollouts.model import YEAR_S, Policy, Wave, seconds
from modules.bounds import MAX_TIME
from modules.errors import Invalid
from modules.protocol.order import Day, Window

DAYS: Final[tuple[str, ...]] = get_args(Day)
# What an operator may name instead of writing a policy; what is written besides replaces its parts.
PRESETS: Final[dict[str, dict[str, Any]]] = {
    "careful": {
        "waves": [
            {"count": 1, "soak": "1h"},
            {"percent": 5, "soak": "1h"},
            {"percent": 25, "soak": "30m", "approval": True},
            {"percent": 100},
        ],
        "failure_percent": 0,
        "on_failure": "revert",
    },
    "standard": {
        "waves": [{"count": 1}, {"percent": 10}, {"percent": 50}, {"percent": 100}],
        "failure_percent": 2,
        "soak": "10m",
        "on_failure": "revert",
    },
    "all-at-once": {"waves": [{"percent": 100}]},
}


def read(written: Mapping[str, Any]) -> Policy:
    """A policy of plain JSON or YAML values; ``preset`` names what it builds on, ``all-at-once`` unless it says so.

    Raises:
        Invalid: an unknown field or preset, a value out of bounds, or a policy that can never be met; says where.
    """
    own = dict(written)
    name = own.pop("preset", "all-at-once")
    if not isinstance(name, str) or name not in PRESETS:
        raise Invalid(
            f"{str(name)[:40]!r} is not a known preset", element="policy.preset", remedy=f"use {', '.join(PRESETS)}"
        )
    try:
        policy = msgspec.convert(PRESETS[name] | own, Policy, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Invalid(str(error), element="policy", remedy="docs/rollouts.md lists every field") from error
    _check(policy)
    return policy


def _check(policy: Policy) -> None:
    if not policy.waves:
        raise Invalid("there is no wave in it", element="policy.waves", remedy="write at least {percent: 100}")
    for number, wave in enumerate(policy.waves, start=1):
        _check_wave(policy, wave, f"policy.waves, wave {number}")
    shares = [wave.percent for wave in policy.waves if wave.percent is not None]
    for before, after in itertools.pairwise(shares):
        if after <= before:
            raise Invalid(
                f"a wave up to {after:g} % after one up to {before:g} % would have no device",
                element="policy.waves",
                remedy="percents say what share of all devices has it after the wave: let them grow",
            )
    if any(wave.growth is not None for wave in policy.waves[:-1]):
        raise Invalid("a wave after growth would have no device", element="policy.waves", remedy="put growth last")
    for number, gate in enumerate(policy.gates, start=1):
        gates.check(gate, f"policy.gates, gate {number}")
    facts = policy.budget and policy.budget.label.startswith(("host.", "agent."))
    if policy.budget and (facts or not selectors.KEY.fullmatch(policy.budget.label)):
        raise Invalid(f"{policy.budget.label!r} is not a valid label", element="policy.budget.label")
    starts(policy)


def _check_wave(policy: Policy, wave: Wave, element: str) -> None:
    rules = [one for one in (wave.count, wave.percent, wave.label, wave.growth) if one is not None]
    if len(rules) != 1:
        raise Invalid(
            f"it has {len(rules)} rules", element=element, remedy="give exactly one of count, percent, label and growth"
        )
    if wave.label is not None:
        selectors.parse(wave.label)
    if wave.count is not None and (wave.minimum or policy.minimum) > wave.count:
        raise Invalid(
            f"its {wave.count} devices can never be the {wave.minimum or policy.minimum} of minimum",
            element=element,
            remedy="lower minimum or take more devices",
        )
    asked = policy.of(wave)
    if asked.success_percent + asked.failure_percent > 100:  # noqa: PLR2004 - percent
        raise Invalid(
            f"{asked.success_percent:g} % must succeed while {asked.failure_percent:g} % may fail: both cannot be",
            element=element,
            remedy="let success_percent and failure_percent add up to 100 at most, or leave success_percent out",
        )
    for name, length in (("soak", asked.soak_s), ("deadline", seconds(policy.deadline))):
        if length > YEAR_S:
            raise Invalid(f"{length} seconds is more than a year", element=f"{element}, {name}")
    if policy.windows and longest_wait_s(policy.windows) >= seconds(policy.deadline):
        raise Invalid(
            f"a device may wait {longest_wait_s(policy.windows) // 3600} hours for a window, and the deadline is"
            f" {policy.deadline}",
            element="policy.windows",
            remedy="give a longer deadline, or more windows",
        )
    if not seconds(policy.deadline):
        raise Invalid("no device could be in time", element="policy.deadline", remedy="write 1h, 1d or 7d")


def longest_wait_s(windows: Sequence[Window]) -> int:
    """The longest time of a week in which no window is open, in seconds."""
    week = 7 * 24 * 60
    open_ = bytearray(week)
    for window in windows:
        hours, _, minutes = window.begins.partition(":")
        for day in window.days or DAYS:
            begin = DAYS.index(day) * 24 * 60 + int(hours) * 60 + int(minutes)
            for minute in range(begin, begin + window.minutes):
                open_[minute % week] = 1
    # Twice, for the week goes on where it ends.
    return 60 * max(map(len, bytes(open_ * 2).split(b"\1")))


def starts(policy: Policy) -> float | None:
    """The moment at which a rollout begins, in Unix seconds; None: at once.

    Raises:
        Invalid: it is not a moment with a time zone.
    """
    if policy.starts is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(policy.starts)
        at = moment.timestamp()
    except (ValueError, OverflowError):
        moment, at = None, 0.0
    if moment is None or moment.tzinfo is None or not 0 <= at <= MAX_TIME:
        raise Invalid(
            f"{policy.starts!r} is not a moment with a time zone",
            element="policy.starts",
            remedy="write it as 2027-03-01T22:00:00+01:00",
        )
    return at
