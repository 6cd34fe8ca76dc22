"""How the server itself stands: its trust, its certificates, its broker, and how it was set."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import SecretStr

from fleet import broker_look, endings, key_standing
from fleet.auth import In, need
from fleet.broker import CONNECTED
from fleet.folder import Folder
from fleet.services import Use
from fleet.settings import Settings

router = APIRouter(prefix="/api/v1")

_VARIABLE: Final = str(Settings.model_config.get("env_prefix", ""))


@router.get("/trust-roles", dependencies=[Depends(need("trust:read"))])
def list_trust_roles(use: Use, scope: In) -> list[dict[str, Any]]:
    """Each role of the fleet's trust: its keys, how many must sign, until when it holds, and which keys are here.

    As this server holds it; what ``edgefleet keys status`` says is verified from the root that its user pinned.
    """
    with use.database.read() as connection:
        found = key_standing.standings(connection, use.metadata, use.clock(), scope)
    return [msgspec.to_builtins(one) for one in found]


@router.get("/certificates", dependencies=[Depends(need("device:read"))])
def list_certificates(
    use: Use, scope: In, limit: Annotated[int, Query(ge=1, le=500)] = 20
) -> dict[str, list[dict[str, Any]] | dict[str, int]]:
    """When the fleet's own certificates and its list of revoked ones end, and which devices' end next.

    ``buckets`` counts devices by what is left: ended, within 7, 30 and 90 days, and later.
    """
    now = use.clock()
    with use.database.read() as connection:
        own = list(endings.files(Folder(use.settings.data)))
        buckets = endings.buckets(connection, now, scope)
        next_ones = endings.soonest(connection, now, scope, limit)
    return {
        "fleet": [{"name": one.name, "begins": one.begins, "ends": one.ends, "soon": now >= one.soon} for one in own],
        "buckets": buckets,
        "devices": [{"device": device, "ends": ends} for device, ends in next_ones],
    }


@router.get("/broker", dependencies=[Depends(need("setting:read"))])
def look_at_broker(use: Use) -> list[dict[str, Any]]:
    """What this server can see of its broker: whether it is there, whom it lets in, whether its access rules are ours.

    It connects to both listeners as a stranger; ``ok`` is null where something cannot be seen from here.
    """
    leads = use.leads()
    session = use.link.state if leads else "another server has the session"
    found = broker_look.look(use.settings, session=session, connected=session == CONNECTED or not leads)
    return [msgspec.to_builtins(one) for one in found]


@router.get("/settings", dependencies=[Depends(need("setting:read"))])
def list_settings(use: Use) -> list[dict[str, Any]]:
    """Each setting of this server, the variable that sets it, its default, and whether it was set; never a secret."""
    found = []
    for name, field in Settings.model_fields.items():
        value, default = getattr(use.settings, name), field.get_default(call_default_factory=True)
        found.append(
            {
                "name": name,
                "variable": f"{_VARIABLE}{name.upper()}",
                "value": _shown(value),
                "default": _shown(default),
                "changed": value != default,
            }
        )
    return found


def _shown(value: object) -> bool | int | float | str | None:
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    return value if value is None or isinstance(value, bool | int | float) else str(value)
