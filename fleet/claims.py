"""Devices that join over MQTT: what a claim asks at its own topic, answered; and claims that have served, ended.

The broker is believed in nothing: a request is signed with the claim's key, and the answer is a certificate of the
fleet's CA, which the device checks.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet import events, joins
from fleet.attempts import Attempts
from fleet.clock import Clock
from fleet.db import Database
from fleet.enrolment import Enrolment
from fleet.mishaps import Mishaps
from fleet.refusals import TooMany
from fleet.revocation import Revocations
from modules import canonical
from modules.errors import EdgefleetError, LinkLost, Refused, Transient, Untrusted
from modules.protocol.enrollment import ClaimAnswer, ClaimRequest, EnrollAnswer, claimed
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)

LIMIT: Final = 16 << 10
# Requests that wait; of a flood the rest is dropped, and an honest device asks again.
_WAITING: Final = 100
SWEEP_S: Final = 30.0

Send = Callable[..., Awaitable[None]]


class Request(NamedTuple):
    """What came at a claim's topic."""

    claim: str
    payload: bytes


class Claims:
    """One duty of the server that leads; ``ended`` is called when a claim's session is to be cut."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        enrolment: Enrolment,
        revocations: Revocations,
        topics: Topics,
        send: Send,
        mishaps: Mishaps,
    ) -> None:
        self._database, self._clock, self._enrolment = database, clock, enrolment
        self._revocations, self._topics, self._send, self._mishaps = revocations, topics, send, mishaps
        self._waiting: asyncio.Queue[Request] = asyncio.Queue(_WAITING)
        self._asked = Attempts()
        self._failed = Attempts()

    def take(self, claim: str, payload: bytes) -> None:
        """A request has come; from the event loop's thread."""
        if not payload:
            return  # what a claim had left with the broker was cleared
        try:
            self._asked.failed(claim, self._clock())
            self._waiting.put_nowait(Request(claim, payload))
        except (TooMany, asyncio.QueueFull):
            log.debug("a request of claim %s was dropped", claim[:40])

    async def run(self, changed: Callable[[], None]) -> None:
        """Answer requests for ever, and end claims that have served."""
        while True:
            with self._mishaps.alone("claim", "a device that joins over MQTT"):
                request = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_S):
                        request = await self._waiting.get()
                if request is None:
                    if await asyncio.to_thread(self._sweep):
                        changed()
                    continue
                answer, ended = await asyncio.to_thread(self._answer, request)
                if answer is not None:
                    with contextlib.suppress(LinkLost):  # the device asks again
                        await self._send(self._topics.claim_down(request.claim), canonical.encode(answer), qos=1)
                if ended:
                    changed()

    def _answer(self, request: Request) -> tuple[ClaimAnswer | None, bool]:
        """What to say, if anything, and whether a session is to be cut."""
        now, device = self._clock(), None
        try:
            asked = canonical.decode(request.payload, ClaimRequest, limit=LIMIT, what="claim")
            with self._database.read() as connection:
                join = joins.of_claim(connection, request.claim)
            device = join.name
            _check(join.claim_key, request.claim, asked)
            if asked.step == "kept":
                return None, self._kept(join.id, asked, now)
            with self._database.write() as connection:
                join = joins.of_claim(connection, request.claim)
                done = self._enrolment.admit(connection, now, join, asked.csr, name=None, address="MQTT")
            if done.revoked:
                self._publish(now)
            said = done.answer
            if isinstance(said, EnrollAnswer):
                return ClaimAnswer(state="joined", device=said.device, certificate=said.certificate), True
            return ClaimAnswer(state="pending", device=said.device, fingerprint=said.fingerprint), False
        except Transient:
            raise
        except Refused as error:
            self._refused(error, request.claim, device, now)
            if device is None:
                return None, False  # whoever it is has no claim of ours
            return ClaimAnswer(state="refused", device=device, code=error.code, message=str(error)[:2000]), False

    def _kept(self, join: int, asked: ClaimRequest, now: float) -> bool:
        """The device has written its certificate: the claim is over, if it was given one."""
        with self._database.write() as connection:
            ended = self._enrolment.certified(connection, joins.numbered(connection, join), asked.csr)
            if ended:
                joins.end_claim(connection, join)
        if ended:
            self._publish(now)
        return ended

    def _sweep(self) -> bool:
        with self._database.read() as connection:
            if not joins.any_open_claim(connection):
                return False
        with self._database.write() as connection:
            ended = joins.end_claims(connection, self._clock())
        if ended:
            self._publish(self._clock())
        return ended > 0

    def _publish(self, now: float) -> None:
        with self._database.write() as connection:  # one list after the other
            self._revocations.publish(connection, now)

    def _refused(self, error: EdgefleetError, claim: str, device: str | None, now: float) -> None:
        try:
            self._failed.failed(claim, now)
        except TooMany:
            return
        with self._database.write() as connection:
            text = f"{error.code}, over MQTT: {error}"
            events.record(connection, now, "enrolment-refused", text, device=device)


def _check(public_key: str, claim: str, asked: ClaimRequest) -> None:
    key = serialization.load_pem_public_key(public_key.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - we made it
    try:
        key.verify(asked.signature, claimed(claim, asked.step, asked.csr), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Untrusted("the request is not signed with the claim's key", element="claim") from error
