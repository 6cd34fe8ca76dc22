"""When a rollout advances, holds or fails. Pure: evidence in, verdict out; start reading the rollouts here.

Only devices whose slot still belongs to this rollout are evidence: what a newer rollout took is accounted for and says
nothing. Each wave is judged alone, and all opened ones together: a thousand good devices of the first wave do not
outweigh a second wave that fails, and a device of an early wave that goes back later counts again. Without evidence
nothing goes on.
"""

import math
from collections.abc import Sequence
from enum import Enum

import msgspec

from fleet.rollouts.model import Evidence, Policy
from fleet.rollouts.phases import Outcome


class Decision(Enum):
    """What to do with the rollout now; ``SUPERSEDED``: nothing is left that belongs to it."""

    HOLD = "hold"
    ADVANCE = "advance"
    DONE = "done"
    FAIL = "fail"
    SUPERSEDED = "superseded"


class Verdict(msgspec.Struct, frozen=True):
    """The decision with its reason in words."""

    decision: Decision
    reason: str


def judge(policy: Policy, opened: Sequence[Sequence[Evidence]], *, last_wave: bool) -> Verdict:
    """Judge the waves opened so far, each a sequence of its devices, in order."""
    waves = [[one for one in wave if not one.superseded] for wave in opened]
    everyone = [one for wave in waves for one in wave]
    for number, devices in (*enumerate(waves, start=1), (None, everyone)):
        if reason := _failed(policy, devices):
            return Verdict(Decision.FAIL, f"wave {number}: {reason}" if number and len(waves) > 1 else reason)
    if last_wave and not everyone:
        return Verdict(Decision.SUPERSEDED, "every device belongs to a newer rollout")
    for number, devices in enumerate(waves, start=1):
        if not devices:
            if last_wave and number == len(waves):
                continue  # nobody waits for a wave that newer rollouts took as a whole
            return Verdict(
                Decision.HOLD, f"no device of wave {number} is left to judge by: all belong to newer rollouts"
            )
        if reason := _incomplete(policy, devices):
            return Verdict(Decision.HOLD, f"wave {number}: {reason}" if len(waves) > 1 else reason)
    decision = Decision.DONE if last_wave else Decision.ADVANCE
    return Verdict(decision, f"{_committed(everyone)} of {len(everyone)} devices committed")


def _failed(policy: Policy, devices: Sequence[Evidence]) -> str:
    """Why these devices are too bad to go on with; empty where they are not."""
    failed = [one for one in devices if one.outcome is Outcome.FAILED]
    too_many = len(failed) * 100 > policy.failure_percent * len(devices)
    if failed and (too_many or len(devices) - len(failed) < _needed(policy, devices)):
        names = ", ".join(f"{one.device} {one.phase}" for one in failed[:5])
        return f"{len(failed)} of {len(devices)} devices failed ({names})"
    return ""


def _incomplete(policy: Policy, devices: Sequence[Evidence]) -> str:
    """What is still waited for; empty where nothing is."""
    needed = _needed(policy, devices)
    if _committed(devices) < needed or not all(one.ordered for one in devices):
        return f"{_committed(devices)} of {len(devices)} devices committed, {needed} needed"
    return ""


def _needed(policy: Policy, devices: Sequence[Evidence]) -> int:
    return max(1, math.ceil(len(devices) * policy.success_percent / 100))


def _committed(devices: Sequence[Evidence]) -> int:
    return sum(one.outcome is Outcome.SUCCEEDED for one in devices)
