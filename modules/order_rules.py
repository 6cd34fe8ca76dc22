"""Which orders a device accepts, and what time it believes it is: rules without I/O.

The signature has been verified before; here a genuine order is held against what the device knows. A stolen director
key passes the signature, and these rules are what is left against it: only published releases at or above the
publisher's floor, for this device, not older than what was accepted, and no leap in time.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from modules.errors import Invalid, Untrusted
from modules.names import DeviceId, Digest, ModuleRef, Version

# One order may move a device's idea of the time this far and no farther: less than trust metadata and orders live, so
# that a server whose clock was a year ahead for an hour locks nobody out.
LONGEST_LEAP: Final = timedelta(days=1)
# One order may raise the counter by this much and no more: a server counts its orders one by one.
LONGEST_STEP: Final = 1_000_000


class Ordered(msgspec.Struct, frozen=True):
    """A release that an order names: the manifest's target path, and its digest as the director states it."""

    path: str
    digest: Digest


class Objection(msgspec.Struct, frozen=True):
    """One reason against an order. ``code`` is stable, for reports and security events."""

    code: str
    element: str
    message: str
    remedy: str


def objections(
    *,
    own: DeviceId,
    device: DeviceId,
    counter: int,
    last_counter: int,
    issued: datetime,
    expires: datetime,
    now: datetime,
    modules: Sequence[Ordered],
    published: Mapping[str, Digest],
    floors: Mapping[str, Version],
) -> tuple[Objection, ...]:
    """Every reason against an order; none means that it is accepted.

    Args:
        own: this device's id.
        device: whom the order is for.
        counter: the order's number. The newest accepted one comes again after each reconnect, so equal is no objection.
        last_counter: the highest number that this device accepted from the present director keys; 0 when they are new.
        issued: when the director signed it.
        expires: until when it may be accepted.
        now: as :func:`believed_time` has it.
        modules: the releases it names.
        published: target path -> the manifest's digest as its publisher signed it; a path that is missing was never
            published.
        floors: ``team/name`` -> the lowest version its publisher still allows; none where it is missing.
    """
    found = []
    if device != own:
        found.append(
            Objection("other-device", "device", f"the order is for {device}, and this is {own}", "order it anew")
        )
    if counter < last_counter:
        found.append(
            Objection(
                "old-order", "counter", f"{counter} comes after {last_counter} was accepted", "publish the newest order"
            )
        )
    elif counter > last_counter + LONGEST_STEP:
        found.append(
            Objection(
                "counter-leap",
                "counter",
                f"{counter} is more than {LONGEST_STEP} above {last_counter}, the last one accepted",
                "find out who signed it; only another director key brings the counter back",
            )
        )
    if not issued < expires:
        found.append(Objection("expired", "expires", "the order expires before it was issued", "issue it anew"))
    elif expires <= now:
        found.append(
            Objection("expired", "expires", f"the order expired at {expires:%Y-%m-%d %H:%M} UTC", "issue it anew")
        )
    return (*found, *release_objections(modules, published=published, floors=floors))


def release_objections(
    modules: Sequence[Ordered], *, published: Mapping[str, Digest], floors: Mapping[str, Version]
) -> tuple[Objection, ...]:
    """Every reason against the releases themselves, whoever names them; the arguments are :func:`objections`'."""
    return tuple(one for ordered in modules for one in _against(ordered, published.get(ordered.path), floors))


def accept(found: Sequence[Objection]) -> None:
    """Go on if there is no objection.

    Raises:
        Untrusted: there is; the message gives all of them, element and remedy those of the first.
    """
    if found:
        message = "; ".join(f"{reason.message} [{reason.code}]" for reason in found)
        raise Untrusted(message, element=found[0].element, remedy=found[0].remedy)


def believed_time(*, clock: datetime, built: datetime, known: datetime | None) -> datetime:
    """The time a device goes by: its clock, unless that is before this agent was built or before a time it was given.

    Args:
        clock: the system clock.
        built: when this agent was built.
        known: what :func:`learned_time` returned last, kept on disk.
    """
    return max(clock, built, known or built)


def learned_time(
    *, clock: datetime, built: datetime, known: datetime | None, issued: datetime, leap: timedelta = LONGEST_LEAP
) -> datetime:
    """What accepting an order teaches about the time, to be kept on disk: ``issued``, clamped.

    A clock that is set bounds it: however many orders a stolen director key signs, they push the time ``leap`` beyond
    the clock and no farther. Where the clock is not set (it is before ``built``), each order may move it on by
    ``leap``, for the orders are then all there is to learn the time from. The clock itself is not kept, for one that
    was once far ahead must not stay in force after it has been put right.
    """
    base = clock if clock >= built else believed_time(clock=clock, built=built, known=known)
    learned = min(issued, base + leap)
    return max(learned, known) if known is not None else learned


def _against(ordered: Ordered, published: Digest | None, floors: Mapping[str, Version]) -> list[Objection]:
    path = ordered.path
    try:
        ref = ModuleRef.from_target(path)
    except Invalid as error:
        return [Objection("not-published", path, error.message, "name a manifest by its target path")]
    if published is None:
        return [Objection("not-published", path, "no publisher has signed this release", "publish it first")]
    found = []
    if published != ordered.digest:
        found.append(
            Objection(
                "digest-mismatch",
                path,
                f"the order says {ordered.digest} and the publisher {published}",
                "order what the publisher signed",
            )
        )
    floor = floors.get(f"{ref.team}/{ref.name}")
    if floor is not None and ref.version < floor:
        found.append(
            Objection(
                "below-floor", path, f"the publisher allows {floor} and newer only", f"order version {floor} or newer"
            )
        )
    return found
