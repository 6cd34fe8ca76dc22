"""The state machine of a slot's wanted module, as a table.

The phase is written to the store, synced, before the side effect that it names; after any crash the row's ``resume``
says where to go on. A pair that is not in the table is a bug and raises.
"""

from typing import Final, Literal, NamedTuple

from modules.protocol.phases import Phase

# Who moves a slot on: the device, by its own steps, or an order that was accepted.
Mover = Literal["device", "order"]


class Row(NamedTuple):
    """One phase: what may follow, where an agent that was started again resumes, and whether the way ends here.

    ``booted`` is where it resumes after the machine was started again, where that is elsewhere: nothing runs then.
    ``owner`` is who may bring a slot into this phase.
    """

    next: tuple[Phase, ...]
    resume: Phase
    ends: bool = False
    booted: Phase | None = None
    owner: Mover = "device"

    @property
    def after_boot(self) -> Phase:
        return self.booted or self.resume


P = Phase
# fmt: off
TABLE: Final[dict[Phase, Row]] = {
    # phase        may become                                         resumes at
    P.ACCEPTED:  Row((P.FITTED, P.REJECTED, P.REMOVING),                P.ACCEPTED,  owner="order"),
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
    P.COMMITTED: Row((P.REVERTING, P.REMOVING),                         P.COMMITTED, ends=True),
    P.REVERTING: Row((P.REVERTED, P.REMOVING),                          P.REVERTING),
    P.REVERTED:  Row((P.REMOVING,),                                     P.REVERTED,  ends=True),
    P.REJECTED:  Row((P.REMOVING,),                                     P.REJECTED,  ends=True),
    P.REMOVING:  Row((),                                                P.REMOVING,  owner="order"),
}
# fmt: on


def check(before: Phase, after: Phase, by: Mover = "device") -> None:
    """Refuse a move that the table does not have, or that is not for ``by`` to make.

    Raises:
        RuntimeError: a bug in the planner or an executor.
    """
    if after not in TABLE[before].next:
        raise RuntimeError(f"no way leads from {before} to {after}")
    if TABLE[after].owner != by:
        raise RuntimeError(f"the {by} does not move a slot to {after}")
