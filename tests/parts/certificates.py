"""Certificates for servers that tests start."""

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def self_signed(certificate, key, name, *, address=""):
    """Write a certificate for localhost, and an address, with this name, and its key, which is written first."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    places = [x509.DNSName("localhost"), *([x509.IPAddress(ipaddress.ip_address(address))] if address else [])]
    made = (
        x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .sign(private, hashes.SHA256())
    )  # fmt: skip
    plain = serialization.NoEncryption()
    texts = {
        key: private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        certificate: made.public_bytes(serialization.Encoding.PEM),
    }
    for path, text in texts.items():
        path.with_suffix(".new").write_bytes(text)
        path.with_suffix(".new").replace(path)
