"""Puts the console under ``/console`` of the server's application."""

import http
import importlib
import pkgutil
from typing import Final, cast

from fastapi import FastAPI
from nicegui import Client, core, ui
from nicegui import app as console
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount

from fleet.console import pages, visit, visitors
from fleet.console.assets import OURS, STATIC, Assets
from fleet.console.guard import Guard

PATH: Final = "/console"
# A page whose browser is away for so long is built anew when it comes back.
_AWAY_S: Final = 30.0


def mount(app: FastAPI) -> None:
    """Add the console's pages, once in a process: the library has one application."""
    visit.serve(app)
    load()
    console.add_static_files(OURS, STATIC)
    # Pages of other sites are refused for the whole server (fleet/origin.py).
    core.sio.eio.cors_allowed_origins = []
    visitors.bind()
    ui.run_with(
        app,
        title="edgefleet",
        dark=None,
        language="en-US",
        mount_path=PATH,
        reconnect_timeout=_AWAY_S,
        binding_refresh_interval=None,
        # Pages get their nonce, and files are compressed once (assets.py).
        gzip_middleware_factory=None,
        tailwind=False,
        show_welcome_message=False,
    )
    mounted = cast("Mount", app.router.routes[-1])
    mounted.app = Assets(Guard(visitors.Dropped(mounted.app)))
    app.add_route("/", _to_console)
    app.add_route("/favicon.ico", _no_icon)


def load() -> list[str]:
    """Have every page made known to the library; the paths of them all, below the console."""
    for page in pkgutil.iter_modules(pages.__path__):
        importlib.import_module(f"{pages.__name__}.{page.name}")
    return sorted(Client.page_routes.values())


def _to_console(_: Request) -> Response:
    return RedirectResponse(f"{PATH}/")


def _no_icon(_: Request) -> Response:
    return Response(status_code=http.HTTPStatus.NO_CONTENT)
