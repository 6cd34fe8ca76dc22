"""Who may come into an endpoint, as its gateway reads it; and the keys that only its own parts know."""

import hashlib
import hmac
from typing import Any

import msgspec

from fleet.targets.contract import Wanted
from modules.protocol.endpoint import CERTIFICATE, CERTIFICATE_KEY, KEYS


def access(wanted: Wanted) -> dict[str, bytes]:
    """Without these it does not start."""
    settings = wanted.settings
    by_key = settings.auth != "token"
    known: dict[str, Any] = {
        "keys": keys(wanted),
        "token_secret": b"" if by_key else wanted.token_secret,
        "open": settings.auth == "none",
        "cors_origins": settings.cors_origins,
    }
    if wanted.devices is not None:  # gateways of before do not know it
        known["devices"] = wanted.devices
    found = {KEYS: msgspec.json.encode(known)}
    if settings.certificate:
        found |= {CERTIFICATE: settings.certificate.encode(), CERTIFICATE_KEY: wanted.certificate_key.encode()}
    return found


def keys(wanted: Wanted) -> tuple[str, ...]:
    """What its gateways know as keys: where clients come with tokens, one that lets us alone in."""
    return (key(wanted, "gateway"),) if wanted.settings.auth == "token" else wanted.keys


def key(wanted: Wanted, part: str) -> str:
    """A key of one part of the endpoint, which need not be stored."""
    return hmac.new(wanted.token_secret, f"{wanted.name}/{part}".encode(), hashlib.sha256).hexdigest()
