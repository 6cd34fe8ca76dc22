"""Everything that the API's handlers use, built once in ``fleet/app.py``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from fleet.attempts import Attempts
from fleet.audit.heads import Heads
from fleet.blobs import Blobs
from fleet.broker import BrokerLink
from fleet.bundles import Bundles
from fleet.clock import Clock
from fleet.commands.following import Followers
from fleet.commands.given import Commands
from fleet.db import Database
from fleet.enrolment import Enrolment
from fleet.graphs.graphs import Graphs
from fleet.limits import Limits
from fleet.metadata import Metadata
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.orders import Orders
from fleet.overview import Overviews
from fleet.people.back_off import BackOff
from fleet.people.last_uses import LastUses
from fleet.people.oidc import Provider
from fleet.people.passwords import Passwords
from fleet.registry import Registry
from fleet.revocation import Revocations
from fleet.rights import Rights
from fleet.settings import Settings
from fleet.targets.asking import Asking
from fleet.targets.attached import Targets
from fleet.targets.content import Contents
from fleet.targets.endpoints import Endpoints
from fleet.targets.jobs import BatchJobs
from fleet.upkeep import Upkeep
from fleet.uploads.uploads import Uploads


@dataclass(frozen=True)
class Services:
    """The parts.

    ``leads`` says whether this server is the one that leads (fleet/leader.py). ``wake`` makes the rollout engine look
    now, ``devices_changed`` says that devices joined or were removed, ``commands_given`` that commands wait to be
    sent, and ``endpoints_changed`` that something was wished for in the cloud; all from any thread.
    ``notes`` was found at the start, for whoever runs this server.
    """

    settings: Settings
    clock: Clock
    database: Database
    blobs: Blobs
    registry: Registry
    uploads: Uploads
    graphs: Graphs
    metadata: Metadata
    bundles: Bundles
    enrolment: Enrolment
    orders: Orders
    commands: Commands
    followers: Followers
    link: BrokerLink
    attempts: Attempts
    # Of refusals, how many become events.
    told: Attempts
    last_uses: LastUses
    passwords: Passwords
    back_off: BackOff
    oidc: Provider | None
    mishaps: Mishaps
    meters: Meters
    overviews: Overviews
    limits: Limits
    rights: Rights
    revocations: Revocations
    heads: Heads
    upkeep: Upkeep
    targets: Targets
    endpoints: Endpoints
    asking: Asking
    contents: Contents
    jobs: BatchJobs
    notes: tuple[str, ...]
    leads: Callable[[], bool]
    wake: Callable[[], None]
    devices_changed: Callable[[], None]
    commands_given: Callable[[], None]
    endpoints_changed: Callable[[], None]


async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def address(request: Request) -> str:
    """Where a request comes from, to count its failures."""
    return request.client.host if request.client else "unknown"


Use = Annotated[Services, Depends(services)]
