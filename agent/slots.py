"""What the device remembers of a slot: the module it works towards, the one that is committed, and the one before."""

from typing import Final

import msgspec

from agent.phases import check
from modules.errors import EdgefleetError
from modules.names import Digest, Slug
from modules.protocol.order import SettingValue
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from modules.words import printable

# A module that fails and recovers again and again must not make the report grow for ever.
_TIMES_KEPT: Final = 32


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted line of the order. ``module`` is the reference for people, ``digest`` the manifest's."""

    module: str
    digest: Digest
    engine: str
    settings: dict[str, SettingValue] = {}
    fallback: str | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted module that was started: under which instance name, on which provider, proved or only ready.

    ``since`` is when it was ready, in seconds of the boot.
    """

    wanted: Wanted
    instance: str
    socket: str
    provider: str = ""
    proved: bool = True
    probation_s: float = 0.0
    since: float = 0.0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the store. ``times`` are Unix seconds, for people; everything that waits is in seconds of the boot.

    ``candidate`` is what is being started or on probation; ``current`` is committed and answers whenever no candidate
    is on probation; ``previous`` is kept on disk to go back to. ``attempts`` counts tries in this phase and
    ``not_before`` holds the next one back; ``restarts`` and ``restart_after`` do so for the current module. ``since``
    is when it entered its phase.
    """

    slot: Slug
    wanted: Wanted
    phase: Phase = Phase.ACCEPTED
    times: tuple[tuple[str, float], ...] = ()
    reason: Reason | None = None
    since: float = 0.0
    attempts: int = 0
    not_before: float = 0.0
    restarts: int = 0
    restart_after: float = 0.0
    progress: float | None = None
    candidate: Placed | None = None
    current: Placed | None = None
    previous: Placed | None = None

    def to(self, phase: Phase, now: float, **changes: object) -> "Slot":
        """The row one phase on, as the table allows; a reason and waiting times of the earlier phase are dropped."""
        check(self.phase, phase)
        fresh = {"reason": None, "not_before": 0.0, "progress": None, "attempts": 0}
        times = (*self.times, (str(phase), now))[-_TIMES_KEPT:]
        return msgspec.structs.replace(self, phase=phase, times=times, **{**fresh, **changes})

    def with_(self, **changes: object) -> "Slot":
        """The row changed within its phase."""
        return msgspec.structs.replace(self, **changes)

    def in_new_boot(self) -> "Slot":
        """The row after the machine was started again: its seconds were another boot's, so they hold nothing back."""
        return self.with_(since=0.0, not_before=0.0, restart_after=0.0)

    @property
    def settled(self) -> "Slot | None":
        """The row as it would be if nothing but its committed module were known; None where none is committed.

        The module's own counts are left out, which change with each trouble.
        """
        if self.current is None or self.phase is Phase.REMOVING:
            return None
        times = self.times[-1:] if self.phase is Phase.COMMITTED else ()
        return Slot(
            slot=self.slot,
            wanted=self.current.wanted,
            phase=Phase.COMMITTED,
            times=times,
            current=self.current,
            previous=self.previous,
        )

    @property
    def serving(self) -> Placed | None:
        """Who has the traffic."""
        return self.candidate if self.phase is Phase.PROBATION else self.current


def reason(error: BaseException) -> Reason:
    """An error as the report carries it: code and sentence."""
    if isinstance(error, EdgefleetError):
        return Reason(error.code, printable(str(error), 2000))
    return Reason("bug", printable(f"{type(error).__name__}: {error}", 2000))
