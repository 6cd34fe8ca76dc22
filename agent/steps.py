"""The closed set of things the agent can do. ``plan`` chooses them, ``execute`` has one arm for each."""

from typing import Literal

import msgspec

from agent.slots import Slot
from modules.protocol.report import Reason

# Each lane of a slot does one thing at a time: "work" brings the wanted module on, "keep" keeps the committed one up.
Lane = Literal["work", "keep"]


class Step(msgspec.Struct, frozen=True):
    """A step of one slot, with the row that it was decided on."""

    slot: Slot

    @property
    def lane(self) -> Lane:
        return "work"


class Fit(Step, frozen=True):
    """Ask whether this host can run the module."""


class Fetch(Step, frozen=True):
    """Pull what is missing, block by block."""


class Stage(Step, frozen=True):
    """Lay the files out and load the image; nothing is started."""


class Start(Step, frozen=True):
    """Start the candidate, wait until it is ready, prove it, give it the traffic."""


class Wait(Step, frozen=True):
    """Say why the candidate is not started yet."""

    reason: Reason


class StartAgain(Step, frozen=True):
    """Start the candidate anew: somebody ended it, which says nothing of it."""

    reason: Reason


class Commit(Step, frozen=True):
    """Probation is over: the candidate becomes current, the old one stops and is kept as previous."""


class Revert(Step, frozen=True):
    """Give the traffic back and remember the content as failed."""

    reason: Reason


class FinishRevert(Step, frozen=True):
    """Go on with a revert that was decided before."""


class Remove(Step, frozen=True):
    """Stop everything in the slot and forget it."""


class Restart(Step, frozen=True):
    """Start the committed module again: it ended, or (not ``ended``) runs and does not answer."""

    reason: Reason
    ended: bool = False

    @property
    def lane(self) -> Lane:
        return "keep"


class Refresh(Step, frozen=True):
    """Secrets of the committed module have other versions than it was given."""

    @property
    def lane(self) -> Lane:
        return "keep"


class Recover(Step, frozen=True):
    """The committed module answers again after restarts: clear its count of attempts."""

    @property
    def lane(self) -> Lane:
        return "keep"
