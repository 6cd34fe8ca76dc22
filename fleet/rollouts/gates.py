"""Gates on how a module behaves on a device: what was measured, in; why it is too bad or not known yet, out. Pure.

A device that has committed counts as a success only when every gate of its rollout's policy is met by what it measured;
one that is not met makes it a failure of its wave, like any other.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from modules.errors import Invalid
from modules.protocol.measured import MOST_SAMPLES, Measured
from modules.protocol.report import SlotReport
from modules.sketch import distance

# Requests, answers or samples that a gate may ask for.
MOST: Final = 1_000_000
DAY_S: Final = 86400
Number = float | None
# A value with how much it rests on; None: it was not measured.
Value = tuple[float, int] | None

Measure = Literal[
    "p50_ms",
    "p95_ms",
    "error_percent",
    "nan_percent",
    "empty_percent",
    "sample_percent",
    "drift",
    "memory_mb",
    "memory_growth_mb_h",
    "temperature_c",
    "restarts",
    "provider",
]

#: what those who ask see of the answers
OF_CLIENTS: Final = frozenset({"p50_ms", "p95_ms", "error_percent"})
#: what is known of an endpoint's version while requests go over to it
OF_VERSIONS: Final = OF_CLIENTS | {"restarts", "provider", "nan_percent", "empty_percent", "drift", "memory_mb"}


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One condition on one measure.

    ``at_most`` and ``at_least`` are in the measure's unit; ``at_most_times`` is of the module that was replaced, as
    measured on the same device before; ``is_`` (written ``is``) is a provider's name. ``minimum`` is how many requests,
    answers or samples it must rest on, ``window`` how long must have been measured. What is not known yet is waited
    for, until the device's deadline, unless ``missing`` says ``pass``.
    """

    measure: Measure
    at_most: float | None = None
    at_least: float | None = None
    at_most_times: float | None = None
    is_: str | None = msgspec.field(default=None, name="is")
    minimum: int = 1
    window_s: int = 0
    missing: Literal["wait", "pass"] = "wait"

    def __str__(self) -> str:
        return str(self.measure)


class Outcome(msgspec.Struct, frozen=True):
    """Why a gate is not met, or what is waited for; both empty: all are met."""

    failed: str = ""
    waits: str = ""


def look(gates: Sequence[Gate], said: SlotReport) -> Outcome:
    """What a device's report of its committed module means for the gates."""
    waits = ""
    for gate in gates:
        outcome = _look(gate, said)
        if outcome.failed:
            return outcome
        waits = waits or outcome.waits
    return Outcome(waits=waits)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One gate on one device: what was measured of it, on how much that rests, and what the replaced module had.

    ``rests_on`` is None where the value rests on the window alone.
    """

    outcome: Literal["met", "failed", "waits"]
    value: float | str | None = None
    rests_on: int | None = None
    before: float | None = None


def read(gate: Gate, said: SlotReport) -> Reading:
    """What a gate sees in a device's report, whatever the device's phase."""
    outcome = _look(gate, said)
    word: Literal["met", "failed", "waits"] = "failed" if outcome.failed else "waits" if outcome.waits else "met"
    if gate.measure == "provider":
        return Reading(outcome=word, value=(said.serving.provider or None) if said.serving else None)
    if gate.measure == "restarts":
        return Reading(outcome=word, value=float(said.current.restarts) if said.current else None)
    now, before = (_value(gate, one, said.before) if one else None for one in (said.measured, said.before))
    if now is None:
        return Reading(outcome=word)
    compared = before[0] if before and gate.at_most_times is not None else None
    return Reading(outcome=word, value=now[0], rests_on=None if now[1] == MOST else now[1], before=compared)


def limit(gate: Gate) -> tuple[str, float | str]:
    """The one limit of a gate that was checked: which, and how much."""
    given = (("at_most", gate.at_most), ("at_least", gate.at_least), ("at_most_times", gate.at_most_times))
    return next(((name, value) for name, value in given if value is not None), ("is", gate.is_ or ""))


def check(gate: Gate, element: str) -> None:
    """Whether a gate can be met at all.

    Raises:
        Invalid: no limit or several, one that the measure does not have, or one that nothing meets.
    """
    given = {
        name: value
        for name, value in (
            ("at_most", gate.at_most),
            ("at_least", gate.at_least),
            ("at_most_times", gate.at_most_times),
            ("is", gate.is_),
        )
        if value is not None
    }
    allowed = limits(gate.measure)
    if len(given) != 1 or not given.keys() <= set(allowed):
        raise Invalid(
            f"a gate on {gate.measure} takes exactly one of {', '.join(allowed)}",
            element=element,
            remedy="docs/rollouts.md has one of each",
        )
    [(name, limit)] = given.items()
    if isinstance(limit, float) and (why := _senseless(gate, name, limit)):
        raise Invalid(
            f"{gate.measure}, {name} of {limit:g} {why}", element=element, remedy="docs/rollouts.md has one of each"
        )
    most = MOST_SAMPLES if gate.measure == "sample_percent" else MOST
    if not 1 <= gate.minimum <= most or not 0 <= gate.window_s <= DAY_S:
        raise Invalid(
            f"minimum is {gate.minimum}, window_s {gate.window_s}",
            element=element,
            remedy=f"for {gate.measure} write a minimum from 1 to {most}, and a window_s of at most {DAY_S}, a day",
        )


def contradiction(gates: Sequence[Gate]) -> str:
    """Why no module could meet these gates together; empty where one could."""
    wanted = sorted({gate.is_ for gate in gates if gate.is_ is not None})
    return f"gates ask for {' and for '.join(wanted)} at once" if len(wanted) > 1 else ""


def _senseless(gate: Gate, name: str, limit: float) -> str:
    """Why a limit says nothing; empty where it does."""
    most = _MOST.get(gate.measure)
    if not 0 <= limit <= _LARGEST:
        return "is no limit"
    if name == "at_least":
        never = most is not None and limit > most
        return "can never be met" if never else "is always met" if not limit else ""
    if not limit and (name == "at_most_times" or gate.measure in _NEVER_NONE):
        return "can never be met"
    return "is always met" if name == "at_most" and most is not None and limit >= most else ""


def limits(measure: str) -> tuple[str, ...]:
    """The limits that a measure takes."""
    return _LIMITS.get(measure, ("at_most", "at_most_times"))


def _look(gate: Gate, said: SlotReport) -> Outcome:
    now = said.measured
    if gate.measure == "provider":
        provider = said.serving.provider if said.serving else ""
        if not provider:
            return _unknown(gate, "the provider in use is not known yet")
        return Outcome() if provider == gate.is_ else Outcome(failed=f"it runs on {provider}, not on {gate.is_}")
    if gate.measure == "restarts":
        count = said.current.restarts if said.current else 0
        most = gate.at_most or 0
        return Outcome(failed=f"{count} restarts, {most:g} are allowed") if count > most else Outcome()
    if now is None or now.seconds < gate.window_s:
        measured = f"{now.seconds:.0f} of {gate.window_s} s" if now else "nothing"
        return _unknown(gate, f"{gate.measure}: {measured} measured yet")
    found = _value(gate, now, said.before)
    if found is None or found[1] < gate.minimum:
        return _unknown(gate, f"{gate.measure} rests on {found[1] if found else 0} yet, {gate.minimum} are needed")
    return _compare(gate, found[0], said.before)


def _value(gate: Gate, now: Measured, before: Measured | None) -> Value:
    return _drift(now, before) if gate.measure == "drift" else _VALUES[gate.measure](now)


def _compare(gate: Gate, value: float, before: Measured | None) -> Outcome:
    if gate.at_most is not None and value > gate.at_most:
        return Outcome(failed=f"{gate.measure} is {value:.4g}, at most {gate.at_most:g} is allowed")
    if gate.at_least is not None and value < gate.at_least:
        return Outcome(failed=f"{gate.measure} is {value:.4g}, at least {gate.at_least:g} is needed")
    if gate.at_most_times is not None:
        earlier = _VALUES[gate.measure](before) if before else None
        if earlier is None or earlier[1] < gate.minimum:
            return _unknown(gate, f"{gate.measure} of the module that it replaced is not known")
        if value > earlier[0] * gate.at_most_times:
            times = f"{value / earlier[0]:.2f} times the" if earlier[0] else "more than the"
            what = f"{gate.measure} is {value:.4g}, {times} {earlier[0]:.4g} before"
            return Outcome(failed=f"{what}, {gate.at_most_times:g} times are allowed")
    return Outcome()


def _unknown(gate: Gate, what: str) -> Outcome:
    return Outcome() if gate.missing == "pass" else Outcome(waits=what)


def _drift(now: Measured, before: Measured | None) -> Value:
    if before is None or not sum(before.values) or not sum(now.values):
        return None
    return distance(now.values, before.values), min(now.answers, before.answers)


def _share(part: int, whole: int) -> Value:
    return (100.0 * part / whole, whole) if whole else None


def _plain(value: Number, on: int) -> Value:
    return None if value is None else (float(value), on)


_VALUES: Final[dict[str, Callable[[Measured], Value]]] = {
    "p50_ms": lambda one: _plain(one.p50_ms, one.requests),
    "p95_ms": lambda one: _plain(one.p95_ms, one.requests),
    "error_percent": lambda one: _share(one.errors, one.requests),
    "nan_percent": lambda one: _share(one.nan, one.answers),
    "empty_percent": lambda one: _share(one.empty, one.answers),
    "sample_percent": lambda one: _share(one.agree, one.samples),
    # What is measured without requests rests on the window alone.
    "memory_mb": lambda one: _plain(one.memory_mb, MOST),
    "memory_growth_mb_h": lambda one: _plain(one.memory_growth_mb_h, MOST),
    "temperature_c": lambda one: _plain(one.temperature_c, MOST),
}
# The limits of a measure where they are not at_most and at_most_times.
_LIMITS: Final[dict[str, tuple[str, ...]]] = {
    "sample_percent": ("at_least",),
    "drift": ("at_most",),
    "memory_growth_mb_h": ("at_most",),
    "temperature_c": ("at_most",),
    "restarts": ("at_most",),
    "provider": ("is",),
}
_LARGEST: Final = 1e15
# What is always more than nothing.
_NEVER_NONE: Final = frozenset({"p50_ms", "p95_ms", "memory_mb", "temperature_c"})
# The most that a measure can be.
_MOST: Final[dict[str, float]] = {
    "error_percent": 100.0,
    "nan_percent": 100.0,
    "empty_percent": 100.0,
    "sample_percent": 100.0,
    "temperature_c": 200.0,
}
