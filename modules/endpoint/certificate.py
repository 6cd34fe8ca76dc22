"""TLS of what listens on TCP; a renewed certificate is used by the next connection, without a restart."""

import logging
import ssl
from pathlib import Path

from modules.endpoint.stamp import Stamp, stamp
from modules.errors import BadSettings

log = logging.getLogger(__name__)


class ServedCertificate:
    """The context that connections are accepted with.

    Args:
        certificate: its file in PEM, with its chain.
        key: the file of its key.

    Raises:
        BadSettings: they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        # What is in use, key first, for who does not speak TLS through a context.
        self.pem = b"", b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._authority = ""
        try:
            self._stamps = self._load()
        except (OSError, ssl.SSLError) as error:
            raise BadSettings(
                f"the certificate or its key cannot be used: {error}", element=str(certificate),
                remedy="name a certificate and its key in PEM",
            ) from error  # fmt: skip

    def ask_clients(self, authority: str) -> None:
        """From the next connection on, take a client's certificate of this authority (PEM); empty: ask for none.

        A client needs none, and one that another authority signed is refused.
        """
        if authority == self._authority:
            return
        try:
            if authority:
                self.context.load_verify_locations(cadata=authority)
        except (ssl.SSLError, ValueError) as error:
            log.error("devices' certificates cannot be checked: %s", error)  # noqa: TRY400 - a defect of the file
            return
        self.context.verify_mode = ssl.CERT_OPTIONAL if authority else ssl.CERT_NONE
        self._authority = authority

    def refresh(self) -> None:
        """Load the files again if they have changed; the old certificate stays if they cannot be used."""
        try:
            if self._seen() != self._stamps:
                self._stamps = self._load()
                log.info("the certificate in %s is in use", self._certificate.name)
        except (OSError, ssl.SSLError) as error:
            log.error("the old certificate stays in use: %s", error)  # noqa: TRY400 - a defect of the file

    def _load(self) -> tuple[Stamp, Stamp]:
        stamps = self._seen()
        pem = self._key.read_bytes(), self._certificate.read_bytes()
        self.context.load_cert_chain(self._certificate, self._key)
        self.pem = pem
        return stamps

    def _seen(self) -> tuple[Stamp, Stamp]:
        return stamp(self._certificate), stamp(self._key)
