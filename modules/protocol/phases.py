"""The phases of a wanted module as they stand in reports: the one list that device and server share."""

from enum import StrEnum


class Phase(StrEnum):
    """Where the wanted module of a slot is on its way.

    What may follow on the device stands in ``agent/phases.py``, what it means for a rollout in
    ``fleet/rollouts/phases.py``. A newer device may report others, which an older server keeps as text. *Degraded*
    stands in reports alone: the module is committed and does not stay up.
    """

    ACCEPTED = "accepted"
    FITTED = "fitted"
    FETCHING = "fetching"
    VERIFIED = "verified"
    STAGED = "staged"
    STARTING = "starting"
    PROBATION = "probation"
    COMMITTED = "committed"
    DEGRADED = "degraded"
    REVERTING = "reverting"
    REVERTED = "reverted"
    REJECTED = "rejected"
    REMOVING = "removing"
