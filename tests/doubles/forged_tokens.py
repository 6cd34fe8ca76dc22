"""ID tokens that are none, as whoever has no key of the provider, or a token of somewhere else, would make them."""

import base64
import hashlib
import hmac
import json

from joserfc import jwt
from joserfc.jwk import RSAKey


def part(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def none(provider, nonce):
    return f"{part({'alg': 'none'})}.{part(provider.said(nonce))}."


def hs256(provider, nonce):
    """Signed with the provider's public key as if that were a secret."""
    text = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(provider.said(nonce))}"
    made = hmac.new(provider.key.as_pem(private=False), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def signed(**others):
    def forge(provider, nonce):
        said = {key: one for key, one in provider.said(nonce, **others).items() if one is not None}
        return jwt.encode({"alg": "RS256", "kid": "one"}, said, provider.key)

    return forge


def stranger(provider, nonce):
    key = RSAKey.generate_key(2048, {"kid": "one"})
    return jwt.encode({"alg": "RS256", "kid": "one"}, provider.said(nonce), key)


FORGED = {
    "none": none,
    "HS256 with the public key": hs256,
    "another audience": signed(aud="another"),
    "no expiry": signed(exp=None),
    "expired": signed(exp=1_000_000_000),
    "another issuer": signed(iss="https://evil.example"),
    "another nonce": signed(nonce="replayed"),
    "no nonce": signed(nonce=None),
    "for another party": signed(azp="another"),
    "another key": stranger,
    "no token": lambda *_: "rubbish",
}
