"""Devices and a policy to waves. Pure: start here to see who gets a module when."""

import math
from collections.abc import Sequence
from typing import Final

from fleet import selectors
from fleet.rollouts.model import MAX_WAVES, AskedWave, Candidate, PlannedWave, Policy, Wave
from modules.errors import Invalid

_REST: Final = Wave(percent=100.0)


def plan(candidates: Sequence[Candidate], policy: Policy) -> tuple[PlannedWave, ...]:
    """The waves in order: every device in exactly one, none empty, those that no rule names in a last one.

    A count or a percent that a small fleet leaves without a device is left out; a label that matches none is refused,
    for it may be the canaries'.

    Raises:
        Invalid: a label matches no device, or fewer than the minimum; or there would be too many waves.
    """
    left = sorted(candidates, key=lambda one: one.device)
    waves: list[PlannedWave] = []
    for rule in (*policy.waves, _REST):
        for size in _sizes(rule, len(candidates), len(left), len(waves[-1].devices) if waves else 0):
            chosen = left[:size] if rule.label is None else _labelled(rule.label, left)
            if chosen:
                waves.append(_wave(policy, rule, chosen))
                taken = {one.device for one in chosen}
                left = [one for one in left if one.device not in taken]
    if len(waves) > MAX_WAVES:
        raise Invalid(f"{len(waves)} waves are more than the {MAX_WAVES} allowed", element="policy.waves")
    return tuple(waves)


def _sizes(rule: Wave, all_devices: int, left: int, last: int) -> list[int]:
    """How many devices the rule's waves take of those that are left; a label takes what it matches."""
    if rule.count is not None:
        return [rule.count]
    if rule.percent is not None:
        # Rounded against the error of the multiplication: 55 % of 100 devices are 55, not 56.
        wanted = math.ceil(round(all_devices * rule.percent / 100, 6))
        return [max(0, wanted - (all_devices - left))]
    if rule.growth is None:
        return [left]
    sizes = []
    while left > 0:
        last = min(left, max(last + 1, math.floor(last * rule.growth)))
        sizes.append(last)
        left -= last
    return sizes


def _labelled(label: str, left: Sequence[Candidate]) -> list[Candidate]:
    selector = selectors.parse(label)
    chosen = [one for one in left if selector.matches(one.labels)]
    if not chosen:
        raise Invalid(
            f"no device that is left matches {label!r}",
            element="policy.waves",
            remedy="choose another label, or put this wave before those that take its devices",
        )
    return chosen


def _wave(policy: Policy, rule: Wave, chosen: Sequence[Candidate]) -> PlannedWave:
    asked = policy.of(rule)
    if rule.label is not None and len(chosen) < asked.minimum:
        raise Invalid(
            f"{rule.label!r} matches {len(chosen)} devices, and {asked.minimum} are the minimum",
            element="policy.waves",
            remedy="lower minimum or choose another label",
        )
    return PlannedWave(AskedWave(str(rule), asked), tuple(chosen))
