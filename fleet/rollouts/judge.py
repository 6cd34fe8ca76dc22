"""When a rollout advances, holds or fails. Pure: evidence in, verdict out; start reading the rollouts here.

Only devices whose slot still belongs to this rollout are evidence, or that failed with it: what a newer rollout took is
accounted for and says nothing, and so are devices that were skipped, removed, or offline beyond their deadline. Each
wave is judged alone, and all opened ones together: a thousand good devices of the first wave do not outweigh a second
wave that fails, and a device of an early wave that goes back later counts again. Each kind of hardware is judged alone
before all are judged together: one that fails is stopped, and the others go on. Without evidence nothing goes on.

On an endpoint the members are shares of its requests, one in each wave; here they differ by their noun alone.
"""

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from fleet.rollouts.model import DEVICES, Evidence, Noun, Threshold


class Decision(Enum):
    """What to do with the rollout now; ``SUPERSEDED``: nothing is left that belongs to it."""

    HOLD = "hold"
    ADVANCE = "advance"
    DONE = "done"
    FAIL = "fail"
    STOP = "stop"
    SUPERSEDED = "superseded"


class Opened(msgspec.Struct, frozen=True):
    """A wave whose devices have or get their orders: what is asked of it, and each kind of hardware as it is."""

    threshold: Threshold
    kinds: Mapping[str, Evidence]

    @property
    def together(self) -> Evidence:
        return sum(self.kinds.values(), Evidence())


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When it is, in Unix seconds; since when the opened waves are complete; whether the next one is approved."""

    now: float = 0.0
    complete_since: float | None = None
    approved: bool = False

    @property
    def since(self) -> float:
        """The same where they are: now where they became so now, or by a clock that was ahead."""
        return self.now if self.complete_since is None else min(self.complete_since, self.now)


NEVER: Final = Moment()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision with its reason in words.

    ``wave``: the first one that failed, 0 where all did together. ``hardware``: the kind that is to be stopped.
    ``complete``: the opened waves are, whatever else is waited for. ``again``: when time alone changes the verdict.
    """

    decision: Decision
    reason: str
    wave: int = 0
    hardware: str = ""
    complete: bool = False
    again: float | None = None


def judge(
    opened: Sequence[Opened],
    upcoming: Threshold | None = None,
    *,
    kinds: int = 1,
    moment: Moment = NEVER,
    noun: Noun = DEVICES,
) -> Verdict:
    """Judge the waves opened so far, in order, with what is asked of the next one; None where the last one is open.

    ``kinds`` of hardware are left in the rollout, closed waves included; ``noun`` says what its members are.
    """
    if not opened:
        return _next(upcoming, moment, "the rollout begins")
    last_wave = upcoming is None
    if kinds > 1 and (bad := _bad_kind(opened, noun)):
        return bad
    if failed := _failure(opened, [wave.together for wave in opened], noun):
        number, reason = failed
        return Verdict(decision=Decision.FAIL, reason=_named(opened, number, reason), wave=number)
    everyone = sum((wave.together for wave in opened), Evidence())
    if last_wave and not everyone.devices:
        return Verdict(decision=Decision.SUPERSEDED, reason=f"no {noun.one} is left that belongs to it")
    for number, wave in enumerate(opened, start=1):
        reason = _incomplete(wave.threshold, wave.together, noun, last=last_wave and number == len(opened))
        if reason:
            return Verdict(decision=Decision.HOLD, reason=_named(opened, number, reason))
    soaking = _soaked(opened[-1].threshold, len(opened), moment)
    return soaking or _next(upcoming, moment, _committed(everyone, noun))


def _bad_kind(opened: Sequence[Opened], noun: Noun) -> Verdict | None:
    for kind in sorted({kind for wave in opened for kind in wave.kinds}):
        own = [wave.kinds.get(kind, Evidence()) for wave in opened]
        if failed := _failure(opened, own, noun, sample=True):
            number, reason = failed
            return Verdict(
                decision=Decision.STOP, reason=f"{kind}: {_named(opened, number, reason)}", hardware=kind, wave=number
            )
    return None


def _failure(
    opened: Sequence[Opened], waves: Sequence[Evidence], noun: Noun, *, sample: bool = False
) -> tuple[int, str] | None:
    """The first wave that is too bad to go on with, and why; 0: all together. With ``sample``, of a part of them."""
    for number, (wave, evidence) in enumerate(zip(opened, waves, strict=True), start=1):
        if reason := _failed(wave.threshold, evidence, noun, sample=sample):
            return number, reason
    everyone = sum(waves, Evidence())
    if reason := _failed(opened[-1].threshold, everyone, noun, sample=sample):
        return 0, reason
    return None


def _failed(asked: Threshold, these: Evidence, noun: Noun, *, sample: bool) -> str:
    """Why these devices are too bad to go on with; empty where they are not.

    Of a part of a wave fewer may exist than the minimum; then the wave as a whole decides.
    """
    if not these.failed or (sample and these.reached < asked.minimum):
        return ""
    too_many = these.failed * 100 > asked.failure_percent * these.reached
    enough = these.ended >= min(asked.minimum, these.reached)
    hopeless = these.reached - these.failed < _needed(asked, these)
    if (too_many and enough) or hopeless:
        return f"{these.failed} of {these.reached} {noun.many} failed ({', '.join(these.examples)})"
    return ""


def _incomplete(asked: Threshold, wave: Evidence, noun: Noun, *, last: bool) -> str:
    """What is still waited for; empty where nothing is."""
    if not wave.reached:
        if last and not wave.planned:
            return ""  # nobody waits for a last wave that newer rollouts took as a whole
        if wave.devices:
            return f"none of its {wave.devices} {noun.many} was reached, so there is nothing to judge by"
        return f"no {noun.one} is left to judge by"
    needed = _needed(asked, wave)
    if wave.committed < needed or wave.planned:
        return f"{wave.committed} of {wave.reached} {noun.many} committed, {needed} needed"
    if wave.ended < min(asked.minimum, wave.reached):
        return f"{wave.ended} of {wave.reached} {noun.many} have come to an end, {asked.minimum} are the minimum"
    return ""


def _soaked(asked: Threshold, number: int, moment: Moment) -> Verdict | None:
    since = moment.since
    if moment.now >= since + asked.soak_s:
        return None
    left = math.ceil(since + asked.soak_s - moment.now)
    reason = f"wave {number} is complete and is watched for {left} more seconds"
    return Verdict(decision=Decision.HOLD, reason=reason, complete=True, again=since + asked.soak_s)


def _next(upcoming: Threshold | None, moment: Moment, reason: str) -> Verdict:
    """What comes after the waves that are complete: an approval, the next wave, the end."""
    if upcoming is None:
        return Verdict(decision=Decision.DONE, reason=reason, complete=True)
    if upcoming.approval and not moment.approved:
        whose = "another person's" if upcoming.four_eyes else "an operator's"
        return Verdict(
            decision=Decision.HOLD,
            reason=f"the next wave waits for {whose} approval (edgefleet rollouts approve): {reason}",
            complete=True,
        )
    return Verdict(decision=Decision.ADVANCE, reason=reason, complete=True)


def _committed(everyone: Evidence, noun: Noun) -> str:
    left_behind = f", {everyone.unreached} could not be reached" if everyone.unreached else ""
    return f"{everyone.committed} of {everyone.devices} {noun.many} committed{left_behind}"


def _needed(asked: Threshold, wave: Evidence) -> int:
    # Rounded against the error of the multiplication, as in the planner.
    return max(1, math.ceil(round(wave.reached * asked.success_percent / 100, 6)))


def _named(opened: Sequence[Opened], number: int, reason: str) -> str:
    return f"wave {number}: {reason}" if number and len(opened) > 1 else reason
