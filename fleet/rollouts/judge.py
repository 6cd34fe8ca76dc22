"""When a rollout advances, holds or fails. Pure: evidence in, verdict out; start reading the rollouts here.

Only devices whose slot still belongs to this rollout are evidence: a newer rollout takes a device out of judgement.
All waves that were opened are judged together, so a device of an early wave that goes back later counts again.
"""

import math
from collections.abc import Sequence
from enum import Enum

import msgspec

from fleet.rollouts.model import Evidence, Policy
from fleet.rollouts.phases import Outcome


class Decision(Enum):
    """What to do with the rollout now."""

    HOLD = "hold"
    ADVANCE = "advance"
    DONE = "done"
    FAIL = "fail"


class Verdict(msgspec.Struct, frozen=True):
    """The decision with its reason in words."""

    decision: Decision
    reason: str


def judge(policy: Policy, opened: Sequence[Evidence], *, last_wave: bool) -> Verdict:
    """Judge the waves opened so far."""
    total = len(opened)
    failed = [one for one in opened if one.outcome is Outcome.FAILED]
    committed = sum(one.outcome is Outcome.SUCCEEDED for one in opened)
    needed = math.ceil(total * policy.success_percent / 100)
    if failed and (len(failed) * 100 > policy.failure_percent * total or total - len(failed) < needed):
        names = ", ".join(f"{one.device} {one.phase}" for one in failed[:5])
        return Verdict(Decision.FAIL, f"{len(failed)} of {total} devices failed ({names})")
    waiting = [one for one in opened if not one.ordered]
    if waiting or committed < needed:
        return Verdict(Decision.HOLD, f"{committed} of {total} devices committed, {needed} needed")
    decision = Decision.DONE if last_wave else Decision.ADVANCE
    return Verdict(decision, f"{committed} of {total} devices committed")
