"""Endpoints as fallbacks of devices: what an order says of one, and the tokens with which devices come in there."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from fleet import sealed_secrets
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.target_tables import endpoints, targets
from fleet.targets import attached
from fleet.targets.contract import Standing
from fleet.targets.endpoints import Endpoints, wish_of
from modules import access_tokens, sealing
from modules.errors import Invalid
from modules.names import DeviceId, ModuleRef
from modules.protocol.order import SEALED_AS, Cloud, Secret, SlotOrder

ENDPOINT: Final = "endpoint:"
TERMS: Final = ("when", "region", "ca", "waiting", "latency_ms", "requests_a_day")
# The terms of nobody.
NEVER: Final[dict[str, Any]] = {"when": []}
# A token is made anew when so much of its life is over.
_REFRESH: Final = 0.5


def terms(
    connection: Connection, wished: Endpoints, module: ModuleRef, fallback: str | None, given: dict[str, Any],
    scope: Scope = EVERYTHING,
) -> Cloud | None:  # fmt: skip
    """What an order is to say of a fallback; None: no more than its address, or there is none.

    Args:
        connection: for the endpoints.
        wished: the endpoints.
        module: for which it stands in.
        fallback: an https address, or ``endpoint:NAME``.
        given: the terms, by the names of ``TERMS``.
        scope: of whoever asks.

    Raises:
        Missing: there is no such endpoint.
        Conflict: devices cannot ask it, or not yet.
        Invalid: a term is unknown or out of bounds, or there are terms and no fallback.
    """
    check_terms(given)
    if fallback is None:
        if given:
            raise Invalid("there are terms, and no fallback that they are of", element="fallback")
        return None
    if not given and not fallback.startswith(ENDPOINT):
        return None
    return placed(connection, module, fallback, given, authority=wished.authority, scope=scope)


def check_terms(given: dict[str, Any]) -> None:
    """Whether terms are some of ``TERMS``, each within its bounds.

    Raises:
        Invalid: one is not.
    """
    if unknown := set(given) - set(TERMS):
        raise Invalid(f"there is no {min(unknown)!r}", element="fallback_terms", remedy=f"there are {', '.join(TERMS)}")
    _cloud({"url": "https://nowhere.example"} | given)


def placed(
    connection: Connection, module: ModuleRef, fallback: str, given: dict[str, Any], *, authority: str,
    scope: Scope = EVERYTHING,
) -> Cloud:  # fmt: skip
    """What an order says of a fallback on these terms; ``authority`` names endpoints without a certificate of theirs.

    Raises:
        Missing, Conflict, Invalid: as :func:`terms`.
    """
    known = {"url": fallback}
    if fallback.startswith(ENDPOINT):
        known = _of_endpoint(connection, authority, fallback.removeprefix(ENDPOINT), module, scope)
    return _cloud(known | given)


def _cloud(said: dict[str, Any]) -> Cloud:
    try:
        return msgspec.convert(said, Cloud)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), element="fallback_terms") from error


def suited(connection: Connection, name: str, team: str, model: str, scope: Scope = EVERYTHING) -> Any:
    """The row of an endpoint that can answer for a model, and that devices can ask.

    Raises:
        Missing: there is no such endpoint.
        Conflict: it serves something else, or no device can come in there.
    """
    row = connection.execute(select(endpoints).where(endpoints.c.name == name)).one_or_none()
    if row is None or not scope.has_team(row.team):
        raise Missing("there is no such endpoint", element=name[:63], remedy="see: edgefleet endpoints list")
    wish, element = wish_of(row), f"endpoint {name}"
    serves = ModuleRef.parse(wish.versions[wish.default].module)
    if (serves.team, serves.name) != (team, model):
        raise Conflict(f"it serves {serves}, which cannot answer for {team}/{model}", element=element)
    if not (wish.settings.devices or wish.settings.auth != "key"):
        raise Conflict(
            "no device can come in there: clients need a key",
            element=element,
            remedy=f"run: edgefleet endpoints set {name} devices=true",
        )
    return row


def has_price(connection: Connection, row: Any) -> bool:
    """Whether the operator has said of its target what an endpoint costs, by the hour or by its requests."""
    prices = select(targets.c.price_per_hour, targets.c.price_per_1000).where(targets.c.name == row.target)
    return any(connection.execute(prices).one())


def _of_endpoint(connection: Connection, authority: str, name: str, module: ModuleRef, scope: Scope) -> dict[str, Any]:
    row = suited(connection, name, module.team, module.name, scope)
    wish, element = wish_of(row), f"endpoint {name}"
    url = msgspec.json.decode(row.standing, type=Standing).url
    if not url:
        raise Conflict("nobody answers there yet", element=element, remedy="wait until it is ready")
    if not url.startswith("https://"):
        raise Conflict(
            "it speaks plain HTTP, which devices do not over a network",
            element=element,
            remedy=f"run: edgefleet endpoints set {name} devices=true, or give it a certificate",
        )
    ours = wish.settings.devices and not wish.settings.certificate
    return {
        "url": f"{url}/{name}",
        "ca": authority if ours else "",
        "region": attached.region(connection, row.target),
        "endpoint": name,
    }


class Tokens:
    """Gives orders the tokens that their devices need, sealed to each; for one transaction.

    Args:
        connection: of the transaction.
        wished: the endpoints.
        now: Unix seconds.
        chosen: whose orders are made.
    """

    def __init__(self, wished: Endpoints, connection: Connection, now: float, chosen: Sequence[DeviceId]) -> None:
        self._wished, self._connection, self._now, self._chosen = wished, connection, now, chosen
        self._keys: dict[DeviceId, bytes] | None = None
        self._made: dict[str, tuple[str, int, float] | None] = {}

    def given(self, device: DeviceId, documents: dict[str, SlotOrder]) -> tuple[dict[str, SlotOrder], float]:
        """The documents with tokens, and when the first of these is to be made anew (infinity: none)."""
        due = float("inf")
        for slot, one in documents.items():
            if not one.cloud or not one.cloud.endpoint or (found := self._token(one.cloud.endpoint)) is None:
                continue
            token, version, refresh = found
            if self._keys is None:
                self._keys = sealed_secrets.sealing_keys(self._connection, self._chosen)
            if not (key := self._keys.get(device)):
                continue  # it has none of its own, and will be told that it is not let in
            sealed = sealing.seal(token.encode(), key, device=device, slot=slot, name=SEALED_AS, version=version)
            cloud = msgspec.structs.replace(one.cloud, token=Secret(version=version, sealed=sealed))
            documents = documents | {slot: msgspec.structs.replace(one, cloud=cloud)}
            due = min(due, refresh)
        return documents, due

    def _token(self, endpoint: str) -> tuple[str, int, float] | None:
        if endpoint not in self._made:
            self._made[endpoint] = self._fresh(endpoint)
        return self._made[endpoint]

    def _fresh(self, endpoint: str) -> tuple[str, int, float] | None:
        """A token, its version, and when the next is due; None where devices need none, or there is no endpoint."""
        try:
            row = self._wished.row(self._connection, endpoint)
        except Missing:
            return None
        settings = wish_of(row).settings
        if settings.devices or settings.auth != "token":
            return None
        life = settings.token_life_s
        expires = int(self._now) + life
        token = access_tokens.make(self._wished.token_secret(row), expires=expires)
        return token, expires, self._now + life * _REFRESH
