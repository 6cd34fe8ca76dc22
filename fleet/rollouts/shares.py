"""A rollout's members on an endpoint: shares of its requests, one in each wave, which the new version gets in turn.

A share stands where a device would, and is judged like one. The endpoint's wish says who gets what; it is changed in
the transaction in which the share changes, so that a server which was killed finds both as they belong together.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, select, update

from fleet.refusals import Conflict
from fleet.registry import SIGNED
from fleet.rollouts import phases
from fleet.rollouts.judge import Opened
from fleet.rollouts.model import SHARES, Evidence, Policy, Threshold, seconds
from fleet.rollouts.phases import Standing
from fleet.tables import modules
from fleet.target_tables import shares
from fleet.targets import shifting
from fleet.targets.settings import Version, Wish
from modules.names import SlugField

# The first and the last of some waves in a row.
Waves = tuple[int, int]
# All replicas have answered the samples; the share has not been given yet.
PROVED: Final = "proved"


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """From which version of an endpoint to which: ``was`` and ``version`` as they stand in its wish without a share."""

    name: SlugField
    version: Version
    before: SlugField
    was: Version


class Shares:
    """What ``fleet/rollouts/parts.py`` asks of a rollout's members."""

    noun = SHARES

    def opened(self, connection: Connection, row: Any, asked: Sequence[Threshold]) -> list[Opened]:
        found = connection.execute(
            select(shares).where(shares.c.rollout == row.id, shares.c.wave <= row.wave).order_by(shares.c.wave)
        ).all()
        return [Opened(threshold, {"": evidence(one)}) for threshold, one in zip(asked[: row.wave], found, strict=True)]

    def kinds(self, connection: Connection, row: Any) -> int:
        del connection, row
        return 1

    def check(self, connection: Connection, row: Any, action: str) -> None:
        if _endpoint(connection, row) is None:
            raise Conflict(
                f"endpoint {row.endpoint} was removed, changed by hand or given to a newer rollout since",
                element=f"rollout {row.id} {action}",
                remedy=f"see: edgefleet endpoints show {row.endpoint}",
            )
        was = shift_of(row).was
        here = (modules.c.digest == was.digest) & (modules.c.state == SIGNED)
        if connection.execute(select(modules.c.id).where(here)).first() is None:
            raise Conflict(
                f"{was.module}, which answered before, was removed",
                element=f"rollout {row.id} {action}",
                remedy=f"run: edgefleet endpoints version {row.endpoint} NAME --module MODULE",
            )

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
        mine = shares.c.rollout == row.id
        good = select(shares.c.percent).where(mine, shares.c.standing == Standing.SUCCEEDED)
        if waves is not None:
            # What waves before had stays; the rest is not taken away before it might be looked at, or tried again.
            left = max(connection.scalars(good.where(shares.c.wave < waves[0])), default=0)
            self._give(connection, now, row, left, remove=False)
            return waves[1] - waves[0] + 1
        _change(connection, mine & (shares.c.standing == Standing.PLANNED), standing=Standing.SKIPPED, note=why)
        if unended:
            left = max(connection.scalars(good), default=0)
            which = mine & (shares.c.standing == Standing.WORKING)
            back = _change(connection, which, standing=Standing.RETURNED, due=None, note=why)
            self._give(connection, now, row, left, remove=not left)
            return back
        given = mine & shares.c.standing.in_(_GIVEN)
        back = _change(connection, given, standing=Standing.RETURNING, due=now + row.deadline_s, note=why)
        self._give(connection, now, row, 0, remove=True)
        return back

    def stop(self, connection: Connection, now: float, row: Any) -> None:
        """It has failed, and people decide what comes of it: meanwhile it gets no request, and its logs stay."""
        self._give(connection, now, row, 0, remove=False)

    def again(self, connection: Connection, row: Any) -> int:
        failed = (shares.c.rollout == row.id) & (shares.c.standing == Standing.FAILED)
        values = {"standing": Standing.PLANNED, "phase": phases.PLANNED, "due": None, "note": "", "detail": None}
        return _change(connection, failed, **values)

    def unfinished(self, connection: Connection, row: Any) -> bool:
        """Whether the gateway has still to take in that the version before answers everything again."""
        if _endpoint(connection, row) is None:
            return False
        mine = (shares.c.rollout == row.id) & (shares.c.standing == Standing.RETURNING)
        return connection.execute(select(shares.c.wave).where(mine)).first() is not None

    def returned(self, connection: Connection, row: Any) -> str:
        shift = shift_of(row)
        if _endpoint(connection, row) is None:
            return "somebody else decides about the endpoint now"
        late = (shares.c.rollout == row.id) & (shares.c.standing == Standing.UNRETURNED)
        if connection.execute(select(shares.c.wave).where(late)).first() is not None:
            return f"{shift.before} is to answer everything again, and the endpoint did not say so in time"
        return f"{shift.before} answers everything again"

    def ended(self, connection: Connection, now: float, row: Any, policy: Policy) -> None:
        """The new version is the default; the one before goes, or stays for a while."""
        endpoint, shift = _endpoint(connection, row), shift_of(row)
        if endpoint is None:
            return
        wish, keep_s = shifting.wish_of(endpoint), seconds(policy.keep)
        versions = dict(wish.versions) | {shift.name: _with(wish.versions.get(shift.name, shift.version), 0)}
        if keep_s:
            versions[shift.before] = _with(wish.versions.get(shift.before, shift.was), 0)
            last = (shares.c.rollout == row.id) & (shares.c.wave == row.waves)
            _change(connection, last, due=now + keep_s)
        else:
            versions.pop(shift.before, None)
        put(connection, now, row, endpoint, msgspec.structs.replace(wish, versions=versions, default=shift.name))

    def _give(self, connection: Connection, now: float, row: Any, percent: int, *, remove: bool) -> None:
        """The new version gets so much, and the one before, which is the default again, the rest."""
        endpoint, shift = _endpoint(connection, row), shift_of(row)
        if endpoint is None:
            return
        wish = shifting.wish_of(endpoint)
        versions = dict(wish.versions)
        versions[shift.before] = _with(versions.get(shift.before, shift.was), 0)
        if remove:
            versions.pop(shift.name, None)
        elif shift.name in versions:
            versions[shift.name] = _with(versions[shift.name], percent)
        put(connection, now, row, endpoint, msgspec.structs.replace(wish, versions=versions, default=shift.before))


# Those that have been opened.
_GIVEN: Final = (Standing.WORKING, Standing.SUCCEEDED, Standing.FAILED)


def shift_of(row: Any) -> Shift:
    return msgspec.json.decode(row.document, type=Shift)


def gone(connection: Connection, row: Any, why: str) -> None:
    """They are accounted for, and nobody waits for them."""
    open_ = shares.c.standing.in_((Standing.PLANNED, Standing.WORKING))
    _change(connection, (shares.c.rollout == row.id) & open_, standing=Standing.GONE, due=None, note=why)


def evidence(share: Any) -> Evidence:
    """A share as the judge takes it."""
    failed = share.standing == Standing.FAILED
    return Evidence(
        devices=1,
        committed=int(share.standing == Standing.SUCCEEDED),
        failed=int(failed),
        planned=int(share.standing == Standing.PLANNED),
        examples=(f"{share.percent} %, {share.note}",) if failed else (),
    )


def share_of(connection: Connection, rollout: int, wave: int) -> Any:
    """The share of a wave; None: there is no such wave."""
    mine = (shares.c.rollout == rollout) & (shares.c.wave == wave)
    return connection.execute(select(shares).where(mine)).one_or_none()


def every(connection: Connection, rollout: int) -> Sequence[Any]:
    """All shares, by wave."""
    return connection.execute(select(shares).where(shares.c.rollout == rollout).order_by(shares.c.wave)).all()


def change(connection: Connection, share: Any, **values: Any) -> None:
    _change(connection, (shares.c.rollout == share.rollout) & (shares.c.wave == share.wave), **values)


def put(connection: Connection, now: float, row: Any, endpoint: Any, wish: Wish) -> None:
    """Wish for other shares, if they are others."""
    if wish != shifting.wish_of(endpoint):
        shifting.put(connection, now, endpoint, wish, row.id)


def give(connection: Connection, now: float, row: Any, endpoint: Any, percent: int) -> None:
    """The new version stands beside the one before, and gets so much."""
    wish, shift = shifting.wish_of(endpoint), shift_of(row)
    beside = _with(wish.versions.get(shift.name, shift.version), percent)
    put(connection, now, row, endpoint, msgspec.structs.replace(wish, versions=wish.versions | {shift.name: beside}))


def _change(connection: Connection, which: ColumnElement[bool], **values: Any) -> int:
    return connection.execute(update(shares).where(which).values(**values)).rowcount


def _with(version: Version, weight: int) -> Version:
    return msgspec.structs.replace(version, weight=weight)


def _endpoint(connection: Connection, row: Any) -> Any:
    """The endpoint's row, where this rollout decides about it."""
    found = shifting.find(connection, row.endpoint)
    return found if found is not None and found.rollout == row.id else None
