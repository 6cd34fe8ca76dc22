"""First contact: a key made here, a signing request, and the certificate that the fleet's CA answers with."""

import errno
import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.claim import Claim
from agent.clock import backoff
from agent.fleet_address import post
from agent.identity import CA, CERTIFICATE, DEVICE, KEY, ROOT, Identity, write_private
from agent.running import DECOMMISSION, DECOMMISSIONED
from agent.signing_request import signing_request
from modules import canonical
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, LinkLost, NeedsOperator, NoSpace, Refused, Untrusted
from modules.fingerprint import fingerprint
from modules.names import DeviceId
from modules.protocol import join_code
from modules.protocol.enrollment import (
    LIMIT,
    ClaimBundle,
    EnrollAnswer,
    EnrollPending,
    EnrollRequest,
    JoinBundle,
)

# A request to the fleet server, as ``agent.fleet_address.post`` makes it: bundle, path, body; status, answer.
Send = Callable[[JoinBundle, str, bytes], tuple[int, bytes]]
# One request for a certificate, on whatever way.
Ask = Callable[[], EnrollAnswer | EnrollPending]
Tell = Callable[[EnrollPending], None]

_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 60.0


class _Kind(msgspec.Struct):
    format: str = ""


def enroll(
    bundle: bytes,
    folder: Path,
    *,
    name: DeviceId | None = None,
    wait: bool = True,
    tell: Tell = lambda _: None,
) -> Identity | None:
    """Join the fleet that wrote the bundle; ``name`` asks for an id, the server decides.

    A join bundle may also come as the line of text that its QR code holds.

    The private key never leaves the device. It is written before the server is asked, so that a folder that cannot be
    written costs no token, and stays where no answer came: the server gives it again to the same key. Where an operator
    has to approve the key, ``tell`` is called once, and the server is asked again and again; without ``wait``, None is
    returned. Whoever calls this again, after a crash too, goes on with the same key.

    Raises:
        BadSettings: the device is enrolled already, or the folder cannot be written.
        NoSpace: the disk is full.
        Invalid: the bundle cannot be read.
        LinkLost: the fleet server, or the claim's broker, does not answer, or not under the bundle's authorities.
        Untrusted: the server refuses the token, the request or the key.
    """
    if (folder / DEVICE).exists():
        raise BadSettings(
            "this device is enrolled already", element=str(folder), remedy="run edgefleet-agent halt, move it away"
        )
    if (folder.parent / DECOMMISSION).exists():
        raise BadSettings(
            "this device is being decommissioned",
            element=str(folder.parent),
            remedy="run edgefleet-agent run, which ends when everything is removed",
        )
    join = _read(bundle)
    with _explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        key = _key(folder / KEY)
    try:
        claim = Claim(join, key, folder) if isinstance(join, ClaimBundle) else None
        ask = claim.ask if claim else _asking(join, key, name)
        answer = _answered(ask, key, wait=wait, tell=tell)
        if isinstance(answer, EnrollPending):
            return None
        _check(answer, key, join.ca)
    except (Refused, NeedsOperator):
        # The next try has another bundle, perhaps of another fleet: it gets another key.
        (folder / KEY).unlink()
        folder.rmdir()
        raise
    identity = Identity(device=answer.device, fleet=join.fleet, broker=join.broker, blob_url=join.blob_url)
    with _explained(folder):
        # What says that an earlier identity was taken away does not say it of this one.
        (folder.parent / DECOMMISSIONED).unlink(missing_ok=True)
        write_private(folder / CERTIFICATE, answer.certificate.encode())
        write_private(folder / CA, join.ca.encode())
        write_private(folder / ROOT, join.root)
        # Last: a folder without it is not enrolled.
        write_private(folder / DEVICE, canonical.encode(identity))
    if claim:
        claim.kept()
    return identity


def certified(
    join: JoinBundle, key: ec.EllipticCurvePrivateKey, *, name: DeviceId | None, send: Send = post
) -> EnrollAnswer:
    """The certificate that the fleet's server gives to a key at once; raises as :func:`enroll`."""
    answer = _ask(join, EnrollRequest(token=join.token, csr=signing_request(key), name=name), send)
    if isinstance(answer, EnrollPending):
        raise BadSettings(
            "whoever joins with this bundle waits for approval",
            element="join bundle",
            remedy="make one with: edgefleet devices join --no-approve",
        )
    _check(answer, key, join.ca)
    return answer


def _read(bundle: bytes) -> JoinBundle | ClaimBundle:
    if join_code.is_code(bundle):
        return join_code.decode(bundle)
    try:
        kind = msgspec.json.decode(bundle, type=_Kind).format
    except UNREADABLE:
        kind = ""
    if kind.startswith("edgefleet.claim/"):
        return canonical.decode(bundle, ClaimBundle, limit=LIMIT, what="claim bundle")
    return canonical.decode(bundle, JoinBundle, limit=LIMIT, what="join bundle")


def _asking(join: JoinBundle | ClaimBundle, key: ec.EllipticCurvePrivateKey, name: DeviceId | None) -> Ask:
    assert isinstance(join, JoinBundle)  # noqa: S101 - for mypy
    return partial(_ask, join, EnrollRequest(token=join.token, csr=signing_request(key), name=name), post)


def _answered(ask: Ask, key: ec.EllipticCurvePrivateKey, *, wait: bool, tell: Tell) -> EnrollAnswer | EnrollPending:
    """The certificate; or, without ``wait``, that it has to be waited for."""
    pending: EnrollPending | None = None
    attempt = 0
    while True:
        try:
            answer = ask()
        except LinkLost:
            if pending is None:
                raise
            answer = pending  # it is known there, and waits on while the server is away
        if isinstance(answer, EnrollAnswer):
            return answer
        if answer.fingerprint != fingerprint(_der(key)):
            raise Untrusted("the server has another key than this device's", element="enrolment")
        if pending is None:
            tell(answer)
        if not wait:
            return answer
        pending, attempt = answer, attempt + 1
        time.sleep(backoff(attempt, first_s=_FIRST_WAIT_S, most_s=_LONGEST_WAIT_S))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(
                "the identity cannot be written", element=str(folder), remedy="free disk space, then enrol again"
            ) from error
        raise BadSettings(
            f"the identity cannot be written: {error.strerror}",
            element=str(folder),
            remedy="run it as the owner of the state folder, or as root",
        ) from error


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key of an enrolment that was begun and not finished, else a new one, which is written."""
    try:
        begun = serialization.load_pem_private_key(path.read_bytes(), None)
    except (FileNotFoundError, ValueError):
        begun = None
    if isinstance(begun, ec.EllipticCurvePrivateKey):
        return begun
    key = ec.generate_private_key(ec.SECP256R1())
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    write_private(path, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    return key


def _ask(join: JoinBundle, asked: EnrollRequest, send: Send) -> EnrollAnswer | EnrollPending:
    status, data = send(join, "/enroll", msgspec.json.encode(asked))
    if status == http.client.OK:
        return canonical.decode(data, EnrollAnswer, limit=LIMIT, what="enrolment answer")
    if status == http.client.ACCEPTED:
        return canonical.decode(data, EnrollPending, limit=LIMIT, what="enrolment answer")
    if status >= http.client.INTERNAL_SERVER_ERROR or status == http.client.TOO_MANY_REQUESTS:
        raise LinkLost(
            f"the fleet server answered {status}: {_detail(data)}",
            element=join.fleet,
            remedy="try again; the operator finds the reason in the server's log",
        )
    raise Untrusted(
        f"the fleet server refused with {status}: {_detail(data)}",
        element=join.fleet,
        remedy=_field(data, "remedy") or "ask the operator for a new join bundle",
    )


def _detail(data: bytes) -> str:
    """The reason in the server's problem document, or the start of whatever came."""
    return _field(data, "detail") or repr(data[:200])


def _field(data: bytes, name: str) -> str:
    try:
        return str(msgspec.json.decode(data)[name])[:500]
    except (*UNREADABLE, KeyError, TypeError):
        return ""


def _check(answer: EnrollAnswer, key: ec.EllipticCurvePrivateKey, authorities: str) -> None:
    """See that it is this key's, for this id, and of the fleet's CA: a broker that brings it is not believed."""
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    except ValueError as error:
        raise Untrusted(f"the answer holds no certificate: {error}", element="enrolment") from error
    names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if certificate.public_key() != key.public_key() or names != [answer.device]:
        raise Untrusted("the certificate is for another key or another device", element="enrolment")
    if not any(_issued(certificate, one) for one in x509.load_pem_x509_certificates(authorities.encode())):
        raise Untrusted("the certificate is not of the fleet's CA", element="enrolment")


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
