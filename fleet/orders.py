"""What a device is told to run: one complete, signed order, with a counter that never goes back.

The wanted slots stand in the table ``slots`` (fleet/revisions.py); whoever changes them calls :meth:`Orders.issue` in
the same transaction, so that table and order never disagree. The newest order is kept signed, and published again when
the broker forgot it.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from securesystemslib.signer import Signer
from sqlalchemy import Connection, bindparam, func, select, union_all, update

from fleet import events, sealed_secrets
from fleet.refusals import Missing
from fleet.tables import devices, members, rollouts, slots
from modules.bounds import MAX_COUNT, MAX_TIME
from modules.errors import Invalid, Refused
from modules.names import DeviceId, Digest, Slug
from modules.protocol import order as order_wire
from modules.protocol.order import Order, Secret, SlotOrder
from modules.signing import ORDER_TYPE, sign

# An order is made anew when this share of its life is over, so that a device that comes back finds a good one.
RENEW_AT: Final = 0.5
# Orders that the broker has not taken yet; with so many no more are made. So a wave of thousands goes out as fast as
# the broker takes it, each order soon after it was decided, and what devices say meanwhile is taken in between.
WAITING: Final = 200
# Bound variables of one statement.
_TOGETHER: Final = 500
_UNPUBLISHED: Final = devices.c.order_counter > devices.c.order_published
_ISSUE: Final = (
    update(devices)
    .where(devices.c.id == bindparam("of"))
    .values(
        order_counter=bindparam("counter"),
        order_expires=bindparam("expires"),
        order_due=bindparam("due"),
        order_envelope=bindparam("envelope"),
    )
)
_GIVE_WAIVERS: Final = (
    update(slots).where(slots.c.device == bindparam("of"), slots.c.waiver == 0).values(waiver=bindparam("counter"))
)
_PUBLISHED: Final = update(devices).where(devices.c.id == bindparam("of")).values(order_published=bindparam("counter"))


# Whose key counts, may have changed since the last transaction.
Director = Callable[[Connection], Signer]


class Tokens(Protocol):
    """Completes what an order says of fallbacks; for the devices of one transaction."""

    def given(self, device: DeviceId, documents: dict[str, SlotOrder]) -> tuple[dict[str, SlotOrder], float]:
        """The documents, and when they are to be made anew, in Unix seconds."""


class Outgoing(NamedTuple):
    """A signed order that the broker has not confirmed yet."""

    device: DeviceId
    counter: int
    envelope: bytes


class Orders:
    """Builds and signs orders with the director's key: the one that ``director`` finds named in the transaction.

    ``declared`` names the secrets of a module, ``tokens`` gives what lets devices in at their fallbacks.
    """

    def __init__(
        self,
        director: Director,
        *,
        life_s: int,
        declared: Callable[[Digest], Collection[str]] = lambda _: (),
        tokens: Callable[[Connection, float, Sequence[DeviceId]], Tokens] | None = None,
    ) -> None:
        self._director, self._tokens = director, tokens
        self._life_s = life_s
        self._declared = declared

    def issue(self, connection: Connection, now: float, device: DeviceId) -> int:
        """Sign the order for what the slots of this device say now; returns its counter.

        Raises:
            Missing, Invalid: as :meth:`issue_all`.
        """
        return self.issue_all(connection, now, [device])[device]

    def issue_all(self, connection: Connection, now: float, chosen: Sequence[DeviceId]) -> dict[DeviceId, int]:
        """Sign an order for each of at most 500 devices, by a few statements; returns their counters.

        Raises:
            Missing: one of them does not exist.
            Invalid: an order would be larger than its device reads, or something in it out of bounds.
        """
        live = devices.c.id.in_(chosen) & devices.c.removed.is_(None)
        known = connection.execute(select(devices.c.id, devices.c.order_counter).where(live))
        counters = {row.id: row.order_counter for row in known}
        filled: dict[str, list[Any]] = {}
        wanted = select(slots.c.device, slots.c.slot, slots.c.document, slots.c.waiver)
        for row in connection.execute(wanted.where(slots.c.device.in_(chosen))):
            filled.setdefault(row.device, []).append(row)
        given_secrets = sealed_secrets.given(connection, chosen)
        signers = [self._director(connection)]
        tokens = self._tokens(connection, now, chosen) if self._tokens else None
        issued: list[dict[str, Any]] = []
        for device in chosen:
            if device not in counters:
                raise Missing("there is no such device", element=device)
            rows = filled.get(device, ())
            documents = self._documents(rows, given_secrets.get(device, {}))
            due = math.inf
            if tokens is not None:
                documents, due = tokens.given(device, documents)
            waived = {documents[row.slot].digest for row in rows if row.waiver is not None}
            order = _compose(device, counters[device] + 1, int(now), int(now) + self._life_s, documents, waived)
            envelope = sign(order_wire.encode(order), payload_type=ORDER_TYPE, signers=signers)
            issued.append({"of": device, "counter": order.counter, "envelope": envelope, "expires": order.expires})
            # What an order holds may end before it does.
            issued[-1]["due"] = min(now + self._life_s * RENEW_AT, due)
        if given := [one for one in issued if any(row.waiver == 0 for row in filled.get(one["of"], ()))]:
            connection.execute(_GIVE_WAIVERS, [{"of": one["of"], "counter": one["counter"]} for one in given])
        if issued:
            connection.execute(_ISSUE, issued)
        return {one["of"]: one["counter"] for one in issued}

    def renew(self, connection: Connection, now: float, *, limit: int) -> int:
        """Issue again what is half way to its expiry, or holds what is; returns how many orders that were."""
        old = select(devices.c.id).where(devices.c.order_due < now).order_by(devices.c.order_due).limit(limit)
        chosen = [DeviceId(one) for one in connection.scalars(old)]
        if not chosen:
            return 0
        try:
            with connection.begin_nested():
                self.issue_all(connection, now, chosen)
        except Refused:
            for device in chosen:
                self._renew(connection, now, device)
        return len(chosen)

    def _renew(self, connection: Connection, now: float, device: DeviceId) -> None:
        try:
            with connection.begin_nested():
                self.issue(connection, now, device)
        except Refused as error:
            # It stays as it is and holds up no other, and is not looked at again until it changes.
            events.record(connection, now, "order-not-renewed", str(error), device=device)
            connection.execute(update(devices).where(devices.c.id == device).values(order_due=None))

    def _documents(self, rows: Any, secrets: Mapping[str, Mapping[str, Secret]]) -> dict[str, SlotOrder]:
        documents = {row.slot: msgspec.json.decode(row.document, type=SlotOrder) for row in rows}
        for slot, held in secrets.items():
            if slot in documents:
                declared = self._declared(documents[slot].digest)
                documents[slot] = _with(documents[slot], {name: held[name] for name in held if name in declared})
        return documents


def check(
    connection: Connection, chosen: Sequence[DeviceId], slot: str, document: SlotOrder, *, waive: bool = False
) -> None:
    """Whether each of these devices could still read its order with ``slot`` filled so, beside all that is decided.

    What other rollouts have decided counts before their wave opens.

    Raises:
        Invalid: one could not, as the writer of orders would find; names it.
    """
    for start in range(0, len(chosen), _TOGETHER):
        some = chosen[start : start + _TOGETHER]
        decided: dict[str, dict[str, SlotOrder]] = {}
        waived: dict[str, set[str]] = {}
        for row in connection.execute(_decided(some)).all():
            one = msgspec.json.decode(row.document, type=SlotOrder)
            decided.setdefault(row.device, {})[row.slot] = one
            if row.waived:
                waived.setdefault(row.device, set()).add(one.digest)
        held = sealed_secrets.given(connection, some)
        for device in some:
            whole = decided.get(device, {}) | {slot: document}
            # Declared or not: what fits with all of them fits with some.
            whole = {name: _with(one, held.get(device, {}).get(name, {})) for name, one in whole.items()}
            given = waived.get(device, set()) | ({document.digest} if waive else set())
            try:
                # The largest numbers: what fits now still fits when the order is renewed in years.
                order_wire.encode(_compose(device, MAX_COUNT, MAX_TIME, MAX_TIME, whole, given))
            except Invalid as error:
                raise Invalid(
                    f"with it the order for {device} could not be read any more: {error.message}",
                    element=f"{device}/{slot}",
                    remedy="empty slots that the device does not need, or give shorter fallback addresses",
                ) from error


def _decided(chosen: Sequence[DeviceId]) -> Any:
    """The newest documents of these devices' slots: in their orders, then those that wait for a wave."""
    ordered = select(slots.c.device, slots.c.slot, slots.c.document, slots.c.waiver.is_not(None).label("waived"))
    waiting = (
        select(members.c.device, members.c.slot, rollouts.c.document, rollouts.c.waive.label("waived"))
        .join(rollouts)
        .where(members.c.current, members.c.counter.is_(None), rollouts.c.state.in_(("running", "paused")))
    )
    return union_all(ordered.where(slots.c.device.in_(chosen)), waiting.where(members.c.device.in_(chosen)))


def _with(document: SlotOrder, secrets: Mapping[str, Secret]) -> SlotOrder:
    if not secrets:
        return document
    return msgspec.structs.replace(document, secrets={name: secrets[name] for name in sorted(secrets)})


def _compose(
    device: DeviceId, counter: int, issued: int, expires: int, documents: dict[str, SlotOrder], waived: Iterable[str]
) -> Order:
    # An agent that knows no windows would switch in the middle of the day.
    windows = any(one.windows for one in documents.values())
    # And one that knows no secrets would start the module without.
    secrets = any(one.secrets for one in documents.values())
    needed = (("slot.windows",) if windows else ()) + (("slot.secrets",) if secrets else ())
    return Order(
        device=device,
        counter=counter,
        issued=issued,
        expires=expires,
        slots={Slug(name): documents[name] for name in sorted(documents)},
        waivers=tuple(Digest(one) for one in sorted(waived)),
        must_understand=needed or msgspec.UNSET,
    )


def unpublished(connection: Connection, *, limit: int) -> list[Outgoing]:
    """Orders that the broker has not taken yet, oldest devices first."""
    waiting = (
        select(devices.c.id, devices.c.order_counter, devices.c.order_envelope)
        .where(_UNPUBLISHED, devices.c.order_envelope.is_not(None))
        .order_by(devices.c.id)
        .limit(limit)
    )
    return [Outgoing(row.id, row.order_counter, row.order_envelope) for row in connection.execute(waiting)]


def room(connection: Connection) -> int:
    """How many more orders may be made before the broker has taken some."""
    waiting = select(devices.c.id).where(_UNPUBLISHED).limit(WAITING).subquery()
    return WAITING - connection.execute(select(func.count()).select_from(waiting)).scalar_one()


def published(connection: Connection, sent: Sequence[Outgoing]) -> None:
    """Remember what the broker took; an order issued meanwhile stays unpublished."""
    if sent:
        connection.execute(_PUBLISHED, [{"of": one.device, "counter": one.counter} for one in sent])


def renew_all(connection: Connection) -> None:
    """Have every order signed again, by :meth:`Orders.renew`, as fast as the broker takes them."""
    ordered = devices.c.order_envelope.is_not(None) & devices.c.removed.is_(None)
    connection.execute(update(devices).where(ordered).values(order_due=0.0))


def forget_published(connection: Connection) -> None:
    """The broker may have lost its retained messages: everything is to be published again."""
    connection.execute(update(devices).where(devices.c.order_published > 0).values(order_published=0))
