"""What people look at devices with: selectors that they keep, the map of sites, and health over time."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from fleet import health_counts, saved_selectors, selectors, sites
from fleet.api.bodies import Body
from fleet.auth import Asker, In, need
from fleet.services import Use
from modules.errors import Invalid
from modules.names import Slug, slug

router = APIRouter(prefix="/api/v1")


class Kept(Body):
    """A selector."""

    selector: Annotated[str, Field(max_length=selectors.LIMIT)]


async def _name(selector: str) -> Slug:
    return slug(selector, what="name of a selector")


_Named = Annotated[Slug, Depends(_name)]


@router.get("/saved-selectors", dependencies=[Depends(need("device:read"))])
def list_saved_selectors(use: Use, who: Asker) -> list[dict[str, Any]]:
    """One's own, and those that are shared."""
    with use.database.read() as connection:
        return saved_selectors.view_all(connection, who)


@router.put("/saved-selectors/{selector}", dependencies=[Depends(need("device:read"))])
def save_selector(selector: _Named, body: Kept, use: Use, who: Asker) -> dict[str, Any]:
    """Keep a selector for oneself."""
    with use.database.write() as connection:
        saved_selectors.save(connection, use.clock(), who, selector, body.selector, None)
    return {"name": selector, "selector": body.selector, "shared": False}


@router.delete("/saved-selectors/{selector}", dependencies=[Depends(need("device:read"))])
def remove_selector(selector: _Named, use: Use, who: Asker) -> dict[str, str]:
    with use.database.write() as connection:
        saved_selectors.remove(connection, who, selector, None)
    return {"name": selector, "state": "removed"}


@router.put("/shared-selectors/{selector}", dependencies=[Depends(need("group:write"))])
def share_selector(selector: _Named, body: Kept, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    """Keep a selector for everybody who may read devices."""
    with use.database.write() as connection:
        saved_selectors.save(connection, use.clock(), who, selector, body.selector, scope)
    return {"name": selector, "selector": body.selector, "shared": True}


@router.delete("/shared-selectors/{selector}", dependencies=[Depends(need("group:write"))])
def remove_shared_selector(selector: _Named, use: Use, who: Asker, scope: In) -> dict[str, str]:
    with use.database.write() as connection:
        saved_selectors.remove(connection, who, selector, scope)
    return {"name": selector, "state": "removed"}


@router.get("/sites", dependencies=[Depends(need("device:read"))])
def list_sites(use: Use, scope: In, label: Annotated[str, Query(max_length=59)] = "site") -> list[dict[str, Any]]:
    """How many devices are in which state, by the values of a label; with where that is, where labels say it."""
    if not selectors.KEY.fullmatch(label):
        raise Invalid("no label has such a name", element="label", remedy="name the key of a label, as site")
    with use.database.read() as connection:
        return sites.by_label(connection, label, scope)


@router.get("/health-history", dependencies=[Depends(need("device:read"))])
def show_health_history(use: Use, scope: In, hours: Annotated[int, Query(ge=1, le=192)] = 24) -> list[dict[str, Any]]:
    """How many devices were in which state, each quarter of an hour; of the whole fleet, for who may see it."""
    if not scope.unlimited:
        return []
    with use.database.read() as connection:
        return health_counts.since(connection, use.clock() - 3600 * hours)
