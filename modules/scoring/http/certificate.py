"""TLS where the server listens on TCP; a renewed certificate is used by the next connection, without a restart."""

import logging
import ssl

from modules.errors import BadSettings
from modules.scoring.settings import Tls

log = logging.getLogger(__name__)


class Certificate:
    """The context that connections are accepted with."""

    def __init__(self, files: Tls) -> None:
        self._files = files
        # What is in use, key first, for who does not speak TLS through a context.
        self.pem = b"", b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._stamps = self._load()
        except (OSError, ssl.SSLError) as error:
            raise BadSettings(
                f"the certificate or its key cannot be used: {error}", element=str(files.certificate),
                remedy="name a certificate and its key in PEM",
            ) from error  # fmt: skip

    def refresh(self) -> None:
        """Load the files again if they have changed; the old certificate stays if they cannot be used."""
        try:
            if self._seen() != self._stamps:
                self._stamps = self._load()
                log.info("the certificate in %s is in use", self._files.certificate.name)
        except (OSError, ssl.SSLError) as error:
            log.error("the old certificate stays in use: %s", error)  # noqa: TRY400 - a defect of the file

    def _load(self) -> tuple[int, int]:
        stamps = self._seen()
        pem = self._files.key.read_bytes(), self._files.certificate.read_bytes()
        self.context.load_cert_chain(self._files.certificate, self._files.key)
        self.pem = pem
        return stamps

    def _seen(self) -> tuple[int, int]:
        return self._files.certificate.stat().st_mtime_ns, self._files.key.stat().st_mtime_ns
