"""When a rollout advances, holds or fails. Pure: evidence in, verdict out; start reading the rollouts here.

Only devices whose slot still belongs to this rollout are evidence, or that failed with it: what a newer rollout took is
accounted for and says nothing. Each wave is judged alone, and all opened ones together: a thousand good devices of the
first wave do not outweigh a second wave that fails, and a device of an early wave that goes back later counts again.
Without evidence nothing goes on.
"""

import math
from collections.abc import Sequence
from enum import Enum

import msgspec

from fleet.rollouts.model import EXAMPLES, Evidence, Policy


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


def judge(policy: Policy, opened: Sequence[Evidence], *, last_wave: bool) -> Verdict:
    """Judge the waves opened so far, each by its counts, in order."""
    everyone = _together(opened)
    for number, wave in (*enumerate(opened, start=1), (None, everyone)):
        if reason := _failed(policy, wave):
            return Verdict(Decision.FAIL, f"wave {number}: {reason}" if number and len(opened) > 1 else reason)
    if last_wave and not everyone.devices:
        return Verdict(Decision.SUPERSEDED, "every device belongs to a newer rollout")
    for number, wave in enumerate(opened, start=1):
        if not wave.devices:
            if last_wave and number == len(opened):
                continue  # nobody waits for a wave that newer rollouts took as a whole
            return Verdict(
                Decision.HOLD, f"no device of wave {number} is left to judge by: all belong to newer rollouts"
            )
        if reason := _incomplete(policy, wave):
            return Verdict(Decision.HOLD, f"wave {number}: {reason}" if len(opened) > 1 else reason)
    decision = Decision.DONE if last_wave else Decision.ADVANCE
    return Verdict(decision, f"{everyone.committed} of {everyone.devices} devices committed")


def _together(waves: Sequence[Evidence]) -> Evidence:
    return Evidence(
        devices=sum(one.devices for one in waves),
        committed=sum(one.committed for one in waves),
        failed=sum(one.failed for one in waves),
        unordered=sum(one.unordered for one in waves),
        examples=tuple(name for one in waves for name in one.examples),
    )


def _failed(policy: Policy, wave: Evidence) -> str:
    """Why these devices are too bad to go on with; empty where they are not."""
    too_many = wave.failed * 100 > policy.failure_percent * wave.devices
    if wave.failed and (too_many or wave.devices - wave.failed < _needed(policy, wave)):
        return f"{wave.failed} of {wave.devices} devices failed ({', '.join(wave.examples[:EXAMPLES])})"
    return ""


def _incomplete(policy: Policy, wave: Evidence) -> str:
    """What is still waited for; empty where nothing is."""
    needed = _needed(policy, wave)
    if wave.committed < needed or wave.unordered:
        return f"{wave.committed} of {wave.devices} devices committed, {needed} needed"
    return ""


def _needed(policy: Policy, wave: Evidence) -> int:
    return max(1, math.ceil(wave.devices * policy.success_percent / 100))
