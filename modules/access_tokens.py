"""Bearer tokens that expire: made where keys are kept, checked where they are used, with no list of them anywhere.

A token is ``et1.<expiry, seconds since 1970>.<HMAC-SHA256 of the two parts before, base64url>``.
"""

import base64
import hashlib
import hmac
from typing import Final

from modules.errors import Untrusted

_FORM: Final = "et1"
MIN_SECRET: Final = 32


def make(secret: bytes, *, expires: int) -> str:
    """A token that is good until ``expires`` (seconds since 1970).

    Raises:
        ValueError: the secret is shorter than 32 bytes.
    """
    if len(secret) < MIN_SECRET:
        raise ValueError(f"a secret of {len(secret)} bytes is too short")
    head = f"{_FORM}.{expires}"
    return f"{head}.{_mac(secret, head)}"


def check(secret: bytes, token: str, *, now: float) -> None:
    """Accept a token.

    Raises:
        Untrusted: it is none of ours, or has expired.
    """
    head, _, mac = token.rpartition(".")
    form, _, expiry = head.partition(".")
    if (
        form != _FORM
        or not expiry.isascii()
        or not expiry.isdigit()
        or not hmac.compare_digest(mac.encode(), _mac(secret, head).encode())
    ):
        raise Untrusted("this is not a token of this endpoint", element="Authorization")
    if int(expiry) <= now:
        raise Untrusted("the token has expired", element="Authorization", remedy="fetch a new one")


def _mac(secret: bytes, head: str) -> str:
    return base64.urlsafe_b64encode(hmac.new(secret, head.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
