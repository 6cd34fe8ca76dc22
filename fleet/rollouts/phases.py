"""What a rollout may become, and what each phase that a device reports means for it. Tables, and nothing else."""

from enum import Enum
from typing import Final

from modules.errors import Invalid


class Outcome(Enum):
    """What a device's phase says about the rollout: still at work, succeeded, or failed."""

    WORKING = "working"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


# The two phases before a device has said anything: its wave is closed; its order is out.
PLANNED: Final = "planned"
ORDERED: Final = "ordered"

OUTCOMES: Final[dict[str, Outcome]] = {
    PLANNED: Outcome.WORKING,
    ORDERED: Outcome.WORKING,
    "accepted": Outcome.WORKING,
    "fitted": Outcome.WORKING,
    "fetching": Outcome.WORKING,
    "verified": Outcome.WORKING,
    "staged": Outcome.WORKING,
    "waiting": Outcome.WORKING,
    "starting": Outcome.WORKING,
    "probation": Outcome.WORKING,
    "committed": Outcome.SUCCEEDED,
    "reverting": Outcome.FAILED,
    "reverted": Outcome.FAILED,
    "rejected": Outcome.FAILED,
    "degraded": Outcome.FAILED,
    "inconsistent": Outcome.FAILED,
    "superseded": Outcome.WORKING,
    "removing": Outcome.WORKING,
    "removed": Outcome.WORKING,
}

RUNNING, PAUSED, DONE, FAILED, CANCELLED = "running", "paused", "done", "failed", "cancelled"

NEXT: Final[dict[str, tuple[str, ...]]] = {
    RUNNING: (PAUSED, DONE, FAILED, CANCELLED),
    PAUSED: (RUNNING, CANCELLED),
    DONE: (RUNNING,),  # a device that committed went back: the wave is open again
    FAILED: (),
    CANCELLED: (),
}


def outcome(phase: str) -> Outcome:
    """What a reported phase means.

    Raises:
        Invalid: no device of a version that this server knows reports such a phase.
    """
    try:
        return OUTCOMES[phase]
    except KeyError as error:
        raise Invalid(f"{phase[:40]!r} is no phase", element="phase") from error
