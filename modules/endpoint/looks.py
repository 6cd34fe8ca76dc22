"""What lets a look at an endpoint's index in, and nothing else: for who asks through a proxy that keeps Authorization.

The API server of a Kubernetes cluster takes that header for itself, and does not check whom it reaches in a pod. So the
keys stay where they are: what is sent follows from them, expires, and opens no more than the index.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from modules import access_tokens

HEADER: Final = "x-edgefleet-look"
#: what an operator's program asks: the index of routes and counts, for a key, even where scoring needs none
INDEX: Final = "/edgefleet/endpoint"
#: the query with which it is asked for what each replica says of itself, too
EACH: Final = "each"


def make(keys: Sequence[str], *, expires: int) -> str:
    """What is sent in that header, good until ``expires`` (seconds since 1970); ``keys`` are all of the endpoint's."""
    return access_tokens.make(_secret([key.encode() for key in keys]), expires=expires)


def check(keys: Sequence[bytes], shown: bytes, *, now: float) -> None:
    """Accept what was made with these keys.

    Raises:
        Untrusted: it was made with others, or has expired.
    """
    access_tokens.check(_secret(keys), shown.decode("latin-1"), now=now)


def _secret(keys: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"\0".join((b"edgefleet index", *keys))).digest()
