"""What each broker must enforce, tried. Nothing is concluded from what a broker answers, only from what it delivers.

After each attempt an honest message goes the same way; once that has come, the attempt would have come, too.
"""

import contextlib
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from fleet.client.broker.probes import Probes
from fleet.client.broker.session import Session, Will, session
from fleet.doors import enters, enters_plain
from modules.errors import LinkLost

# A block with its frame, and an order with its envelope: the largest messages in each direction.
BLOCK: Final = (64 << 10) + 512
ORDER: Final = 360 << 10
FLOOD: Final = 2 << 20
SHARED: Final = 20
_SETTLE_S: Final = 0.5
SERVER: Final = "edgefleet-broker-check"


class Finding(NamedTuple):
    """The outcome of one check. ``enforced`` is None where something else has to hold; ``means`` says what."""

    name: str
    enforced: bool | None
    means: str


class Ground:
    """Three honest sessions: two devices' and the server's."""

    def __init__(self, probes: Probes, own: Session, other: Session, server: Session) -> None:
        self.probes, self.topics = probes, probes.topics
        self.own, self.other, self.server = own, other, server

    def settled(self) -> bool:
        """Whether an honest message from each side has arrived, and so whatever was sent before it."""
        up, down = _words("fence-up"), _words("fence-down")
        self.own.publish(self.topics.report(self.probes.own), up)
        self.server.publish(self.topics.ack(self.probes.own), down)
        arrived = self.server.hears(up) and self.own.hears(down)
        time.sleep(_SETTLE_S)
        return arrived

    def came(self, payload: bytes) -> bool:
        """Whether anybody heard these bytes who should not have been able to."""
        return any(said == payload for one in (self.own, self.server) for _, said in one.heard)


@contextmanager
def ground(probes: Probes) -> Iterator[Ground]:
    """The honest sessions.

    Raises:
        LinkLost: the broker does not let one of them in, so there is nothing to check.
    """
    with contextlib.ExitStack() as stack:
        own, other = (
            stack.enter_context(session(probes.devices, name, certificate=probes.certificate(file)))
            for name, file in ((probes.own, "own"), (probes.other, "other"))
        )
        server = stack.enter_context(session(probes.services, SERVER, certificate=probes.certificate("service")))
        own.subscribe(probes.topics.all_down(probes.own))
        server.subscribe(probes.topics.all_up())
        yield Ground(probes, own, other, server)


def carries(place: Ground) -> Iterator[Finding]:
    topics, own = place.topics, place.probes.own
    yield Finding(
        "messages go both ways",
        place.settled(),
        "a device hears the server and the server hears it: else no fleet works on this broker",
    )
    waiting = topics.order(place.probes.other)
    place.server.publish(waiting, payload := _words("retained"), retain=True)
    with session(place.probes.devices, place.probes.other, certificate=place.probes.certificate("other")) as late:
        late.subscribe(topics.all_down(place.probes.other))
        kept = late.hears(payload)
    place.server.publish(waiting, b"", retain=True)
    yield Finding("an order waits for its device", kept, "the broker keeps a retained message for who comes later")
    # Last: a broker ends the session of whoever sends more than it takes.
    for what, length in (("a block of 64 KiB", BLOCK), ("the largest order, 360 KiB", ORDER)):
        payload = _words("large").ljust(length, b".")
        place.server.publish(topics.down(own, "blob", "1"), payload)
        yield Finding(
            f"{what} arrives",
            place.own.hears(payload),
            f"the broker takes messages of {length} bytes: else raise its limit (max_packet_size in mosquitto)",
        )


def writes(place: Ground) -> Iterator[Finding]:
    topics, own, other = place.topics, place.probes.own, place.probes.other
    attempts = {
        "write what another device says": topics.report(own),
        "write what another device is told": topics.order(own),
        "write what it is told itself": topics.order(other),
        "write to all devices": topics.shared_blob("sha256:" + "0" * 64),  # type: ignore[arg-type]  # a digest
        "leave messages under topics of its own invention": topics.up(other, "invented"),
    }
    place.own.subscribe(f"{topics.prefix}/_shared/#")
    place.other.subscribe(topics.all_down(other))
    for what, topic in attempts.items():
        for retain in (False, True):
            payload = _words("foreign")
            place.other.publish(topic, payload, retain=retain)
            place.settled()
            came = place.came(payload) or any(said == payload for _, said in place.other.heard)
            place.server.publish(topic, b"", retain=True)
            if came:
                break
        yield _never(f"a device cannot {what}", came, f"any device can publish at {topic}")


def reads(place: Ground) -> Iterator[Finding]:
    topics, own = place.topics, place.probes.own
    filters = {
        "another device's orders": topics.all_down(own),
        "another device's reports": f"{topics.prefix}/{own}/up/#",
        "everything, by #": "#",
        "everything, by +": f"{topics.prefix}/+/up/+",
    }
    for what, wanted in filters.items():
        with session(place.probes.devices, place.probes.other, certificate=place.probes.certificate("other")) as thief:
            thief.subscribe(wanted)
            place.settled()
            heard = any(f"/{own}/" in topic for topic, _ in thief.heard)
        yield _never(f"a device cannot read {what}", heard, f"any device can subscribe to {wanted} and hear others")
    with session(place.probes.devices, place.probes.other, certificate=place.probes.certificate("other")) as thief:
        thief.subscribe(f"$share/edgefleet/{topics.all_up()}")
        sent = [_words("shared") for _ in range(SHARED)]
        for payload in sent:
            place.own.publish(topics.report(own), payload)
        place.settled()
        stolen = len(thief.heard) or sum(payload not in {said for _, said in place.server.heard} for payload in sent)
    yield _never(
        "a device cannot steal by a shared subscription",
        bool(stolen),
        f"{stolen} of {SHARED} reports did not reach the server alone",
    )


def poses(place: Ground) -> Iterator[Finding]:
    topics, own, other = place.topics, place.probes.own, place.probes.other
    probes = place.probes
    payload = _words("will")
    # Whatever the broker thinks of such a will, it may say so by refusing the session.
    with contextlib.suppress(LinkLost):
        will = Will(topics.status(own), payload)
        with session(probes.devices, other, certificate=probes.certificate("other"), will=will) as dying:
            dying.break_off()
            time.sleep(_SETTLE_S)
    place.settled()
    yield _never(
        "a device's last will is its own", place.came(payload), "any device can have the broker say another is offline"
    )
    with contextlib.suppress(LinkLost), session(probes.devices, own, certificate=probes.certificate("other")):
        place.own.ends(within_s=1.0)
    yield _never(
        "a session has its certificate's name",
        not place.own.up,
        "any device can end another's session by its client id (use_username_as_clientid in mosquitto)",
    )
    if not place.own.up:
        return
    for file, name in (("plus", "+"), ("hash", "#"), ("below", f"{own}/down")):
        payload = _words("name")
        with (
            contextlib.suppress(LinkLost),
            session(probes.devices, name, certificate=probes.certificate(file)) as posing,
        ):
            for topic in (topics.order(own), topics.report(own), f"{topics.prefix}/{name}/up/report"):
                posing.publish(topic, payload)
            place.settled()
        # mosquitto's patterns take the name as it is; the fleet's authority certifies no such name.
        yield Finding(
            f"a certificate of the name {name.replace(own, 'DEVICE')} opens nothing",
            None if place.came(payload) else True,
            "the broker would let it write below DEVICE: only the authority keeps such names away, so let no other "
            "authority certify devices",
        )


def lets_in(place: Ground) -> Iterator[Finding]:
    probes = place.probes
    cases = {
        "without a certificate": None,
        "with an expired certificate": "expired",
        "with a certificate of the future": "future",
        "with another authority's certificate": "foreign",
        "with a server's certificate": "server",
    }
    # A session of the device's own is ended by an intruder that is let in under its name.
    for what, file in cases.items():
        certificate = None if file is None else probes.certificate(file)
        inside = enters(probes.devices, probes.own, certificate=certificate)
        yield _never(f"nobody comes in {what}", inside, "the listener lets in who is no device of this fleet")
    yield _never(
        "nobody comes in without TLS",
        enters_plain(probes.devices, probes.own),
        "the listener also speaks plain TCP: everybody in between reads along",
    )
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        own = probes.certificate("own")
        inside = enters(probes.devices, probes.own, certificate=own, newest=version)
        yield _never(f"nobody comes in with {version.name}", inside, "set TLS 1.2 as the least (tls_version)")
    yield _never(
        "no device comes in where the server does",
        enters(probes.services, probes.other, certificate=probes.certificate("other")),
        "the server's listener takes devices' certificates: give it an authority of its own",
    )


def bounds(place: Ground) -> Iterator[Finding]:
    payload = _words("flood").ljust(FLOOD, b".")
    with (
        contextlib.suppress(LinkLost),
        session(place.probes.devices, place.probes.other, certificate=place.probes.certificate("other")) as flooding,
    ):
        flooding.publish(place.topics.report(place.probes.other), payload)
    time.sleep(_SETTLE_S)
    yield _never(
        "a message has a largest size",
        place.came(payload),
        f"a device can send messages of {FLOOD} bytes: bound them (max_packet_size), at 384 KiB for instance",
    )


# Each makes the findings of its part; ``lets_in`` last but one, since whoever is let in ends the honest session.
CHECKS: Final[tuple[Callable[[Ground], Iterator[Finding]], ...]] = (carries, writes, reads, poses, bounds, lets_in)


def check(probes: Probes) -> Iterator[Finding]:
    """All findings, as they are made.

    Raises:
        LinkLost: the broker does not let in who must be let in.
    """
    for part in CHECKS:
        with ground(probes) as place:
            yield from part(place)


def _never(name: str, happened: bool, means: str) -> Finding:  # noqa: FBT001 - read like a sentence
    return Finding(name, not happened, means)


def _words(kind: str) -> bytes:
    return f"{kind} {secrets.token_hex(8)}".encode()
