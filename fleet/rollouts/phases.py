"""What a rollout may become, and what each phase that a device reports means for it. Tables, and nothing else."""

from enum import Enum
from typing import Final

from modules.protocol.phases import Phase


class Outcome(Enum):
    """What a device's phase says about the rollout: still at work, succeeded, or failed."""

    WORKING = "working"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


# The two phases before a device has said anything: its wave is closed; its order is out.
PLANNED: Final = "planned"
ORDERED: Final = "ordered"
# The rollout was cancelled before the device had begun, and its order was taken back.
WITHDRAWN: Final = "withdrawn"

OUTCOMES: Final[dict[str, Outcome]] = {
    PLANNED: Outcome.WORKING,
    ORDERED: Outcome.WORKING,
    WITHDRAWN: Outcome.WORKING,
    Phase.ACCEPTED: Outcome.WORKING,
    Phase.FITTED: Outcome.WORKING,
    Phase.FETCHING: Outcome.WORKING,
    Phase.VERIFIED: Outcome.WORKING,
    Phase.STAGED: Outcome.WORKING,
    Phase.STARTING: Outcome.WORKING,
    Phase.PROBATION: Outcome.WORKING,
    Phase.COMMITTED: Outcome.SUCCEEDED,
    Phase.REVERTING: Outcome.FAILED,
    Phase.REVERTED: Outcome.FAILED,
    Phase.REJECTED: Outcome.FAILED,
    Phase.DEGRADED: Outcome.FAILED,
    Phase.REMOVING: Outcome.WORKING,
}

RUNNING, PAUSED, DONE, FAILED, CANCELLED = "running", "paused", "done", "failed", "cancelled"

NEXT: Final[dict[str, tuple[str, ...]]] = {
    RUNNING: (PAUSED, DONE, FAILED, CANCELLED),
    PAUSED: (RUNNING, CANCELLED),
    DONE: (RUNNING,),  # a device that committed went back: the wave is open again
    FAILED: (),
    CANCELLED: (),
}


# What a device says of the module that it has committed (``SlotReport.current``); one of before says nothing.
HEALTHS: Final[dict[str, Outcome]] = {
    "": Outcome.SUCCEEDED,
    "up": Outcome.SUCCEEDED,
    "restarting": Outcome.WORKING,
    "degraded": Outcome.FAILED,
}


def outcome(phase: str, health: str = "") -> Outcome:
    """What a reported phase means, and for a committed module its health.

    A phase or health that only newer devices know is no success and no failure.
    """
    found = OUTCOMES.get(phase, Outcome.WORKING)
    return HEALTHS.get(health, Outcome.WORKING) if found is Outcome.SUCCEEDED else found
