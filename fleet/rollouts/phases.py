"""What a rollout may become, and what each phase that a device reports means for it. Tables, and nothing else."""

from enum import StrEnum
from typing import Final

from modules.protocol.phases import Phase


class Standing(StrEnum):
    """Where a device stands in a rollout, as the server counts it; a device has exactly one.

    *Planned* has no order yet; *working*, *succeeded* and *failed* follow from what it reports. *Unreached* was offline
    until its deadline passed: its order waits for it, and the rollout does not. *Skipped* by an operator, *gone* from
    the fleet, *stopped* with its kind of hardware before it had an order. What is taken back is *recalled*, then
    *returning* once the order is out, and *returned* when the device runs again what it ran before; *unreturned* did
    not, in time.
    """

    PLANNED = "planned"
    WORKING = "working"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNREACHED = "unreached"
    SKIPPED = "skipped"
    GONE = "gone"
    STOPPED = "stopped"
    RECALLED = "recalled"
    RETURNING = "returning"
    RETURNED = "returned"
    UNRETURNED = "unreturned"


# Where what a device reports decides; elsewhere the server or an operator has.
REPORTED: Final = frozenset({Standing.WORKING, Standing.SUCCEEDED, Standing.FAILED, Standing.UNREACHED})
# What the judge counts.
COUNTED: Final = REPORTED | {Standing.PLANNED}

# The two phases before a device has said anything: its wave is closed; its order is out.
PLANNED: Final = "planned"
ORDERED: Final = "ordered"
# The rollout was cancelled before the device had begun, and its order was taken back.
WITHDRAWN: Final = "withdrawn"

# By what devices report; the three above are the server's own words, and mean nothing in a device's mouth.
MEANINGS: Final[dict[str, Standing]] = {
    Phase.ACCEPTED: Standing.WORKING,
    Phase.FITTED: Standing.WORKING,
    Phase.FETCHING: Standing.WORKING,
    Phase.VERIFIED: Standing.WORKING,
    Phase.STAGED: Standing.WORKING,
    Phase.STARTING: Standing.WORKING,
    Phase.PROBATION: Standing.WORKING,
    Phase.COMMITTED: Standing.SUCCEEDED,
    Phase.REVERTING: Standing.FAILED,
    Phase.REVERTED: Standing.FAILED,
    Phase.REJECTED: Standing.FAILED,
    Phase.DEGRADED: Standing.FAILED,
    Phase.REMOVING: Standing.WORKING,
}

# What a device says of the module that it has committed (``SlotReport.current``); one of before says nothing.
HEALTHS: Final[dict[str, Standing]] = {
    "": Standing.SUCCEEDED,
    "up": Standing.SUCCEEDED,
    "restarting": Standing.WORKING,
    "degraded": Standing.FAILED,
}


def standing(phase: str, health: str = "") -> Standing:
    """What a reported phase means, and for a committed module its health.

    A phase or health that only newer devices know is no success and no failure.
    """
    found = MEANINGS.get(phase, Standing.WORKING)
    return HEALTHS.get(health, Standing.WORKING) if found is Standing.SUCCEEDED else found


def known(phase: str, health: str = "") -> bool:
    """Whether a device may say so, as far as this server knows."""
    return phase in MEANINGS and health in HEALTHS


class State(StrEnum):
    """Where a rollout is. *Partial* has ended well for some kinds of hardware and was stopped for others."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERTING = "reverting"
    REVERTED = "reverted"


NEXT: Final[dict[State, tuple[State, ...]]] = {
    State.SCHEDULED: (State.RUNNING, State.PAUSED, State.CANCELLED),
    State.RUNNING: (State.PAUSED, State.DONE, State.PARTIAL, State.FAILED, State.CANCELLED, State.REVERTING),
    State.PAUSED: (State.RUNNING, State.SCHEDULED, State.CANCELLED, State.REVERTING),
    # A device that committed went back, or one joined late: a wave is open again.
    State.DONE: (State.RUNNING, State.REVERTING),
    State.PARTIAL: (State.RUNNING, State.REVERTING),
    State.FAILED: (State.RUNNING, State.REVERTING),
    State.CANCELLED: (State.REVERTING,),
    State.REVERTING: (State.REVERTED,),
    State.REVERTED: (),
}
