"""Certificates to try a broker's rules with: genuine, wrong and hostile ones, all of an hour's life.

They are written for ``edgefleet broker check`` (fleet/client/broker/). None of their names is a device of the fleet, so
the server takes nothing from them, and whoever finds the folder later finds certificates that have ended.
"""

import datetime as dt
import ipaddress
import json
import secrets
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.authority import Authority, Issued
from fleet.folder import Folder, write_secret
from fleet.settings import Settings
from fleet.setup import SERVICE
from modules.errors import BadSettings

LIFE: Final = dt.timedelta(hours=1)
FORMAT: Final = "edgefleet.broker-probes/1"


def write(folder: Path, data: Folder, settings: Settings) -> dict[str, str]:
    """Write the probes of a fleet into a new folder, with where its broker is; what they are called, by file.

    Raises:
        BadSettings: the folder has something in it, or the data folder holds no fleet.
    """
    authority, services = Authority.load(data.ca), Authority.load(data.service_ca)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadSettings("the folder is not empty", element=str(folder), remedy="name a new folder")
    folder.chmod(0o700)
    mark = secrets.token_hex(4)
    own, other = f"probe-{mark}-a", f"probe-{mark}-b"
    now = dt.datetime.now(dt.UTC)
    past, future = (now - 3 * LIFE, now - LIFE), (now + 24 * LIFE, now + 25 * LIFE)
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    probes = {
        "own": _probe(authority, own),
        "other": _probe(authority, other),
        "expired": _probe(authority, own, life=past),
        "future": _probe(authority, own, life=future),
        "foreign": _probe(Authority.create("another fleet"), own),
        "server": _probe(authority, own, purpose=server),
        "plus": _probe(authority, "+"),
        "hash": _probe(authority, "#"),
        "below": _probe(authority, f"{own}/down"),
        "service": _probe(services, SERVICE, purpose=client),
    }
    for name, issued in probes.items():
        issued.write(folder / f"{name}.pem")
    ca = data.ca if settings.broker_ca is None else settings.broker_ca
    (folder / "ca.pem").write_bytes(ca.read_bytes())
    place = {
        "format": FORMAT,
        "host": settings.broker_host,
        "port": settings.broker_port,
        "service_host": settings.broker_service_host or settings.broker_host,
        "service_port": settings.broker_service_port,
        "prefix": settings.broker_prefix,
        "own": own,
        "other": other,
        "expires": (now + LIFE).timestamp(),
    }
    write_secret(folder / "probes.json", json.dumps(place, indent=2).encode() + b"\n")
    return {"own": own, "other": other}


def _probe(
    authority: Authority,
    name: str,
    *,
    life: tuple[dt.datetime, dt.datetime] | None = None,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> Issued:
    """A certificate as :class:`Authority` would never issue it, for a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    begins, ends = life or (now - dt.timedelta(minutes=10), now + LIFE)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Issued.of(made, key)
