"""What a rollout moves: devices to a module, or an endpoint's requests to a version.

Waves, thresholds, gates, verdicts, states and steering are the same, and know no more of their members than this.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection

from fleet.rollouts import members, phases, recall
from fleet.rollouts.judge import Opened
from fleet.rollouts.model import DEVICES, Noun, Policy, Threshold
from fleet.rollouts.phases import Standing
from fleet.rollouts.shares import Shares, Waves
from fleet.tables import members as rows


class Parts(Protocol):
    """The members of one rollout, whose row each call is given."""

    @property
    def noun(self) -> Noun:
        """What one of them is called."""

    def opened(self, connection: Connection, row: Any, asked: Sequence[Threshold]) -> list[Opened]:
        """The open waves as the judge takes them."""

    def kinds(self, connection: Connection, row: Any) -> int:
        """How many kinds of hardware are left, which are judged apart."""

    def check(self, connection: Connection, row: Any, action: str) -> None:
        """Whether it is still the rollout's to decide.

        Raises:
            Conflict: it is not.
        """

    def back(
        self,
        connection: Connection,
        now: float,
        row: Any,
        why: str,
        *,
        waves: Waves | None = None,
        unended: bool = False,
    ) -> int:
        """Have what they got taken back; returns from how many.

        Args:
            connection: of the transaction.
            now: Unix seconds.
            row: the rollout's.
            why: for people.
            waves: of these alone; None: of all, and those that have nothing yet get nothing.
            unended: of those alone that have come to no end.
        """

    def stop(self, connection: Connection, now: float, row: Any) -> None:
        """The rollout has failed, and nothing is taken back."""

    def again(self, connection: Connection, row: Any) -> int:
        """Those that failed are to try again; returns how many."""

    def unfinished(self, connection: Connection, row: Any) -> bool:
        """Whether one has still to be told to go back, or to say that it has."""

    def returned(self, connection: Connection, row: Any) -> str:
        """What has gone back, for people."""

    def ended(self, connection: Connection, now: float, row: Any, policy: Policy) -> None:
        """All of them are done."""


class _Devices:
    noun = DEVICES

    def opened(self, connection: Connection, row: Any, asked: Sequence[Threshold]) -> list[Opened]:
        return members.opened(connection, row.id, row.wave, asked)

    def kinds(self, connection: Connection, row: Any) -> int:
        return len(members.kinds(connection, row.id))

    def check(self, connection: Connection, row: Any, action: str) -> None:
        """A device that a newer rollout took stays with that one."""

    def back(
        self,
        connection: Connection,
        now: float,
        row: Any,
        why: str,
        *,
        waves: Waves | None = None,
        unended: bool = False,
    ) -> int:
        del now
        if waves is not None:
            return recall.begin(connection, row.id, why, rows.c.wave.between(*waves))
        recall.forget_planned(connection, row.id, why)
        return recall.begin(connection, row.id, why, rows.c.standing.in_(recall.UNENDED) if unended else None)

    def stop(self, connection: Connection, now: float, row: Any) -> None:
        """Devices stay as they are."""

    def again(self, connection: Connection, row: Any) -> int:
        mine = (rows.c.rollout == row.id) & rows.c.current
        failed = mine & (rows.c.standing.in_((Standing.FAILED, Standing.STOPPED)))
        values = {"standing": Standing.PLANNED, "phase": phases.PLANNED, "due": None, "note": "", "counter": None}
        return members.change(connection, failed, **values)

    def unfinished(self, connection: Connection, row: Any) -> bool:
        return recall.unfinished(connection, row.id)

    def returned(self, connection: Connection, row: Any) -> str:
        counts = members.counts(connection, row.id)
        back, not_back = counts.get(Standing.RETURNED, 0), counts.get(Standing.UNRETURNED, 0)
        rest = f", {not_back} did not answer in time" if not_back else ""
        return f"{back} {'device runs' if back == 1 else 'devices run'} again what ran before{rest}"

    def ended(self, connection: Connection, now: float, row: Any, policy: Policy) -> None:
        """A device keeps what it has."""


_DEVICES: Final[Parts] = _Devices()
_SHARES: Final[Parts] = Shares()


def of(row: Any) -> Parts:
    """The members of the rollout with this row."""
    return _DEVICES if row.endpoint is None else _SHARES
