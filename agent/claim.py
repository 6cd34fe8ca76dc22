"""Joining over MQTT, where the fleet server cannot be reached: a claim's certificate opens one pair of topics.

The broker is believed in nothing: what is asked is signed with the claim's key, and what it answers is a certificate of
the fleet's CA, or it is refused (agent/enroll.py). Each question has a session of its own.
"""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Final, Literal

import aiomqtt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity import write_private
from agent.mqtt_client import Client
from agent.signing_request import signing_request
from modules import canonical
from modules.errors import Invalid, LinkLost, Untrusted
from modules.protocol.enrollment import (
    LIMIT,
    ClaimAnswer,
    ClaimBundle,
    ClaimRequest,
    EnrollAnswer,
    EnrollPending,
    claimed,
)
from modules.protocol.topics import CLAIM, Topics

_FILE: Final = "claim.pem"
_ANSWER_S: Final = 30.0
# A certificate that the broker refuses looks like a broker that does not answer.
_CONNECT_S: Final = 10.0
# The server ends the session once it has heard that the certificate is kept.
_GOODBYE_S: Final = 10.0


class Claim:
    """Asks with one claim for a certificate for one key; ``folder`` holds the claim's own while a session lasts."""

    def __init__(self, bundle: ClaimBundle, key: ec.EllipticCurvePrivateKey, folder: Path) -> None:
        self._bundle, self._folder = bundle, folder
        self._csr = signing_request(key)
        self._topics = Topics(bundle.broker.prefix)
        try:
            claim_key = serialization.load_pem_private_key(bundle.key.encode(), None)
        except ValueError as error:
            raise Invalid(
                f"its key cannot be read: {error}", element="claim bundle", remedy="make a new one"
            ) from error
        if not isinstance(claim_key, ec.EllipticCurvePrivateKey):
            raise Invalid("its key is of another kind", element="claim bundle", remedy="make a new one")
        self._key = claim_key

    def ask(self) -> EnrollAnswer | EnrollPending:
        """Ask once.

        Raises:
            LinkLost: the broker or the server does not answer.
            Invalid: the bundle or the answer cannot be used.
            Untrusted: the server refuses.
        """
        answer = asyncio.run(self._exchange())
        if answer.state == "refused":
            raise Untrusted(
                f"the fleet server refused ({answer.code}): {answer.message}",
                element=self._bundle.fleet,
                remedy="ask the operator for a new claim",
            )
        if answer.state == "joined":
            return EnrollAnswer(device=answer.device, certificate=answer.certificate)
        if answer.fingerprint is None:
            raise Invalid("the answer names no fingerprint", element="claim")
        return EnrollPending(device=answer.device, fingerprint=answer.fingerprint, expires=0.0)

    def kept(self) -> None:
        """Say that the certificate is kept, so that the claim ends; the device's first words say so, too."""
        with contextlib.suppress(LinkLost):
            asyncio.run(self._say_kept())

    async def _exchange(self) -> ClaimAnswer:
        try:
            async with asyncio.timeout(_ANSWER_S), self._session() as client:
                await client.subscribe(self._topics.claim_down(self._bundle.claim), qos=1)
                await client.publish(self._topics.claim_up(self._bundle.claim), self._request("join"), qos=1)
                async for message in client.messages:
                    payload = message.payload if isinstance(message.payload, bytes) else b""
                    return canonical.decode(payload, ClaimAnswer, limit=LIMIT, what="claim answer")
        except TimeoutError as error:
            raise self._lost("the fleet server does not answer") from error
        except (aiomqtt.MqttError, OSError) as error:
            raise self._lost(str(error)) from error
        raise self._lost("the session ended")

    async def _say_kept(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_S), self._session() as client:
                await client.publish(self._topics.claim_up(self._bundle.claim), self._request("kept"), qos=1)
        except (TimeoutError, aiomqtt.MqttError, OSError) as error:
            raise self._lost(str(error)) from error

    def _session(self) -> aiomqtt.Client:
        broker = self._bundle.broker
        return Client(
            broker.host,
            broker.port,
            identifier=f"{CLAIM}{self._bundle.claim}",
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=self._context(),
            timeout=_CONNECT_S,
        )

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        place = self._folder / _FILE
        # TLS reads a key from a file alone.
        write_private(place, f"{self._bundle.certificate}\n{self._bundle.key}".encode())
        try:
            context.load_verify_locations(cadata=self._bundle.broker.ca or self._bundle.ca)
            context.load_cert_chain(place)
        except (ssl.SSLError, ValueError) as error:
            raise Invalid(
                f"its certificates cannot be used: {error}", element="claim bundle", remedy="make a new one"
            ) from error
        finally:
            place.unlink()
        return context

    def _request(self, step: Literal["join", "kept"]) -> bytes:
        said = claimed(self._bundle.claim, step, self._csr)
        signature = self._key.sign(said, ec.ECDSA(hashes.SHA256()))
        return canonical.encode(ClaimRequest(step=step, csr=self._csr, signature=signature))

    def _lost(self, why: str) -> LinkLost:
        return LinkLost(
            f"joining over MQTT failed: {why}",
            element=f"{self._bundle.broker.host}:{self._bundle.broker.port}",
            remedy="try again; where the claim is used up, taken back or expired, ask for a new one",
        )
