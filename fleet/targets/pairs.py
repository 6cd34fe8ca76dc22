"""A certificate and its key, before an endpoint is started with them."""

import datetime as dt
import ssl
import tempfile
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from fleet.targets.contract import Standing
from modules.errors import Invalid

_SOON_S: Final = 14 * 86400


def check_pair(certificate: str, key: str) -> None:
    """Whether TLS can be spoken with them; tried with the library that the gateway uses.

    Raises:
        Invalid: one of them is not PEM, or they do not belong together.
    """
    with tempfile.TemporaryDirectory(prefix="edgefleet-pair-") as name:
        files = Path(name, "certificate.pem"), Path(name, "key.pem")
        for file, text in zip(files, (certificate, key), strict=True):
            file.touch(mode=0o600)
            file.write_text(text)
        try:
            # An empty password: a key that has one is refused, and nobody is asked for it.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password="")
        except (OSError, ValueError) as error:
            raise Invalid(
                f"TLS cannot be spoken with this certificate and key: {error}",
                element="certificate",
                remedy="give a certificate with its chain, and its key without a password, in PEM",
            ) from error


def dated(standing: Standing, certificate: str, now: float) -> Standing:
    """How an endpoint stands with an operator's certificate (empty: none): clients refuse one that is out of its time.

    One that ends soon is said, and changes nothing.
    """
    if not certificate:
        return standing
    found = x509.load_pem_x509_certificate(certificate.encode())
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    if begins <= now < ends - _SOON_S:
        return standing
    verb, at = ("is not valid before", begins) if now < begins else ("has ended on" if now >= ends else "ends on", ends)
    why = f"its certificate {verb} {dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M} UTC: give it another"
    why = "; ".join(filter(None, (why, standing.why)))
    out = not begins <= now < ends
    return msgspec.structs.replace(standing, why=why, state="failed" if out else standing.state)
