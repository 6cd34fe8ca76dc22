"""Endpoints as they are wished for: made, changed, shown and taken away. ``duty.py`` brings it about."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from fleet import events
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.target_tables import endpoints
from fleet.targets import attached, quotas, scaling, shifting
from fleet.targets.contract import Devices, Module, Standing, Wanted, WantedVersion
from fleet.targets.host_certificates import HostCertificates
from fleet.targets.secrets import Sealer, Secrets, checked, new_key
from fleet.targets.settings import Settings, Version, Wish, check
from fleet.targets.shifting import REMOVING, UPDATING, told, weight_of, wish_of
from fleet.targets.version_wish import VersionWish, version_of
from modules import access_tokens
from modules.errors import Invalid
from modules.names import ModuleRef, Slug, slot_name

__all__ = ["REMOVING", "Endpoints", "VersionWish", "view", "wish_of"]
# A token is fetched anew when so much of its life is over.
_REFRESH: Final = 0.5


class Endpoints:
    """The rows of endpoints.

    Args:
        registry: of signed modules.
        sealer: for what lets clients in.
        certificates: of endpoints that devices ask.
    """

    def __init__(self, registry: Registry, sealer: Sealer, certificates: HostCertificates) -> None:
        self._registry, self._sealer, self._certificates = registry, sealer, certificates

    def create(
        self,
        connection: Connection,
        now: float,
        name: str,
        target: str,
        versions: Mapping[Slug, VersionWish],
        default: Slug | None,
        settings: Settings,
        secrets: Secrets,
        *,
        by: str,
        scope: Scope = EVERYTHING,
    ) -> None:
        """Wish for a new endpoint.

        Raises:
            Missing: there is no such target or module.
            Conflict: there is an endpoint of this name, nobody signed a module, or it is more than the team may have.
            Invalid: something does not belong together.
        """
        wish = self._wish(connection, versions, default, settings, scope)
        attached.suits(attached.row(connection, target), settings)
        slot_name(name)
        if self._find(connection, name) is not None:
            raise Conflict("there is an endpoint of this name", element=f"endpoint {name}", remedy="change that one")
        _check_port(connection, name, target, settings)
        self._hold(connection, name, target, wish)
        values = _stored(wish) | {"secrets": self._sealer.seal(checked(secrets, settings.certificate))}
        fresh = {"name": name, "target": target, "generation": 1, "created": now, "by": by}
        standing = {"state": UPDATING, "since": now, "standing": _json(Standing(state="updating", why="it is new"))}
        connection.execute(insert(endpoints).values(**fresh, **values, **standing))
        events.record(connection, now, "endpoint-created", f"endpoint {name} on {target}: {told(wish)}", by=by)

    def change(
        self,
        connection: Connection,
        now: float,
        name: str,
        versions: Mapping[Slug, VersionWish] | None,
        default: Slug | None,
        settings: Settings | None,
        certificate_key: str | None,
        *,
        generation: int | None,
        by: str,
        scope: Scope = EVERYTHING,
    ) -> None:
        """Wish for something else; what is None stays. ``generation``: only if nobody changed it since.

        Raises:
            Missing, Conflict, Invalid: as :meth:`create`.
        """
        row = self.row(connection, name)
        if row.state == REMOVING:
            raise Conflict("this endpoint is being removed", element=f"endpoint {name}")
        if generation is not None and generation != row.generation:
            raise Conflict(
                f"it was changed meanwhile: generation {row.generation}, not {generation}",
                element=f"endpoint {name}",
                remedy="look at it again",
            )
        before = wish_of(row)
        if versions is None:
            versions = {slug: _wished(one) for slug, one in before.versions.items()}
        if default is None and before.default in versions:
            default = before.default
        wish = self._wish(connection, versions, default, settings or before.settings, scope)
        attached.suits(attached.row(connection, row.target), wish.settings)
        _check_port(connection, name, row.target, wish.settings)
        self._hold(connection, name, row.target, wish)
        secrets = self._sealer.open(row.secrets, endpoint=name)
        if certificate_key is not None:
            secrets = msgspec.structs.replace(secrets, certificate_key=certificate_key)
        values = _stored(wish) | {"secrets": self._sealer.seal(checked(secrets, wish.settings.certificate))}
        values |= shifting.by_hand(connection, row, before, wish)
        self._changed(connection, now, name, row, values)
        events.record(connection, now, "endpoint-changed", f"endpoint {name}: {told(wish)}", by=by)

    def keys(self, connection: Connection, name: str) -> tuple[str, str]:
        """The keys of an endpoint that lets clients in by key.

        Raises:
            Missing: there is no such endpoint.
            Conflict: it has no keys.
        """
        row = self.row(connection, name)
        _needs(row, "key")
        opened = self._sealer.open(row.secrets, endpoint=name)
        return opened.primary, opened.secondary

    def regenerate(self, connection: Connection, now: float, name: str, which: str, given: str, *, by: str) -> None:
        """Change one of the keys; the other goes on letting clients in.

        Raises:
            Missing, Conflict: as :meth:`keys`.
            Invalid: the key that is given is not usable.
        """
        row = self.row(connection, name)
        _needs(row, "key")
        opened = self._sealer.open(row.secrets, endpoint=name)
        changed = msgspec.structs.replace(opened, **{which: given or new_key()})
        sealed = self._sealer.seal(checked(changed, wish_of(row).settings.certificate))
        self._changed(connection, now, name, row, {"secrets": sealed})
        events.record(connection, now, "endpoint-key-changed", f"endpoint {name}: its {which} key was changed", by=by)

    def token(self, connection: Connection, now: float, name: str) -> dict[str, Any]:
        """A token that lets its bearer in until it expires.

        Raises:
            Missing: there is no such endpoint.
            Conflict: it takes no tokens.
        """
        row = self.row(connection, name)
        _needs(row, "token")
        life = wish_of(row).settings.token_life_s
        expires = int(now) + life
        token = access_tokens.make(self.token_secret(row), expires=expires)
        return {"token": token, "expires": expires, "refresh_after": int(now + life * _REFRESH)}

    @property
    def authority(self) -> str:
        """Who names endpoints that have no certificate of the operator's; PEM."""
        return self._certificates.authority

    def token_secret(self, row: Any) -> bytes:
        return self._sealer.open(row.secrets, endpoint=row.name).token_secret

    def remove(self, connection: Connection, now: float, name: str, *, by: str) -> None:
        """Wish for its end; the row stays until nothing of it is left on the target.

        Raises:
            Missing: there is no such endpoint.
        """
        row = self.row(connection, name)
        if row.state != REMOVING:
            self._changed(connection, now, name, row, {"state": REMOVING})
            shifting.look(connection, endpoints.c.name == name)
            events.record(connection, now, "endpoint-removed", f"endpoint {name} is being removed", by=by)

    def gone(self, connection: Connection, name: str) -> None:
        """Nothing of it is left."""
        connection.execute(delete(endpoints).where((endpoints.c.name == name) & (endpoints.c.state == REMOVING)))

    def certify(self, connection: Connection, now: float, row: Any) -> Any:
        """The row, with a certificate of the fleet's own where devices ask the endpoint and it has no other."""
        settings = wish_of(row).settings
        if not settings.devices or settings.certificate:
            return row
        host = settings.host_name or attached.host_name(connection, row.target)
        renewed = self._certificates.renewed(self._sealer.open(row.secrets, endpoint=row.name), host, now)
        if renewed is None:
            return row
        values = {"secrets": self._sealer.seal(renewed)}
        connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(**values))
        return self.row(connection, row.name)

    def wanted(
        self, row: Any, revoked: Sequence[str] = (), guests: Sequence[str] = (), *, measured: bool = False
    ) -> Wanted:
        """An endpoint as its target is to bring it about; the default version stands first.

        ``revoked`` are the serial numbers of devices' certificates that hold no more, ``guests`` whom it is for.
        ``measured``: it is to be told what is counted of the versions.

        Raises:
            NeedsOperator, Missing: its secrets cannot be opened, or the bytes of a module are not here.
        """
        wish = wish_of(row)
        secrets = self._sealer.open(row.secrets, endpoint=row.name)
        devices = None
        if wish.settings.devices:
            devices = Devices(ca=self._certificates.authority, revoked=revoked, only=guests)
        settings, key = wish.settings, secrets.certificate_key
        if devices and not settings.certificate:
            settings, key = msgspec.structs.replace(settings, certificate=secrets.issued), secrets.issued_key
        ordered = sorted(wish.versions.items(), key=lambda one: (one[0] != wish.default, one[0]))
        return Wanted(
            name=row.name,
            versions=[
                WantedVersion(
                    name=name,
                    module=Module(one.digest, self._registry.manifest(one.digest)),
                    weight=shifting.weight_of(wish, name),
                    replicas=scaling.replicas_of(row, wish, name),
                    secrets={
                        secret: secrets.modules[secret].value
                        for secret in self._registry.declared(one.digest)
                        if secret in secrets.modules
                    },
                )
                for name, one in ordered
            ],
            settings=settings,
            keys=(secrets.primary, secrets.secondary),
            token_secret=secrets.token_secret,
            certificate_key=key,
            devices=devices,
            port=row.port,
            measured=measured,
        )

    def secret_of_job(self, mark: str) -> bytes:
        """The secret of one batch job, by its mark."""
        return self._sealer.of_job(mark)

    def opened(self, row: Any) -> Secrets:
        """What lets clients in.

        Raises:
            NeedsOperator: it was encrypted by another fleet's server.
        """
        return self._sealer.open(row.secrets, endpoint=row.name)

    def reseal(self, connection: Connection, now: float, row: Any, opened: Secrets) -> None:
        """Change what it keeps; its target is looked at anew."""
        self._changed(connection, now, row.name, row, {"secrets": self._sealer.seal(opened)})

    @staticmethod
    def row(connection: Connection, name: str) -> Any:
        """The row of an endpoint.

        Raises:
            Missing: there is none.
        """
        found = Endpoints._find(connection, name)
        if found is None:
            raise Missing("there is no such endpoint", element=name[:63], remedy="see: edgefleet endpoints list")
        return found

    @staticmethod
    def every(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
        """All endpoints of a scope's teams, as the API shows them."""
        mine = scope.of_team_column(endpoints.c.team)
        return [view(one) for one in connection.execute(select(endpoints).where(mine).order_by(endpoints.c.name))]

    def _wish(
        self,
        connection: Connection,
        versions: Mapping[Slug, VersionWish],
        default: Slug | None,
        settings: Settings,
        scope: Scope,
    ) -> Wish:
        found = {name: version_of(self._registry, connection, name, one, scope) for name, one in versions.items()}
        if len({one.module.team for one in versions.values()}) > 1:
            raise Invalid("its versions are modules of several teams", element="versions", remedy="make two endpoints")
        try:
            wish = msgspec.convert(
                {"versions": found, "default": default or next(iter(found), ""), "settings": settings}, Wish
            )
        except msgspec.ValidationError as error:
            raise Invalid(str(error), element="versions") from error
        return check(wish)

    def _hold(self, connection: Connection, name: str, target: str, wish: Wish) -> None:
        """Whether its team may have so much there: Conflict, if not."""
        team = ModuleRef.parse(wish.versions[wish.default].module).team
        quotas.hold(connection, self._registry, target, team, name, quotas.of_wish(self._registry, wish))

    @staticmethod
    def _find(connection: Connection, name: str) -> Any:
        return connection.execute(select(endpoints).where(endpoints.c.name == name)).one_or_none()

    @staticmethod
    def _changed(connection: Connection, now: float, name: str, row: Any, values: dict[str, Any]) -> None:
        state = {"state": UPDATING, "since": now if row.state != UPDATING else row.since}
        more = {"generation": row.generation + 1} | state | values
        connection.execute(update(endpoints).where(endpoints.c.name == name).values(**more))


def view(row: Any) -> dict[str, Any]:
    """An endpoint as the API shows it: what is wished, and how it stood at the last look. Without its secrets."""
    wish = wish_of(row)
    stands = msgspec.json.decode(row.standing, type=Standing)
    return {
        "name": row.name,
        "target": row.target,
        "team": row.team,
        "generation": row.generation,
        "state": row.state,
        "since": row.since,
        "why": stands.why if row.seen_generation == row.generation else "the change has just been asked for",
        "url": f"{stands.url}/{row.name}/score" if stands.url else "",
        "swagger_url": f"{stands.url}/{row.name}/swagger.json" if stands.url else "",
        "default": wish.default,
        "versions": {
            name: {"module": one.module, "weight": weight_of(wish, name), "replicas": one.replicas}
            | {"ready": stands.versions[name].ready if name in stands.versions else 0}
            | {"provider": stands.versions[name].provider if name in stands.versions else ""}
            for name, one in wish.versions.items()
        },
        "settings": msgspec.to_builtins(wish.settings),
        "demand": scaling.view(row),
        "created": row.created,
        "by": row.by,
    }


def _check_port(connection: Connection, name: str, target: str, settings: Settings) -> None:
    """Whether another endpoint of the target has this port: it would get the requests of that one's clients.

    Raises:
        Conflict: it has.
    """
    if settings.port:
        on = (endpoints.c.target == target) & (endpoints.c.name != name) & (endpoints.c.port == settings.port)
        if connection.execute(select(endpoints.c.name).where(on)).first() is not None:
            raise Conflict("another endpoint of this target has the port", element="port", remedy="choose another")


def _wished(version: Version) -> VersionWish:
    return VersionWish(ModuleRef.parse(version.module), version.weight, version.replicas)


def _stored(wish: Wish) -> dict[str, Any]:
    team = ModuleRef.parse(wish.versions[wish.default].module).team
    return {"wish": _json(wish), "team": team} | ({"port": wish.settings.port} if wish.settings.port else {})


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()


def _needs(row: Any, auth: str) -> None:
    found = wish_of(row).settings.auth
    if found != auth:
        raise Conflict(
            f"clients come in by {'nothing' if found == 'none' else f'a {found}'}, not by a {auth}",
            element=f"endpoint {row.name}",
            remedy=f"set its auth to {auth}",
        )
