"""Policies of fallbacks, as the server tells of them."""

from typing import Any
from urllib.parse import quote

import msgspec

from fleet.client.answers import Costs
from fleet.client.api import Fleet


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers instead of the devices of a group, and on which terms; with neither endpoint nor url nobody does.

    ``state`` and ``why`` are the endpoint's; ``refused`` says of versions why the policy says nothing for them.
    """

    module: str
    group: str
    endpoint: str | None = None
    url: str | None = None
    when: tuple[str, ...] = ()
    terms: dict[str, Any] = {}
    on_demand: bool = False
    linger_s: int = 0
    money_a_day: float = 0.0
    spent: bool = False
    state: str = ""
    why: str = ""
    costs: Costs | None = None
    refused: dict[str, str] = {}
    created: float = 0.0
    changed: float = 0.0
    by: str = ""

    @property
    def who(self) -> str:
        """Who answers, in words."""
        return f"endpoint {self.endpoint}" if self.endpoint else self.url or "nobody"

    @property
    def spent_today(self) -> str:
        """What its endpoint has cost today, and of how much; empty where nobody has said a price."""
        bound = f" of {self.money_a_day:g}" if self.money_a_day else ""
        return f"{self.costs.today:.2f}{bound}" if self.costs and (self.costs.prices or bound) else ""


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A slot whose order would name another; who answers for it now and then, in words."""

    device: str
    slot: str
    module: str
    before: str
    after: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy would change: of some ``slots`` of ``devices`` the first are ``named``.

    ``refused`` says of versions why the policy would say nothing for them.
    """

    group: str
    devices: int
    slots: int
    unchanged: int
    refused: dict[str, str]
    named: tuple[Changed, ...]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What one slot has sent today."""

    device: str
    slot: str
    sent: int


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices of a policy have sent to the cloud today; ``a_day``: what each slot may send, 0: no bound."""

    since: float
    devices: int
    told: int
    slots: int
    sent: int
    a_day: int
    spent: int
    whole: bool
    most: tuple[Sent, ...]


def put(fleet: Fleet, module: str, request: dict[str, Any]) -> Fallback:
    return msgspec.convert(fleet.answer("PUT", f"fallbacks/{module}", request), Fallback)


def every(fleet: Fleet) -> list[Fallback]:
    return msgspec.convert(fleet.answer("GET", "fallbacks"), list[Fallback])


def one(fleet: Fleet, module: str, group: str) -> Fallback:
    return msgspec.convert(fleet.answer("GET", _path(module, group)), Fallback)


def remove(fleet: Fleet, module: str, group: str) -> dict[str, str]:
    return msgspec.convert(fleet.answer("DELETE", _path(module, group)), dict[str, str])


def preview(fleet: Fleet, module: str, request: dict[str, Any]) -> Preview:
    return msgspec.convert(fleet.answer("POST", f"fallbacks/{module}/preview", request), Preview)


def requests(fleet: Fleet, module: str, group: str) -> Requests:
    return msgspec.convert(fleet.answer("GET", f"fallbacks/{module}/requests?group={quote(group, safe='')}"), Requests)


def _path(module: str, group: str) -> str:
    return f"fallbacks/{module}?group={quote(group, safe='')}"
