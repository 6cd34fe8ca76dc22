"""Figures for Prometheus."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from fleet import figures
from fleet.api.document import answers
from fleet.auth import In, need_for_metrics
from fleet.broker import CONNECTED
from fleet.db import disk_trouble
from fleet.folder import Folder
from fleet.people.scope import Scope
from fleet.services import Services, Use
from modules import __version__
from modules.errors import Invalid
from modules.names import device_id

router = APIRouter()

_EVERY: Final = "true"
_MOST: Final = figures.DEVICES


class _Given(Collector):
    """Families as a collector."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@router.get(
    "/metrics",
    dependencies=[Depends(need_for_metrics("metrics:read"))],
    **answers("text/plain", "application/openmetrics-text"),
)
def metrics(
    use: Use, scope: In, devices: str = "", telemetry: str = "", accept: Annotated[str, Header()] = ""
) -> Response:
    """``devices``: series of single devices, too; ``true`` for all of them, or ids with commas between.

    ``telemetry``: ``true`` for what these devices measured of themselves.

    Raises:
        Invalid: a name that no device has, or more of them than are shown.
    """
    chosen = [device_id(one) for one in devices.split(",")] if devices not in {"", _EVERY} else None
    if chosen is not None and len(chosen) > _MOST:
        raise Invalid(f"more than {_MOST} devices are named", element="devices", remedy="ask for them in parts")
    encode, kind = choose_encoder(accept)
    families = [
        *use.meters.registry.collect(),
        *_found(use, scope, each=bool(devices), measured=telemetry == _EVERY, chosen=chosen),
    ]
    return Response(encode(_Given(families)), media_type=kind)


def _found(use: Services, scope: Scope, *, each: bool, measured: bool, chosen: Sequence[str] | None) -> list[Metric]:
    mishaps = CounterMetricFamily("edgefleet_mishaps", "what failed alone while all else went on", labels=["name"])
    for name, count in sorted(use.mishaps.counts.items()):
        mishaps.add_metric([name], count)
    connected = use.link.state == CONNECTED
    trouble = bool(use.mishaps.trouble or disk_trouble(use.settings.data))
    families: list[Metric] = []
    try:
        with use.database.read() as connection:
            families += figures.fleet(connection, use.clock(), scope)
            families += figures.ends(connection, use.clock(), Folder(use.settings.data), scope)
            if each:
                families += figures.each(connection, chosen, scope)
            if each and measured:
                families += figures.telemetry(connection, chosen, scope)
    except SQLAlchemyError:
        # What this process counts is told all the same.
        trouble = True
    return [
        *families,
        InfoMetricFamily("edgefleet_server", "this server", value={"version": __version__}),
        mishaps,
        figures.single("edgefleet_broker_connected", "whether there is a session with the broker", connected),
        figures.single("edgefleet_warnings", "what ends soon; /healthz says it", len(use.mishaps.warnings)),
        figures.single("edgefleet_trouble", "whether the server cannot do its work; /healthz says why", trouble),
    ]
