"""What may become this device's certificate: for its own new key and its own name, of the fleet's CA, by sane dates.

The answer to a renewal is held against that, and so is what lies on the disk as the next pair before each session with
it: a disk that was copied, or put back, may have another device's there, and a broker lets whoever it names in. What
does not hold is set aside, told of, and another one is asked for. Loaded when there is such a pair, or a renewal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from agent import identity as identities
from agent.identity import ASIDE, CA, NEXT, NEXT_KEY
from agent.inbox import Refuse
from modules.errors import Untrusted
from modules.names import DeviceId

_DAY_S: Final = 86_400.0


class NextPair:
    """Of one device; ``believed`` is the time that it believes, in Unix seconds."""

    def __init__(self, *, device: DeviceId, folder: Path, believed: Callable[[], float], refuse: Refuse) -> None:
        self._device, self._folder, self._believed, self._refuse = device, folder, believed, refuse

    def found(self) -> x509.Certificate | None:
        """The certificate of the next pair on this disk; None where there is none, or one that was set aside now.

        Raises:
            OSError: it cannot be read.
        """
        path = self._folder / NEXT
        if not path.exists():
            return None
        data = path.read_bytes()
        try:
            return self._checked_file(data)
        except Untrusted as error:
            why = error.message
        except (ValueError, TypeError, UnsupportedAlgorithm):
            why = "it is damaged"
        self._set_aside(why)
        return None

    def _checked_file(self, data: bytes) -> x509.Certificate:
        key, pending = _key(identities.key_of(data)), self._folder / NEXT_KEY
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not (
            pending.exists() and _key(pending.read_bytes()).public_key() == key.public_key()
        ):
            raise Untrusted("the key is not the one that this device asked with", element="renewal")
        return self.checked(identities.certificate_of(data).decode(), key)

    def checked(self, pem: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        """The certificate, if it is what was asked for with this key.

        Raises:
            Untrusted: it is for another key or device, of another authority, or its dates cannot be.
        """
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            is_ours = certificate.public_key() == key.public_key() and names == [self._device]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Untrusted(f"the answer holds no certificate: {error}", element="renewal") from error
        if not is_ours:
            raise Untrusted("the certificate is for another key or another device", element="renewal")
        authorities = x509.load_pem_x509_certificates((self._folder / CA).read_bytes())
        if not any(_issued_by(certificate, one) for one in authorities):
            raise Untrusted("the certificate is not from the fleet's CA", element="renewal")
        self._check_dates(certificate)
        return certificate

    def _check_dates(self, new: x509.Certificate) -> None:
        """By the present certificate, which the same server dated; by this clock only where it cannot be far off."""
        path = identities.present(self._folder).certificate
        try:
            old = x509.load_pem_x509_certificate(identities.certificate_of(path.read_bytes()))
        except ValueError:  # the new one is all that is left
            return
        begins, ends = new.not_valid_before_utc.timestamp(), new.not_valid_after_utc.timestamp()
        now = self._believed()
        sane = old.not_valid_before_utc.timestamp() <= now <= old.not_valid_after_utc.timestamp()
        if begins < old.not_valid_before_utc.timestamp() - _DAY_S or (sane and not begins - _DAY_S <= now < ends):
            raise Untrusted("the certificate does not hold now, by its dates", element="renewal")

    def _set_aside(self, why: str) -> None:
        """What lies there until another one has come in its place also says that one is to be asked for."""
        # First: the same key would get the same certificate again.
        (self._folder / NEXT_KEY).unlink(missing_ok=True)
        (self._folder / NEXT).replace(self._folder / ASIDE)
        identities.sync_folder(self._folder)
        text = f"the next certificate that lay on the disk is not used, and another one is asked for: {why}"
        self._refuse(Untrusted(text, element="renewal"), what="renewal")


def _key(data: bytes) -> PrivateKeyTypes:
    return serialization.load_pem_private_key(data, None)


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
