"""This device's next certificate, with a new key: asked for over MQTT, checked, and used before the old one goes.

Each step leaves files with which the device connects, wherever it is cut off:

1. the new key, as ``NEXT_KEY``; then the request, signed with the present key;
2. the answer, checked: key and certificate in one file, ``NEXT``;
3. the session with that; only when the broker has let the device in, ``NEXT`` takes the place of the present pair
   (agent/link.py).

Begun again, each goes on from what is there: the same key gets the same certificate. Loaded when a renewal is due.
"""

import asyncio
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from securesystemslib.signer import Signer

from agent import identity as identities
from agent.identity import NEXT, NEXT_KEY, write_private
from agent.link import Link
from agent.next_pair import NextPair
from modules import canonical, signing
from modules.digests import sha256
from modules.errors import BadSettings, Invalid, LinkLost, NoSpace, Untrusted
from modules.names import DeviceId
from modules.protocol.enrollment import RENEW_LIMIT, RenewAnswer, RenewRequest

_log = logging.getLogger(__name__)
ANSWER_S: Final = 60.0
# Until the session with the new certificate stands, or the one with the old one again.
SWITCH_S: Final = 300.0
# So often the broker may refuse the new certificate while it takes the old one; then another one is asked for.
REFUSED: Final = 3


class Renewal:
    """One for the device; ``renew`` may be called by several at once, who get the same answer."""

    def __init__(self, *, device: DeviceId, folder: Path, link: Link, signer: Signer, pair: NextPair) -> None:
        self._device, self._folder, self._link, self._signer = device, folder, link, signer
        self._pair = pair
        self._running: asyncio.Task[str] | None = None
        self._answer: asyncio.Future[x509.Certificate] | None = None
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._asked = ""
        self._promoted = asyncio.Event()
        self._refused = 0

    async def renew(self) -> str:
        """Renew now; returns the new certificate's number in hexadecimal. Raises as agent.renewal_due.RenewalDue."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._renew(), name="renewal")
        return await asyncio.shield(self._running)

    def on_answer(self, payload: bytes) -> None:
        """What came at ``down/enroll``: whatever it is, only a certificate that fits ends the wait well."""
        if self._answer is None or self._answer.done() or self._key is None:
            return
        try:
            answer = canonical.decode(payload, RenewAnswer, limit=RENEW_LIMIT, what="down/enroll")
            if answer.reason is not None:
                if answer.csr == self._asked:
                    text = f"the server gives no certificate: {answer.reason.message}"
                    self._answer.set_exception(Untrusted(text, element=answer.reason.code))
                return
            self._answer.set_result(self._pair.checked(answer.certificate, self._key))
        except (Invalid, Untrusted) as error:
            _log.warning("an answer to the renewal was ignored: %s", error)

    def on_promoted(self) -> None:
        self._promoted.set()

    async def _renew(self) -> str:
        if self._refused >= REFUSED:
            self._give_up()
        certificate = self._pair.found() or await self._ask()
        await self._switch()
        _log.warning("the certificate was renewed: %x, until %s", certificate.serial_number, _ends(certificate))
        return f"{certificate.serial_number:x}"

    async def _ask(self) -> x509.Certificate:
        with self._explained():
            key = self._key = self._next_key()
        csr = _request(key, self._device)
        self._asked = sha256(csr.encode())
        self._answer = asyncio.get_running_loop().create_future()
        request = canonical.encode(RenewRequest(device=self._device, csr=csr))
        envelope = signing.sign(request, payload_type=signing.RENEW_TYPE, signers=[self._signer])
        try:
            await self._link.publish(self._link.topics.renewal(self._device), envelope)
            async with asyncio.timeout(ANSWER_S):
                certificate = await self._answer
        except TimeoutError as error:
            raise LinkLost("the server did not answer the request for a certificate", element="renewal") from error
        finally:
            self._answer = None
        with self._explained():
            write_private(self._folder / NEXT, _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        self._refused = 0
        return certificate

    async def _switch(self) -> None:
        """Have the session begun anew with the next certificate, and wait until that is the present one."""
        self._promoted.clear()
        if (self._folder / NEXT).exists():  # else the session was begun anew meanwhile
            self._link.turn()
            try:
                async with asyncio.timeout(SWITCH_S):
                    await self._promoted.wait()
            except TimeoutError as error:
                self._refused += self._link.connected
                raise LinkLost("there is no session with the new certificate yet", element="renewal") from error
        (self._folder / NEXT_KEY).unlink(missing_ok=True)

    def _next_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of a renewal that was begun, unless it is the present one; else a new one, which is written."""
        path = self._folder / NEXT_KEY
        try:
            begun = serialization.load_pem_private_key(path.read_bytes(), None)
        except (FileNotFoundError, ValueError):
            begun = None
        present = serialization.load_pem_private_key(
            identities.key_of(identities.present(self._folder).key.read_bytes()), None
        )
        if isinstance(begun, ec.EllipticCurvePrivateKey) and begun.public_key() != present.public_key():
            return begun
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(path, _pem(key))
        return key

    def _give_up(self) -> None:
        for name in (NEXT, NEXT_KEY):
            (self._folder / name).unlink(missing_ok=True)
        self._refused = 0

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = str(self._folder)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoSpace("the new key cannot be written", element=where, remedy="free disk space") from error
            text = f"the new key cannot be written: {error.strerror}"
            raise BadSettings(text, element=where, remedy="let the agent's user write there") from error


def _request(key: ec.EllipticCurvePrivateKey, device: DeviceId) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)


def _ends(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
