"""Who answers instead of which devices: policies of a module, and of groups of devices, kept on the server.

A policy is no part of what was decided for a slot: it is put into orders as they are made (``answering.py``), so a
changed one needs new orders and no new proof. What a rollout says itself wins over all policies, one for a group over
the module's. Of two groups that a device is in, the one with more conditions wins, and of equals the newer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from fleet import events, selectors
from fleet.fallback_tables import policies
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Conflict, Missing
from fleet.selectors import Labels, Selector
from fleet.tables import devices, rollouts, slots
from fleet.targets import standing_in
from fleet.targets.endpoints import wish_of
from modules.adjustable import check_fallback
from modules.bounds import Address
from modules.errors import Invalid
from modules.names import DeviceId, ModuleRef, Slug
from modules.protocol.order import Cloud

MAX_POLICIES: Final = 1000
MAX_MONEY: Final = 1e9
EVERYWHERE: Final = "*"
_TOGETHER: Final = 500
_DAY_S: Final = 86400


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On which terms who answers: an https address or ``endpoint:NAME``; empty: nobody, ever.

    With ``on_demand`` the endpoint runs only while a device needs it, and ``linger_s`` seconds longer. Once it has cost
    ``money_a_day`` in a day of UTC (0: no bound), nobody is sent there any more on that day.
    """

    fallback: Address = ""
    terms: dict[str, Any] = {}
    on_demand: bool = False
    linger_s: Annotated[int, msgspec.Meta(ge=0, le=7 * _DAY_S)] = 900
    money_a_day: Annotated[float, msgspec.Meta(ge=0, le=MAX_MONEY)] = 0.0


class Known(NamedTuple):
    """A policy that is kept."""

    id: int
    team: str
    model: str
    selector: Selector
    policy: Policy
    spent_on: int

    @property
    def never(self) -> bool:
        return not self.policy.fallback

    @property
    def endpoint(self) -> str:
        """The endpoint that it names; empty: none of this fleet."""
        named = self.policy.fallback.startswith(standing_in.ENDPOINT)
        return self.policy.fallback.removeprefix(standing_in.ENDPOINT) if named else ""

    @property
    def when(self) -> frozenset[str]:
        """In which cases the fallback answers."""
        return frozenset(self.policy.terms.get("when", Cloud(url="").when))

    def is_spent(self, now: float) -> bool:
        return self.spent_on == day_of(now)


class Ordered(NamedTuple):
    """A slot whose module a policy may be about: ``document`` is what its order says, ``labels`` are the device's."""

    device: DeviceId
    slot: str
    document: bytes
    labels: Labels


def day_of(now: float) -> int:
    """The day of UTC, since 1970."""
    return int(now // _DAY_S)


def put(
    connection: Connection, now: float, team: Slug, model: Slug, selector: str, policy: Policy, *, by: str,
    scope: Scope = EVERYTHING,
) -> None:  # fmt: skip
    """Keep a policy, in the place of the one that there is for this model and selector.

    Raises:
        Invalid: terms that cannot be, or a selector that asks for more than labels.
        Missing: there is no such endpoint.
        Conflict: devices cannot ask it, it serves another model, or there are too many policies.
    """
    selector = checked(connection, team, model, selector, policy, scope)
    mine = _of(team, model, selector)
    values: dict[str, Any] = {
        "fallback": policy.fallback,
        "terms": msgspec.json.encode(policy.terms).decode(),
        "on_demand": policy.on_demand,
        "linger_s": policy.linger_s,
        "money_a_day": policy.money_a_day,
        "spent_on": -1,
        "changed": now,
        "by": by,
    }
    if not connection.execute(update(policies).where(mine).values(**values)).rowcount:
        if len(connection.scalars(select(policies.c.id)).all()) >= MAX_POLICIES:
            raise Conflict(f"there are {MAX_POLICIES} policies already", element="policy", remedy="remove one first")
        fresh = {"team": team, "model": model, "selector": selector, "created": now}
        connection.execute(insert(policies).values(**fresh, **values))
    who = f"{policy.fallback} answers instead" if policy.fallback else "nobody elsewhere answers, ever"
    message = f"{team}/{model} where {selector}: {who}"
    events.record(connection, now, "fallback-set", message, by=by)
    renew(connection, team, model, selector)


def checked(
    connection: Connection, team: Slug, model: Slug, selector: str, policy: Policy, scope: Scope = EVERYTHING
) -> str:
    """The selector as it is kept, of a policy that can be.

    Raises:
        Invalid, Missing, Conflict: as :func:`put`.
    """
    group = selectors.parse(selector)
    Area(group, None).check()
    _check(connection, team, model, policy, scope)
    return str(group)


def remove(connection: Connection, now: float, team: Slug, model: Slug, selector: str, *, by: str) -> None:
    """Forget a policy; what is less specific holds again.

    Raises:
        Missing: there is none.
    """
    selector = str(selectors.parse(selector))
    if not connection.execute(delete(policies).where(_of(team, model, selector))).rowcount:
        raise none_such(team, model, selector)
    events.record(connection, now, "fallback-removed", f"{team}/{model} where {selector}", by=by)
    renew(connection, team, model, selector)


def read(connection: Connection) -> list[Known]:
    """All policies."""
    return [known(row) for row in connection.execute(select(policies).order_by(policies.c.id))]


def known(row: Any) -> Known:
    """A policy out of its row."""
    names = ("fallback", "on_demand", "linger_s", "money_a_day")
    policy = Policy(terms=msgspec.json.decode(row.terms), **{name: getattr(row, name) for name in names})
    return Known(row.id, row.team, row.model, selectors.parse(row.selector), policy, row.spent_on)


def winner(every: Sequence[Known], module: ModuleRef, labels: Labels) -> Known | None:
    """The policy that holds for a module on a device with these labels."""
    fitting = (one for one in every if (one.team, one.model) == (module.team, module.name))
    matching = (one for one in fitting if one.selector.matches(labels))
    return max(matching, key=lambda one: (len(one.selector.terms), one.id), default=None)


def ordered(connection: Connection, team: str, model: str) -> Iterator[Ordered]:
    """What the devices of the fleet are ordered of a model, by device and slot."""
    mine = rollouts.c.module.startswith(f"{team}/{model}:", autoescape=True)
    live = devices.c.removed.is_(None) & devices.c.order_envelope.is_not(None)
    chosen = select(slots.c.device, slots.c.slot, slots.c.document, devices.c.labels)
    chosen = chosen.join(rollouts, rollouts.c.id == slots.c.rollout).join(devices, devices.c.id == slots.c.device)
    for row in connection.execute(chosen.where(mine, live).order_by(slots.c.device, slots.c.slot)):
        yield Ordered(DeviceId(row.device), row.slot, row.document, row.labels | {"id": row.device})


def rows(connection: Connection, scope: Scope = EVERYTHING) -> list[Any]:
    """The policies that lie in a scope, by module and group."""
    mine = scope.of_team_column(policies.c.team)
    ordered = select(policies).where(mine).order_by(policies.c.team, policies.c.model, policies.c.selector)
    return [row for row in connection.execute(ordered) if lies_in(scope, row.team, row.selector)]


def one(connection: Connection, team: str, model: str, selector: str) -> Any:
    """The row of a policy; None: there is none."""
    mine = _of(team, model, str(selectors.parse(selector)))
    return connection.execute(select(policies).where(mine)).one_or_none()


def lies_in(scope: Scope, team: str, selector: str) -> bool:
    """Whether a policy for these modules and devices is a matter of whoever has this scope."""
    wanted = Area(selectors.parse(selector), frozenset({team}))
    return any(wanted.within(one) for one in scope.areas)


def none_such(team: str, model: str, selector: str) -> Missing:
    where = "" if selector == EVERYWHERE else f" --group '{selector}'"
    return Missing(f"there is no such policy{where}", element=f"{team}/{model}", remedy="see: edgefleet fallback list")


def labels_of(connection: Connection, chosen: Sequence[DeviceId]) -> dict[DeviceId, Labels]:
    """The labels by which policies choose: those that people gave, and the id."""
    found: dict[DeviceId, Labels] = {}
    for start in range(0, len(chosen), _TOGETHER):
        some = devices.c.id.in_(chosen[start : start + _TOGETHER])
        for row in connection.execute(select(devices.c.id, devices.c.labels).where(some)):
            found[DeviceId(row.id)] = row.labels | {"id": row.id}
    return found


def renew(connection: Connection, team: str, model: str, selector: str = EVERYWHERE) -> None:
    """Have the orders made anew of those devices that have this model in a slot; the engine does, as fast as they go.

    Nothing in it but the fallback is another, so that nothing is proved again.
    """
    wanted = selectors.parse(selector)
    mine = rollouts.c.module.startswith(f"{team}/{model}:", autoescape=True)
    having = select(slots.c.device).join(rollouts, rollouts.c.id == slots.c.rollout).where(mine)
    live = devices.c.removed.is_(None) & devices.c.order_envelope.is_not(None)
    found = connection.execute(select(devices.c.id, devices.c.labels).where(live, devices.c.id.in_(having)))
    renew_of(connection, [row.id for row in found if wanted.matches(row.labels | {"id": row.id})])


def renew_of(connection: Connection, chosen: Sequence[str]) -> None:
    """Have the orders of these devices made anew."""
    for start in range(0, len(chosen), _TOGETHER):
        some = devices.c.id.in_(chosen[start : start + _TOGETHER]) & devices.c.order_envelope.is_not(None)
        connection.execute(update(devices).where(some).values(order_due=0.0))


def renew_for(connection: Connection, endpoint: str) -> None:
    """An endpoint has another address, or is gone: orders that name it by a policy are to be made anew."""
    for one in read(connection):
        if one.endpoint == endpoint:
            renew(connection, one.team, one.model, str(one.selector))


def on_demand(every: Sequence[Known]) -> dict[str, int]:
    """Which endpoints run on demand, and how many seconds they linger: those that all policies want so that name them.

    The longest counts.
    """
    lingers: dict[str, list[Known]] = {}
    for one in every:
        if one.endpoint:
            lingers.setdefault(one.endpoint, []).append(one)
    return {
        name: max(one.policy.linger_s for one in named)
        for name, named in lingers.items()
        if all(one.policy.on_demand for one in named)
    }


def serves(row: Any) -> str:
    """Of which model an endpoint (its row) serves versions: ``team/name``."""
    wish = wish_of(row)
    module = ModuleRef.parse(wish.versions[wish.default].module)
    return f"{module.team}/{module.name}"


def _of(team: str, model: str, selector: str) -> Any:
    return (policies.c.team == team) & (policies.c.model == model) & (policies.c.selector == selector)


def _check(connection: Connection, team: Slug, model: Slug, policy: Policy, scope: Scope) -> None:
    if not policy.fallback:
        if policy.terms.get("when") != [] or set(policy.terms) - {"when"} or policy.on_demand or policy.money_a_day:
            raise Invalid(
                "nobody is named who could answer", element="fallback", remedy="name an endpoint or a url, or say never"
            )
        return
    if policy.terms.get("when") == []:
        raise Invalid("it is never asked, and named", element="fallback", remedy="leave the endpoint out")
    standing_in.check_terms(policy.terms)
    if policy.fallback.startswith(standing_in.ENDPOINT):
        name = policy.fallback.removeprefix(standing_in.ENDPOINT)
        row = standing_in.suited(connection, name, team, model, scope)
        if policy.money_a_day and not standing_in.has_price(connection, row):
            raise Invalid(
                "nobody has said what it costs there, so its money cannot be bounded",
                element="money_a_day",
                remedy=f"run: edgefleet targets set {row.target} --price-per-hour PRICE, or --price-per-1000 PRICE",
            )
        return
    if policy.on_demand or policy.money_a_day:
        raise Invalid(
            "only endpoints of this fleet are started, stopped and counted", element="fallback", remedy="name one"
        )
    try:
        host = (urlsplit(policy.fallback).hostname or "").lower()
    except ValueError:
        host = ""
    check_fallback(policy.fallback, (host, f"[{host}]"))


def view(row: Any) -> dict[str, Any]:
    """A policy as the API shows it."""
    one = known(row)
    terms: Mapping[str, Any] = one.policy.terms
    return {
        "module": f"{row.team}/{row.model}",
        "group": row.selector,
        "endpoint": one.endpoint or None,
        "url": None if one.endpoint or one.never else one.policy.fallback,
        "when": sorted(one.when),
        "terms": {name: value for name, value in terms.items() if name not in {"when", "ca"}},
        "on_demand": row.on_demand,
        "linger_s": row.linger_s,
        "money_a_day": row.money_a_day,
        "created": row.created,
        "changed": row.changed,
        "by": row.by,
    }


def in_use(connection: Connection, team: str, model: str) -> list[ModuleRef]:
    """The versions of a model that slots have now."""
    mine = rollouts.c.module.startswith(f"{team}/{model}:", autoescape=True)
    having = select(rollouts.c.module).where(mine, rollouts.c.id.in_(select(slots.c.rollout)))
    return [ModuleRef.parse(one) for one in connection.scalars(having.distinct().order_by(rollouts.c.module))]
