"""First contact: a key made here, a signing request, and the certificate that the fleet's CA answers with."""

import http.client
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.identity import CA, CERTIFICATE, DEVICE, KEY, ROOT, Identity, sync_folder, write_private
from modules import canonical
from modules.errors import BadSettings, Invalid, LinkLost, Untrusted
from modules.names import DeviceId
from modules.protocol.enrollment import LIMIT, EnrollAnswer, EnrollRequest, JoinBundle

_TIMEOUT_S: Final = 30.0


def enroll(bundle: bytes, folder: Path, *, name: DeviceId | None = None) -> Identity:
    """Join the fleet that wrote the bundle; ``name`` asks for an id, the server decides.

    The private key never leaves the device. Nothing is left behind when it fails.

    Raises:
        BadSettings: the device is enrolled already.
        Invalid: the bundle is none.
        LinkLost: the fleet server does not answer, or not under the bundle's CA.
        Untrusted: the server refuses the token or the request.
    """
    if (folder / DEVICE).exists():
        raise BadSettings("this device is enrolled already", element=str(folder), remedy="move the folder away first")
    join = canonical.decode(bundle, JoinBundle, limit=LIMIT, what="join bundle")
    key = ec.generate_private_key(ec.SECP256R1())
    answer = _ask(join, EnrollRequest(token=join.token, csr=_request(key), name=name))
    _check(answer, key)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(folder / KEY, private)
    write_private(folder / CERTIFICATE, answer.certificate.encode())
    write_private(folder / CA, join.ca.encode())
    write_private(folder / ROOT, join.root)
    identity = Identity(device=answer.device, fleet=join.fleet, broker=join.broker)
    # Last: a folder without it is not enrolled.
    write_private(folder / DEVICE, canonical.encode(identity))
    sync_folder(folder)
    return identity


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    """A PEM signing request; the server ignores its subject."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _ask(join: JoinBundle, request: EnrollRequest) -> EnrollAnswer:
    address = urlsplit(join.fleet)
    if address.scheme != "https" or not address.hostname:
        raise BadSettings(f"{join.fleet!r} is no https address", element="join bundle", remedy="make a new bundle")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Nothing but the bundle's own CA: without one, nobody is believed.
        context.load_verify_locations(cadata=join.ca)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(f"its CA is no certificate: {error}", element="join bundle", remedy="make a new one") from error
    connection = http.client.HTTPSConnection(address.hostname, address.port or 443, timeout=_TIMEOUT_S, context=context)
    try:
        body = msgspec.json.encode(request)
        connection.request("POST", f"{address.path}/enroll", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read(LIMIT + 1)
    except (OSError, http.client.HTTPException) as error:
        raise LinkLost(
            f"the fleet server cannot be reached: {error}", element=join.fleet, remedy="check the address and its CA"
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        detail = _detail(data)
        raise Untrusted(
            f"the fleet server refused with {response.status}: {detail}",
            element=join.fleet,
            remedy="ask the operator for a new join bundle",
        )
    return canonical.decode(data, EnrollAnswer, limit=LIMIT, what="enrolment answer")


def _detail(data: bytes) -> str:
    """The reason in the server's problem document, or the start of whatever came."""
    try:
        return str(msgspec.json.decode(data)["detail"])[:500]
    except (msgspec.DecodeError, KeyError, TypeError):
        return repr(data[:200])


def _check(answer: EnrollAnswer, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    except ValueError as error:
        raise Untrusted(f"the answer holds no certificate: {error}", element="enrolment") from error
    names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if certificate.public_key() != key.public_key() or names != [answer.device]:
        raise Untrusted("the certificate is for another key or another device", element="enrolment")
