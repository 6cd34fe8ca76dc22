"""The product's fleet server, which writes into its log whatever it is asked: files, pages, and the API by pages."""

import logging

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.__main__ import main
from fleet.console import mount
from modules import program

ASKED = "was asked for"
_product = mount.mount


class Telling:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode()
            logging.getLogger("telling").info("%s %s", ASKED, scope["path"] + (f"?{query}" if query else ""))
        await self._app(scope, receive, send)


def telling(app: FastAPI) -> None:
    _product(app)
    app.add_middleware(Telling)


if __name__ == "__main__":
    mount.mount = telling
    program.run("edgefleet-fleet", main)
