"""First contact: a key made here, a signing request, and the certificate that the fleet's CA answers with."""

import errno
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.fleet_address import post
from agent.identity import CA, CERTIFICATE, DEVICE, KEY, ROOT, Identity, write_private
from agent.running import DECOMMISSION, DECOMMISSIONED
from modules import canonical
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, LinkLost, NeedsOperator, NoSpace, Refused, Untrusted
from modules.names import DeviceId
from modules.protocol.enrollment import LIMIT, EnrollAnswer, EnrollRequest, JoinBundle

# A request to the fleet server, as ``agent.fleet_address.post`` makes it: bundle, path, body; status, answer.
Send = Callable[[JoinBundle, str, bytes], tuple[int, bytes]]


def enroll(bundle: bytes, folder: Path, *, name: DeviceId | None = None) -> Identity:
    """Join the fleet that wrote the bundle; ``name`` asks for an id, the server decides.

    The private key never leaves the device. It is written before the server is asked, so that a folder that cannot be
    written costs no token, and stays where no answer came: the server gives it again to the same key.

    Raises:
        BadSettings: the device is enrolled already, or the folder cannot be written.
        NoSpace: the disk is full.
        Invalid: the bundle cannot be read.
        LinkLost: the fleet server does not answer, or not under the bundle's authorities.
        Untrusted: the server refuses the token or the request.
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
    join = canonical.decode(bundle, JoinBundle, limit=LIMIT, what="join bundle")
    with _explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        key = _key(folder / KEY)
    try:
        answer = certified(join, key, name=name)
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
    return identity


def certified(
    join: JoinBundle, key: ec.EllipticCurvePrivateKey, *, name: DeviceId | None, send: Send = post
) -> EnrollAnswer:
    """The certificate that the fleet's server gives to a key; raises as :func:`enroll`."""
    answer = _ask(join, EnrollRequest(token=join.token, csr=_request(key), name=name), send)
    _check(answer, key)
    return answer


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


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    """A PEM signing request; the server ignores its subject."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _ask(join: JoinBundle, request: EnrollRequest, send: Send) -> EnrollAnswer:
    status, data = send(join, "/enroll", msgspec.json.encode(request))
    if status == http.client.OK:
        return canonical.decode(data, EnrollAnswer, limit=LIMIT, what="enrolment answer")
    if status >= http.client.INTERNAL_SERVER_ERROR:
        raise LinkLost(
            f"the fleet server answered {status}: {_detail(data)}",
            element=join.fleet,
            remedy="try again; the operator finds the reason in the server's log",
        )
    raise Untrusted(
        f"the fleet server refused with {status}: {_detail(data)}",
        element=join.fleet,
        remedy="ask the operator for a new join bundle",
    )


def _detail(data: bytes) -> str:
    """The reason in the server's problem document, or the start of whatever came."""
    try:
        return str(msgspec.json.decode(data)["detail"])[:500]
    except (*UNREADABLE, KeyError, TypeError):
        return repr(data[:200])


def _check(answer: EnrollAnswer, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    except ValueError as error:
        raise Untrusted(f"the answer holds no certificate: {error}", element="enrolment") from error
    names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if certificate.public_key() != key.public_key() or names != [answer.device]:
        raise Untrusted("the certificate is for another key or another device", element="enrolment")
