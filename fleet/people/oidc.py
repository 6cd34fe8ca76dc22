"""Logging in at an identity provider: the authorization code flow (OpenID Connect Core 1.0) with PKCE (RFC 7636).

The provider's ID token is believed only after its signature by a key of the provider's own list, by one of few
asymmetric algorithms, its issuer, audience, expiry and nonce. No password is seen or stored here.
"""

import base64
import hashlib
import http.client
import json
import secrets
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from fleet.people import roles
from fleet.people.roles import Grants
from fleet.refusals import Busy, Forbidden, Unauthorised
from fleet.settings import Settings
from modules.canonical import UNREADABLE
from modules.errors import Invalid, LinkLost

# Nothing with a shared secret, and not none: the provider's public key must never pass for a secret.
ALGORITHMS: Final = ["RS256", "PS256", "ES256", "EdDSA"]
CALLBACK: Final = "/api/v1/oidc/callback"
LEEWAY_S: Final = 60
_TIMEOUT_S: Final = 10.0
_LIMIT: Final = 1 << 20
# As much as is kept of whom the provider means; cut off, one person might pass for another.
_SUBJECT: Final = 255
# Of the threads that answer requests, so many may wait for a provider, which may be slow.
_AT_ONCE: Final = 4
# The provider's addresses and keys are asked for again after so long, and its keys where one is not known.
_KEEP_S: Final = 3600.0
_KEYS_AGAIN_S: Final = 60.0


class Attempt(msgspec.Struct, frozen=True):
    """What the browser keeps between leaving for the provider and coming back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))


class Person(msgspec.Struct, frozen=True):
    """Whom the provider vouches for."""

    subject: str
    name: str
    grants: Grants


class _Places(msgspec.Struct, frozen=True):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Answer(msgspec.Struct, frozen=True):
    id_token: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class Provider:
    """One provider; every method blocks, and is used from any thread."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings, self._clock = settings, clock
        tls = ssl.create_default_context(cafile=None if settings.oidc_ca is None else str(settings.oidc_ca))
        self._open = urllib.request.build_opener(urllib.request.HTTPSHandler(context=tls), _NoRedirect).open
        self._roles = roles.read_mapping(settings.oidc_roles)
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._places: tuple[float, _Places] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def leave(self, attempt: Attempt) -> str:
        """Where a browser is sent to.

        Raises:
            LinkLost: the provider cannot be asked.
        Busy: too many wait for it.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).rstrip(b"=")
        asked = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._back,
            "scope": "openid email profile",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        with self._turn():
            return f"{self._found().authorization_endpoint}?{urlencode(asked)}"

    def person(self, code: str, attempt: Attempt) -> Person:
        """Whom a code stands for that the provider gave to the browser.

        Raises:
            Unauthorised: the code or the ID token does not hold.
            Forbidden: none of the claim's values has a role here.
            LinkLost: the provider cannot be asked.
            Busy: too many wait for it.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "client_id": self._settings.oidc_client_id,
            "code_verifier": attempt.verifier,
        }
        if secret := self._settings.oidc_client_secret.get_secret_value():
            form["client_secret"] = secret
        with self._turn():
            answer = self._ask(self._found().token_endpoint, urlencode(form).encode())
            try:
                text = msgspec.json.decode(answer, type=_Answer).id_token
            except UNREADABLE as error:
                raise _unbelieved("its answer has no ID token") from error
            return self._read(self.claims(text, attempt.nonce))

    def claims(self, text: str, nonce: str) -> dict[str, Any]:
        """What an ID token says, once everything about it holds.

        Raises:
            Unauthorised: something does not.
            LinkLost: the provider cannot be asked for its keys.
        """
        try:
            return self._verified(text, nonce, self._listed())
        except (JoseError, ValueError) as error:
            keys = self._listed(again=True)
            if keys is None:
                raise _unbelieved(str(error)) from error
        try:
            return self._verified(text, nonce, keys)
        except (JoseError, ValueError) as error:
            raise _unbelieved(str(error)) from error

    def _verified(self, text: str, nonce: str, keys: KeySet | None) -> dict[str, Any]:
        if keys is None:
            raise ValueError("the provider has no keys")
        token = jwt.decode(text, keys, algorithms=ALGORITHMS)
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._settings.oidc_issuer},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(token.claims)
        others = token.claims.get("azp", self._settings.oidc_client_id) != self._settings.oidc_client_id
        if others or not isinstance(token.claims["sub"], str):
            raise ValueError("it was made for somebody else")
        return dict(token.claims)

    def _read(self, claims: dict[str, Any]) -> Person:
        said = claims.get(self._settings.oidc_claim, [])
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        grants = tuple(
            dict.fromkeys(one for value in values if isinstance(value, str) for one in self._roles.get(value, ()))
        )
        name = claims.get(self._settings.oidc_name_claim)
        if not isinstance(name, str) or not name:
            raise _unbelieved(f"it has no {self._settings.oidc_name_claim}")
        if self._settings.oidc_name_claim == "email" and claims.get("email_verified") is False:
            raise _unbelieved("the address was never confirmed")
        if not grants:
            raise Forbidden(
                "nothing that the identity provider says of you has a role here",
                element=self._settings.oidc_claim,
                remedy="ask an admin for a group that the setting oidc_roles names",
            )
        subject = f"{self._settings.oidc_issuer} {claims['sub']}"
        if len(subject) > _SUBJECT:
            raise _unbelieved(f"who it vouches for is longer than {_SUBJECT} letters")
        return Person(subject, name.lower(), grants)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(blocking=False):
            raise Busy(
                "too many log-ins wait for the identity provider", element="login", remedy="try again in some seconds"
            )
        try:
            yield
        finally:
            self._turns.release()

    @property
    def _back(self) -> str:
        return self._settings.url + CALLBACK

    def _found(self) -> _Places:
        with self._lock:
            if self._places is None or not 0 <= self._clock() - self._places[0] < _KEEP_S:
                document = self._ask(f"{self._settings.oidc_issuer}/.well-known/openid-configuration")
                try:
                    places = msgspec.json.decode(document, type=_Places)
                except UNREADABLE as error:
                    raise self._lost(str(error)) from error
                if places.issuer.rstrip("/") != self._settings.oidc_issuer:
                    raise self._lost("it says to be another one")
                self._places = (self._clock(), places)
            return self._places[1]

    def _listed(self, *, again: bool = False) -> KeySet | None:
        """The provider's keys; with ``again`` newer ones, or None where they were asked for a moment ago."""
        place = self._found().jwks_uri
        with self._lock:
            age = None if self._keys is None else self._clock() - self._keys[0]
            if again and age is not None and 0 <= age < _KEYS_AGAIN_S:
                return None
            if again or self._keys is None or age is None or not 0 <= age < _KEEP_S:
                try:
                    self._keys = (self._clock(), KeySet.import_key_set(json.loads(self._ask(place))))
                except (JoseError, ValueError, KeyError, TypeError, RecursionError) as error:
                    raise self._lost(str(error)) from error
            return self._keys[1]

    def _ask(self, place: str, form: bytes | None = None) -> bytes:
        if not place.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise self._lost("it names an address without TLS")
        headers = {"Accept": "application/json"}
        request = urllib.request.Request(place, data=form, headers=headers)  # noqa: S310 - looked at just above
        try:
            with self._open(request, timeout=_TIMEOUT_S) as answer:
                data: bytes = answer.read(_LIMIT + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if form is not None and error.code in {400, 401, 403}:
                raise _unbelieved("it does not know this log-in") from error
            raise self._lost(f"it answered {error.code}") from error
        except (URLError, OSError, http.client.HTTPException) as error:
            raise self._lost(str(error)) from error
        if len(data) > _LIMIT:
            raise Invalid("its answer is too long", element=self._settings.oidc_issuer)
        return data

    def _lost(self, why: str) -> LinkLost:
        return LinkLost(
            f"the identity provider cannot be asked: {why}",
            element=self._settings.oidc_issuer,
            remedy="see that it runs, and that the settings oidc_issuer and oidc_ca are right",
        )


def _unbelieved(why: str) -> Unauthorised:
    return Unauthorised(f"the identity provider's word does not hold: {why}", element="login", remedy="log in again")
