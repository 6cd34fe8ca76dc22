"""The wiring: every part of the server is built here, once, from top to bottom."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from fleet import errors
from fleet.api import (
    about_models,
    audit,
    auto_rollouts,
    batch_jobs,
    commands,
    content,
    device_looks,
    devices,
    endpoint_auto_rollouts,
    endpoint_rollouts,
    endpoint_secrets,
    endpoints,
    enrol,
    events,
    export,
    fallbacks,
    health,
    joins,
    looks,
    metrics,
    oidc,
    operators,
    overview,
    revoked,
    rollouts,
    session,
    standing,
    tokens,
    tuf,
)
from fleet.api import blobs as blobs_api
from fleet.api import secrets as secrets_api
from fleet.api import targets as targets_api
from fleet.attempts import ALLOWED_ALL, Attempts
from fleet.audit.heads import Heads, audit_signer
from fleet.audit.middleware import Audited
from fleet.authority import Authority, certified_names, read_authorities
from fleet.background import Background
from fleet.blob_listener import serving
from fleet.blobs import Blobs
from fleet.broadcast import Broadcaster
from fleet.broker import BrokerLink, tls_context
from fleet.bundles import Bundles
from fleet.claims import Claims
from fleet.clock import Clock
from fleet.commands.following import Followers
from fleet.commands.given import Commands
from fleet.db import Database
from fleet.demand import Demands
from fleet.devices import labels_of
from fleet.enrolment import Enrolment
from fleet.fallbacks.answering import Completing
from fleet.fallbacks.duty import Meeting
from fleet.fixed_headers import FixedHeaders
from fleet.folder import Folder
from fleet.graphs.graphs import Graphs
from fleet.ingest import Ingest
from fleet.leader import lead
from fleet.limits import Limits
from fleet.metadata import Metadata
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.offline_keys import DEMO
from fleet.online_keys import new_online_key
from fleet.orders import Orders
from fleet.origin import OwnNames, host_of
from fleet.overview import Overviews
from fleet.people.back_off import BackOff
from fleet.people.last_uses import LastUses
from fleet.people.oidc import Provider
from fleet.people.passwords import Passwords
from fleet.publisher import Publisher
from fleet.registry import Registry
from fleet.renewal import Renewals
from fleet.retention import Retention
from fleet.revocation import Revocations
from fleet.rights import Rights
from fleet.rollouts.engine import Engine
from fleet.services import Services
from fleet.settings import Settings
from fleet.setup import SERVICE, opened
from fleet.targets.asking import Asking
from fleet.targets.attached import Targets
from fleet.targets.content import Contents
from fleet.targets.device_jobs import DeviceJobs
from fleet.targets.duty import Bringing
from fleet.targets.endpoints import Endpoints
from fleet.targets.host_certificates import HostCertificates
from fleet.targets.job_duty import BringingJobs
from fleet.targets.jobs import BatchJobs
from fleet.targets.kinds import Parts
from fleet.targets.secrets import Sealer
from fleet.targets.sweeping import Sweeping
from fleet.upkeep import Upkeep
from fleet.uploads.uploads import Uploads
from modules import __version__
from modules.protocol.enrollment import SYSTEM, Broker
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)

# Every body but an upload: the largest document is a manifest or a team's metadata.
BODY_LIMIT: Final = 2 << 20
# So long may the duties take to end before they are told again.
ENDS_WITHIN_S: Final = 10.0


def create_app(
    settings: Settings,
    *,
    clock: Clock = time.time,
    passwords: Passwords | None = None,
    stop: Callable[[], None] = lambda: None,
    blob_listener: socket.socket | None = None,
) -> FastAPI:
    """The application; its parts live from start-up to shut-down. Devices fetch blobs at ``blob_listener``.

    ``stop`` is called if a background task dies, which only a defect can cause: a server that looks alive and decides
    nothing would be worse than one that is started again.
    """
    app = FastAPI(
        title="edgefleet",
        version=__version__,
        lifespan=partial(
            _lifespan,
            settings=settings,
            clock=clock,
            passwords=passwords or Passwords(),
            stop=stop,
            blob_listener=blob_listener,
        ),
        openapi_url=None,
        max_body_size=BODY_LIMIT,
        responses=errors.REFUSED,
    )
    errors.install(app)
    own = {host_of(settings.url), settings.host, *settings.more_hosts, *certified_names(Folder(settings.data).server)}
    app.add_middleware(OwnNames, own=own, pages={settings.url.partition("://")[2], *settings.more_hosts})
    app.add_middleware(Audited, services=lambda: app.state.services)
    app.add_middleware(FixedHeaders)
    people = (session, oidc, operators, tokens, overview, standing, device_looks, looks)
    fleet = (devices, blobs_api, tuf, rollouts, auto_rollouts, commands, events, audit, export, secrets_api)
    cloud = (targets_api, endpoints, endpoint_rollouts, endpoint_auto_rollouts, endpoint_secrets, content, batch_jobs)
    for room in (health, metrics, enrol, joins, revoked, *people, *fleet, *about_models.ROOMS, *cloud, fallbacks):
        app.include_router(room.router)
    return app


@asynccontextmanager
async def _lifespan(
    app: FastAPI,
    *,
    settings: Settings,
    clock: Clock,
    passwords: Passwords,
    stop: Callable[[], None],
    blob_listener: socket.socket | None,
) -> AsyncIterator[None]:
    folder = Folder(settings.data)
    database = await asyncio.to_thread(opened, settings)
    try:
        await asyncio.to_thread(database.migrate)
        background = _build(app, settings, folder, database, clock, passwords)
        await asyncio.to_thread(_tell_revoked, app.state.services)
        task = asyncio.create_task(background.run(), name="background")
        task.add_done_callback(partial(_ended, stop=stop))
        try:
            async with AsyncExitStack() as stack:
                if blob_listener is not None:
                    await stack.enter_async_context(serving(blob_listener, folder, app.state.services))
                yield
        finally:
            task.cancel()
            while not (await asyncio.wait([task], timeout=ENDS_WITHIN_S))[0]:
                # Whatever swallowed the word to end is named, and told again: a server that is told to stop stops.
                names = ", ".join(sorted(one.get_name() for one in asyncio.all_tasks()))
                log.error("told to end, and still at work after %g s: %s", ENDS_WITHIN_S, names)
                task.cancel()
            app.state.services.targets.close()
    finally:
        database.close()


def _build(
    app: FastAPI, settings: Settings, folder: Folder, database: Database, clock: Clock, passwords: Passwords
) -> Background:
    topics = Topics(settings.broker_prefix)
    mishaps, meters = Mishaps(clock), Meters()
    authority = Authority.load(folder.ca, clock)
    revocations = Revocations(authority, folder)
    blobs = Blobs(folder.blobs)
    registry = Registry(blobs)
    uploads = Uploads(database, folder.uploads, clock, settings)
    metadata = Metadata(database, blobs, registry, folder, clock)
    wished = Endpoints(registry, Sealer(folder), HostCertificates(authority))
    orders = Orders(
        metadata.director_in,
        life_s=settings.order_life_s,
        declared=registry.declared,
        tokens=partial(Completing, wished, registry),
    )
    service = settings.broker_certificate or folder.service
    make_tls = partial(
        tls_context,
        ca=settings.broker_ca or folder.ca,
        certificate=service,
        key=settings.broker_key or folder.key(folder.service),
    )
    link = BrokerLink(
        host=settings.broker_service_host or settings.broker_host,
        port=settings.broker_service_port,
        tls=make_tls(),
        topics=topics,
        identifier=SERVICE,
    )
    limits = Limits(
        total=settings.pull_bytes_s, device=settings.device_bytes_s, by_label=settings.label_limits,
        labels_of=partial(labels_of, database),
    )  # fmt: skip
    rights = Rights(database, blobs, clock, mishaps, meters, grace_s=settings.replaced_order_s)
    broadcasts = Broadcaster(
        topics=topics,
        send=link.publish,
        read_blocks=blobs.read_blocks,
        demand=Demands(database, blobs).of,
        end_session=link.end_session,
        rights=rights,
        limits=limits,
        meters=meters,
        mishaps=mishaps,
    )
    publisher = Publisher(
        topics=topics,
        send=link.publish,
        read_blocks=blobs.read_blocks,
        read_metadata=metadata.file,
        rights=rights,
        workers=settings.block_workers,
        mishaps=mishaps,
        meters=meters,
        limits=limits,
        broadcasts=broadcasts if settings.broadcast else None,
    )
    heads = Heads(database, folder, clock, audit_signer(folder, new_online_key()))
    upkeep = Upkeep(
        database=database,
        folder=folder,
        authority=authority,
        services=Authority.load(folder.service_ca, clock),
        revocations=revocations,
        clock=clock,
        mishaps=mishaps,
        leads=lambda: background.leads,
        renew_metadata=metadata.renew,
    )
    upkeep.watch(service, lambda: link.use(make_tls()))
    broker = Broker(
        host=settings.broker_host, port=settings.broker_port, prefix=topics.prefix,
        ca=read_authorities(settings.broker_ca) if settings.broker_ca else "",
    )  # fmt: skip
    bundles = Bundles(
        authority,
        fleet=settings.url,
        fleet_ca=_public_ca(settings),
        blob_url=settings.blobs_at,
        broker=broker,
        approve=settings.approve_joins,
    )
    enrolment = Enrolment(
        authority, certificate_life_s=settings.certificate_life_s, pending_life_s=settings.pending_life_s
    )
    claims = Claims(
        database=database,
        clock=clock,
        enrolment=enrolment,
        revocations=revocations,
        topics=topics,
        send=link.publish,
        mishaps=mishaps,
    )
    contents = Contents(
        database=database,
        registry=registry,
        wished=wished,
        clock=clock,
        url=settings.url,
        ca={"": authority.pem, SYSTEM: ""}.get(public := _public_ca(settings), public),
    )
    targets = Targets(Parts(fleet=authority.mark, blobs=blobs, contents=contents))
    asked = BatchJobs(registry, Sealer(folder))
    commands = Commands(database, metadata.director_in, clock)
    background = Background(
        database=database,
        clock=clock,
        link=link,
        topics=topics,
        ingest=Ingest(database, clock, mishaps, meters, telemetry_day_bytes=settings.telemetry_day_bytes),
        engine=Engine(database, registry, orders, clock, mishaps, needs_another=settings.four_eyes),
        publisher=publisher,
        rights=rights,
        claims=claims,
        metadata=metadata,
        mishaps=mishaps,
        meters=meters,
        retention=Retention(database, clock, meters, settings, more=(uploads.forget_old,)),
        heads=heads,
        renewals=Renewals(
            database=database,
            authority=authority,
            clock=clock,
            topics=topics,
            send=link.publish,
            life_s=settings.certificate_life_s,
            mishaps=mishaps,
        ),
        upkeep=upkeep,
        bringing=Bringing(database=database, clock=clock, wished=wished, attached=targets, mishaps=mishaps),
        bringing_jobs=BringingJobs(database=database, clock=clock, wished=asked, targets=targets, mishaps=mishaps),
        device_jobs=DeviceJobs(database=database, clock=clock, wished=asked, commands=commands, mishaps=mishaps),
        meeting=Meeting(database=database, clock=clock, mishaps=mishaps),
        sweeping=Sweeping(database=database, clock=clock, attached=targets, mishaps=mishaps),
        lead=lead(database, folder.root),
        tick_s=settings.tick_s,
    )
    app.state.services = Services(
        settings=settings,
        clock=clock,
        database=database,
        blobs=blobs,
        registry=registry,
        uploads=uploads,
        graphs=Graphs(),
        metadata=metadata,
        bundles=bundles,
        enrolment=enrolment,
        orders=orders,
        commands=commands,
        followers=Followers(),
        link=link,
        attempts=Attempts(together=ALLOWED_ALL),
        told=Attempts(),
        last_uses=LastUses(),
        passwords=passwords,
        back_off=BackOff(),
        oidc=Provider(settings, clock) if settings.oidc_issuer else None,
        mishaps=mishaps,
        meters=meters,
        overviews=Overviews(database, clock),
        limits=limits,
        rights=rights,
        revocations=revocations,
        upkeep=upkeep,
        heads=heads,
        targets=targets,
        endpoints=wished,
        asking=Asking(),
        contents=contents,
        jobs=asked,
        notes=(DEMO,) if settings.insecure_demo_keys else (),
        leads=lambda: background.leads,
        wake=background.wake,
        devices_changed=background.devices_changed,
        commands_given=background.commands_given,
        endpoints_changed=background.endpoints_changed,
    )
    return background


def _tell_revoked(use: Services) -> None:
    """The list of revoked certificates is there from the first start on, and again after a restore."""
    with use.database.read() as connection:
        use.revocations.publish(connection, use.clock())


def _public_ca(settings: Settings) -> str:
    """What a join bundle says of who certifies the server's address."""
    if settings.public_ca is None or str(settings.public_ca) == SYSTEM:
        return "" if settings.public_ca is None else SYSTEM
    return read_authorities(settings.public_ca)


def _ended(task: asyncio.Task[None], *, stop: Callable[[], None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a background task died, the server stops", exc_info=error)
        stop()
