"""A certificate and its key, before an endpoint is started with them."""

import ssl
import tempfile
from pathlib import Path

from modules.errors import Invalid


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
