"""An authority for the double, certificates of it, and the kubeconfig files that name them."""

import datetime as dt
import ipaddress
import json
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """Everything lies in one folder, which the test throws away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        constraint = (x509.BasicConstraints(ca=True, path_length=None), True)
        usage = (_usage(signs=True), True)
        own = self._build(self._name, self._key, constraint, usage)
        self.certificate = self._write("ca.crt", own.public_bytes(serialization.Encoding.PEM))
        self._own = own

    def server(self, address: str) -> ssl.SSLContext:
        """A context for the listener, which asks for client certificates and takes none, too."""
        alternative = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("kubernetes")]
        )
        certificate, key = self.issue("apiserver", extra=((alternative, False),), usage=ExtendedKeyUsageOID.SERVER_AUTH)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(self.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def issue(
        self, name: str, groups: tuple[str, ...] = (), *, extra: Any = (), usage: Any = ExtendedKeyUsageOID.CLIENT_AUTH
    ) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(
            subject,
            key,
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs=False), True),
            (x509.ExtendedKeyUsage([usage]), False),
            *extra,
        )
        stem = name.replace(":", "-")
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            self._write(f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{stem}.key", secret),
        )

    def kubeconfig(self, stem: str, server: str, user: dict[str, Any], namespace: str = "default") -> Path:
        """As kubectl reads it; ``user`` is a token, or files of a certificate and key."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "double",
            "clusters": [
                {"name": "double", "cluster": {"server": server, "certificate-authority": str(self.certificate)}}
            ],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": stem, "namespace": namespace}}],
            "users": [{"name": stem, "user": user}],
        }
        return self._write(f"{stem}.kubeconfig", json.dumps(document, indent=1).encode())

    def _build(self, subject: x509.Name, key: Any, *extensions: tuple[Any, bool]) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority, critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        path.chmod(0o600)
        return path


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
