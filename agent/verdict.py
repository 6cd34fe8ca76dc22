"""Whether a module on probation, or a committed one, still works: evidence in, verdict out, nothing else."""

from typing import Final

import msgspec

from agent.engines.contract import Instance
from modules.protocol.report import Reason

# Consecutive probes without an answer that count as dead: one slow answer is no failure, a minute of silence is.
SILENT_PROBES: Final = 3


# A server that is asked to end does so in good order, or is ended by the signal that asks. An engine that was killed in
# the middle of a start kills what it did not know as started when it comes back, with the signal that nobody survives.
_ASKED: Final = frozenset({0, 128 + 15, 128 + 9})


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one instance: the engine's word (None: it knows no such instance), failed probes in a row.

    ``answers`` says that its newest probe was answered; it is False, too, while that is not known yet. ``away``: the
    engine did not answer since the instance was last seen running.
    """

    instance: Instance | None
    away: bool = False
    failed_probes: int = 0
    answers: bool = True


def stopped(evidence: Evidence) -> bool:
    """Whether it ended because somebody ended it, a person or an engine that was started again: no fault of its own.

    An instance that the engine does not know as started is none that has failed.
    """
    one = evidence.instance
    if one is None:
        return True
    if one.state == "created":
        return True
    return one.state != "running" and not one.oom and (evidence.away or one.exit_code in _ASKED)


def broken(evidence: Evidence) -> Reason | None:
    """Why the instance cannot go on; None while it can."""
    one = evidence.instance
    if one is None:
        return Reason("not-ready", "its instance is gone from the engine")
    if one.state != "running":
        if one.oom:
            return Reason("over-limit", f"the kernel ended it for using more memory than its limit ({one.instance})")
        return Reason("not-ready", f"it ended with exit code {one.exit_code} ({one.instance}) {one.detail}".rstrip())
    if evidence.failed_probes >= SILENT_PROBES:
        return Reason("not-ready", f"it did not answer {evidence.failed_probes} health probes in a row")
    return None
