"""The state machine of a slot's wanted module, as a table.

The phase is written to the store, synced, before the side effect that it names; after any crash the row's ``resume``
says where to go on. A pair that is not in the table is a bug and raises.
"""

from typing import Final, NamedTuple

from modules.protocol.phases import Phase


class Row(NamedTuple):
    """One phase: what may follow, where an agent that was started again resumes, and whether the way ends here.

    ``booted`` is where it resumes after the machine was started again, where that is elsewhere: nothing runs then.
    """

    next: tuple[Phase, ...]
    resume: Phase
    ends: bool = False
    booted: Phase | None = None

    @property
    def after_boot(self) -> Phase:
        return self.booted or self.resume


P = Phase
# fmt: off
TABLE: Final[dict[Phase, Row]] = {
    # phase        may become                                         resumes at
    P.ACCEPTED:  Row((P.FITTED, P.REJECTED, P.REMOVING),                P.ACCEPTED),
    P.FITTED:    Row((P.FETCHING, P.REMOVING),                          P.FITTED),
    P.FETCHING:  Row((P.VERIFIED, P.REJECTED, P.REMOVING),              P.FETCHING),
    P.VERIFIED:  Row((P.STAGED, P.REJECTED, P.FETCHING, P.REMOVING),    P.VERIFIED),
    # Given up: it was started too often, and the agent ended each time.
    P.STAGED:    Row((P.STARTING, P.REVERTING, P.REMOVING),             P.STAGED),
    # What was being started is stopped and started anew: a half-proved candidate proves nothing.
    P.STARTING:  Row((P.PROBATION, P.STAGED, P.REVERTING, P.REMOVING),  P.STAGED),
    # It had the traffic when the agent died and still has it: the clock of the probation goes on. A power cut says
    # nothing of it: it is started, proved and tried again.
    P.PROBATION: Row((P.COMMITTED, P.STAGED, P.REVERTING, P.REMOVING),  P.PROBATION, booted=P.STAGED),
    P.COMMITTED: Row((P.DEGRADED, P.REVERTING, P.REMOVING),             P.COMMITTED, ends=True),
    # Nothing to go back to: tried for ever, the fallback serves meanwhile.
    P.DEGRADED:  Row((P.COMMITTED, P.REMOVING),                         P.DEGRADED),
    P.REVERTING: Row((P.REVERTED, P.REMOVING),                          P.REVERTING),
    P.REVERTED:  Row((P.REMOVING,),                                     P.REVERTED,  ends=True),
    P.REJECTED:  Row((P.REMOVING,),                                     P.REJECTED,  ends=True),
    P.REMOVING:  Row((),                                                P.REMOVING),
}
# fmt: on


def check(before: Phase, after: Phase) -> None:
    """Refuse a move that the table does not have.

    Raises:
        RuntimeError: a bug in the planner or an executor.
    """
    if after not in TABLE[before].next:
        raise RuntimeError(f"no way leads from {before} to {after}")
