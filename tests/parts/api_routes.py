"""The routes of the server's API, as its code declares them."""

from collections.abc import Iterator

from fastapi.routing import APIRoute

from fleet.app import create_app
from fleet.settings import Settings


def api_routes(router=None) -> Iterator[APIRoute]:
    """Every route of the application, below included routers too."""
    for route in (router or create_app(Settings())).routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from api_routes(route.original_router)
