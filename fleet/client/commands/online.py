"""The fleet server's own public keys, as its API tells them."""

from collections.abc import Mapping
from typing import Any

from securesystemslib.signer import Key

from modules.errors import Invalid
from modules.trust.repository import OnlineKeys


def online_keys(documents: Mapping[str, Any]) -> OnlineKeys:
    """The server's public keys, each under the id that follows from it.

    Raises:
        Invalid: one is missing, or cannot be read.
    """
    try:
        return OnlineKeys(*(public_key(documents[role]) for role in OnlineKeys._fields))
    except KeyError as error:
        raise Invalid(f"the server's online keys lack {error}", element="tuf-online-keys") from error


def public_key(document: Any) -> Key:
    """One public key.

    Raises:
        Invalid: it cannot be read.
    """
    try:
        parts = dict(document)
        return Key.from_dict(parts.pop("keyid"), parts)
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"the server's online keys cannot be read: {error}", element="tuf-online-keys") from error
