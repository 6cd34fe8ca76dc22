"""The fleet's certificate authority: it names devices, servers and services, and never believes a request's subject.

A device's certificate has CN = its id, SAN ``urn:edgefleet:device:<id>`` and clientAuth only; a server's has its DNS
names and addresses and serverAuth only, so neither passes for the other.
"""

import datetime as dt
import ipaddress
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.clock import Clock
from fleet.folder import Folder, write_secret
from modules.errors import BadSettings, Invalid
from modules.names import DeviceId, device_id

CSR_LIMIT: Final = 8 << 10
AUTHORITIES_LIMIT: Final = 64 << 10
CA_LIFE: Final = dt.timedelta(days=3650)
SERVER_LIFE: Final = dt.timedelta(days=825)
# Clocks differ; a certificate is valid a little before it is made.
BACKDATE: Final = dt.timedelta(minutes=10)
# Of a list of revoked certificates. A broker refuses everybody once its list has ended, so it is made anew every day.
LIST_LIFE: Final = dt.timedelta(days=30)


@dataclass(frozen=True)
class Issued:
    """A certificate and, where the authority made it, its key; both PEM."""

    certificate: bytes
    key: bytes = b""

    @classmethod
    def of(cls, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Self:
        return cls(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))

    def write(self, path: Path) -> None:
        write_secret(Folder.key(path), self.key)
        with path.open("wb") as stream:
            stream.write(self.certificate)
            stream.flush()
            os.fsync(stream.fileno())


@dataclass(frozen=True)
class Authority:
    """One CA certificate with its key; what it issues is dated by ``clock``."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    clock: Clock = field(default=time.time, compare=False)

    @classmethod
    def create(cls, name: str, clock: Clock = time.time) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key.public_key(), CA_LIFE, clock())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key, clock)

    @classmethod
    def load(cls, path: Path, clock: Clock = time.time) -> Self:
        """Read a CA from ``path`` and the key beside it.

        Raises:
            BadSettings: the files are not there or are no P-256 CA.
        """
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            key = serialization.load_pem_private_key(Folder.key(path).read_bytes(), None)
        except (OSError, ValueError) as error:
            raise BadSettings(str(error), element=str(path), remedy="make the data folder with: init") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadSettings("this is not a P-256 key", element=str(Folder.key(path)))
        return cls(certificate, key, clock)

    @property
    def mark(self) -> str:
        """What is this fleet's, among others on one machine, by its authority's certificate."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()[:12]

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def write(self, path: Path) -> None:
        Issued(self.pem.encode(), _key_pem(self.key)).write(path)

    def server(self, names: Iterable[str], key: ec.EllipticCurvePrivateKey | None = None) -> Issued:
        """A server certificate for DNS names and IP addresses; for a new key, or for one that it has."""
        alternatives = [_alternative(name) for name in dict.fromkeys(names)]
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = self._leaf(
            str(alternatives[0].value), key.public_key(), alternatives, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_LIFE
        )
        return Issued(certificate, _key_pem(key))

    def service(
        self, name: str, key: ec.EllipticCurvePrivateKey | None = None, life: dt.timedelta = SERVER_LIFE
    ) -> Issued:
        """A client certificate for a service or a claim; the name contains ``:``, which no device id can."""
        if ":" not in name:
            raise Invalid("a service's name contains a colon", element=name)
        key = key or ec.generate_private_key(ec.SECP256R1())
        san = [x509.UniformResourceIdentifier(f"urn:edgefleet:{name}")]
        return Issued(self._leaf(name, key.public_key(), san, ExtendedKeyUsageOID.CLIENT_AUTH, life), _key_pem(key))

    def device(self, device: DeviceId, public_key: ec.EllipticCurvePublicKey, life: dt.timedelta) -> bytes:
        """A device's PEM certificate; of its request only the checked public key is used."""
        name = device_id(device)
        san = [x509.UniformResourceIdentifier(f"urn:edgefleet:device:{name}")]
        return self._leaf(name, public_key, san, ExtendedKeyUsageOID.CLIENT_AUTH, life)

    def revocations(self, listed: Mapping[int, float]) -> bytes:
        """The PEM list of revoked certificates: serial numbers and when, in Unix seconds.

        It holds for ``LIST_LIFE``, and never longer than the authority.
        """
        now = dt.datetime.fromtimestamp(self.clock(), dt.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - BACKDATE).next_update(
            max(now, min(now + LIST_LIFE, self.certificate.not_valid_after_utc))
        )
        for serial, at in sorted(listed.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(
                entry.revocation_date(dt.datetime.fromtimestamp(at, dt.UTC)).build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _leaf(
        self,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        alternatives: Iterable[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        life: dt.timedelta,
    ) -> bytes:
        builder = _builder(_name(name), self.certificate.subject, public_key, life, self.clock())
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(ca=False), True),
            (x509.ExtendedKeyUsage([purpose]), False),
            (x509.SubjectAlternativeName(alternatives), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def certified_names(path: Path) -> list[str]:
    """The DNS names and addresses in a server's certificate; none where the file is not there.

    Raises:
        BadSettings: it is there and is not a certificate.
    """
    if not path.exists():
        return []
    try:
        extensions = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    except (OSError, ValueError) as error:
        raise BadSettings(str(error), element=str(path), remedy="name a PEM certificate") from error
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def read_authorities(path: Path) -> str:
    """The PEM certificates of other authorities, which devices are to believe.

    Raises:
        BadSettings: the file is not there, has no certificate, or is larger than a join bundle may carry.
    """
    try:
        data = path.read_bytes()
        certificates = x509.load_pem_x509_certificates(data)
    except (OSError, ValueError) as error:
        raise BadSettings(str(error), element=str(path), remedy="name a PEM file of CA certificates") from error
    text = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)
    if len(text) > AUTHORITIES_LIMIT:
        raise BadSettings(
            f"{len(text)} bytes of certificates are more than the {AUTHORITIES_LIMIT} that a join bundle carries",
            element=str(path),
            remedy="name only the authorities that this address needs",
        )
    return text


def check_request(pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate signing request; everything else in it is ignored.

    Raises:
        Invalid: too large, unreadable, not signed by its own key, or no P-256 key.
    """
    data = pem.encode()
    if len(data) > CSR_LIMIT:
        raise Invalid(f"{len(data)} bytes is more than the {CSR_LIMIT} allowed", element="csr")
    try:
        request = x509.load_pem_x509_csr(data)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Invalid("this is not a certificate signing request", element="csr") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("the key is not of the curve P-256", element="csr", remedy="make a P-256 key")
    if not signed:
        raise Invalid("the request is not signed with its own key", element="csr")
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, life: dt.timedelta, at: float
) -> x509.CertificateBuilder:
    now = dt.datetime.fromtimestamp(at, dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
