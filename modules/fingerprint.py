"""A public key's fingerprint, as one person reads it to another: who compares it approves a key, not a name."""

import hashlib
import re
from typing import Annotated, Final

import msgspec

from modules.errors import Invalid

# SHA-256 of the key as DER SubjectPublicKeyInfo, in 64 hexadecimal digits.
FingerprintField = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_GROUP: Final = 4
_MARKS: Final = re.compile(r"[\s:-]+")
_WHOLE: Final = re.compile(r"[0-9a-f]{64}")


def fingerprint(public_key: bytes) -> str:
    """Of a public key as DER SubjectPublicKeyInfo."""
    return hashlib.sha256(public_key).hexdigest()


def spoken(text: str) -> str:
    """In groups of four digits, as it is shown: ``ab12 cd34 ...``."""
    return " ".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def heard(text: str) -> str:
    """What a person typed, whatever stands between the groups.

    Raises:
        Invalid: it is not all of a fingerprint; a part of one could be made to match.
    """
    digits = _MARKS.sub("", text).lower()
    if not _WHOLE.fullmatch(digits):
        raise Invalid(
            f"{text[:100]!r} is not a whole fingerprint",
            element="fingerprint",
            remedy="give all 64 hexadecimal digits, as the device shows them",
        )
    return digits
