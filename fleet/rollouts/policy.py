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

# A command that was typed, or repeated, a little after the moment that it names is meant all the same.
_LATE_S: Final = 3600
DAYS: Final[tuple[str, ...]] = get_args(Day)
# How fields are written whose type says it to nobody.
_DURATION: Final = "90s, 30m, 2h or 7d"
_WRITTEN: Final[dict[str, str]] = {
    "soak": _DURATION,
    "deadline": _DURATION,
    "keep": _DURATION,
    "begins": "a time of day as 07:30 or 22:30",
    "days": f"some of {', '.join(DAYS)}",
    "count": "a whole number of devices, 1 or more",
    "percent": "a share of all devices, above 0 and up to 100",
    "growth": "how many times as large as the one before, from 1.1 to 100",
    "minimum": "a whole number of devices, 1 or more",
    "success_percent": "a number from 0 to 100",
    "failure_percent": "a number from 0 to 100",
    "concurrency": "a whole number of devices, 1 or more",
    "at_most": "a number",
    "minutes": "how long it is open, from 1 to 1440",
    "on_failure": "pause, revert-wave or revert",
    "measure": f"one of {', '.join(get_args(gates.Measure))}",
    "missing": "wait or pass",
}
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
    "traffic": {
        "waves": [{"percent": 5}, {"percent": 25}, {"percent": 100}],
        "gates": [
            {"measure": "error_percent", "at_most": 1, "minimum": 100},
            {"measure": "p95_ms", "at_most_times": 1.5, "minimum": 100},
            {"measure": "restarts", "at_most": 0},
        ],
        "soak": "5m",
        "on_failure": "revert",
    },
}


def read(written: Mapping[str, Any], *, preset: str = "all-at-once") -> Policy:
    """A policy of plain JSON or YAML values, which builds on the preset that it names, or else on ``preset``.

    Raises:
        Invalid: an unknown field or preset, a value out of bounds, or a policy that can never be met; says where.
    """
    own = dict(written)
    name = own.pop("preset", preset)
    if not isinstance(name, str) or name not in PRESETS:
        raise Invalid(
            f"{str(name)[:40]!r} is not a known preset", element="policy.preset", remedy=f"use {', '.join(PRESETS)}"
        )
    _check_days(own.get("windows"))
    try:
        policy = msgspec.convert(PRESETS[name] | own, Policy, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _badly_written(str(error)) from error
    _check(policy)
    return policy


def _badly_written(error: str) -> Invalid:
    """Where a value has the wrong type or form, as the decoder found it, and how it is written."""
    what, _, where = error.partition(" - at `$")
    name = where.rstrip("`").rpartition(".")[2].partition("[")[0]
    if "matching regex" in what:
        what = "it is not of the form that it should have"
    remedy = f"write {_WRITTEN[name]}" if name in _WRITTEN else "docs/rollouts.md lists every field"
    return Invalid(what, element=f"policy{where.rstrip('`')}", remedy=remedy)


def written(policy: Policy) -> dict[str, Any]:
    """A policy in plain values, as :func:`read` takes it again."""
    shown: dict[str, Any] = msgspec.to_builtins(policy)
    windows = [{name: value for name, value in one.items() if value != ()} for one in shown["windows"]]
    return shown | {"windows": windows}


def _check(policy: Policy) -> None:
    _check_waves(policy)
    for number, gate in enumerate(policy.gates, start=1):
        gates.check(gate, f"policy.gates, gate {number}")
    if both := gates.contradiction(policy.gates):
        raise Invalid(both, element="policy.gates", remedy="leave all but one of them out")
    facts = policy.budget and policy.budget.label.startswith(("host.", "agent."))
    if policy.budget and (facts or not selectors.KEY.fullmatch(policy.budget.label)):
        raise Invalid(f"{policy.budget.label!r} is not a valid label", element="policy.budget.label")
    _check_times(policy)
    starts(policy)


def _check_waves(policy: Policy) -> None:
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
    for earlier, later in itertools.pairwise(policy.waves):
        if earlier.growth is not None or earlier.percent == 100:  # noqa: PLR2004 - percent
            raise Invalid(
                f"a wave of {later} after {earlier} would have no device",
                element="policy.waves",
                remedy=f"put it before {earlier}, which takes all that are left, or leave it out",
            )


def _check_times(policy: Policy) -> None:
    """Whether a device can be done by its deadline, whatever it waits for."""
    deadline_s = seconds(policy.deadline)
    if not deadline_s:
        raise Invalid("no device could be in time", element="policy.deadline", remedy="write 1h, 1d or 7d")
    if deadline_s > YEAR_S:
        raise Invalid(
            f"{deadline_s} seconds is more than a year", element="policy.deadline", remedy="write at most 366d"
        )
    for number, gate in enumerate(policy.gates, start=1):
        if gate.window_s >= deadline_s and gate.missing == "wait":
            raise Invalid(
                f"it is measured for {gate.window_s} seconds, and the deadline is {policy.deadline}",
                element=f"policy.gates, gate {number}, window_s",
                remedy="give a longer deadline, or a shorter window_s",
            )
    wait_s = longest_wait_s(policy.windows) if policy.windows else 0
    measured_s = max((gate.window_s for gate in policy.gates if gate.missing == "wait"), default=0)
    if policy.windows and wait_s + measured_s >= deadline_s:
        then = f" and is measured for {measured_s} seconds then" if measured_s else ""
        raise Invalid(
            f"a device may wait {wait_s // 3600} hours for a window{then}, and the deadline is {policy.deadline}",
            element="policy.windows",
            remedy="give a longer deadline, or more windows",
        )


def _check_days(windows: Any) -> None:
    """A window of no day is none; without ``days`` it is of each day."""
    for number, window in enumerate(windows if isinstance(windows, list | tuple) else (), start=1):
        if isinstance(window, Mapping) and "days" in window and not window["days"]:
            raise Invalid(
                "it is on no day, so it never comes",
                element=f"policy.windows, window {number}, days",
                remedy=f"name some of {', '.join(DAYS)}, or leave days out for each day",
            )


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
    if asked.soak_s > YEAR_S:
        raise Invalid("it is more than a year", element=f"{element}, soak", remedy="write at most 366d")


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


def starts(policy: Policy, now: float | None = None) -> float | None:
    """The moment at which a rollout begins, in Unix seconds; None: at once.

    Raises:
        Invalid: it is not a moment with a time zone, or, where it is known what time it is, long over.
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
    if now is not None and at < now - _LATE_S:
        raise Invalid(
            f"{policy.starts} is over",
            element="policy.starts",
            remedy="name a moment that comes, or leave starts out to begin at once",
        )
    return at
