"""Devices and a policy to waves. Pure: start here to see who gets a module when."""

import math
from collections.abc import Sequence

from fleet import selectors
from fleet.rollouts.model import MAX_WAVES, Candidate, Count, Percent, Policy
from modules.errors import Invalid
from modules.names import DeviceId


def plan(candidates: Sequence[Candidate], policy: Policy) -> tuple[tuple[DeviceId, ...], ...]:
    """The waves in order: every device in exactly one, none empty, those that no rule names in a last one.

    Raises:
        Invalid: too many waves, or an unreadable selector.
    """
    if not 1 <= len(policy.waves) <= MAX_WAVES:
        raise Invalid(f"a rollout has 1 to {MAX_WAVES} waves, not {len(policy.waves)}", element="waves")
    left = sorted(candidates, key=lambda one: one.device)
    waves = []
    for rule in policy.waves:
        if isinstance(rule, Percent):
            chosen = left[: math.ceil(len(candidates) * rule.percent / 100)]
        elif isinstance(rule, Count):
            chosen = left[: rule.count]
        else:
            selector = selectors.parse(rule.selector)
            chosen = [one for one in left if selector.matches(one.labels)]
        waves.append(tuple(one.device for one in chosen))
        taken = set(waves[-1])
        left = [one for one in left if one.device not in taken]
    waves.append(tuple(one.device for one in left))
    return tuple(wave for wave in waves if wave)
