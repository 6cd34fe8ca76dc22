"""Batch jobs as rows: asked for, shown and cancelled. ``job_duty.py`` brings them about."""

from collections.abc import Collection, Mapping
from secrets import token_hex
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from fleet import events
from fleet.gathered import TOGETHER, pieces
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.target_tables import jobs
from fleet.targets import attached, job_secrets, on_devices, quotas
from fleet.targets.contract import Job, JobStanding, Module
from fleet.targets.secrets import Sealer
from fleet.targets.settings import BatchSettings
from modules.errors import Invalid
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef, slot_name

STARTING: Final = "starting"
CANCELLED: Final = "cancelled"
ACTIVE: Final = frozenset({STARTING, "running", "paused"})


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, as it is stored."""

    inputs: str
    outputs: str
    settings: BatchSettings = BatchSettings()
    # Of those that were asked for together: which devices were meant.
    selector: str = ""
    # The secrets of its module, sealed for this job alone until it is over.
    secrets: bytes = b""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """On a target or on a device: one of them."""

    target: str | None = None
    device: DeviceId | None = None

    def __post_init__(self) -> None:
        if (self.target is None) == (self.device is None):
            raise Invalid("say either a target or a device", element="batch job", remedy="give one of them")

    def __str__(self) -> str:
        return self.target or self.device or ""


class BatchJobs:
    """The rows of batch jobs.

    Args:
        registry: of signed modules.
        sealer: for secrets of modules.
    """

    def __init__(self, registry: Registry, sealer: Sealer) -> None:
        self._registry, self._sealer = registry, sealer

    def start(
        self,
        connection: Connection,
        now: float,
        name: str,
        where: Where,
        module: ModuleRef,
        asked: Asked,
        secrets: Mapping[str, bytes],
        *,
        by: str,
        scope: Scope = EVERYTHING,
    ) -> None:
        """Ask for a job; one of the same name that has ended is forgotten. On a target it is given these ``secrets``.

        Raises:
            Missing: there is no such target, device or module.
            Conflict: a job of this name has not ended, or nobody signed the module.
            Invalid: the places are not two, or the target lets no job use them; or the module's data may not go there;
                or a secret that it requires is missing.
            Unfit: the device does not serve the module, or takes no jobs.
        """
        if where.target is not None:
            attached.check_places(connection, where.target, asked.inputs, asked.outputs)
            attached.check_pods(connection, where.target, asked.settings.pods)
        slot_name(name)
        manifest, digest = self.signed(connection, module, scope)
        free_names(connection, name, (name,), scope)
        if where.target is not None:
            job_secrets.check(manifest, secrets, job=name)
            check_data(manifest, attached.region(connection, where.target))
            asks = quotas.of_job(self._registry, asked.settings, digest)
            quotas.hold(connection, self._registry, where.target, module.team, name, asks)
        if where.device is not None:
            job_secrets.check_device(secrets)
            on_devices.check(connection, where.device, digest, asked)
        row = values(name, module, digest, asked, now, by=by) | {"target": where.target, "device": where.device}
        if secrets:
            sealed = self._sealer.seal_for_job(row["mark"], secrets)
            row["asked"] = _json(msgspec.structs.replace(asked, secrets=sealed))
        connection.execute(insert(jobs).values(**row))
        events.record(connection, now, "batch-started", f"batch job {name} on {where}: {module}", by=by)

    def signed(self, connection: Connection, module: ModuleRef, scope: Scope) -> tuple[Manifest, Digest]:
        """A module that jobs may be asked about.

        Raises:
            Missing: there is none, in this scope.
            Conflict: nobody signed it.
        """
        if not scope.has_team(module.team):
            raise Missing("there is no such module", element=str(module))
        return self._registry.signed(connection, module)

    def cancel(self, connection: Connection, now: float, name: str, *, by: str) -> None:
        """End a job; its answers so far stay where they are.

        Raises:
            Missing: there is none.
            Conflict: it has ended.
        """
        row = self.row(connection, name)
        if row.state not in ACTIVE:
            raise Conflict(f"it has ended: {row.state}", element=f"batch job {name}")
        over = {"state": CANCELLED, "since": now} | _forgetting(row)
        connection.execute(update(jobs).where(jobs.c.name == name).values(**over))
        events.record(connection, now, "batch-cancelled", f"batch job {name} is cancelled", by=by)

    def wanted(self, row: Any) -> Job:
        """A job as its target is to run it.

        Raises:
            NeedsOperator: its secrets were encrypted by another fleet's server.
        """
        asked = msgspec.json.decode(row.asked, type=Asked)
        secrets = self._sealer.open_for_job(row.mark, asked.secrets, job=row.name) if asked.secrets else {}
        return Job(
            name=row.name,
            mark=row.mark,
            module=Module(row.digest, self._registry.manifest(row.digest)),
            inputs=asked.inputs,
            outputs=asked.outputs,
            settings=asked.settings,
            starts=standing_of(row).starts,
            secrets=secrets,
        )

    @staticmethod
    def row(connection: Connection, name: str) -> Any:
        """The row of a job.

        Raises:
            Missing: there is none.
        """
        found = connection.execute(select(jobs).where(jobs.c.name == name)).one_or_none()
        if found is None:
            raise Missing("there is no such batch job", element=name[:63], remedy="see: edgefleet batch list")
        return found

    @staticmethod
    def every(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
        """All jobs of a scope's teams, the newest first."""
        mine = scope.of_team_column(jobs.c.team)
        rows = connection.execute(select(jobs).where(mine).order_by(jobs.c.created.desc(), jobs.c.name))
        return [view(one) for one in rows]

    @staticmethod
    def note(connection: Connection, now: float, row: Any, standing: JobStanding | None) -> None:
        """How it stood at a look; None: nothing of it is left on its target."""
        mine = (jobs.c.name == row.name) & (jobs.c.mark == row.mark)
        if standing is None:
            connection.execute(update(jobs).where(mine, jobs.c.state.not_in(ACTIVE)).values(on_target=0))
            return
        values: dict[str, Any] = {"standing": _json(standing)}
        if standing.state != row.state:
            values |= {"state": standing.state, "since": now}
        if standing.state not in ACTIVE:
            values |= _forgetting(row)
        # One that was cancelled meanwhile stays so.
        done = connection.execute(update(jobs).where(mine, jobs.c.state.in_(ACTIVE)).values(**values))
        if done.rowcount and standing.state != row.state and standing.state not in ACTIVE:
            told = f"{standing.answered} of {standing.items} inputs answered, {standing.set_aside} set aside"
            words = f"batch job {row.name}: {standing.why or told}"
            events.record(connection, now, f"batch-{standing.state}", words)


def values(name: str, module: ModuleRef, digest: Digest, asked: Asked, now: float, *, by: str) -> dict[str, Any]:
    """The row of a new job, but for where it runs."""
    return {
        "name": name, "team": module.team, "module": str(module), "digest": digest,
        "mark": token_hex(8), "asked": _json(asked), "state": STARTING, "since": now,
        "standing": _json(JobStanding()), "on_target": 1, "created": now, "by": by,
    }  # fmt: skip


def free_names(connection: Connection, common: str, names: Collection[str], scope: Scope) -> None:
    """Make these names free; what had them and has ended is forgotten, all that had the common one among it.

    Raises:
        Conflict: something has not ended, or is another team's.
    """
    for some in pieces({common, *names}, TOGETHER):
        mine = jobs.c.name.in_(some) | jobs.c.batch.in_(some)
        for before in connection.execute(select(jobs.c.name, jobs.c.team, jobs.c.on_target).where(mine)):
            if not scope.has_team(before.team):
                raise Conflict("the name is taken", element=f"batch job {common}", remedy="choose another")
            if before.on_target:
                raise Conflict(
                    "a job of this name has not ended", element=f"batch job {before.name}", remedy="choose another"
                )
        connection.execute(delete(jobs).where(mine))


def check_data(manifest: Manifest, region: str) -> None:
    """Let a module be asked on a target in this region, where the data of its requests may go.

    Raises:
        Invalid: they may not.
    """
    data = manifest.data
    if not data or data.allows(region):
        return
    to = f"may go to {', '.join(data.regions)} alone" if data.regions else "never leave the site"
    raise Invalid(
        f"the module's data ({data.kind}) {to}, and the target is in {region or 'a region that nobody says'}",
        element=str(manifest.ref),
        remedy="choose a target in one of these regions (edgefleet targets attach --region)",
    )


def _forgetting(row: Any) -> dict[str, Any]:
    """What is to be written of a job that is over: what was asked, without its secrets."""
    asked = msgspec.json.decode(row.asked, type=Asked)
    return {"asked": _json(msgspec.structs.replace(asked, secrets=b""))} if asked.secrets else {}


def standing_of(row: Any) -> JobStanding:
    return msgspec.json.decode(row.standing, type=JobStanding)


def view(row: Any) -> dict[str, Any]:
    """A job as the API shows it."""
    stands = standing_of(row)
    asked = msgspec.json.decode(row.asked, type=Asked)
    return {
        "name": row.name,
        "target": row.target,
        "device": row.device,
        "batch": row.batch,
        "team": row.team,
        "module": row.module,
        "inputs": asked.inputs,
        "outputs": f"{asked.outputs}/{row.batch or row.name}",
        "settings": msgspec.to_builtins(asked.settings),
        "state": row.state,
        "since": row.since,
        "why": stands.why,
        "items": stands.items,
        "answered": stands.answered,
        "set_aside": stands.set_aside,
        "starts": stands.starts,
        "created": row.created,
        "by": row.by,
    }


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()
