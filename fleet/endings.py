"""What ends one day: the CA's certificates, the server's own, the list of revoked ones, trust metadata, devices'.

All of them are renewed in time: by the server, by the devices, or (the CA, what offline keys signed) by people. This
says when each ends, and tells somebody in time where nobody renews it.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from cryptography import x509
from sqlalchemy import Connection, case, func, insert, select, update

from fleet import events
from fleet.devices import LIVE
from fleet.folder import Folder
from fleet.people.scope import EVERYTHING, Scope
from fleet.tables import certificates, devices, endings, tuf_metadata
from modules.certificate_life import due_at, last_from
from modules.trust import roles

DAY_S: Final = 86_400.0
# A new CA has to reach every device by a person's hand: that takes its time.
CA_SOON_S: Final = 730 * DAY_S
CAS: Final = ("ca", "service-ca")
# The buckets in which devices' certificates are counted, by the seconds that are left.
BUCKETS: Final = (("ended", 0.0), ("7d", 7 * DAY_S), ("30d", 30 * DAY_S), ("90d", 90 * DAY_S))
# People sign these anew, and somebody may be ill or away: they are told at half of the life.
_HALF: Final = 0.5
_BY_ITSELF: Final = "it is renewed without you; the server's log says why that failed"
_REMEDIES: Final = {
    "ca": "replace the fleet's CA, as docs/operate.md describes",
    "service-ca": "replace the CA of the services, as docs/operate.md describes",
    "revocations": "see that the server may write the list and that the broker gets it: docs/operate.md",
    "devices": "see that these devices connect: each renews its own; once it has ended, enrol it again",
}


class Ending(NamedTuple):
    """One thing that ends; Unix seconds. ``soon`` is when somebody is told once, ``last`` from when on every day."""

    name: str
    begins: float
    ends: float
    soon: float
    last: float
    device: str = ""

    @classmethod
    def of(cls, name: str, begins: float, ends: float, device: str = "") -> "Ending":
        last = last_from(begins, ends)
        if name in CAS:
            return cls(name, begins, ends, ends - CA_SOON_S, last)
        if _is_offline(name):
            return cls(name, begins, ends, begins + _HALF * (ends - begins), last)
        # Devices renew themselves; the one that does not is told of at its end alone.
        return cls(name, begins, ends, last if device else due_at(begins, ends), last, device)

    def words(self, now: float) -> str:
        """As an operator reads it."""
        day = f"{dt.datetime.fromtimestamp(self.ends, dt.UTC):%Y-%m-%d}"
        ended = f"ended on {day}" if self.ends <= now else f"ends on {day}"
        subject = f"the certificate of {self.device}" if self.device else self.name
        remedy = _REMEDIES.get(self.name, _BY_ITSELF)
        if _is_offline(self.name):
            remedy = f"sign it again: edgefleet keys renew {self.name}"
        return f"{subject} {ended} ({remedy})"


def _is_offline(name: str) -> bool:
    return name in {roles.ROOT, roles.TARGETS} or roles.team_of(name) is not None


def _is_by_people(name: str) -> bool:
    return name in CAS or _is_offline(name)


def found(connection: Connection, folder: Folder, now: float, scope: Scope = EVERYTHING) -> list[Ending]:
    """Everything that ends; of the devices' certificates the next one. Reads a few small files and rows.

    Of a bounded scope its devices alone, and the metadata of its teams.
    """
    return [*files(folder), *_metadata(connection, scope), *_devices(connection, now, scope)]


def warnings(every: Iterable[Ending], now: float) -> list[str]:
    """What would stop the whole fleet: what people renew once it is due, all else in the last tenth of its life.

    Of devices nothing: in a large fleet there is always one that will not come back.
    """
    fleet = [one for one in every if not one.device]
    return [one.words(now) for one in fleet if now >= (one.soon if _is_by_people(one.name) else one.last)]


def tell(connection: Connection, now: float, every: Iterable[Ending]) -> None:
    """Record what comes near: once when it is due, and every day in the last tenth of its life."""
    told = {row.name: row for row in connection.execute(select(endings))}
    for one in every:
        before = told.get(one.name)
        # With another end it was renewed since; of devices it is another one, and one a day is told of.
        same = before is not None and (before.ends == one.ends or bool(one.device))
        last_told = before.told if before is not None and same else 0.0
        if now < one.soon or (last_told >= one.soon and (now < one.last or now - last_told < DAY_S)):
            continue
        values = {"ends": one.ends, "told": now}
        if before is None:
            connection.execute(insert(endings).values(name=one.name, **values))
        else:
            connection.execute(update(endings).where(endings.c.name == one.name).values(**values))
        events.record(connection, now, "ends-soon", one.words(now))


def of_device(connection: Connection, device: str) -> tuple[float, float] | None:
    """When the certificate that a device uses was made, and when it ends; None where it has none that holds."""
    text = connection.scalar(select(devices.c.certificate).where(devices.c.id == device, devices.c.revoked.is_(None)))
    try:
        one = x509.load_pem_x509_certificate((text or "").encode())
    except ValueError:
        return None
    return one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()


def buckets(connection: Connection, now: float, scope: Scope = EVERYTHING) -> dict[str, int]:
    """How many devices' certificates end within each bucket; one is counted in the first that fits, else as later."""
    newest = _newest(scope).subquery()
    # In one pass: to find each device's newest is most of the work.
    within = [func.coalesce(func.sum(case((newest.c.ends <= now + left, 1), else_=0)), 0) for _, left in BUCKETS]
    *ends, every = connection.execute(select(*within, func.count()).select_from(newest)).one()
    counts = {name: int(end - before) for (name, _), before, end in zip(BUCKETS, [0, *ends], ends, strict=False)}
    return counts | {"later": int(every - ends[-1])}


def soonest(connection: Connection, now: float, scope: Scope, limit: int) -> list[tuple[str, float]]:
    """The devices whose certificates end next or have ended, with when: those that ended last come first."""
    newest = _newest(scope).subquery()
    chosen = select(newest.c.device, newest.c.ends)
    ended = chosen.where(newest.c.ends <= now).order_by(newest.c.ends.desc(), newest.c.device).limit(limit)
    coming = chosen.where(newest.c.ends > now).order_by(newest.c.ends, newest.c.device).limit(limit)
    rows = [*connection.execute(ended), *connection.execute(coming)]
    return [(row.device, row.ends) for row in rows[:limit]]


def _newest(scope: Scope) -> Any:
    """Of each device of a scope that is in the fleet the certificate that holds longest."""
    return (
        select(certificates.c.device, func.max(certificates.c.expires).label("ends"))
        .join_from(certificates, devices)
        .where(certificates.c.revoked.is_(None), LIVE, devices.c.revoked.is_(None), scope.live_devices())
        .group_by(certificates.c.device)
    )


def _devices(connection: Connection, now: float, scope: Scope) -> Iterator[Ending]:
    newest = _newest(scope).subquery()
    first = select(newest.c.device, newest.c.ends).where(newest.c.ends > now).order_by(newest.c.ends).limit(1)
    row = connection.execute(first).one_or_none()
    if row is not None and (life := of_device(connection, row.device)):
        yield Ending.of("devices", life[0], row.ends, row.device)


def files(folder: Folder) -> Iterator[Ending]:
    """The certificates of this data folder, and the list of revoked ones."""
    named = {
        "ca": folder.ca,
        "service-ca": folder.service_ca,
        "server": folder.server,
        "broker": folder.broker,
        "service": folder.service,
    }
    for name, path in named.items():
        one = x509.load_pem_x509_certificate(path.read_bytes())
        yield Ending.of(name, one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp())
    if folder.revoked.exists():
        listed = x509.load_pem_x509_crl(folder.revoked.read_bytes())
        ends = listed.next_update_utc or listed.last_update_utc
        yield Ending.of("revocations", listed.last_update_utc.timestamp(), ends.timestamp())


class _Signed(msgspec.Struct):
    expires: dt.datetime


class _File(msgspec.Struct):
    signed: _Signed


def _metadata(connection: Connection, scope: Scope) -> Iterator[Ending]:
    """A bin ends with the team's role, which names it."""
    newest = select(tuf_metadata.c.role, func.max(tuf_metadata.c.version).label("version"))
    newest = newest.where(tuf_metadata.c.role.not_like("bins-%"))
    latest = newest.group_by(tuf_metadata.c.role).subquery()
    same = (tuf_metadata.c.role == latest.c.role) & (tuf_metadata.c.version == latest.c.version)
    rows = select(tuf_metadata.c.role, tuf_metadata.c.data).join(latest, same).order_by(tuf_metadata.c.role)
    for row in connection.execute(rows):
        if (team := roles.team_of(row.role)) is not None and not scope.has_team(team):
            continue
        ends = msgspec.json.decode(row.data, type=_File).signed.expires
        yield Ending.of(row.role, (ends - roles.life(row.role)).timestamp(), ends.timestamp())
