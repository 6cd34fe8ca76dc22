"""The routes of the server's API, as its code declares them."""

from collections.abc import Iterator
from typing import Any

from fastapi.routing import APIRoute

from fleet.app import create_app
from fleet.auth import Need, own, public
from fleet.settings import Settings


def api_routes(router: Any = None) -> Iterator[APIRoute]:
    """Every route of the application, below included routers too."""
    for route in (router or create_app(Settings())).routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from api_routes(route.original_router)


def asked() -> Iterator[tuple[str, str, str]]:
    """Method, path and permission of every route of the code that needs one."""
    for route in api_routes():
        for one in route.dependant.dependencies:
            if isinstance(one.call, Need):
                for method in route.methods:
                    yield method, route.path, one.call.permission


def unmarked(router: Any = None) -> list[str]:
    """Paths of routes that say neither who may ask nor, in one word, that everybody may."""
    return [
        route.path
        for route in api_routes(router)
        if len([one for one in route.dependant.dependencies if isinstance(one.call, Need) or one.call in {own, public}])
        != 1
    ]
