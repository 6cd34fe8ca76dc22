"""Certificates of endpoints that devices ask: of the fleet's own authority, where the operator has given none.

Devices are told to believe this authority alone for them, so that no other can name a machine for their fallback.
"""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.authority import Authority
from fleet.targets.secrets import Secrets
from modules.certificate_life import due_at

_NAMES: Final = (x509.DNSName, x509.IPAddress)


class HostCertificates:
    """Issues them, and says when one is to be renewed.

    Args:
        authority: of the fleet.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    @property
    def authority(self) -> str:
        """Whom devices are to believe, and who has named them; PEM."""
        return self._authority.pem

    def renewed(self, secrets: Secrets, host: str, now: float) -> Secrets | None:
        """The secrets with a certificate for this host, or None where they have a good one."""
        if secrets.issued and not self._is_due(secrets.issued, host, now):
            return None
        key = None
        if secrets.issued_key:
            loaded = serialization.load_pem_private_key(secrets.issued_key.encode(), None)
            key = loaded if isinstance(loaded, ec.EllipticCurvePrivateKey) else None
        made = self._authority.server([host], key)
        return secrets.with_issued(made.certificate.decode(), made.key.decode())

    def _is_due(self, pem: str, host: str, now: float) -> bool:
        found = x509.load_pem_x509_certificate(pem.encode())
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {str(one) for kind in _NAMES for one in named.get_values_for_type(kind)}
        due = due_at(found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp())
        return host not in names or now >= due or found.issuer != self._authority.certificate.subject
