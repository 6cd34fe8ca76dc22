"""Secrets for modules: sealed to each device the moment they come, and kept so alone.

What an operator sends is in this process's memory while it is sealed, and nowhere else: the tables hold what only the
device can open, and no answer, event or error has any of it. A device's order carries what the module in the slot
declares (fleet/orders.py).
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from fleet import devices as fleet_devices
from fleet import events, selectors
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.secret_tables import secret_wishes, secrets
from fleet.selectors import Selector
from fleet.tables import devices, slots
from modules import sealing
from modules.errors import Invalid
from modules.manifest import Manifest
from modules.names import DeviceId, Slug
from modules.protocol.order import MAX_SECRETS, Secret, SlotOrder

# Sealed bytes of one device's order; as base64 they are a third more, and the order has 256 KiB.
MOST_BYTES: Final = 64 << 10
_TOGETHER: Final = 500
_SELECTOR: Final = 500
# Instead of the selector of a secret that was set for others, too.
_FOR_MORE: Final = "(it is set for more than your rights are for)"
# Where a secret stands on a device.
SET, NOT_SET, AGAIN, NO_KEY = "set", "not set", "must be set again", "no key"
NO_KEY_REMEDY: Final = "it has no key for secrets: update its agent, or enrol it again if it was revoked"


class Place(NamedTuple):
    """A secret of a slot, by the names of both."""

    slot: Slug
    name: str


class _Key(msgspec.Struct):
    """All of a device's facts that matters here."""

    sealing: bytes = b""


def set_secret(
    connection: Connection,
    now: float,
    place: Place,
    value: bytes,
    *,
    selector: str,
    only: Sequence[DeviceId] | None,
    by: str,
) -> dict[str, Any]:
    """Seal a value to every chosen device that has a key; says which have none. Their orders are made anew soon.

    Raises:
        Missing: a named device does not exist, or the selector matches none.
        Invalid: the value or the selector is empty or too long, or a device would have too many secrets.
    """
    if len(selector) > _SELECTOR:
        raise Invalid(f"the selector is longer than {_SELECTOR} characters", element="selector")
    chosen = _chosen(connection, selector, only)
    mine = (secrets.c.slot == place.slot) & (secrets.c.name == place.name)
    version = int(connection.scalar(select(func.max(secrets.c.version)).where(mine)) or 0) + 1
    sealed_for: list[DeviceId] = []
    without: list[DeviceId] = []
    for some in _some(chosen):
        keys = sealing_keys(connection, some)
        rows = [
            {
                "device": device,
                "slot": place.slot,
                "name": place.name,
                "version": version,
                "at": now,
                "by": by,
                "sealed": sealing.seal(
                    value, keys[device], device=device, slot=place.slot, name=place.name, version=version
                ),
                "sealed_to": keys[device],
            }
            for device in some
            if keys.get(device)
        ]
        connection.execute(delete(secrets).where(mine, secrets.c.device.in_(some)))
        if rows:
            connection.execute(secrets.insert(), rows)
        sealed_for += [device for device in some if keys.get(device)]
        without += [device for device in some if not keys.get(device)]
        _check_bounds(connection, some)
    for wish in [selector] if only is None else [f"id={device}" for device in only]:
        key = {"slot": place.slot, "name": place.name, "selector": wish}
        connection.execute(delete(secret_wishes).where(*(secret_wishes.c[name] == one for name, one in key.items())))
        connection.execute(secret_wishes.insert().values(**key, version=version, at=now, by=by))
    _renew_orders(connection, sealed_for, place.slot)
    what = f"{place.name} for slot {place.slot}, version {version}, on {len(sealed_for)} devices"
    events.record(connection, now, "secret-set", what, by=by)
    return {"name": place.name, "slot": place.slot, "version": version, "set": sealed_for, "without_key": without}


def remove(
    connection: Connection,
    now: float,
    registry: Registry,
    place: Place,
    scope: Scope = EVERYTHING,
    *,
    selector: str,
    only: Sequence[DeviceId] | None,
    by: str,
) -> dict[str, Any]:
    """Take a secret away from the chosen devices, which the caller has cut to the scope.

    With all devices of the scope go all wishes for them, but those that are for others, too.

    Raises:
        Missing: none of them has it.
        Conflict: the module in the slot of one of them requires it.
    """
    chosen = _chosen(connection, selector, only)
    mine = (secrets.c.slot == place.slot) & (secrets.c.name == place.name) & secrets.c.sealed.is_not(None)
    having: list[DeviceId] = []
    for some in _some(chosen):
        having += [DeviceId(one) for one in connection.scalars(_devices(mine, some))]
    _check_unneeded(connection, registry, place, having)
    for some in _some(having):
        connection.execute(update(secrets).where(mine, secrets.c.device.in_(some)).values(sealed=None))
    wanted = (secret_wishes.c.slot == place.slot) & (secret_wishes.c.name == place.name)
    gone = [f"id={device}" for device in only or ()]
    if only is None:
        whole = Scope(tuple(one for one in scope.areas if str(one.selector) == selector))
        kept = connection.scalars(select(secret_wishes.c.selector).where(wanted))
        gone = [
            one for one in kept if one == selector or (whole.areas and _inside(selectors.parse(one), whole, chosen))
        ]
    wishes = 0
    for start in range(0, len(gone), _TOGETHER):
        some_wishes = secret_wishes.c.selector.in_(gone[start : start + _TOGETHER])
        wishes += connection.execute(delete(secret_wishes).where(wanted, some_wishes)).rowcount
    if not having and not wishes:
        raise Missing("no such secret is set there", element=place.name, remedy="see edgefleet secrets list")
    _renew_orders(connection, having, place.slot)
    what = f"{place.name} of slot {place.slot}, on {len(having)} devices"
    events.record(connection, now, "secret-removed", what, by=by)
    return {"name": place.name, "slot": place.slot, "removed": having}


def view(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """Every secret that was set: for whom, and where it stands on each of those devices. No value, sealed or not.

    Of a scope: its devices, and the secrets that were set for one of them, or would be for one that joins.
    """
    known = {one.device: one.labels for one in fleet_devices.meant(connection, "*", None, scope)}
    keys = sealing_keys(connection, list(known))
    columns = (secrets.c.device, secrets.c.slot, secrets.c.name, secrets.c.version, secrets.c.sealed_to)
    held = {
        (row.device, row.slot, row.name): row
        for row in connection.execute(select(*columns).where(secrets.c.sealed.is_not(None)))
    }
    shown = []
    for wish in connection.execute(select(secret_wishes).order_by(secret_wishes.c.slot, secret_wishes.c.name)):
        wanted = selectors.parse(wish.selector)
        found = []
        for device, labels in known.items():
            if wanted.matches(labels):
                row = held.get((device, wish.slot, wish.name))
                state = _state(row and row.sealed_to, keys.get(device, b""))
                found.append({"device": device, "state": state, "version": row.version if row else None})
        mine = _inside(wanted, scope, known)
        if mine or found:
            about = {"name": wish.name, "slot": wish.slot, "selector": wish.selector if mine else _FOR_MORE}
            shown.append(about | {"at": wish.at, "by": wish.by, "devices": found})
    return shown


def lacking(
    connection: Connection, manifest: Manifest, slot: str, chosen: Sequence[DeviceId]
) -> Mapping[DeviceId, tuple[str, ...]]:
    """Of each of these devices that cannot be given what the module requires: why, and what to do."""
    found: dict[DeviceId, tuple[str, ...]] = {}
    if not manifest.declared:
        return found
    required = [one.name for one in manifest.declared.values() if one.required]
    for some in _some(chosen):
        keys = sealing_keys(connection, some)
        mine = (secrets.c.slot == slot) & secrets.c.device.in_(some) & secrets.c.sealed.is_not(None)
        rows = connection.execute(select(secrets.c.device, secrets.c.name, secrets.c.sealed_to).where(mine))
        held = {(row.device, row.name): row.sealed_to for row in rows}
        for device in some:
            states = {name: _state(held.get((device, name)), keys.get(device, b"")) for name in required}
            why = [f"secret {name} {_said(state)}" for name, state in states.items() if state != SET]
            if not keys.get(device):
                why = [NO_KEY_REMEDY]
            if why:
                found[device] = tuple(why)
    return found


def given(connection: Connection, chosen: Sequence[DeviceId]) -> dict[DeviceId, dict[str, dict[str, Secret]]]:
    """What these devices hold, by slot and name; of at most 500 by one statement."""
    found: dict[DeviceId, dict[str, dict[str, Secret]]] = {}
    columns = (secrets.c.device, secrets.c.slot, secrets.c.name, secrets.c.version, secrets.c.sealed)
    mine = secrets.c.device.in_(chosen) & secrets.c.sealed.is_not(None)
    for row in connection.execute(select(*columns).where(mine)):
        slot = found.setdefault(row.device, {}).setdefault(row.slot, {})
        slot[row.name] = Secret(version=row.version, sealed=row.sealed)
    return found


def forget(connection: Connection, device: DeviceId) -> None:
    """The device was removed."""
    connection.execute(delete(secrets).where(secrets.c.device == device))
    connection.execute(delete(secret_wishes).where(secret_wishes.c.selector == f"id={device}"))


def _inside(wanted: Selector, scope: Scope, known: Container[str]) -> bool:
    """Whether a wish is for nobody outside a scope that has these devices."""
    if any(Area(wanted, None).within(one) for one in scope.areas):
        return True
    named = [term.values for term in wanted.terms if term.key == "id" and term.op in {"=", "in"}]
    return bool(scope.areas) and any(all(one in known for one in values) for values in named)


def _state(sealed_to: bytes | None, key: bytes) -> str:
    if not key:
        return NO_KEY
    if sealed_to is None:
        return NOT_SET
    return SET if sealed_to == key else AGAIN


def _said(state: str) -> str:
    return "is not set: edgefleet secrets set" if state == NOT_SET else f"{state}: edgefleet secrets set"


def _chosen(connection: Connection, selector: str, only: Sequence[DeviceId] | None) -> list[DeviceId]:
    chosen = fleet_devices.chosen(connection, selector if only is None else "*", only)
    found = sorted(one.device for one, _ in chosen)
    if not found:
        raise Missing("the selector matches no device", element=selector, remedy="see edgefleet devices list")
    return found


def sealing_keys(connection: Connection, chosen: Sequence[DeviceId]) -> dict[DeviceId, bytes]:
    """The devices' public keys for secrets, as they said; of none that has none, or whose keys were taken back."""
    found: dict[DeviceId, bytes] = {}
    for some in _some(chosen):
        mine = devices.c.id.in_(some) & devices.c.facts.is_not(None) & devices.c.revoked.is_(None)
        for row in connection.execute(select(devices.c.id, devices.c.facts).where(mine)):
            key = msgspec.json.decode(row.facts, type=_Key).sealing
            if len(key) == sealing.KEY_BYTES:
                found[row.id] = key
    return found


def _check_bounds(connection: Connection, some: Sequence[DeviceId]) -> None:
    held = select(secrets.c.device, secrets.c.slot, func.count(), func.sum(func.length(secrets.c.sealed)))
    mine = secrets.c.device.in_(some) & secrets.c.sealed.is_not(None)
    sizes: dict[str, int] = {}
    for device, slot, count, size in connection.execute(held.where(mine).group_by(secrets.c.device, secrets.c.slot)):
        sizes[device] = sizes.get(device, 0) + int(size)
        if count > MAX_SECRETS or sizes[device] > MOST_BYTES:
            raise Invalid(
                f"{device} would have more than {MAX_SECRETS} secrets in a slot, or than {MOST_BYTES} bytes in all",
                element=f"{device}/{slot}",
                remedy="remove what it needs no more: edgefleet secrets remove",
            )


def _check_unneeded(connection: Connection, registry: Registry, place: Place, having: Sequence[DeviceId]) -> None:
    for some in _some(having):
        mine = slots.c.device.in_(some) & (slots.c.slot == place.slot)
        for row in connection.execute(select(slots.c.device, slots.c.document).where(mine)):
            document = msgspec.json.decode(row.document, type=SlotOrder)
            if (need := registry.declared(document.digest).get(place.name)) is not None and need.required:
                raise Conflict(
                    f"the module in slot {place.slot} of {row.device} requires it",
                    element=place.name,
                    remedy="empty the slot or roll out a module that does without, or set another value",
                )


def _renew_orders(connection: Connection, chosen: Sequence[DeviceId], slot: str) -> None:
    """Have the engine make these devices' orders anew, a few at a time as ever."""
    filled = select(slots.c.device).where(slots.c.slot == slot)
    for some in _some(chosen):
        due = devices.c.id.in_(some) & devices.c.id.in_(filled) & devices.c.order_envelope.is_not(None)
        connection.execute(update(devices).where(due).values(order_due=0.0))


def _devices(mine: Any, some: Sequence[DeviceId]) -> Any:
    return select(secrets.c.device).where(mine, secrets.c.device.in_(some))


def _some(chosen: Iterable[DeviceId]) -> Iterator[list[DeviceId]]:
    every = list(chosen)
    for start in range(0, len(every), _TOGETHER):
        yield every[start : start + _TOGETHER]
